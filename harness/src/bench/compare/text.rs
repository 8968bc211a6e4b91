//! The report for people who read a terminal.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::report::{Absent, LoadReport, Report, RowReport};
use crate::bench::forwarder::Row;
use crate::bench::report::{warnings, written};
use crate::bench::window::Window;
use benches::statistics::{Estimate, median};

/// Share of its core that a generator has when nothing else works there.
const ALONE: f64 = 0.95;

impl Report {
    /// The report as lines of text.
    #[must_use]
    pub fn text(&self) -> String {
        written(|text| self.write(text))
    }

    fn write(&self, to: &mut impl Write) -> fmt::Result {
        writeln!(
            to,
            "bench compare: pod -> ClusterIP -> endpoint on another node, one node wired"
        )?;
        writeln!(to, "{}", self.machine.in_words())?;
        for warning in warnings(&self.machine, self.calibration, self.interrupted) {
            writeln!(to, "{warning}")?;
        }
        self.loads.iter().try_for_each(|load| load.write(to))?;
        if !self.absent.is_empty() {
            writeln!(to, "\nnot measured")?;
        }
        for Absent { name, load, reason } in &self.absent {
            let load = load.as_ref().map(super::name).unwrap_or_default();
            writeln!(to, "  {name:<25} {load:<20} {reason}")?;
        }
        for row in self.loads.iter().flat_map(|load| &load.rows) {
            for fault in row.faults() {
                writeln!(to, "FAULT {}: {fault}", row.name)?;
            }
        }
        Ok(())
    }
}

impl LoadReport {
    fn write(&self, to: &mut impl Write) -> fmt::Result {
        let Self { load, rows } = self;
        let rounds = rows.first().map_or(0, |row| row.rounds.len());
        writeln!(to, "\n{}, rounds: {rounds}", load.in_words())?;
        writeln!(
            to,
            "  {:<25} cores   Mpps  ns/packet  node/row  95 % interval    row/l2fwd  95 % interval",
            "row"
        )?;
        for row in rows {
            row.write(to)?;
        }
        writeln!(to, "  lost, of what was offered")?;
        for row in rows {
            writeln!(to, "    {:<23} {}", row.name, row.losses())?;
        }
        let share = rows.iter().map(RowReport::generator_share).fold(f64::INFINITY, f64::min);
        if rounds > 0 && share < ALONE {
            let percent = share * 100.0;
            writeln!(to, "  other work ran: a generator had {percent:.0} % of its core")?;
        }
        if rows.iter().any(|row| row.with_sender) {
            writeln!(to, "  * sender and forwarder together, on one core")?;
        }
        Ok(())
    }
}

impl RowReport {
    fn write(&self, to: &mut impl Write) -> fmt::Result {
        let Self { name, cores, mpps, ns_per_packet, .. } = self;
        let sender = if self.with_sender { '*' } else { ' ' };
        let ns = ns_per_packet.median;
        write!(to, "  {name:<25} {cores:>5} {:>6.3}  {ns:>8.0}{sender}", mpps.median)?;
        match self.node_ratio {
            Some(Estimate { median, low, high, .. }) => {
                write!(to, "  {median:>8.3}  {low:.3} to {high:.3}")?;
            }
            None => write!(to, "  {:>8}  {:14}", "", "")?,
        }
        match self.reference_ratio {
            Some(Estimate { median, low, high, .. }) => {
                writeln!(to, "  {median:>9.3}  {low:.3} to {high:.3}")?;
            }
            None => writeln!(to)?,
        }
        if let Some(expected) = self.expected {
            writeln!(to, "    node/{name} {expected}")?;
        }
        if let Some(expected) = self.expected_of_reference {
            writeln!(to, "    {name}/{} {expected}", Row::L2FWD)?;
        }
        Ok(())
    }

    /// How much of its core the generator had, which never rests: the median over the rounds.
    fn generator_share(&self) -> f64 {
        let share = |window: &Window| window.generator_ns * window.mpps / 1e3;
        median(&self.rounds.iter().map(share).collect::<Vec<_>>())
    }

    /// Where frames were lost, as shares of what was offered.
    fn losses(&self) -> String {
        let mut lost = BTreeMap::new();
        let mut offered = 0;
        for window in &self.rounds {
            offered += window.offered;
            for (place, count) in &window.losses {
                *lost.entry(place.as_str()).or_insert(0) += count;
            }
        }
        let share = |count: u64| 100.0 * count as f64 / offered.max(1) as f64;
        let each = lost.into_iter().map(|(place, count)| format!("{place} {:.1} %", share(count)));
        let each: Vec<_> = each.collect();
        if each.is_empty() { "nothing".to_owned() } else { each.join(", ") }
    }
}
