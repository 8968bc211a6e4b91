//! `test`: cases.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use datapath::lab::Links;

use super::NO;
use crate::case::{CaseDatapath, Judged, Memory, Suite, Verdict, capture, junit, play, text};
use crate::journey::Style;
use crate::live::bed::Beds;
use crate::live::topology::WiredOrFused;
use crate::oracle;

/// Play cases and hold every frame, and every table they ask for, against what is expected.
///
/// A case is a folder with a case.yaml, of the form in docs/schema/case.json, and an expected.txt.
/// The exit status is 0 if and only if no case failed.
#[derive(Debug, Args)]
pub struct Test {
    /// Folders; the cases in and below them are played.
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// The datapath to play them on.
    #[arg(long, value_enum, value_name = "DATAPATH", default_value_t)]
    on: On,
    /// How the nodes' ENIs are joined to the VPC on afxdp; default as the labs say.
    #[arg(long, value_enum, value_name = "LINKS")]
    links: Option<WiredOrFused>,
    /// Only cases with this in their names.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Take what memory shows for what is expected from now on: write expected.txt anew.
    #[arg(long, conflicts_with_all = ["list", "junit", "keep"])]
    bless: bool,
    /// Print the names of the cases and play none.
    #[arg(long)]
    list: bool,
    /// Write a JUnit report too.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Where the frames of failed cases are kept, by default in a new folder for temporary files.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// How many cases are played at the same time; by default one a core.
    /// On a kernel: how many guests, each with many cases; by default two.
    #[arg(short, long, value_name = "N")]
    jobs: Option<usize>,
}

/// What `--on` takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum On {
    /// In this process, in virtual time: no root, no namespaces.
    #[default]
    Memory,
    /// In network namespaces, over AF_XDP sockets, in virtual time too: needs root.
    Afxdp,
    /// On a Linux kernel in a guest.
    Kernel,
}

impl On {
    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Afxdp => "afxdp",
            Self::Kernel => "kernel",
        }
    }

    fn judge<'s>(
        self,
        suite: &'s Suite,
        links: Option<WiredOrFused>,
        guests: Option<usize>,
    ) -> anyhow::Result<Vec<Judged<'s>>> {
        match self {
            Self::Memory => suite.judge(&Memory, self.tolerance()),
            Self::Afxdp => suite.judge(&Beds::with_links(links.map(Links::from)), self.tolerance()),
            Self::Kernel => oracle::judge_expected(suite, guests, self.tolerance()),
        }
    }

    /// Seconds by which remaining times may differ: none where time is virtual.
    const fn tolerance(self) -> u64 {
        match self {
            Self::Memory | Self::Afxdp => 0,
            Self::Kernel => 2,
        }
    }
}

impl Test {
    /// Runs the command.
    ///
    /// # Errors
    /// Cases that cannot be read or played.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let mut pool = rayon::ThreadPoolBuilder::new();
        if let Some(jobs) = self.jobs {
            pool = pool.num_threads(jobs);
        }
        pool.build()?.install(|| self.play())
    }

    fn play(&self) -> anyhow::Result<ExitCode> {
        let mut suite = Suite::load(&self.dirs, self.filter.as_deref())?;
        let mut out = std::io::stdout();
        if self.list {
            for instance in &suite.instances {
                writeln!(out, "{}", instance.name)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        if self.bless {
            let changed = suite.bless(&Memory)?;
            writeln!(out, "{} cases, {changed} changed", suite.instances.len())?;
            return Ok(ExitCode::SUCCESS);
        }
        let judged = self.on.judge(&suite, self.links, self.jobs)?;
        self.tell(&judged, self.on.name())?;
        if let Some(path) = &self.junit {
            junit(path, &judged, self.on.name())?;
        }
        let failed = judged.iter().any(|one| matches!(one.verdict, Verdict::Failed { .. }));
        Ok(if failed { NO } else { ExitCode::SUCCESS })
    }

    /// Prints what came of every instance, keeps the frames of those that failed, and sums up.
    fn tell(&self, judged: &[Judged<'_>], on: &str) -> anyhow::Result<()> {
        let mut out = std::io::stdout();
        let style = Style::of_stdout();
        let (mut passed, mut failed, mut not_judged, mut kept) = (0, 0, 0, None);
        for one in judged {
            out.write_all(text(one, on, style).as_bytes())?;
            match &one.verdict {
                Verdict::Passed { .. } => passed += 1,
                Verdict::NotJudged(_) => not_judged += 1,
                Verdict::Failed { played, .. } => {
                    failed += 1;
                    let folder = kept.get_or_insert_with(|| self.folder());
                    capture(folder, one.instance, on, &played.observation)?;
                    if self.on != On::Memory {
                        let memory = play(&Memory, one.instance)?;
                        capture(folder, one.instance, Memory.name(), &memory.observation)?;
                    }
                }
            }
        }
        writeln!(out, "{passed} passed, {failed} failed, {not_judged} not judged on {on}")?;
        if let Some(folder) = kept {
            writeln!(out, "frames of the failed cases: {}", folder.display())?;
        }
        Ok(())
    }

    /// Where frames are kept.
    fn folder(&self) -> PathBuf {
        let own = || std::env::temp_dir().join(format!("trunkline-test-{}", std::process::id()));
        self.keep.clone().unwrap_or_else(own)
    }
}
