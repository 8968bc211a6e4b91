//! The report for browsers: one page that needs nothing beside itself.

use std::fmt::{self, Write};

use super::chart::{self, COLOURS, better, escape};
use super::text::{losses, of_rounds, written};
use super::{Case, Report};
use crate::bench::search::Trial;

const STYLE: &str = include_str!("style.css");

impl Report {
    /// The report as a page.
    #[must_use]
    pub fn html(&self) -> String {
        written(|text| self.page(text))
    }

    fn page(&self, to: &mut impl Write) -> fmt::Result {
        let mode = self.mode.name();
        writeln!(to, "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">")?;
        writeln!(to, "<meta name=\"viewport\" content=\"width=device-width\">")?;
        writeln!(to, "<title>trunkline bench {mode}</title>\n<style>\n{STYLE}</style>\n<main>")?;
        let (class, verdict) = match (self.interrupted, self.passed) {
            (true, _) => ("bad", "interrupted"),
            (false, true) => ("good", "passed"),
            (false, false) => ("bad", "failed"),
        };
        writeln!(to, "<h1>bench {mode} <span class=\"badge {class}\">{verdict}</span></h1>")?;
        writeln!(to, "<p class=\"lead\">{}</p>", escape(self.mode.about()))?;
        for load in self.loads() {
            writeln!(to, "<p class=\"lead\">{}</p>", escape(&load.in_words()))?;
        }
        if let Some(goal) = &self.goal {
            writeln!(to, "<p>{}</p>", escape(&goal.in_words()))?;
        }
        if !self.expected.is_empty() {
            writeln!(to, "<p>expected: {}</p>", escape(&self.expected))?;
        }
        for warning in self.warnings() {
            writeln!(to, "<p class=\"warning\">{}</p>", escape(&warning))?;
        }
        for (case, fault) in self.faults() {
            let (title, fault) = (escape(&case.title()), escape(fault));
            writeln!(to, "<p class=\"fault\">{title}: {fault}</p>")?;
        }
        self.charts(to)?;
        self.figures(to)?;
        self.losses(to)?;
        self.absent(to)?;
        self.all_trials(to)?;
        self.host(to)?;
        writeln!(to, "</main>\n</html>")
    }

    fn charts(&self, to: &mut impl Write) -> fmt::Result {
        let has_ratios = |case: &&Case| case.ratios().is_some_and(|ratios| !ratios.is_empty());
        let with_reference: Vec<_> = self.cases.iter().filter(has_ratios).collect();
        if let Some(first) = with_reference.first() {
            writeln!(to, "<h2>Ratios</h2>\n<figure>")?;
            chart::ratios(to, &with_reference)?;
            writeln!(
                to,
                "<figcaption>Each dot is a round, the bar the median with its interval; {}.\
                 </figcaption>\n</figure>",
                better(first)
            )?;
        }
        let distributed: Vec<_> =
            self.cases.iter().filter(|case| !case.distribution.is_empty()).take(COLOURS).collect();
        if !distributed.is_empty() {
            writeln!(to, "<h2>Distributions</h2>\n<figure>\n<p class=\"legend\">")?;
            for (at, case) in distributed.iter().enumerate() {
                let group = escape(&case.group);
                writeln!(to, "<span><i class=\"key c{at}\"></i>{group}</span>")?;
            }
            writeln!(to, "</p>")?;
            chart::distributions(to, &distributed)?;
            writeln!(
                to,
                "<figcaption>The share of all frames (across) that took no longer than so long \
                 (up). Solid: node; dashed: reference.</figcaption>\n</figure>"
            )?;
        }
        for case in self.cases.iter().filter(|case| !case.trials.is_empty()) {
            writeln!(to, "<h2>Trials</h2>\n<figure>")?;
            writeln!(
                to,
                "<p class=\"legend\"><span><i class=\"key held\"></i>held</span>\
                 <span><i class=\"key lost\"></i>did not hold</span></p>"
            )?;
            chart::trials(to, &searches(case), case.unit.name())?;
            writeln!(
                to,
                "<figcaption>Rates that were tried, in {}; longer trials are larger.\
                 </figcaption>\n</figure>",
                case.unit.name()
            )?;
        }
        Ok(())
    }

    fn figures(&self, to: &mut impl Write) -> fmt::Result {
        writeln!(to, "<h2>Figures</h2>\n<div class=\"wide\"><table>\n<tr><th>case<th>figure")?;
        writeln!(to, "<th>ratio<th>reference<th>limited by</tr>")?;
        for case in &self.cases {
            let unit = case.unit.name();
            let of = of_rounds(&case.rounds, &case.estimate, unit);
            write!(to, "<tr><td>{}<td>{of}", escape(&case.title()))?;
            if let Some([l2, l1]) = case.gbps {
                write!(to, "<br>{l2:.3} Gb/s (L1 {l1:.3})")?;
            }
            if let Some(cost) = case.cost {
                write!(to, "<br>{cost}")?;
            }
            match &case.reference {
                Some(reference) => {
                    let ratios = case.ratios().unwrap_or_default();
                    let ratio = of_rounds(&ratios, &reference.ratio, "");
                    let of = of_rounds(&reference.rounds, &reference.estimate, unit);
                    let name = escape(&reference.name);
                    write!(to, "<td><b>{ratio}</b>")?;
                    if let Some(expected) = case.expected {
                        write!(to, "<br>expected {expected}")?;
                    }
                    write!(to, "<td>{name}: {of}")?;
                    if let Some(cost) = reference.cost {
                        write!(to, "<br>{cost}")?;
                    }
                }
                None => write!(to, "<td><td>")?,
            }
            let limit = case.limit.as_deref().unwrap_or_default();
            write!(to, "<td>{}", escape(limit))?;
            let limit = case.reference.as_ref().and_then(|reference| reference.limit.as_ref());
            if let Some(limit) = limit {
                write!(to, "<br>reference: {}", escape(limit))?;
            }
            writeln!(to, "</tr>")?;
            for note in &case.notes {
                writeln!(to, "<tr class=\"note\"><td><td colspan=\"4\">{}</tr>", escape(note))?;
            }
        }
        writeln!(to, "</table></div>")
    }

    fn losses(&self, to: &mut impl Write) -> fmt::Result {
        writeln!(to, "<h2>Where frames were lost</h2>\n<div class=\"wide\"><table>")?;
        writeln!(to, "<tr><th>case<th>offered<th>lost, by place</tr>")?;
        for case in self.cases.iter().filter(|case| case.offered > 0) {
            let title = escape(&case.title());
            let lost = escape(&losses(&case.losses, case.offered));
            writeln!(to, "<tr><td>{title}<td>{}<td>{lost}</tr>", case.offered)?;
            if let Some(reference) = case.reference.as_ref().filter(|r| r.offered > 0) {
                let lost = escape(&losses(&reference.losses, reference.offered));
                let name = escape(&reference.name);
                writeln!(to, "<tr><td>{title}, {name}<td>{}<td>{lost}</tr>", reference.offered)?;
            }
        }
        writeln!(to, "</table></div>")
    }

    fn absent(&self, to: &mut impl Write) -> fmt::Result {
        if self.absent.is_empty() {
            return Ok(());
        }
        writeln!(to, "<h2>Not measured</h2>\n<div class=\"wide\"><table>")?;
        for absent in &self.absent {
            let [name, reason] = [&absent.name, &absent.reason].map(|text| escape(text));
            writeln!(to, "<tr><td>{name}<td>{}<td>{reason}</tr>", absent.under())?;
        }
        writeln!(to, "</table></div>")
    }

    fn all_trials(&self, to: &mut impl Write) -> fmt::Result {
        for case in self.cases.iter().filter(|case| !case.trials.is_empty()) {
            writeln!(to, "<details><summary>Every trial</summary><div class=\"wide\"><table>")?;
            writeln!(to, "<tr><th>search<th>asked<th>offered<th>seconds<th>unsent<th>lost</tr>")?;
            for (name, trials) in searches(case) {
                for trial in trials {
                    let Trial { rate, seconds, unsent, offered, .. } = trial;
                    let asked =
                        trial.asked.map_or("full speed".into(), |rate| format!("{rate:.0}/s"));
                    let lost = escape(&losses(&trial.losses, *offered));
                    let name = escape(&name);
                    writeln!(
                        to,
                        "<tr><td>{name}<td>{asked}<td>{rate:.0}/s<td>{seconds:.2}<td>{unsent}<td>{lost}</tr>"
                    )?;
                }
            }
            writeln!(to, "</table></div></details>")?;
        }
        Ok(())
    }

    fn host(&self, to: &mut impl Write) -> fmt::Result {
        let machine = &self.machine;
        let calibration = &self.calibration;
        let cores = format!(
            "{}: generator on {}, forwarder on {}",
            machine.cores, machine.generator_core, machine.forwarder_core
        );
        let governor = if machine.governor.is_empty() { "none" } else { &machine.governor };
        let speed = format!(
            "{:.1} ms (fastest {:.1}, slowest {:.1})",
            calibration.median, calibration.fastest, calibration.slowest
        );
        let steal = format!("{:.2} %", machine.steal * 100.0);
        let nearness = machine.nearness.map_or_else(
            || "not looked at".to_owned(),
            |n| format!("{:.0} to {:.0} ns", n.least, n.greatest),
        );
        let yes = |is: bool| if is { "yes" } else { "no" };
        writeln!(to, "<h2>Machine</h2>\n<table>")?;
        for (what, fact) in [
            ("kernel", machine.kernel.as_str()),
            ("processor", &machine.processor),
            ("processors", &cores),
            ("governor", governor),
            ("taken away by the host", &steal),
            ("from core to core", &nearness),
            ("session's priority raised", yes(machine.priority_raised)),
            ("built with optimisation", yes(machine.optimised)),
            ("calibration", &speed),
        ] {
            writeln!(to, "<tr><th>{what}<td>{}</tr>", escape(fact))?;
        }
        writeln!(to, "</table>\n<details><summary>Mitigations</summary><table>")?;
        for (name, text) in &machine.mitigations {
            writeln!(to, "<tr><th>{}<td>{}</tr>", escape(name), escape(text))?;
        }
        writeln!(to, "</table></details>")
    }
}

/// The searches of a case, by round, those of the reference after its own.
fn searches(case: &Case) -> Vec<(String, &[Trial])> {
    let named = |name: &str, rounds: &'_ [Vec<Trial>]| {
        (1..=rounds.len()).map(|n| format!("{name}, round {n}")).collect::<Vec<_>>()
    };
    let own = named(&case.title(), &case.trials).into_iter().zip(&case.trials);
    let others = case.reference.iter().flat_map(|reference| {
        named(&reference.name, &reference.trials).into_iter().zip(&reference.trials)
    });
    own.chain(others).map(|(name, trials)| (name, trials.as_slice())).collect()
}
