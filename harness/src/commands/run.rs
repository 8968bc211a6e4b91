//! `run`: scenarios.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::NO;
use crate::journey::Style;
use crate::live::session::AfXdp;
use crate::scenario::file::Profile;
use crate::scenario::{
    self, Kind, NAME, Report, Wanted, cases, datapath, find, full, headline, names, run,
};

/// Run scenarios: a client asks a server, and the verdict, the way of the packets and the counters
/// are held against what the scenario expects.
///
/// The exit status is 0 if and only if every expectation held.
#[derive(Debug, Args)]
pub struct Run {
    /// Scenarios by name (S1, S2, ...) or by file; `all` stands for every one that comes with
    /// trunkline. A case may be named as it is printed: S8/mem2-in, S8@terway-1.4.2/mem2-in.
    #[arg(required = true, value_name = "NAME|FILE")]
    scenarios: Vec<String>,
    /// The datapath to run on; of several, each case runs on all, and its hops have to be the same
    /// as on the first.
    #[arg(
        long,
        value_enum,
        value_name = "DATAPATH",
        value_delimiter = ',',
        default_value = "memory"
    )]
    on: Vec<Kind>,
    #[command(flatten, next_help_heading = "On afxdp")]
    afxdp: AfXdp,
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

/// What names a case: a scenario alone, or as [`Case::name`](crate::scenario::Case::name) has it.
/// What the name says goes before what the options say.
struct CaseName<'a> {
    scenario: &'a str,
    profile: Option<Profile>,
    variant: Option<&'a str>,
}

impl<'a> CaseName<'a> {
    fn read(text: &'a str) -> Self {
        let whole = Self { scenario: text, profile: None, variant: None };
        let (case, variant) = match text.split_once('/') {
            Some((case, variant)) => (case, Some(variant)),
            None => (text, None),
        };
        let (scenario, profile) = match case.split_once('@') {
            Some((scenario, name)) => match Profile::named(name) {
                Some(profile) => (scenario, Some(profile)),
                None => return whole,
            },
            None => (case, None),
        };
        // Anything else is a path.
        if names().any(|name| name == scenario) {
            Self { scenario, profile, variant }
        } else {
            whole
        }
    }
}

impl Run {
    /// Runs the command.
    ///
    /// # Errors
    /// A scenario that cannot be found, read or run.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let wanted_of_all = match (&self.variant, self.all_variants) {
            (Some(variant), _) => Wanted::Variant(variant.clone()),
            (None, true) => Wanted::All,
            (None, false) => Wanted::Itself,
        };
        let mut all = Vec::new();
        for profile in self.profile.map_or(&[None][..], Profiles::each) {
            for name in self.scenarios.iter().map(String::as_str) {
                let named = if name == "all" { names().collect() } else { vec![name] };
                for name in named {
                    let name = CaseName::read(name);
                    let wanted = name.variant.map(|variant| Wanted::Variant(variant.to_owned()));
                    let wanted = wanted.as_ref().unwrap_or(&wanted_of_all);
                    all.extend(cases(&find(name.scenario)?, wanted, name.profile.or(*profile))?);
                }
            }
        }
        let style = Style::of_stdout();
        let width = all.iter().map(|case| case.name().len()).fold(NAME, usize::max);
        let mut runs: Vec<scenario::Run> = Vec::new();
        for case in all {
            let first = runs.len();
            for kind in &self.on {
                let mut run = run(datapath(*kind, self.afxdp).as_ref(), case.clone())?;
                if let Some(check) = runs.get(first).map(|on| on.same_hops(&run)) {
                    run.checks.push(check);
                }
                if !self.json {
                    let brief = self.brief && run.passed();
                    let gap = if runs.is_empty() || brief { "" } else { "\n" };
                    let text = if brief { headline(&run, style, width) } else { full(&run, style) };
                    std::io::stdout().write_all(format!("{gap}{text}").as_bytes())?;
                }
                runs.push(run);
            }
        }
        let report = Report::new(&runs);
        if self.json {
            let text = serde_json::to_string_pretty(&report)?;
            writeln!(std::io::stdout(), "{text}")?;
        }
        Ok(if report.passed { ExitCode::SUCCESS } else { NO })
    }
}
