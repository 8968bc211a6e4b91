//! The state tables of a node's kernel, in the lines of [`Tables`].

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Context;

use crate::case::{Tables, Timed};
use crate::net::namespace;

/// Reads the tables of the node that lives in this namespace.
pub(super) fn read(name: &str) -> anyhow::Result<Tables> {
    let read = |file: &str| {
        fs::read_to_string(format!("/proc/thread-self/net/{file}"))
            .with_context(|| format!("read {file}"))
    };
    let read_all = || anyhow::Ok((read("ip_vs")?, read("ip_vs_conn")?, read("nf_conntrack")?));
    let (servers, connections, flows) = namespace::run_in(name, read_all)??;
    let mut tables = Tables {
        services: services(&servers),
        connections: connections.lines().skip(1).filter_map(connection).collect(),
        conntrack: flows.lines().filter_map(flow).collect(),
    };
    tables.connections.sort();
    tables.conntrack.sort();
    Ok(tables)
}

/// The lines of `ipvsadm -Ln` without its headings, of `/proc/net/ip_vs`, which has addresses in
/// hexadecimal and real servers in the scheduler's order.
fn services(text: &str) -> Vec<String> {
    let mut services: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines().skip(3) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["->", address, rest @ ..] => {
                if let (Some((_, real)), Some(address)) = (services.last_mut(), endpoint(address)) {
                    real.push(format!("  -> {address} {}", rest.join(" ")));
                }
            }
            [protocol, address, rest @ ..] => {
                if let Some(address) = endpoint(address) {
                    let line = format!("{protocol} {address} {}", rest.join(" "));
                    services.push((line, Vec::new()));
                }
            }
            _ => {}
        }
    }
    services.sort();
    let in_order = |(service, mut real): (String, Vec<String>)| {
        real.sort();
        std::iter::once(service).chain(real)
    };
    services.into_iter().flat_map(in_order).collect()
}

/// `AC10000A:0050` as an address and a port.
fn endpoint(text: &str) -> Option<SocketAddrV4> {
    let (ip, port) = text.split_once(':')?;
    address(ip, port)
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
