//! `run`: scenarios.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::journey::Style;
use crate::live::worker::Poll;
use crate::scenario::file::Profile;
use crate::scenario::{Kind, Report, Wanted, cases, datapath, find, full, headline, names, run};

/// Run scenarios: a client asks a server, and the verdict, the way of the packets and the counters
/// are held against what the scenario expects.
///
/// The exit status is 0 if and only if every expectation held.
#[derive(Debug, Args)]
pub struct Run {
    /// Scenarios by name (S1, S2, ...) or by file; `all` stands for every one that comes with
    /// trunkline.
    #[arg(required = true, value_name = "NAME|FILE")]
    scenarios: Vec<String>,
    /// The datapath to run on.
    #[arg(long, value_enum, default_value_t)]
    on: Kind,
    /// How the forwarder waits for frames, on afxdp.
    #[arg(long, value_enum, default_value_t)]
    poll: Poll,
    /// Run this variant in place of the scenario itself.
    #[arg(long, value_name = "NAME", conflicts_with = "all_variants")]
    variant: Option<String>,
    /// The generation of Terway in the labs; default the one each lab has: the article's, 1.4.0.
    #[arg(long, value_enum)]
    profile: Option<Profiles>,
    /// Run every scenario and all its variants.
    #[arg(long)]
    all_variants: bool,
    /// One line a case; journeys and checks only where one fails.
    #[arg(long, conflicts_with = "json")]
    brief: bool,
    /// Print a report for machines, of the form in docs/schema/run.json.
    #[arg(long)]
    json: bool,
}

/// What `--profile` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Profiles {
    /// 1.4.0 and 1.4.1: requests to services leave by the node's eth0.
    #[value(name = "terway-1.4.0")]
    Article,
    /// 1.4.2 and later: they leave by the trunk.
    #[value(name = "terway-1.4.2")]
    Later,
    /// Both, one after the other.
    All,
}

impl Profiles {
    const fn each(self) -> &'static [Option<Profile>] {
        match self {
            Self::Article => &[Some(Profile::P1)],
            Self::Later => &[Some(Profile::P2)],
            Self::All => &[Some(Profile::P1), Some(Profile::P2)],
        }
    }
}

impl Run {
    /// Runs the command.
    ///
    /// # Errors
    /// A scenario that cannot be found, read or run.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let wanted = match (&self.variant, self.all_variants) {
            (Some(variant), _) => Wanted::Variant(variant.clone()),
            (None, true) => Wanted::All,
            (None, false) => Wanted::Itself,
        };
        let datapath = datapath(self.on, self.poll);
        let mut all = Vec::new();
        for profile in self.profile.map_or(&[None][..], Profiles::each) {
            for name in self.scenarios.iter().map(String::as_str) {
                let named = if name == "all" { names().collect() } else { vec![name] };
                for name in named {
                    all.extend(cases(&find(name)?, &wanted, *profile)?);
                }
            }
        }
        let style = Style::of_stdout();
        let mut runs = Vec::new();
        for (number, case) in all.into_iter().enumerate() {
            let run = run(datapath.as_ref(), case)?;
            if !self.json {
                let brief = self.brief && run.passed();
                let gap = if number > 0 && !brief { "\n" } else { "" };
                let text = if brief { headline(&run, style) } else { full(&run, style) };
                std::io::stdout().write_all(format!("{gap}{text}").as_bytes())?;
            }
            runs.push(run);
        }
        let report = Report::new(&runs);
        if self.json {
            let text = serde_json::to_string_pretty(&report)?;
            writeln!(std::io::stdout(), "{text}")?;
        }
        Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
