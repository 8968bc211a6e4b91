//! The state tables of a node's kernel, in the lines of [`Tables`].

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::Context;
use datapath::node::ipvs::ServiceKey;
use datapath::wire::Protocol;

use super::tool;
use crate::case::{Tables, Timed};
use crate::net::namespace;

/// How long the kernel may take to end the connections of removed servers, and how often it is
/// asked. It needs two ticks.
const EXPIRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(10));

/// What ends as time passes.
#[derive(Clone, Debug)]
pub(super) struct Timers {
    connections: Vec<Timed>,
    conntrack: Vec<Timed>,
}

impl Timers {
    /// Those of the node that lives in this namespace. What is in its last second may have ended
    /// already, and its timer has yet to run: it is waited for.
    pub(super) fn read(name: &str) -> anyhow::Result<Self> {
        let connections = connections_once(name, |entry| entry.seconds > 0)?;
        Ok(Self { connections, conntrack: list(name, "nf_conntrack", flow)? })
    }
}

/// The tables of the node that lives in this namespace.
pub(super) fn read(name: &str, timers: Timers) -> anyhow::Result<Tables> {
    let Timers { connections, conntrack } = timers;
    // Not from /proc/net/ip_vs, which loses lines where several namespaces have servers.
    let services = services(&tool::run(name, &["ipvsadm", "-Ln"], "")?);
    Ok(Tables { services, connections, conntrack })
}

/// The real servers of a node.
#[derive(Debug, Default)]
pub(super) struct Servers(Vec<String>);

impl Servers {
    /// Those of the node that lives in this namespace.
    pub(super) fn read(name: &str) -> anyhow::Result<Self> {
        Ok(Self(services(&tool::run(name, &["ipvsadm", "-Ln"], "")?)))
    }

    /// Connections, active or not, of a real server; `None` where there is no such server.
    pub(super) fn connections(
        &self,
        (protocol, vip, port): ServiceKey,
        (ip, real): (Ipv4Addr, u16),
    ) -> Option<u32> {
        let protocol = if protocol == Protocol::UDP { "UDP" } else { "TCP" };
        let service = format!("{protocol} {vip}:{port} ");
        let service = self.0.iter().find(|line| line.starts_with(&service))?;
        let server = format!("{ip}:{real}");
        let mut servers = service.split(" -> ").skip(1);
        let server = servers.find(|line| line.split(' ').next() == Some(&server))?;
        server.split(' ').skip(3).map(|count| count.parse::<u32>().ok()).sum()
    }
}

/// Waits until no connection leads to a server that is gone: the kernel ends them by a worker.
/// Where it keeps them, it has had its time.
pub(super) fn await_expiry(name: &str) -> anyhow::Result<()> {
    let services = services(&tool::run(name, &["ipvsadm", "-Ln"], "")?);
    let known = |entry: &Timed| {
        let words: Vec<_> = entry.entry.split(' ').collect();
        let [protocol, _, _, vip, real] = words.as_slice() else { return true };
        services.iter().any(|service| {
            let mut words = service.split(' ');
            (words.next(), words.next()) == (Some(protocol), Some(vip))
                && words.any(|word| word == *real)
        })
    };
    connections_once(name, known).map(drop)
}

/// The connections once each of them is as it should be, or has had its time.
fn connections_once(name: &str, is_settled: impl Fn(&Timed) -> bool) -> anyhow::Result<Vec<Timed>> {
    let (bound, pause) = EXPIRY;
    let begun = Instant::now();
    loop {
        let connections = list(name, "ip_vs_conn", connection)?;
        if connections.iter().all(&is_settled) || begun.elapsed() >= bound {
            return Ok(connections);
        }
        thread::sleep(pause);
    }
}

/// The entries of a file of `/proc/net` in order, as two readings one after the other show them. A
/// kernel finds the place where a reading goes on by counting the entries of all namespaces, so
/// that one that ends elsewhere in between hides an entry here, and a new one shows it twice
/// (`ct_seq_start`, `ip_vs_conn_array`).
fn list(
    name: &str,
    file: &str,
    entry: impl Fn(&str) -> Option<Timed>,
) -> anyhow::Result<Vec<Timed>> {
    let read = || -> anyhow::Result<Vec<Timed>> {
        let read = || fs::read_to_string(format!("/proc/thread-self/net/{file}"));
        let text = namespace::run_in(name, read)?.with_context(|| format!("read {file}"))?;
        let mut entries: Vec<_> = text.lines().filter_map(&entry).collect();
        entries.sort();
        Ok(entries)
    };
    let mut before = read()?;
    loop {
        let now = read()?;
        if now.iter().map(|timed| &timed.entry).eq(before.iter().map(|timed| &timed.entry)) {
            return Ok(now);
        }
        before = now;
    }
}

/// What `ipvsadm -Ln` prints, each virtual server on one line with its real servers.
fn services(text: &str) -> Vec<String> {
    let mut services: Vec<String> = Vec::new();
    for line in text.lines().skip(3) {
        let words = line.split_whitespace().collect::<Vec<_>>().join(" ");
        match services.last_mut().filter(|_| words.starts_with("->")) {
            Some(service) => *service = format!("{service} {words}"),
            None => services.push(words),
        }
    }
    services.sort();
    services
}

fn address(ip: &str, port: &str) -> Option<SocketAddrV4> {
    let ip = u32::from_str_radix(ip, 16).ok()?;
    Some(SocketAddrV4::new(Ipv4Addr::from(ip), u16::from_str_radix(port, 16).ok()?))
}

/// A line of `/proc/net/ip_vs_conn`.
fn connection(line: &str) -> Option<Timed> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [protocol, from, from_port, to, to_port, real, real_port, state, seconds, ..] =
        words.as_slice()
    else {
        return None;
    };
    let (client, vip) = (address(from, from_port)?, address(to, to_port)?);
    let real = address(real, real_port)?;
    let entry = format!("{protocol} {state} {client} {vip} {real}");
    Some(Timed { entry, seconds: seconds.parse().ok()? })
}

/// A line of `/proc/net/nf_conntrack`: family, its number, protocol, its number, time, state and
/// tuples, and fields that differ from use to use.
fn flow(line: &str) -> Option<Timed> {
    let mut words = line.split_whitespace();
    let family = words.next()?;
    let protocol = words.nth(1)?;
    let seconds = words.nth(1)?.parse().ok()?;
    if family != "ipv4" {
        return None;
    }
    let fleeting = ["mark=", "zone=", "use=", "secctx="];
    let rest = words.filter(|word| !fleeting.iter().any(|name| word.starts_with(name)));
    let entry = std::iter::once(protocol).chain(rest).collect::<Vec<_>>().join(" ");
    Some(Timed { entry, seconds })
}
