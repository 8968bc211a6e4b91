//! The report as text: a line a check, and beneath it what is wrong.

use std::fmt::Write as _;

use super::report::{About, Check, Family, Finding, Remedy, Report, Status};
use crate::journey::Style;

/// The whole report, and a last line that sums it up.
#[must_use]
pub fn text(report: &Report, style: Style) -> String {
    let checks = || report.families.iter().flat_map(|family| &family.checks);
    let width = checks().map(|check| check.id.len()).max().unwrap_or(0);
    let mut text = String::new();
    for family in &report.families {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", style.bold(&heading(family)));
        for check in &family.checks {
            line(&mut text, check, width, style);
        }
    }
    let count = |status| checks().filter(|check| check.status == status).count();
    let _ = writeln!(
        text,
        "{} ok, {} fixed, {} unknown, {} warnings, {} failed",
        count(Status::Ok),
        count(Status::Fixed),
        count(Status::Unknown),
        count(Status::Warn),
        count(Status::Fail)
    );
    text
}

fn heading(family: &Family) -> String {
    let about = match family.about {
        About::Privileges => "privileges",
        About::Kernel => "kernel",
        About::Host => "host",
        About::Lab => "lab",
        About::Tuning => "tuning of lab",
    };
    family.lab.as_ref().map_or(about.into(), |lab| format!("{about} {lab}"))
}

fn line(text: &mut String, check: &Check, width: usize, style: Style) {
    let _ = writeln!(text, "  {} {:<width$}  {}", word(check.status, style), check.id, check.found);
    for finding in &check.findings {
        let indent = " ".repeat(width + 12);
        let _ = writeln!(text, "{indent}{}{}", place(finding), finding.problem);
        let _ = writeln!(text, "{indent}  so: {}", finding.consequence);
        let done = if finding.status == Status::Fixed { "; done" } else { "" };
        let remedy = match &finding.remedy {
            Remedy::Fix(change) => format!("--fix: {change}{done}"),
            Remedy::Tune(change) => format!("--tune: {change}{done}"),
            Remedy::Run(command) => format!("run: {command}"),
        };
        let _ = writeln!(text, "{indent}  {}", style.cyan(&remedy));
    }
}

fn word(status: Status, style: Style) -> String {
    match status {
        Status::Ok => style.green("ok     "),
        Status::Fixed => style.green("fixed  "),
        Status::Unknown => style.dim("unknown"),
        Status::Warn => style.cyan("warn   "),
        Status::Fail => style.red("fail   "),
    }
}

fn place(finding: &Finding) -> String {
    match (&finding.namespace, &finding.interface) {
        (Some(namespace), Some(interface)) => format!("{namespace} {interface}: "),
        (Some(namespace), None) => format!("{namespace}: "),
        _ => String::new(),
    }
}
