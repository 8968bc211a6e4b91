//! What names and addresses may look like.

use std::net::Ipv4Addr;

use super::report::Report;
use crate::lab::error::{Position, quoted};
use crate::lab::scalar::{Text, is_address_like};
use crate::lab::written::Written;

/// Longest NS/NAME of a pod: a namespace's file name holds it beside the lab's name.
const LONGEST_POD: usize = 200;
/// Longest name of an interface (IFNAMSIZ - 1).
const LONGEST_INTERFACE: usize = 15;
/// Interfaces every node has.
const INTERFACES: [&str; 5] = ["eth0", "eth1", "host0", "lo", "kube-ipvs0"];

/// Whether `text` has 1 to `longest` bytes, all accepted by `inner`, with a letter or a digit at
/// both ends.
fn is_word(text: &str, longest: usize, inner: impl Fn(u8) -> bool) -> bool {
    let ends = [text.bytes().next(), text.bytes().next_back()];
    let ended = ends.iter().all(|end| end.is_some_and(|b| b.is_ascii_alphanumeric()));
    ended && text.len() <= longest && text.bytes().all(inner)
}

/// Whether `text` is a DNS label of lower case.
fn is_label(text: &str) -> bool {
    is_word(text, 63, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Checks the ID of a vSwitch, a security group, an ENI or a load balancer.
pub(super) fn id(what: &str, id: &Written<Text>, report: &mut Report) {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if !is_word(&id.text, 64, inner) {
        let message = format!(
            "expected an ID of letters, digits, `-`, `_` and `.` for a {what}, found {}",
            quoted(&id.text)
        );
        report.add(id.at, message);
    } else if is_address_like(&id.text) {
        let message = format!("{} cannot be the ID of a {what}", quoted(&id.text));
        report.add_help(id.at, message, "an ID needs a letter");
    }
}

/// Checks the name of a node: it is part of its namespaces' names.
pub(super) fn node(name: &Written<Text>, report: &mut Report) {
    let text = name.text.as_str();
    if !is_word(text, 63, |b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.') {
        let message = format!(
            "expected a node name of up to 63 letters, digits, `.` and `-`, found {}",
            quoted(text)
        );
        report.add(name.at, message);
    } else if text == "vpc" {
        report.add(name.at, "`vpc` cannot name a node: it names the fabric's namespace");
    } else if text.starts_with("pod-") || text.starts_with("out-") {
        let message = format!(
            "{} cannot name a node: names of pods' and outside hosts' namespaces begin so",
            quoted(text)
        );
        report.add(name.at, message);
    } else if text.ends_with("-host") {
        let message = format!(
            "{} cannot name a node: its own stack's namespace ends in `-host`",
            quoted(text)
        );
        report.add(name.at, message);
    }
}

/// Checks the name of an outside host: it is part of its namespace's name.
pub(super) fn outside(name: &Written<Text>, report: &mut Report) {
    if !is_label(&name.text) {
        let message = format!(
            "expected a name of up to 63 lower-case letters, digits and `-` for an outside host, \
             found {}",
            quoted(&name.text)
        );
        report.add(name.at, message);
    }
}

/// Checks and splits the NS/NAME of a pod or a service.
pub(super) fn namespaced<'a>(
    what: &str,
    name: &'a Written<Text>,
    report: &mut Report,
) -> Option<(&'a str, &'a str)> {
    let text = name.text.as_str();
    let Some((namespace, own)) = text.split_once('/') else {
        let message = format!("expected NS/NAME for a {what}, found {}", quoted(text));
        report.add_help(
            name.at,
            message,
            format!("write `default/{text}` for namespace `default`"),
        );
        return None;
    };
    if !is_label(namespace) {
        let message = format!(
            "expected a namespace of up to 63 lower-case letters, digits and `-`, found {}",
            quoted(namespace)
        );
        report.add(name.at, message);
        return None;
    }
    let subdomain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    if !is_word(own, 253, subdomain) || !own.split('.').all(is_label) {
        let message = format!(
            "expected a {what} name of lower-case letters, digits, `-` and `.` after the \
             namespace, found {}",
            quoted(own)
        );
        report.add(name.at, message);
        return None;
    }
    if text.len() > LONGEST_POD {
        let message =
            format!("expected NS/NAME of at most {LONGEST_POD} characters, found {}", text.len());
        report.add(name.at, message);
        return None;
    }
    Some((namespace, own))
}

/// Checks the name of a host-side veth.
pub(super) fn interface(name: &Written<Text>, report: &mut Report) {
    let text = name.text.as_str();
    let visible = |b: u8| b.is_ascii_graphic() && !b"/:%".contains(&b);
    if text.is_empty() || text.len() > LONGEST_INTERFACE {
        let message = format!(
            "cali: expected an interface name of 1 to {LONGEST_INTERFACE} characters, found {}",
            text.chars().count()
        );
        report.add(name.at, message);
    } else if !text.bytes().all(visible) || text == "." || text == ".." {
        let message = format!(
            "cali: expected an interface name without spaces, `/`, `:` and `%`, found {}",
            quoted(text)
        );
        report.add(name.at, message);
    } else if INTERFACES.contains(&text) {
        let message = format!("cali: {} is an interface every node has already", quoted(text));
        report.add(name.at, message);
    }
}

/// What keeps `ip` from being the address of a host or a service, if anything does.
fn not_unicast(ip: Ipv4Addr) -> Option<&'static str> {
    match ip.octets() {
        [0, ..] => Some("an unspecified"),
        [127, ..] => Some("a loopback"),
        [169, 254, ..] => Some("a link-local"),
        [255, 255, 255, 255] => Some("the broadcast"),
        [224..=239, ..] => Some("a multicast"),
        [240..=255, ..] => Some("a reserved"),
        _ => None,
    }
}

/// Checks that `ip`, given for `key`, can be the address of a host or a service.
pub(super) fn unicast(key: &str, ip: Ipv4Addr, at: Position, report: &mut Report) -> bool {
    let wrong = not_unicast(ip);
    if let Some(kind) = wrong {
        report.add(at, format!("{key}: expected a unicast address, `{ip}` is {kind} address"));
    }
    wrong.is_none()
}
