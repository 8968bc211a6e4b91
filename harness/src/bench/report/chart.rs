//! The report's charts, as SVG inside a page whose style sheet has the colours.

use std::fmt::{self, Write};

use super::{Better, Case};
use crate::bench::search::Trial;
use benches::statistics::Estimate;

/// Width of every chart, and of what stands left of it, in units of the picture.
const WIDTH: f64 = 760.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 24.0;
/// Between a label and the chart, and about what a letter takes.
const GAP: f64 = 12.0;
const LETTER: f64 = 6.2;
/// Height of a row, and of the axis below.
const ROW: f64 = 30.0;
const AXIS: f64 = 34.0;
/// Room that the figure of a tick takes.
const TICK_ROOM: f64 = 44.0;
/// Height of a chart with two axes.
const HEIGHT: f64 = 260.0;
/// Colours that lines are told apart by; a chart has no more of them.
pub(super) const COLOURS: usize = 4;

/// A scale from figures to places in the picture.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// Over some figures, with a bit of room at both ends.
    fn over(figures: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let low = figures.clone().fold(f64::INFINITY, f64::min);
        let high = figures.fold(f64::NEG_INFINITY, f64::max);
        let room = ((high - low) * 0.06).max(high.abs() * 0.01).max(1e-9);
        Self { low: low - room, high: high + room, from, to }
    }

    fn at(&self, figure: f64) -> f64 {
        let share = (figure - self.low) / (self.high - self.low);
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Round figures along it.
    fn ticks(&self) -> Vec<f64> {
        let step = 10_f64.powf(((self.high - self.low) / 5.0).log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|n| n * step);
        let step = steps.into_iter().find(|s| (self.high - self.low) / s <= 6.0).unwrap_or(step);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        // Not by adding up, which would end beside the round figures.
        (first..=last).map(|n| n as f64 * step).collect()
    }
}

/// A figure of an axis, without digits that say nothing.
fn tick(figure: f64) -> String {
    let text = format!("{figure:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() || text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// The ratios of all cases that have a reference: each round, the median and its interval.
pub(super) fn ratios(to: &mut impl Write, cases: &[&Case]) -> fmt::Result {
    let all = cases.iter().filter_map(|case| case.ratios()).flatten().chain([1.0]);
    // Twice as fast is as far from 1 as half as fast.
    let all: Vec<_> = all.map(of_ratio).collect();
    let labels: Vec<_> = cases.iter().map(|case| case.comparison()).collect();
    let longest = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let left = (longest as f64 * LETTER + 2.0 * GAP).clamp(LEFT, WIDTH / 2.0);
    let scale = Scale::over(all.iter().copied(), left, WIDTH - RIGHT);
    let height = ROW * cases.len() as f64;
    open(
        to,
        height + AXIS,
        "ratios to the reference, each round and the median with its interval",
    )?;
    axis(to, &scale, height, &ratio_ticks(&scale), |power| tick(power.exp()))?;
    let one = scale.at(0.0);
    writeln!(to, r#"<line class="one" x1="{one:.1}" x2="{one:.1}" y1="0" y2="{height:.1}"/>"#)?;
    for (row, (case, name)) in cases.iter().zip(&labels).enumerate() {
        let y = ROW * (row as f64 + 0.5);
        let (Some(reference), Some(ratios)) = (&case.reference, case.ratios()) else { continue };
        label(to, left, y, name)?;
        let Estimate { median, low, high, .. } = reference.ratio;
        let [low, high, middle] = [low, high, median].map(|ratio| scale.at(of_ratio(ratio)));
        let title =
            format!("{median:.3} ({:.3} to {:.3})", reference.ratio.low, reference.ratio.high);
        writeln!(
            to,
            r#"<g><title>{title}</title><line class="interval" x1="{low:.1}" x2="{high:.1}" y1="{y:.1}" y2="{y:.1}"/>"#
        )?;
        for ratio in ratios {
            let x = scale.at(of_ratio(ratio));
            writeln!(to, r#"<circle class="round" cx="{x:.1}" cy="{y:.1}" r="3.5"/>"#)?;
        }
        let (top, bottom) = (y - 9.0, y + 9.0);
        writeln!(
            to,
            r#"<line class="median" x1="{middle:.1}" x2="{middle:.1}" y1="{top:.1}" y2="{bottom:.1}"/></g>"#
        )?;
    }
    close(to)
}

/// The trials of some searches: at which rates it held, and at which it did not.
pub(super) fn trials(
    to: &mut impl Write,
    searches: &[(String, &[Trial])],
    unit: &str,
) -> fmt::Result {
    let rates = searches.iter().flat_map(|(_, trials)| trials.iter().map(|trial| trial.rate));
    let scale = Scale::over(rates, LEFT, WIDTH - RIGHT);
    let height = ROW * searches.len() as f64;
    open(to, height + AXIS, "the rates that were tried")?;
    axis(to, &scale, height, &scale.ticks(), |figure| match unit {
        "Mpps" => tick(figure / 1e6),
        _ => tick(figure),
    })?;
    for (row, (name, trials)) in searches.iter().enumerate() {
        let y = ROW * (row as f64 + 0.5);
        label(to, LEFT, y, name)?;
        let longest = trials.iter().map(|trial| trial.seconds).fold(0.0, f64::max);
        for trial in *trials {
            let x = scale.at(trial.rate);
            let (class, said) =
                if trial.held { ("held", "held") } else { ("lost", "did not hold") };
            // Longer trials are larger.
            let size = 3.0 + 3.0 * (trial.seconds / longest.max(1e-9)).min(1.0);
            let title = format!(
                "{:.0}/s for {:.2} s {said}: {} of {} lost",
                trial.rate, trial.seconds, trial.lost, trial.offered
            );
            writeln!(
                to,
                r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{size:.1}"><title>{title}</title></circle>"#
            )?;
        }
    }
    close(to)
}

/// Distributions of times: what share of all frames took no longer than how long.
pub(super) fn distributions(to: &mut impl Write, cases: &[&Case]) -> fmt::Result {
    let lines = lines(cases);
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let across = Scale::over(points().map(|(x, _)| *x), 60.0, WIDTH - RIGHT);
    let up = Scale::over(points().map(|(_, y)| *y), HEIGHT, 8.0);
    open(to, HEIGHT + AXIS, "the share of all frames that took no longer than so long")?;
    for power in -1..=7 {
        let y = up.at(f64::from(power));
        if f64::from(power) < up.low || f64::from(power) > up.high {
            continue;
        }
        let said = tick(10_f64.powi(power));
        writeln!(
            to,
            r#"<line class="grid" x1="60" x2="{:.1}" y1="{y:.1}" y2="{y:.1}"/>"#,
            WIDTH - RIGHT
        )?;
        writeln!(
            to,
            r#"<text class="tick" x="52" y="{:.1}" text-anchor="end">{said} us</text>"#,
            y + 4.0
        )?;
    }
    for (nines, said) in [
        (0.301, "50 %"),
        (1.0, "90 %"),
        (2.0, "99 %"),
        (3.0, "99.9 %"),
        (4.0, "99.99 %"),
        (5.0, "99.999 %"),
    ] {
        if nines < across.low || nines > across.high {
            continue;
        }
        let x = across.at(nines);
        writeln!(to, r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="8" y2="{HEIGHT}"/>"#)?;
        let y = HEIGHT + 18.0;
        writeln!(
            to,
            r#"<text class="tick" x="{x:.1}" y="{y}" text-anchor="middle">{said}</text>"#
        )?;
    }
    for line in &lines {
        let path: Vec<_> = line
            .points
            .iter()
            .map(|(x, y)| format!("{:.1},{:.1}", across.at(*x), up.at(*y)))
            .collect();
        let dashes = if line.is_reference { " reference" } else { "" };
        writeln!(
            to,
            r#"<polyline class="line c{}{dashes}" points="{}"><title>{}</title></polyline>"#,
            line.colour,
            path.join(" "),
            escape(&line.name)
        )?;
    }
    close(to)
}

/// A line of a chart of distributions: its points are the nines of a share and the power of ten
/// of a time.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
    colour: usize,
    is_reference: bool,
}

fn lines(cases: &[&Case]) -> Vec<Line> {
    let point = |(share, us): &(f64, f64)| {
        // The last share is 1, which has no end of nines.
        (-(1.0 - share).max(1e-7).log10(), us.max(0.1).log10())
    };
    let line = |name: String, from: &[(f64, f64)], colour, is_reference| {
        let told = from.iter().filter(|(share, _)| *share < 1.0);
        Line { name, points: told.map(point).collect(), colour, is_reference }
    };
    let mut lines = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        let colour = at % COLOURS;
        lines.push(line(format!("{}: node", case.group), &case.distribution, colour, false));
        if let Some(reference) = &case.reference {
            let name = format!("{}: {}", case.group, reference.name);
            lines.push(line(name, &reference.distribution, colour, true));
        }
    }
    lines
}

fn open(to: &mut impl Write, height: f64, what: &str) -> fmt::Result {
    writeln!(to, r#"<svg viewBox="0 0 {WIDTH} {height:.0}" role="img" aria-label="{what}">"#)
}

fn close(to: &mut impl Write) -> fmt::Result {
    writeln!(to, "</svg>")
}

fn label(to: &mut impl Write, left: f64, y: f64, text: &str) -> fmt::Result {
    let (x, y, text) = (left - GAP, y + 4.0, escape(text));
    writeln!(to, r#"<text class="label" x="{x:.1}" y="{y:.1}" text-anchor="end">{text}</text>"#)
}

fn axis(
    to: &mut impl Write,
    scale: &Scale,
    height: f64,
    ticks: &[f64],
    said: impl Fn(f64) -> String,
) -> fmt::Result {
    for figure in ticks {
        let (x, said) = (scale.at(*figure), said(*figure));
        writeln!(to, r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="0" y2="{height:.1}"/>"#)?;
        let y = height + 18.0;
        writeln!(
            to,
            r#"<text class="tick" x="{x:.1}" y="{y:.1}" text-anchor="middle">{said}</text>"#
        )?;
    }
    Ok(())
}

/// Where a ratio is on its scale.
fn of_ratio(ratio: f64) -> f64 {
    ratio.max(1e-3).ln()
}

/// Round ratios along a scale, 1 always among them, with room for each to be written.
fn ratio_ticks(scale: &Scale) -> Vec<f64> {
    let steps = [
        1.0, 0.5, 2.0, 0.1, 10.0, 0.2, 5.0, 0.8, 1.25, 0.9, 1.1, 0.95, 1.05, 0.02, 50.0, 0.6, 1.5,
        3.0, 20.0, 0.01, 100.0, 0.98, 1.02, 0.3,
    ];
    let mut ticks: Vec<f64> = Vec::new();
    for power in steps.map(f64::ln) {
        let fits = (scale.low..=scale.high).contains(&power);
        let near = |other: &f64| (scale.at(*other) - scale.at(power)).abs() < TICK_ROOM;
        if fits && !ticks.iter().any(near) {
            ticks.push(power);
        }
    }
    ticks
}

/// Which way is the better one, in a word.
pub(super) const fn better(case: &Case) -> &'static str {
    match case.better {
        Better::Higher => "higher is better",
        Better::Lower => "lower is better",
    }
}

/// Text as it stands in a page.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        let scale = Scale { low: 0.83, high: 1.04, from: 0.0, to: 100.0 };
        let ticks: Vec<_> = scale.ticks().into_iter().map(tick).collect();
        assert_eq!(ticks, ["0.85", "0.9", "0.95", "1"]);
        assert!((scale.at(0.935) - 50.0).abs() < 1e-9);
        let wide = Scale { low: 100_000.0, high: 1_200_000.0, from: 0.0, to: 1.0 };
        let ticks: Vec<_> = wide.ticks().into_iter().map(tick).collect();
        assert_eq!(ticks, ["200000", "400000", "600000", "800000", "1000000", "1200000"]);
    }

    #[test]
    fn ratios_are_told_on_both_sides_of_one() {
        let scale = Scale { low: 0.2_f64.ln(), high: 30_f64.ln(), from: 0.0, to: 500.0 };
        let mut ticks = ratio_ticks(&scale);
        ticks.sort_by(f64::total_cmp);
        let ticks: Vec<_> = ticks.into_iter().map(|power| tick(power.exp())).collect();
        assert_eq!(ticks, ["0.2", "0.5", "1", "2", "5", "10", "20"]);
    }

    #[test]
    fn a_single_figure_has_a_scale() {
        let scale = Scale::over([5.0].into_iter(), 0.0, 10.0);
        assert!(scale.at(5.0).is_finite() && !scale.ticks().is_empty());
    }
}
