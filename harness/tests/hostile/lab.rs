//! Texts of any kind, as a lab file.

use datapath::lab::{Lab, LabError, load};
use datapath::link::{ElementId, MemoryLink, Socket, ports_of};

/// Loads the text: a lab that runs, or mistakes that lie within the text and can be printed
/// (spec LAW-7).
pub(crate) fn check(bytes: &[u8]) {
    match load(&String::from_utf8_lossy(bytes), "lab.yaml") {
        Ok(lab) => run(lab),
        Err(error) => assert_located(&String::from_utf8_lossy(bytes), &error),
    }
}

/// Every mistake is in the text, or right behind its end.
pub(crate) fn assert_located(text: &str, error: &LabError) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // CR LF is one end of a line, CR alone another.
    let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    let lines: Vec<&str> = lines.flat_map(|line| line.split('\r')).collect();
    assert!(!error.problems.is_empty());
    for problem in &error.problems {
        let (line, column) = (problem.at.line as usize, problem.at.column as usize);
        let within = lines.get(line - 1).is_some_and(|line| column <= line.chars().count() + 1);
        assert!(within, "{line}:{column} is not within the text: {}", problem.message);
        assert!(!problem.message.trim().is_empty());
        let help = problem.help.as_deref().unwrap_or_default();
        for text in [&problem.message, &problem.excerpt, help] {
            assert!(!text.contains(char::is_control), "not printable: {text:?}");
        }
    }
    assert!(error.to_string().starts_with("lab.yaml:"));
}

/// A frame at every port is accounted for.
fn run(mut lab: Lab) {
    // As large as they may be, tables cost more memory than there is.
    lab.limits.flows = lab.limits.flows.min(64);
    lab.limits.sessions = lab.limits.sessions.min(64);
    let mut link = MemoryLink::new(lab.clone());
    for element in ElementId::all(&lab) {
        for (port, _) in ports_of(&lab, element) {
            link.arrive(Socket { element, port }, &[0xff; 60]);
        }
    }
    link.settle();
    assert!(link.balances());
}
