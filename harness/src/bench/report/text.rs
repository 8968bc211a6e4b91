//! The report for people who read a terminal.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::{Calibration, Case, Mode, Report, table};
use crate::bench::load::many;
use benches::statistics::Estimate;

/// What `write` writes, as text.
pub fn written(write: impl FnOnce(&mut String) -> fmt::Result) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = write(&mut text);
    text
}

impl Report {
    /// The report as lines of text.
    #[must_use]
    pub fn text(&self) -> String {
        written(|text| self.write(text))
    }

    /// What makes its figures worth less than they look.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let machine = &self.machine;
        let mut warnings = Vec::new();
        if self.interrupted {
            warnings.push("interrupted: the report is of what was measured until then".to_owned());
        }
        if !machine.optimised {
            warnings.push("built without optimisation: the figures mean nothing".to_owned());
        }
        if !machine.priority_raised {
            let why = "the priority could not be raised: other work takes its share";
            warnings.push(why.to_owned());
        }
        let Calibration { fastest, slowest, varied, .. } = self.calibration;
        if varied {
            warnings.push(format!(
                "the machine's speed varied ({fastest:.1} to {slowest:.1} ms): rely on the ratios"
            ));
        }
        warnings.extend(machine.nearness.and_then(|nearness| nearness.in_words()));
        if machine.steal > 0.01 {
            let steal = machine.steal * 100.0;
            warnings.push(format!("the host took {steal:.1} % of the processors away"));
        }
        warnings
    }

    fn write(&self, to: &mut impl Write) -> fmt::Result {
        writeln!(to, "bench {}: {}", self.mode.name(), self.mode.about())?;
        for load in self.loads() {
            writeln!(to, "{}", load.in_words())?;
        }
        writeln!(to, "{}", self.machine.in_words())?;
        if let Some(goal) = &self.goal {
            writeln!(to, "{}", goal.in_words())?;
        }
        for warning in self.warnings() {
            writeln!(to, "{warning}")?;
        }
        match self.mode {
            Mode::Compare => table::write(self, to)?,
            _ => self.groups(to)?,
        }
        for (case, fault) in self.faults() {
            writeln!(to, "FAULT {}: {fault}", case.title())?;
        }
        match self.expected.as_str() {
            "" => Ok(()),
            expected if self.passed => writeln!(to, "\nas expected: {expected}"),
            expected => writeln!(to, "\nnot as expected: {expected}, no fault"),
        }
    }

    fn groups(&self, to: &mut impl Write) -> fmt::Result {
        let mut group = None;
        for case in &self.cases {
            if group != Some(&case.group) {
                let rounds = case.rounds.len();
                let title = if case.group.is_empty() { self.mode.name() } else { &case.group };
                let rounds = many(rounds as u32, "round");
                writeln!(to, "\n{title}, {rounds}")?;
                group = Some(&case.group);
            }
            case.write(to)?;
        }
        Ok(())
    }
}

impl Case {
    fn write(&self, to: &mut impl Write) -> fmt::Result {
        let unit = self.unit.name();
        write!(to, "  {:<14} {}", self.name, of_rounds(&self.rounds, &self.estimate, unit))?;
        match self.gbps {
            Some([l2, l1]) => writeln!(to, ", {l2:.3} Gb/s (L1 {l1:.3})")?,
            None => writeln!(to)?,
        }
        if let Some(cost) = self.cost {
            writeln!(to, "    costs        {cost}")?;
        }
        if let Some(reference) = &self.reference {
            let Estimate { median, low, high, confidence } = reference.ratio;
            let sure = confidence * 100.0;
            let of = of_rounds(&reference.rounds, &reference.estimate, unit);
            writeln!(to, "    {:<12} {of}", reference.name)?;
            if let Some(cost) = reference.cost {
                writeln!(to, "    {} costs {cost}", reference.name)?;
            }
            if !(self.rounds.is_empty() || reference.rounds.is_empty()) {
                writeln!(
                    to,
                    "    ratio        {median:.3} ({low:.3} to {high:.3}, {sure:.0} % sure)"
                )?;
            }
            if let Some(expected) = self.expected {
                writeln!(to, "    expected     {expected}")?;
            }
            if let Some(limit) = &reference.limit {
                writeln!(to, "    {} was limited by {limit}", reference.name)?;
            }
            if !reference.losses.is_empty() {
                let lost = losses(&reference.losses, reference.offered);
                writeln!(to, "    {} lost {lost}", reference.name)?;
            }
        }
        if let Some(limit) = &self.limit {
            writeln!(to, "    limited by   {limit}")?;
        }
        if self.offered > 0 {
            writeln!(to, "    lost         {}", losses(&self.losses, self.offered))?;
        }
        self.notes.iter().try_for_each(|note| writeln!(to, "    {note}"))
    }
}

/// A figure with its interval, where there was time for one.
pub(super) fn of_rounds(rounds: &[f64], estimate: &Estimate, unit: &str) -> String {
    if rounds.is_empty() { "not measured".to_owned() } else { figure(estimate, unit) }
}

/// A figure with its interval.
pub(super) fn figure(estimate: &Estimate, unit: &str) -> String {
    let Estimate { median, low, high, .. } = *estimate;
    // As many digits as tell something.
    let digits = match median.abs() {
        large if large >= 1_000.0 => 0,
        some if some >= 10.0 => 1,
        _ => 3,
    };
    format!("{median:.digits$} {unit} ({low:.digits$} to {high:.digits$})")
}

/// Where frames were lost, as shares of what was offered.
pub(super) fn losses(losses: &BTreeMap<String, u64>, offered: u64) -> String {
    let share = |count: u64| 100.0 * count as f64 / offered.max(1) as f64;
    let each: Vec<_> = losses
        .iter()
        .map(|(place, count)| format!("{place} {count} ({:.3} %)", share(*count)))
        .collect();
    if each.is_empty() { format!("nothing of {offered}") } else { each.join(", ") }
}
