//! A run for the eye.

use std::fmt::Write as _;

use super::file::Outcome;
use super::run::Run;
use crate::journey::{Leg, Style, legend, table};

/// Width of the column of names, where none is longer.
pub const NAME: usize = 14;

/// A case in two lines: whether it passed, its name in a column of `width`, its title; the verdict
/// and who denied.
#[must_use]
pub fn headline(run: &Run, style: Style, width: usize) -> String {
    let mark = if run.passed() { style.green("ok  ") } else { style.red("FAIL") };
    let verdict = match (run.verdict, &run.denial) {
        (Outcome::Reachable, _) => format!("reachable: {}", run.answer),
        (Outcome::Denied, Some(denial)) => format!("denied: {denial}"),
        (Outcome::Denied, None) => format!("not reachable: {}", run.answer),
    };
    let name = style.bold(&format!("{:width$}", run.case.name()));
    let on = run.datapath;
    format!("{mark}  {name}  {}\n      {:width$}  {verdict} (on {on})\n", run.case.title, "")
}

/// A case with its journeys and checks.
#[must_use]
pub fn full(run: &Run, style: Style) -> String {
    let mut text = headline(run, style, NAME);
    let names = run.names();
    text.push('\n');
    text += &legend(&names, style);
    for (flow, leg, journey) in run.journeys() {
        let title = match leg {
            Leg::Request => "forward",
            Leg::Reply => "reply",
            Leg::Error => "ICMP error",
        };
        text.push('\n');
        text += &table(&names, flow, journey, title, style);
    }
    text.push('\n');
    text + &checks(run, style)
}

/// What was expected, a line each; what was expected instead is said where it did not hold.
#[must_use]
pub fn checks(run: &Run, style: Style) -> String {
    let width = run.checks.iter().map(|check| check.what.len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in &run.checks {
        let what = format!("{:width$}", check.what);
        let (mark, what) = if check.ok {
            (style.green("ok  "), what)
        } else {
            (style.red("FAIL"), style.red(&what))
        };
        // What is there word for word needs no second line of it: a path is long.
        let seen =
            if check.ok && check.seen == check.expected { "as expected" } else { &check.seen };
        let _ = writeln!(text, "  {mark}  {what}  {seen}");
        if !check.ok {
            let _ = writeln!(text, "        {:width$}  expected {}", "", check.expected);
        }
    }
    text
}
