//! A journey for the eye: its path on one line, then a table of hooks and what decided there.

use std::fmt::Write as _;

use datapath::verdict::DropReason;
use datapath::wire::tcp::Flags;

use super::flow::Flow;
use super::names::Names;
use super::path::{ARROW, path};
use super::row::{Row, Symbols, rows};
use super::stitch::Journey;
use super::style::Style;

/// Width of a line of a path; longer ones are folded at an arrow.
const WIDTH: usize = 110;
/// Headings of the columns before the last one.
const HEADINGS: [&str; 4] = ["at", "hook", "port", "vid"];

/// What the short names stand for, one line each.
#[must_use]
pub fn legend(names: &Names<'_>, style: Style) -> String {
    let legend = names.legend();
    let width = legend.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, meaning) in legend {
        let _ =
            writeln!(text, "  {}  {}", style.bold(&format!("{name:width$}")), style.dim(&meaning));
    }
    text
}

/// One journey, headed by `title` and what kind of packet it is.
#[must_use]
pub fn table(
    names: &Names<'_>,
    flow: &Flow,
    journey: &Journey,
    title: &str,
    style: Style,
) -> String {
    let mut text = format!("{} {}\n", style.bold(title), style.dim(&kind(journey)));
    text += &fold(&path(names, journey), style);
    let lines = lines(names, &rows(names, flow, journey, &Symbols::none()));
    let mut widths = HEADINGS.map(str::len);
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(&line.cells) {
            *width = (*width).max(cell.len());
        }
    }
    let [a, h, p, v] = HEADINGS;
    let [wa, wh, wp, wv] = widths;
    let head = format!("    {a:wa$}  {h:wh$}  {p:wp$}  {v:>wv$}  what decided");
    let _ = writeln!(text, "{}", style.dim(&head));
    for Line { cells: [a, h, p, v], what, tone } in &lines {
        let left = format!("{h:wh$}  {p:wp$}  {v:>wv$}");
        let what = match tone {
            Tone::Plain => what.clone(),
            Tone::Tuple => style.cyan(what),
            Tone::Bad => style.red(what),
        };
        let line = format!("    {}  {left}  {what}", style.bold(&format!("{a:wa$}")));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// What kind of packet a journey is of: `SYN`, `PSH+ACK, 118 bytes`.
fn kind(journey: &Journey) -> String {
    let Some(hop) = journey.first() else { return String::new() };
    let names = [
        (Flags::SYN, "SYN"),
        (Flags::FIN, "FIN"),
        (Flags::RST, "RST"),
        (Flags::PSH, "PSH"),
        (Flags::ACK, "ACK"),
    ];
    let set: Vec<_> =
        names.iter().filter(|(flag, _)| hop.flags.contains(*flag)).map(|(_, name)| *name).collect();
    let flags = set.join("+");
    match (flags.is_empty(), hop.payload_len) {
        (true, 0) => String::new(),
        (true, len) => format!("({len} bytes)"),
        (false, 0) => format!("({flags})"),
        (false, len) => format!("({flags}, {len} bytes)"),
    }
}

/// A path in lines of bearable length.
fn fold(path: &[String], style: Style) -> String {
    let mut text = String::new();
    let mut line = String::from("  ");
    for (number, place) in path.iter().enumerate() {
        let arrow = if number == 0 { "" } else { ARROW };
        if line.len() + arrow.len() + place.len() > WIDTH {
            let _ = writeln!(text, "{}", style.green(line.trim_end()));
            line = format!("   {arrow}");
        } else {
            line += arrow;
        }
        line += place;
    }
    let _ = writeln!(text, "{}", style.green(&line));
    text
}

#[derive(Clone, Copy, Debug)]
enum Tone {
    Plain,
    Tuple,
    Bad,
}

/// One line of the table.
struct Line {
    cells: [String; 4],
    what: String,
    tone: Tone,
}

fn lines(names: &Names<'_>, rows: &[Row]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut element = "";
    let mut shown = "";
    for row in rows {
        let at = if row.element == element { String::new() } else { short(names, &row.element) };
        let begins = row.element != element;
        element = &row.element;
        let vid = match (&row.port, row.vid) {
            (Some(_), Some(vid)) => vid.to_string(),
            (Some(_), None) => "-".into(),
            (None, _) => String::new(),
        };
        let port = row.port.clone().unwrap_or_default();
        let mut cells = [at, row.hook.clone(), port, vid];
        let mut says = details(row);
        if begins && shown != row.before {
            says.insert(0, (row.before.clone(), Tone::Tuple));
        }
        shown = &row.after;
        if says.is_empty() {
            says.push((String::new(), Tone::Plain));
        }
        for (what, tone) in says {
            lines.push(Line { cells, what, tone });
            cells = Default::default();
        }
    }
    lines
}

/// A node's short name.
fn short(names: &Names<'_>, element: &str) -> String {
    let node = names.lab().nodes.iter().position(|node| node.name == element);
    node.map_or_else(|| element.to_owned(), |node| names.node(node))
}

/// What a row has to say, in the order in which it happened.
fn details(row: &Row) -> Vec<(String, Tone)> {
    let mut says = Vec::new();
    let mut say = |what: String| says.push((what, Tone::Plain));
    if let Some(fragments) = &row.fragments {
        say(format!("fragments: {fragments}"));
    }
    if let Some(state) = &row.conntrack {
        say(format!("conntrack: {state}"));
    }
    if let Some(rule) = &row.mark {
        say(format!("mark 0x4000 by {rule}"));
    }
    if let Some(service) = &row.service {
        say(format!("service {service}"));
    }
    if let Some(slb) = &row.slb {
        say(slb.clone());
    }
    let route = match (&row.rule, &row.route) {
        (Some(rule), Some(route)) => {
            let again = if row.rerouted { "again: " } else { "" };
            Some(format!("{again}{rule} => {route}"))
        }
        (None, Some(route)) => Some(match &row.eni {
            Some(eni) => format!("{route}: {eni}"),
            None => route.clone(),
        }),
        _ => None,
    };
    // The second look-up comes behind the change that asks for it.
    let (early, late) = if row.rerouted { (None, route) } else { (route, None) };
    early.into_iter().for_each(&mut say);
    if let Some(toa) = &row.toa {
        say(format!("TOA {toa}"));
    }
    if let Some(why) = &row.masquerade {
        say(format!("masquerade by {why}"));
    }
    if let Some(by) = &row.rewrite {
        says.push((format!("{by}: {}", row.after), Tone::Tuple));
    }
    says.extend(late.map(|route| (route, Tone::Plain)));
    match (&row.security_group, &row.eni) {
        (Some(verdict), eni) => {
            let eni = eni.as_deref().unwrap_or("?");
            let tone = if verdict.starts_with("drop") { Tone::Bad } else { Tone::Plain };
            says.push((format!("{eni}: {verdict}"), tone));
            says.extend(row.opened_by.iter().map(|by| (format!("opened by {by}"), tone)));
        }
        (None, Some(eni)) if row.route.is_none() => {
            says.push((format!("from {eni}"), Tone::Plain));
        }
        (None, _) => {}
    }
    if let Some(neighbour) = &row.neighbour {
        says.push((format!("to {neighbour}"), Tone::Plain));
    }
    if row.consumed {
        says.push(("consumed here".into(), Tone::Plain));
    }
    if let Some(reason) = &row.dropped {
        says.push((format!("dropped: {reason}.{}", meaning(reason)), Tone::Bad));
    }
    says
}

/// What a drop reason means.
fn meaning(reason: &str) -> &'static str {
    let known = DropReason::ALL.iter().find(|known| known.name() == reason);
    known.map_or("", |known| known.meaning())
}
