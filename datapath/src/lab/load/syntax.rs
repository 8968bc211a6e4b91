//! YAML to the structs of the file, with the parser's errors put into words of ours.

use serde_saphyr::Error;

use crate::lab::error::{Finding, LabError, Position, alternatives, nearest, quoted};
use crate::lab::file::File;

/// Scalars, lists and maps a lab file can have.
const NODES: usize = 4_000_000;

/// Reads `text` as a lab file.
pub(super) fn parse(text: &str, source_name: &str) -> Result<File, LabError> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! { max_nodes: NODES, max_events: NODES.saturating_mul(2) },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let (message, help) = explain(error.without_snippet());
        let at = error.location().map_or(Position::START, Position::from);
        let help = help.or_else(|| form(error.without_snippet(), text, at).map(str::to_owned));
        LabError::new(text, source_name, vec![Finding { at, message, help }])
    })
}

/// What `error` says, and what may be meant instead.
fn explain(error: &Error) -> (String, Option<String>) {
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            let message = format!("{} is no key here", quoted(field));
            let help = match nearest(field, expected.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the keys are {}", alternatives(expected.iter().copied())),
            };
            (message, Some(help))
        }
        Error::SerdeMissingField { field, .. } => {
            let help = (*field == "peer")
                .then(|| "a rule names its other side; `peer: 0.0.0.0/0` is everybody".to_owned());
            (format!("this map lacks the key `{field}`, which it needs"), help)
        }
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().map_or_else(String::new, |key| format!(" {}", quoted(key)));
            (format!("the key{key} is given twice: expected every key once"), None)
        }
        Error::SerdeInvalidType { unexpected, expected, .. } => {
            (format!("expected {expected}, found {unexpected}"), None)
        }
        Error::NullIntoString { .. } => ("expected a value, found nothing".to_owned(), None),
        Error::UnknownAnchor { .. } => ("there is no anchor of this name".to_owned(), None),
        Error::Unexpected { expected, .. } => (format!("expected {}", in_yaml(expected)), None),
        Error::MultipleDocuments { .. } => {
            ("expected one YAML document, found another one".to_owned(), None)
        }
        Error::Eof { .. } => ("expected a lab file, found nothing".to_owned(), None),
        Error::Message { msg, .. } | Error::ExternalMessage { msg, .. } => {
            (format!("this is not valid YAML: {msg}"), None)
        }
        Error::AliasError { error, .. } => explain(error),
        other => {
            let text = other.render_with_options(serde_saphyr::render_options! {
                snippets: serde_saphyr::SnippetMode::Off,
            });
            let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
            (text.to_owned(), None)
        }
    }
}

/// How an entry of a list is written that was written in another form.
fn form(error: &Error, text: &str, at: Position) -> Option<&'static str> {
    let Error::Unexpected { expected, .. } = error else { return None };
    // The parser does not tell the key: it is the last one before the entry, on its line or above.
    let mut lines = text.lines();
    let line = usize::try_from(at.line).ok()?.checked_sub(1)?;
    let above: Vec<&str> = lines.by_ref().take(line).collect();
    let before = usize::try_from(at.column).ok()?.checked_sub(1)?;
    let on_line: String = lines.next()?.chars().take(before).collect();
    let key = std::iter::once(on_line.as_str())
        .chain(above.into_iter().rev())
        .find_map(|line| line.rsplit_once(':'))
        .and_then(|(key, _)| key.rsplit(|c: char| !c.is_alphanumeric()).next())?;
    match (key, in_yaml(expected)) {
        ("endpoints", MAP) => Some("an endpoint is written `{pod: NS/NAME}`"),
        ("ports", MAP) => Some("a port of a service is written `{port: 80}`"),
        ("ports", ONE) => Some("a rule has one port or one range: write a rule for each"),
        ("listeners", MAP) => Some("a listener is written `{port: 80, backends: [ENI]}`"),
        ("backends", ONE) => Some("a backend is the ID of a member ENI, or NS/NAME of its pod"),
        _ => None,
    }
}

const ONE: &str = "one value, not a list or a map";
const MAP: &str = "a map of keys and values";

/// The parser's name of a kind of node, in words a reader of the file knows.
fn in_yaml(expected: &str) -> &str {
    match expected {
        "string scalar" | "scalar" => ONE,
        "mapping start" => MAP,
        "sequence start" => "a list",
        other => other,
    }
}
