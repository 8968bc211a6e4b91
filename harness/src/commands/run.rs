//! `run`: scenarios.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;

use crate::journey::Style;
use crate::live::worker::Poll;
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
        for name in &self.scenarios {
            if name == "all" {
                for name in names() {
                    all.extend(cases(&find(name)?, &wanted)?);
                }
            } else {
                all.extend(cases(&find(name)?, &wanted)?);
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
