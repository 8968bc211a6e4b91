//! `bench diff`: two reports, figure by figure. Where both have a reference, its speed in the same
//! minute is in the figure already; where not, the machine must have been as fast.

use std::fmt::{self, Write};

use super::report::{Better, Case, Report, STEADY, VERSION, written};
use benches::statistics::Comparison;

/// Why two reports cannot be held against each other.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the reports are not comparable: {0}")]
pub struct NotComparable(String);

/// What is said of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// The second is better, and the rounds show it.
    Faster,
    /// The second is worse, and the rounds show it.
    Slower,
    /// The rounds show neither.
    NoDifference,
}

/// A figure of both reports.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// What it is.
    pub title: String,
    /// Whether it is the share of a reference that is compared.
    pub of_reference: bool,
    /// The second's share of the first, turned so that more is better.
    pub speed: Comparison,
    /// What is said of it.
    pub verdict: Verdict,
    /// Whether it is worse by more than is allowed.
    pub too_slow: bool,
}

/// What two reports have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Diff {
    /// Each figure.
    pub differences: Vec<Difference>,
    /// What could not be compared, or makes a comparison worth less.
    pub remarks: Vec<String>,
}

/// Compares the second report with the first. A figure is too slow that is shown to be slower, by
/// more than `allowed` as a share.
///
/// # Errors
/// [`NotComparable`].
pub fn diff(first: &Report, second: &Report, allowed: f64) -> Result<Diff, NotComparable> {
    comparable(first, second)?;
    let mut remarks = Vec::new();
    let (one, other) = (&first.machine, &second.machine);
    if one.kernel != other.kernel {
        remarks.push(format!("the kernels differ: {} and {}", one.kernel, other.kernel));
    }
    let steady = is_steady(first, second);
    let mut differences = Vec::new();
    for case in &second.cases {
        let title = case.comparison();
        let Some(before) = first.cases.iter().find(|before| is_same(before, case)) else {
            remarks.push(format!("{title}: only in the second report"));
            continue;
        };
        match samples(before, case) {
            (these, those, true) => differences.push(difference(case, &these, &those, true, allowed)),
            (these, those, false) if steady => {
                differences.push(difference(case, &these, &those, false, allowed));
            }
            _ => remarks.push(format!(
                "{title}: has no reference, and the machine's speed was another ({:.1} and {:.1} ms)",
                first.calibration.median, second.calibration.median
            )),
        }
    }
    for case in &first.cases {
        if !second.cases.iter().any(|after| is_same(case, after)) {
            remarks.push(format!("{}: only in the first report", case.comparison()));
        }
    }
    if differences.is_empty() {
        let why =
            if remarks.is_empty() { "they have no figures".to_owned() } else { remarks.join("; ") };
        return Err(NotComparable(why));
    }
    Ok(Diff { differences, remarks })
}

/// Whether two figures are of the same thing under the same load.
fn is_same(one: &Case, other: &Case) -> bool {
    let of = |case: &Case| (case.comparison(), case.unit);
    of(one) == of(other) && one.load == other.load
}

fn comparable(first: &Report, second: &Report) -> Result<(), NotComparable> {
    let differs = |what: &str, a: &dyn fmt::Display, b: &dyn fmt::Display| {
        Err(NotComparable(format!("{what} differs ({a} and {b})")))
    };
    for report in [first, second] {
        if report.version != VERSION {
            let why =
                format!("one is of form {}, and this command knows {VERSION}", report.version);
            return Err(NotComparable(why));
        }
        if report.interrupted {
            return Err(NotComparable("one was interrupted".to_owned()));
        }
        if let Some((case, fault)) = report.faults().next() {
            return Err(NotComparable(format!("one has a fault: {}: {fault}", case.title())));
        }
    }
    let (one, other) = (&first.machine, &second.machine);
    if first.mode != second.mode {
        return differs("what was measured", &first.mode.name(), &second.mode.name());
    }
    if first.load != second.load {
        let [one, other] = [first, second].map(|report| match &report.load {
            Some(load) => load.in_words(),
            None => "none".to_owned(),
        });
        return differs("the load", &one, &other);
    }
    if first.goal != second.goal {
        return Err(NotComparable("the rates were searched for in other ways".to_owned()));
    }
    if (&one.processor, one.cores) != (&other.processor, other.cores) {
        let machine = |m: &super::machine::Machine| format!("{} cores of {}", m.cores, m.processor);
        return differs("the machine", &machine(one), &machine(other));
    }
    if one.optimised != other.optimised {
        let built = |is| if is { "with optimisation" } else { "without" };
        return differs("how they were built", &built(one.optimised), &built(other.optimised));
    }
    Ok(())
}

/// Whether the machine was as fast both times, and all the time.
fn is_steady(first: &Report, second: &Report) -> bool {
    let [one, other] = [first, second].map(|report| report.calibration.median);
    let varied = first.calibration.varied || second.calibration.varied;
    !varied && one.max(other) <= one.min(other) * STEADY
}

/// The rounds of a figure in the first and the second report, and whether they are shares of a
/// reference.
fn samples(before: &Case, after: &Case) -> (Vec<f64>, Vec<f64>, bool) {
    match (before.ratios(), after.ratios()) {
        (Some(these), Some(those)) => (these, those, true),
        _ => (before.rounds.clone(), after.rounds.clone(), false),
    }
}

fn difference(
    case: &Case,
    before: &[f64],
    after: &[f64],
    of_reference: bool,
    allowed: f64,
) -> Difference {
    let speed = match case.better {
        Better::Higher => Comparison::of(after, before),
        Better::Lower => Comparison::of(before, after),
    };
    let verdict = match (speed.differs(), speed.low > 1.0) {
        (false, _) => Verdict::NoDifference,
        (true, true) => Verdict::Faster,
        (true, false) => Verdict::Slower,
    };
    let too_slow = verdict == Verdict::Slower && speed.ratio < 1.0 - allowed;
    Difference { title: case.comparison(), of_reference, speed, verdict, too_slow }
}

impl Verdict {
    const fn name(self) -> &'static str {
        match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::NoDifference => "no difference shown",
        }
    }
}

impl Diff {
    /// Whether nothing is worse by more than is allowed.
    #[must_use]
    pub fn passes(&self) -> bool {
        !self.differences.iter().any(|difference| difference.too_slow)
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        written(|text| self.write(text))
    }

    fn write(&self, to: &mut impl Write) -> fmt::Result {
        writeln!(
            to,
            "The second report's speed as a share of the first's: the median of all pairs of rounds\n\
             (Hodges-Lehmann), with the interval of the Mann-Whitney test.\n"
        )?;
        for Difference { title, of_reference, speed, verdict, too_slow } in &self.differences {
            let Comparison { ratio, low, high, confidence } = speed;
            let sure = confidence * 100.0;
            let of = if *of_reference { ", by the ratios to the reference" } else { "" };
            let mark = if *too_slow { "NO " } else { "   " };
            writeln!(
                to,
                "{mark}{title}: {} {ratio:.3} ({low:.3} to {high:.3}, {sure:.1} % sure){of}",
                verdict.name()
            )?;
        }
        self.remarks.iter().try_for_each(|remark| writeln!(to, "   {remark}"))
    }
}
