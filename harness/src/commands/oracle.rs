//! `oracle`: cases on nodes of a real kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::NO;
use crate::case::{CaseDatapath, Instance, Memory, Suite, capture, told};
use crate::journey::Style;
use crate::kernel::Program;
use crate::lab_file;
use crate::oracle::{Exceptions, GUESTS, GuestKernel, Judgement, judge, not_judged};

/// Most instances of a smoke run, and how much time passes in one of them.
const SMOKE: usize = 30;
const SOON: Duration = Duration::from_secs(5);
/// The cases of the repository.
const CASES: &str = "cases";

/// Play cases in memory and on nodes of a Linux kernel, and hold every hop and table of both
/// against each other.
///
/// The kernel is that of a guest (user-mode-linux, without KVM), downloaded by apt once; its nodes
/// are programmed as Terway and kube-proxy program them. Needs root, and ipvsadm, ipset, iptables
/// and kmod installed.
#[derive(Debug, Args)]
pub struct Oracle {
    /// Folders; the cases in and below them are played. By default cases.
    #[arg(value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Only cases with this in their names.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Only one instance of each case, at most 30, in which little time passes.
    #[arg(long)]
    smoke: bool,
    /// Print the names of the cases that the kernel judges and play none.
    #[arg(long)]
    list: bool,
    /// Guests that run at the same time.
    #[arg(short, long, value_name = "N", default_value_t = GUESTS)]
    jobs: usize,
    /// Keep consoles, and the frames of both sides where they differ, in this folder.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Print the commands that program a node of a lab, and play nothing.
    #[arg(long, num_args = 2, value_names = ["LAB", "NODE"], conflicts_with_all = ["dirs", "list"])]
    script: Option<Vec<String>>,
}

impl Oracle {
    /// Runs the command.
    ///
    /// # Errors
    /// Cases that cannot be read, a guest that cannot be had.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        if let Some([lab, node]) = self.script.as_deref() {
            return script(lab, node);
        }
        let dirs =
            if self.dirs.is_empty() { vec![PathBuf::from(CASES)] } else { self.dirs.clone() };
        let mut suite = Suite::load(&dirs, self.filter.as_deref())?;
        if self.smoke {
            suite.instances = smoke(std::mem::take(&mut suite.instances));
        }
        if self.list {
            let mut out = std::io::stdout();
            for instance in suite.instances.iter().filter(|i| not_judged(i).is_none()) {
                writeln!(out, "{}", instance.name)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let kernel = GuestKernel::get().context("no guest can be had")?;
        let exceptions = Exceptions::read(dirs.iter().map(PathBuf::as_path))?;
        let bar = suite.bar();
        let temporary = tempfile::tempdir()?;
        let work = self.keep.as_deref().unwrap_or(temporary.path());
        let progress = |done| bar.inc(done);
        let judgements = judge(&kernel, &suite.instances, &exceptions, self.jobs, work, progress)?;
        bar.finish_and_clear();
        let all_equal = tell(&suite.instances, &judgements, self.keep.as_deref())?;
        // Where cases were left out, so was what needs some of them.
        let all = self.filter.is_none() && !self.smoke;
        let unused: Vec<_> = exceptions.unused().filter(|_| all).collect();
        for exception in &unused {
            println!("unused exception for {}: {}", exception.case, exception.reason);
        }
        Ok(if all_equal && unused.is_empty() { ExitCode::SUCCESS } else { NO })
    }
}

/// The first instance of each case that the kernel judges soon.
fn smoke(instances: Vec<Instance>) -> Vec<Instance> {
    let mut folders = BTreeSet::new();
    let soon = |instance: &Instance| not_judged(instance).is_none() && instance.passing() <= SOON;
    let chosen = instances.into_iter().filter(soon);
    chosen.filter(|instance| folders.insert(instance.folder.clone())).take(SMOKE).collect()
}

/// Prints what came of every instance that is not equal, and sums up. Whether all agree.
fn tell(
    instances: &[Instance],
    judgements: &[Judgement],
    keep: Option<&Path>,
) -> anyhow::Result<bool> {
    let mut out = std::io::stdout();
    let style = Style::of_stdout();
    let (mut equal, mut explained, mut different, mut failed) = (0, 0, 0, 0);
    let mut reasons = BTreeMap::<&str, usize>::new();
    for (instance, judgement) in instances.iter().zip(judgements) {
        match judgement {
            Judgement::Equal { explained: 0 } => equal += 1,
            Judgement::Equal { .. } => explained += 1,
            Judgement::NotJudged(why) => *reasons.entry(why).or_default() += 1,
            Judgement::Failed(why) => {
                failed += 1;
                writeln!(out, "{} could not be played: {why}", instance.name)?;
            }
            Judgement::Different { differences, memory, kernel } => {
                different += 1;
                writeln!(out, "{} differs: memory is what is expected", instance.name)?;
                out.write_all(told(differences, style).as_bytes())?;
                if let Some(folder) = keep {
                    capture(folder, instance, Memory.name(), memory)?;
                    capture(folder, instance, "kernel", kernel)?;
                }
            }
        }
    }
    let judged = equal + explained + different;
    writeln!(
        out,
        "{judged} judged: {equal} equal, {explained} equal but for exceptions, {different} \
         different; {failed} not played"
    )?;
    for (why, count) in reasons {
        writeln!(out, "{count} not judged: {why}")?;
    }
    Ok(different == 0 && failed == 0)
}

fn script(lab: &str, node: &str) -> anyhow::Result<ExitCode> {
    let lab = lab_file::load(Path::new(lab))?;
    let at = lab.nodes.iter().position(|known| known.name == node);
    let at = at.with_context(|| format!("the lab has no node {node}"))?;
    write!(std::io::stdout(), "{}", Program::new(&lab, at)?)?;
    Ok(ExitCode::SUCCESS)
}
