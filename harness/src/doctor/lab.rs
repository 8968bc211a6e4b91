//! What somebody has changed in a lab that is up: the lab's own plan says what should be there
//! (spec LAB-16 to LAB-19).

use anyhow::{Context, anyhow};
use datapath_io::link::Offload;
use nix::unistd::geteuid;

use super::report::{Check, Finding, Remedy};
use super::tune;
use crate::live::client::Client;
use crate::live::protocol::Request;
use crate::live::topology::{Places, whole_places};
use crate::net::audit::{Deviation, What, audit};
use crate::net::plan::User;

/// Rounds of repair: putting one thing back may make the kernel forget another.
const ROUNDS: usize = 3;

const DAEMON: &str = "daemon";
const BOOKS: &str = "books";
/// Why nobody else learns anything.
const ROOT_ALONE: &str = "only root may look into a lab";

/// The checks of the lab's links, in the order in which they are put back, each with what is there
/// when all is well.
const CHECKS: [(&str, &str); 13] = [
    ("lab-links", "every namespace and link is there"),
    ("link-up", "both ends of every veth are up"),
    ("mac-address", "as planned"),
    ("mtu", "as planned, the same at both ends"),
    ("queues", "as many at both ends as the port has"),
    ("xdp-program", "native, at every end of the forwarder's"),
    ("tx-checksum", "off at every stack's end"),
    ("tx-vlan", "off at every stack's end"),
    ("segmentation", "off at every stack's end"),
    ("receive-joining", "off at every stack's end"),
    ("addressing", "addresses, permanent neighbours and routes are there"),
    ("ipv6", "off in every namespace"),
    ("packet-steering", "none: no CPU mask, no thread of its own"),
];

/// Examines a lab; with `fix`, puts back what can be.
pub(super) fn examine(client: &Client, fix: bool) -> Vec<Check> {
    let unknown = |why: &str| CHECKS.map(|(id, _)| Check::unknown(id, why));
    if !geteuid().is_root() {
        let mut checks = [DAEMON, BOOKS].map(|id| Check::unknown(id, ROOT_ALONE)).to_vec();
        checks.extend(unknown(ROOT_ALONE));
        return checks;
    }
    let mut checks = vec![daemon(client), books(client)];
    match links(client, fix) {
        Ok(links) => checks.extend(links),
        Err(error) => checks.extend(unknown(&format!("{error:#}"))),
    }
    checks
}

fn daemon(client: &Client) -> Check {
    let name = client.state().name();
    match client.status() {
        Ok(status) => {
            let found = format!("process {}, up for {} s", status.pid, status.up_seconds);
            Check::new(DAEMON, found, Vec::new())
        }
        Err(error) => {
            let finding = Finding::fail(
                format!("{error:#}"),
                "nothing is forwarded",
                Remedy::Run(format!("trunkline down {name}")),
            );
            Check::new(DAEMON, "silent", vec![finding])
        }
    }
}

fn books(client: &Client) -> Check {
    let ledger = match client.ledger() {
        Ok(ledger) => ledger,
        Err(error) => return Check::unknown(BOOKS, format!("{error:#}")),
    };
    let findings = ledger.imbalances.iter().map(|imbalance| {
        let show = format!("trunkline ledger --lab {}", client.state().name());
        let consequence = "the forwarder has lost count of frames: a bug in Trunkline";
        Finding::fail(imbalance, consequence, Remedy::Run(show))
    });
    Check::new(BOOKS, "every frame is accounted for", findings.collect())
}

fn links(client: &Client, fix: bool) -> anyhow::Result<Vec<Check>> {
    let lab = client.state().name();
    let places = whole_places(&client.lab()?, lab, client.state().forwarding()?.workers)?;
    let found = deviations(client, &places)?;
    let mut findings = Vec::new();
    if fix {
        let mut left = repair(client, &places)?;
        for at in &found {
            let place = left.iter().position(|(other, _)| other == at);
            let outcome = place.map_or(Ok(()), |place| Err(left.swap_remove(place).1));
            findings.push((id(&at.what), finding(at, lab).repaired(outcome)));
        }
        // What a repair has brought about.
        for (at, error) in left {
            findings.push((id(&at.what), finding(&at, lab).repaired(Err(error))));
        }
    } else {
        findings.extend(found.iter().map(|at| (id(&at.what), finding(at, lab))));
    }
    let checks = CHECKS.iter().map(|(id, well)| {
        let of_it = findings.iter().filter(|(other, _)| other == id);
        let of_it: Vec<_> = of_it.map(|(_, finding)| finding.clone()).collect();
        let found = match of_it.len() {
            0 => (*well).to_owned(),
            1 => "not so at 1 place".to_owned(),
            many => format!("not so at {many} places"),
        };
        Check::new(id, found, of_it)
    });
    Ok(checks.collect())
}

/// What is not as planned, but for what `--tune` has changed.
fn deviations<'t>(client: &Client, places: &'t Places) -> anyhow::Result<Vec<Deviation<'t>>> {
    let mut found = audit(&places.topology)?;
    found.retain(|at| match &at.what {
        What::Setting { path, found, .. } => {
            !tune::is_tuned(client.state(), at.namespace, path, found)
        }
        _ => true,
    });
    Ok(found)
}

/// Puts back what can be. What is left, each with why.
fn repair<'t>(
    client: &Client,
    places: &'t Places,
) -> anyhow::Result<Vec<(Deviation<'t>, anyhow::Error)>> {
    let mut refused = Vec::new();
    for _ in 0..ROUNDS {
        let there = deviations(client, places)?;
        let outcome = |at: Deviation<'t>| put_back(&at, client, places).err().map(|why| (at, why));
        let done = there.is_empty();
        refused = there.into_iter().filter_map(outcome).collect();
        if done {
            break;
        }
    }
    let left = deviations(client, places)?.into_iter().map(|at| {
        let place = refused.iter().position(|(other, _)| *other == at);
        let why = place.map(|place| refused.swap_remove(place).1);
        (at, why.unwrap_or_else(|| anyhow!("somebody keeps changing it")))
    });
    Ok(left.collect())
}

/// The check that a deviation belongs to.
fn id(what: &What) -> &'static str {
    match what {
        What::Missing => "lab-links",
        What::Down => "link-up",
        What::Mac(_) => "mac-address",
        What::Mtu(_) => "mtu",
        What::Queues(..) => "queues",
        What::Program(_) => "xdp-program",
        What::Offload(Offload::TxChecksum) => "tx-checksum",
        What::Offload(Offload::TxVlan) => "tx-vlan",
        What::Offload(Offload::Segmentation) => "segmentation",
        What::Offload(Offload::Joining) => "receive-joining",
        What::Address(..) | What::Neighbour(..) | What::Route(_) => "addressing",
        What::Setting { path, .. } if path.starts_with("/sys/") => "packet-steering",
        What::Setting { .. } => "ipv6",
    }
}

/// Puts a deviation back; an XDP program by the daemon, which holds it.
fn put_back(at: &Deviation<'_>, client: &Client, places: &Places) -> anyhow::Result<()> {
    match (&at.what, at.end) {
        (What::Program(_), Some(end)) => {
            let here = places
                .sites
                .iter()
                .find(|s| s.namespace == end.namespace && s.ifname == end.ifname);
            let socket = here.context("no port of the lab is there")?.socket;
            client.ask(Request::SetProgram { socket, attached: true }).map(drop)
        }
        _ => Ok(at.put_back()?),
    }
}

/// What a deviation means to somebody who wonders why a lab does not work.
fn finding(at: &Deviation<'_>, lab: &str) -> Finding {
    let again = || Remedy::Run(format!("trunkline down {lab}, and `trunkline up` again"));
    let mtu = at.end.map_or(0, |end| end.mtu);
    let finding = match &at.what {
        What::Missing => Finding::fail("it is gone", "nothing passes there any more", again()),
        What::Down => Finding::fail(
            "the link is down",
            "its wire has no carrier, and no frame passes either way",
            Remedy::fix("sets it up"),
        ),
        What::Mac(mac) => {
            let problem = format!("its MAC is {}", datapath::wire::Mac(*mac));
            let remedy = Remedy::fix("gives it the planned MAC");
            if at.end.is_some_and(|end| end.user == User::Stack) {
                let consequence = "the stack takes frames to the planned one for somebody else's";
                Finding::fail(problem, consequence, remedy)
            } else {
                let consequence = "`ip link` shows another than the forwarder goes by, the planned";
                Finding::warn(problem, consequence, remedy)
            }
        }
        What::Mtu(found) => Finding::fail(
            format!("its MTU is {found}, not {mtu}"),
            "the ends of the wire disagree: what one sends at full size the other drops",
            Remedy::fix(format!("sets it to {mtu}")),
        ),
        What::Queues(rx, tx) => Finding::fail(
            format!("it uses {rx} receive and {tx} transmit queues"),
            "frames reach queues without a socket, or sockets without frames",
            again(),
        ),
        What::Program(generic) => Finding::fail(
            if *generic { "its XDP program is in generic mode" } else { "it has no XDP program" },
            "frames go to the kernel's stack, which drops them, and not to the forwarder",
            Remedy::fix("has the daemon attach it"),
        ),
        What::Offload(offload) => self::offload(*offload),
        What::Address(address, prefix) => Finding::fail(
            format!("it lacks the address {address}/{prefix}"),
            "the stack answers nobody and sends from elsewhere",
            Remedy::fix("adds it"),
        ),
        What::Neighbour(address, mac) => Finding::fail(
            format!("it lacks the permanent neighbour {address}"),
            "the stack asks for its next hop by ARP, and nobody answers (spec NEIGH-3)",
            Remedy::fix(format!("adds it with {}", datapath::wire::Mac(*mac))),
        ),
        What::Route(route) => Finding::fail(
            format!("it lacks the route {route}"),
            "the stack has no way out",
            Remedy::fix("adds it"),
        ),
        What::Setting { path, found, planned } if path.starts_with("/sys/") => Finding::warn(
            format!("{path} is {found}"),
            "frames wait for another thread or CPU, and bursts are lost in the veth's ring",
            Remedy::fix(format!("writes {planned}")),
        ),
        What::Setting { path, found, planned } => Finding::fail(
            format!("{path} is {found}"),
            "the kernel sends frames that nobody asked for, and journals show them",
            Remedy::fix(format!("writes {planned}")),
        ),
    };
    let interface = at.end.map(|end| end.ifname.clone());
    Finding { namespace: Some(at.namespace.into()), interface, ..finding }
}

/// The offloads of a stack's end.
fn offload(offload: Offload) -> Finding {
    let off = || Remedy::fix("turns it off");
    match offload {
        Offload::TxChecksum => Finding::fail(
            "transmit checksumming is on",
            "nothing behind an AF_XDP socket finishes checksums: TCP never connects from here",
            off(),
        ),
        Offload::TxVlan => Finding::fail(
            "transmit VLAN offload is on",
            "tags travel beside the frame, and the forwarder sees untagged frames",
            off(),
        ),
        Offload::Segmentation => Finding::fail(
            "TCP segmentation is left to the device",
            "segments longer than the MTU reach the forwarder, which has no room for them",
            off(),
        ),
        Offload::Joining => Finding::warn(
            "received frames are joined (GRO)",
            "tcpdump shows other frames than were on the wire, and bursts overrun the veth's ring",
            off(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_deviation_belongs_to_a_check() {
        let setting = |path: &str| What::Setting {
            path: path.into(),
            found: "1".into(),
            planned: "0".into(),
        };
        let address = std::net::Ipv4Addr::LOCALHOST;
        let mut all = vec![
            What::Missing,
            What::Down,
            What::Mac([0; 6]),
            What::Mtu(1300),
            What::Queues(1, 2),
            What::Program(false),
            What::Address(address, 32),
            What::Neighbour(address, [0; 6]),
            What::Route(crate::net::plan::Route::default_via(address)),
            setting("/sys/class/net/eth0/threaded"),
            setting("/proc/sys/net/ipv6/conf/all/disable_ipv6"),
        ];
        all.extend(Offload::ALL.map(What::Offload));
        let mut ids: Vec<_> = all.iter().map(id).collect();
        ids.dedup();
        for (check, _) in CHECKS {
            assert!(ids.contains(&check), "{check}");
        }
        for id in ids {
            assert!(CHECKS.iter().any(|(check, _)| *check == id), "{id}");
        }
    }
}
