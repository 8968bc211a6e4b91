//! The `trunkline` command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use harness::commands::{
    self, bench, doctor, explain, guest, lab, lint, oracle, replay, run, schema, show, test,
};
use harness::show::ShowArgs;

/// Tables of many flows lie on large pages.
#[global_allocator]
static MEMORY: datapath_io::LargePages = datapath_io::LargePages;

/// A trunk ENI on your own machine: the Terway ENI-Trunking data link in network namespaces.
#[derive(Debug, Parser)]
#[command(name = "trunkline", version, propagate_version = true, after_help = commands::STATUSES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(lab::Up),
    Apply(lab::Apply),
    Down(lab::Down),
    Ps(lab::Ps),
    Exec(lab::Exec),
    Run(run::Run),
    Test(test::Test),
    Oracle(oracle::Oracle),
    Doctor(doctor::Doctor),
    Lint(lint::Lint),
    /// Show a table of a lab as the tool of a real node prints it.
    Show(ShowArgs),
    Explain(explain::Explain),
    Ledger(lab::LedgerArgs),
    Replay(replay::Args),
    Bench(bench::Bench),
    Schema(schema::Args),
    #[command(hide = true)]
    Daemon(lab::Daemon),
    #[command(hide = true)]
    Guest(guest::Guest),
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("TRUNKLINE_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let result = match Cli::parse().command {
        Command::Up(command) => command.run(),
        Command::Apply(command) => command.run(),
        Command::Down(command) => command.run(),
        Command::Ps(command) => command.run(),
        Command::Exec(command) => command.run(),
        Command::Run(command) => command.run(),
        Command::Test(command) => command.run(),
        Command::Oracle(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::Lint(command) => command.run(),
        Command::Show(args) => show::run(&args),
        Command::Explain(command) => command.run(),
        Command::Ledger(command) => command.run(),
        Command::Replay(args) => replay::run(args),
        Command::Bench(command) => command.run(),
        Command::Schema(args) => args.run(),
        Command::Daemon(command) => command.run(),
        Command::Guest(command) => command.run(),
    };
    result.unwrap_or_else(|error| {
        // Whoever read our output has read enough.
        let read_enough = error.chain().any(|cause| {
            cause
                .downcast_ref::<std::io::Error>()
                .is_some_and(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
        });
        if read_enough {
            return ExitCode::SUCCESS;
        }
        eprintln!("trunkline: {error:#}");
        commands::trouble()
    })
}
