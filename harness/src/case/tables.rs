//! A node's state tables as cases compare them.

use datapath::counters::Ledger;
use datapath::lab::Lab;
use datapath::node::Node;
use datapath::port::Buffer;
use datapath::time::Time;

use super::bed::{Tables, Timed};
use crate::show::{self, ConntrackEntry, VirtualServer};

/// The tables of a node of ours.
#[must_use]
pub fn tables<B: Buffer>(lab: &Lab, node: &Node<B>, now: Time) -> Tables {
    let services = show::virtual_servers(lab, node, now);
    let mut services: Vec<_> = services.iter().map(service).collect();
    let connection = |c: show::Connection| Timed {
        entry: format!(
            "{} {} {} {} {}",
            c.protocol.to_uppercase(),
            c.state,
            c.source,
            c.virtual_address,
            c.destination
        ),
        seconds: c.expires,
    };
    let connections = show::connections(lab, node, now);
    let mut connections: Vec<_> = connections.into_iter().map(connection).collect();
    let mut conntrack: Vec<_> = show::entries(lab, node, now).iter().map(flow).collect();
    services.sort();
    connections.sort();
    conntrack.sort();
    Tables { services, connections, conntrack }
}

/// What an element of ours has dropped: `REASON COUNT`, in the order of the reasons.
#[must_use]
pub fn drops(ledger: &Ledger) -> Vec<String> {
    let each = ledger.dropped.nonzero();
    each.map(|(reason, count)| format!("{} {count}", reason.name())).collect()
}

/// A virtual server and its real servers on one line, single spaces between the columns of
/// `ipvsadm -Ln`: `TCP 172.16.0.10:80 rr -> 10.0.2.103:8080 Masq 1 0 0`.
fn service(server: &VirtualServer) -> String {
    let lines = server.to_string();
    lines.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A flow as `conntrack -L` prints it, without the protocol's number, the time and what follows
/// the status: `tcp ESTABLISHED src=... [ASSURED]`.
fn flow(entry: &ConntrackEntry) -> Timed {
    let mut words = vec![entry.protocol.to_owned()];
    words.extend(entry.state.map(str::to_owned));
    words.push(entry.original.to_string());
    words.extend(entry.unreplied.then(|| "[UNREPLIED]".to_owned()));
    words.push(entry.reply.to_string());
    words.extend(entry.assured.then(|| "[ASSURED]".to_owned()));
    Timed { entry: words.join(" "), seconds: entry.timeout }
}
