//! `bench`: how fast the datapath forwards, one file a subcommand.

mod answers;
mod args;
mod churn;
mod compare;
mod connections;
mod diff;
mod idle;
mod latency;
mod rate;
mod smoke;
mod up;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::NO;
use crate::bench::rehearsal::WrongFrame;

/// Measure how fast the datapath forwards, against a reference taken in the same minute.
///
/// Every measurement has the machine for itself, makes a lab of its own in namespaces, and takes
/// it down again. The answer is no where a frame was wrong, the books do not add up or what was
/// expected was not reached. Interrupted, a measurement reports what it has until then.
#[derive(Debug, Args)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Smoke(smoke::Smoke),
    Compare(compare::Compare),
    Ndr(rate::Ndr),
    Pdr(rate::Pdr),
    Latency(latency::Latency),
    Answers(answers::Answers),
    Cps(connections::Cps),
    Cc(connections::Cc),
    Churn(churn::Churn),
    Up(up::Up),
    Idle(idle::Idle),
    Diff(diff::Diff),
}

impl Bench {
    /// Runs the command.
    ///
    /// # Errors
    /// It could not be measured.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let result = match &self.what {
            What::Smoke(smoke) => smoke.run(),
            What::Compare(compare) => compare.run(),
            What::Ndr(ndr) => ndr.run(),
            What::Pdr(pdr) => pdr.run(),
            What::Latency(latency) => latency.run(),
            What::Answers(answers) => answers.run(),
            What::Cps(cps) => cps.run(),
            What::Cc(cc) => cc.run(),
            What::Churn(churn) => churn.run(),
            What::Up(up) => up.run(),
            What::Idle(idle) => idle.run(),
            What::Diff(diff) => diff.run(),
        };
        match result {
            Err(error) if error.is::<WrongFrame>() => {
                eprintln!("trunkline: {error:#}");
                Ok(NO)
            }
            result => result,
        }
    }
}
