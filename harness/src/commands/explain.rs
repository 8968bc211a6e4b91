//! `explain`: one packet through a fresh lab, and why it went where it went.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use datapath::lab::Lab;
use datapath::wire::tcp::Flags;

use super::NO;
use super::lab::{find_host, lab_of};
use crate::journey::{End, Flow, Journey, Leg, Names, Origin, Style, flows, legend, stitch, table};
use crate::memory::{Probe, probe};
use crate::scenario::denial;

/// Send one packet through a fresh lab in memory and show its journey and the answer's: every
/// hook, rule, route, service and security group on the way.
///
/// All hosts answer echo requests and accept TCP and UDP on any port, so what is refused or lost
/// is so because of the lab. The exit status is 0 if and only if the answer came back.
#[derive(Debug, Args)]
pub struct Explain {
    /// Who sends: a pod as NS/NAME, a node's own stack as node:NAME, a host as outside:NAME.
    #[arg(value_name = "POD")]
    from: String,
    /// Where to: an address, a pod as NS/NAME or a service as NS/NAME (its ClusterIP). With a
    /// port a SYN is sent, without one an echo request.
    #[arg(value_name = "DST[:PORT]")]
    to: String,
    /// The running lab of this name (it may be left out when only one is up), or a lab file. The
    /// packet always meets empty tables, those of the lab as it begins.
    #[arg(long, value_name = "NAME|FILE")]
    lab: Option<String>,
    /// Send a UDP datagram.
    #[arg(long)]
    udp: bool,
}

impl Explain {
    /// Runs the command.
    ///
    /// # Errors
    /// A lab that does not load, or a host or destination it does not have.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let lab = lab_of(self.lab.as_deref())?;
        let (text, answered) = self.explain(&lab, Style::of_stdout())?;
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(if answered { ExitCode::SUCCESS } else { NO })
    }

    /// What there is to say about the packet in a lab, and whether its answer came back.
    fn explain(&self, lab: &Lab, style: Style) -> anyhow::Result<(String, bool)> {
        let from = find_host(lab, &self.from)?;
        let (to, port) = destination(lab, &self.to)?;
        let packet = match (port, self.udp) {
            (Some(port), true) => Probe::Udp(port),
            (Some(port), false) => Probe::Tcp(port),
            (None, true) => bail!("--udp needs a port, as {}:53", self.to),
            (None, false) => Probe::Echo,
        };
        let recording = probe(lab, from, to, packet)?;
        let flows = flows(stitch(lab, &recording));
        let flow = flows.iter().find(|flow| flow.origin == Origin::Host(from));
        let flow = flow.context("the packet went nowhere")?;
        let names = Names::new(lab, flow.journeys.iter().map(|(_, journey)| journey));
        let (answered, verdict) = verdict(&names, flow);
        let verdict = if answered { style.green(&verdict) } else { style.red(&verdict) };
        let mut text = format!("{}\n\n{}", style.bold(&verdict), legend(&names, style));
        for (leg, title) in
            [(Leg::Request, "forward"), (Leg::Reply, "reply"), (Leg::Error, "error")]
        {
            if let Some(journey) = flow.first(leg) {
                text.push('\n');
                text += &table(&names, flow, journey, title, style);
            }
        }
        Ok((text, answered))
    }
}

/// What a destination may look like.
const FORMS: &str = "an address, a pod as NS/NAME or a service as NS/NAME, each with :PORT for TCP \
                     (UDP with --udp) or without for an echo request";

/// The address and port that a text names.
fn destination(lab: &Lab, text: &str) -> anyhow::Result<(Ipv4Addr, Option<u16>)> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => {
            let number = port.parse().ok().filter(|port| *port > 0);
            let number = number.with_context(|| {
                format!("{text}: expected a port from 1 to 65535 behind the colon, found `{port}`")
            })?;
            (name, Some(number))
        }
        None => (text, None),
    };
    if let Ok(ip) = name.parse() {
        return Ok((ip, port));
    }
    if let Some(pod) = lab.pods.iter().find(|pod| pod.name == name) {
        return Ok((pod.ip, port));
    }
    if let Some(service) = lab.services.iter().find(|service| service.name == name) {
        let others = service.load_balancer.first().or(service.external_ips.first());
        let ip = service.cluster_ip.or(others.copied());
        let ip = ip.with_context(|| format!("service {name} has no address to ask"))?;
        return Ok((ip, port));
    }
    let names = lab.pods.iter().map(|pod| pod.name.as_str());
    let names = names.chain(lab.services.iter().map(|service| service.name.as_str()));
    // A name without its namespace is what people write first.
    let whole = names.filter(|whole| whole.split_once('/').is_some_and(|(_, own)| own == name));
    match whole.collect::<Vec<_>>().as_slice() {
        [] if name.contains('/') => {
            bail!("the lab has no pod and no service {name}; expected {FORMS}")
        }
        [] => bail!("`{name}` is no address and no NS/NAME; expected {FORMS}"),
        whole => bail!("`{name}` lacks its namespace: {}; expected {FORMS}", whole.join(" or ")),
    }
}

/// What became of the packet, and whether that is an answer.
fn verdict(names: &Names<'_>, flow: &Flow) -> (bool, String) {
    let came_back = |leg| {
        flow.of(leg).find(|journey| match journey.end {
            End::Host(host) => flow.origin == Origin::Host(host),
            _ => false,
        })
    };
    let tuple = flow.tuple;
    if let Some(reply) = came_back(Leg::Reply) {
        let reset = reply.first().is_some_and(|hop| hop.flags.contains(Flags::RST));
        let who = whom(names, reply);
        return if reset {
            (false, format!("{tuple}: refused, reset by {who}"))
        } else {
            (true, format!("{tuple}: answered by {who}"))
        };
    }
    if let Some(error) = came_back(Leg::Error) {
        return (false, format!("{tuple}: refused, ICMP error by {}", whom(names, error)));
    }
    let dropped = flow.first_dropped().and_then(|(leg, journey)| denial(names, leg, journey));
    match dropped {
        Some(denial) => (false, format!("{tuple}: {denial}")),
        None => (false, format!("{tuple}: no answer")),
    }
}

/// Who sent a packet.
fn whom(names: &Names<'_>, journey: &Journey) -> String {
    match journey.origin {
        Origin::Host(host) => names.host(host),
        Origin::Element(element) => names.element(element),
        Origin::Wire(socket) => names.port(socket),
    }
}
