//! Forwarders that were measured beside each other, as a table for people who read a terminal.

use std::fmt::{self, Write};

use super::text::losses;
use super::{Absent, Case, Report};
use crate::bench::forwarder::Kind;
use crate::bench::load::many;
use benches::statistics::Estimate;

/// Writes a table for each load, and what could not be measured.
pub(super) fn write(report: &Report, to: &mut impl Write) -> fmt::Result {
    for cases in report.cases.chunk_by(|a, b| a.group == b.group) {
        one(to, cases)?;
    }
    if !report.absent.is_empty() {
        writeln!(to, "\nnot measured")?;
    }
    for absent in &report.absent {
        let Absent { name, reason, .. } = absent;
        writeln!(to, "  {name:<25} {:<20} {reason}", absent.under())?;
    }
    Ok(())
}

/// The table of one load.
fn one(to: &mut impl Write, cases: &[Case]) -> fmt::Result {
    // What has no cost is there for its ratio only.
    let rows = || cases.iter().filter(|case| case.cost.is_some());
    let Some(first) = cases.first() else { return Ok(()) };
    let rounds = rows().map(|row| row.rounds.len()).max().unwrap_or(0);
    writeln!(to, "\n{}, {}", first.group, many(rounds as u32, "round"))?;
    writeln!(
        to,
        "  {:<25} cores   Mpps  ns/packet  node/row  95 % interval    row/l2fwd  95 % interval",
        "row"
    )?;
    for row in rows() {
        line(to, cases, row)?;
    }
    writeln!(to, "  limited by; lost of what was offered")?;
    for row in rows() {
        let limit = row.limit.as_deref().unwrap_or("-");
        writeln!(to, "    {:<23} {limit}; {}", row.name, losses(&row.losses, row.offered))?;
        row.notes.iter().try_for_each(|note| writeln!(to, "      {note}"))?;
    }
    if rows().any(|row| row.cost.is_some_and(|cost| cost.cores == 1)) {
        writeln!(to, "  * sender and forwarder together, on one core")?;
    }
    Ok(())
}

fn line(to: &mut impl Write, cases: &[Case], row: &Case) -> fmt::Result {
    let Some(cost) = row.cost else { return Ok(()) };
    let (name, mark, ns) = (&row.name, if cost.cores == 1 { '*' } else { ' ' }, cost.ns.median);
    let mpps = row.estimate.median;
    write!(to, "  {name:<25} {:>5} {mpps:>6.3}  {ns:>8.0}{mark}", cost.cores)?;
    let (node, reference) = (Kind::Node.name(), Kind::L2fwd.name());
    let ratios = [ratio(cases, node, name), ratio(cases, name, reference)];
    let [of_node, of_reference] = ratios.map(|ratio| {
        let Some(Estimate { median, low, high, .. }) = ratio else { return Default::default() };
        [format!("{median:.3}"), format!("{low:.3} to {high:.3}")]
    });
    let [[node_ratio, node_within], [ratio, within]] = [of_node, of_reference];
    let ratios = format!("  {node_ratio:>8}  {node_within:14}  {ratio:>9}  {within}");
    writeln!(to, "{}", ratios.trim_end())?;
    let own = |case: &&Case| case.name == *name || case.name == node && held_against(case, name);
    for case in cases.iter().filter(own).filter(|_| name != node) {
        if let (Some(reference), Some(expected)) = (&case.reference, case.expected) {
            writeln!(to, "    {}/{} {expected}", case.name, reference.name)?;
        }
    }
    Ok(())
}

fn held_against(case: &Case, name: &str) -> bool {
    case.reference.as_ref().is_some_and(|reference| reference.name == name)
}

/// How the rates of two rows stand to each other.
fn ratio(cases: &[Case], this: &str, that: &str) -> Option<Estimate> {
    let case = cases.iter().find(|case| case.name == this && held_against(case, that))?;
    case.reference.as_ref().map(|reference| reference.ratio)
}
