//! A journey as rows: one for each hook of a node and each stage of the VPC, with what decided
//! there. Rows are what tables print and what datapaths are compared by.

use std::net::Ipv4Addr;

use datapath::journey::{Fate, FlowState, Hook, MasqueradeRule, Rewriter, SgDirection, Step};
use datapath::link::{ElementId, Socket};
use datapath::wire::{Protocol, Tuple};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::flow::Flow;
use super::names::Names;
use super::stitch::{Journey, Passage};

/// What happened to a packet at one hook of a node or one stage of the VPC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Row {
    /// The node's name, or `vpc`.
    pub element: String,
    /// `ingress`, `PREROUTING`, `routing`, `LOCAL_IN`, `FORWARD`, `LOCAL_OUT`, `POSTROUTING` and
    /// `egress` of a node; `ingress`, `SG out`, `SLB`, `route`, `SG in` and `egress` of the VPC.
    pub hook: String,
    /// The port the frame came in or goes out by, at ingress and egress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// The VID on the wire at that port; left out for an untagged frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vid: Option<u16>,
    /// The packet's tuple before this row.
    pub before: String,
    /// The packet's tuple after this row.
    pub after: String,
    /// What happened to the packet's fragments: `put together from 3`, `cut into 3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fragments: Option<String>,
    /// conntrack's view of the packet: new, original, reply, related, invalid or untracked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conntrack: Option<String>,
    /// The kube-proxy rule that marked the packet for masquerade.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// The service: scheduled for this packet, or of its connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The rule that named the table, as `ip rule` prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The route, as `ip route` prints it; the VPC's: vSwitch, custom route or outside host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Whether the route was looked up again, with the packet's source.
    #[serde(skip_serializing_if = "is_false")]
    pub rerouted: bool,
    /// Why the flow is masqueraded, where this packet set that up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masquerade: Option<String>,
    /// What becomes of the client's address in the segment (TCP option 254): `tells of IP:PORT`,
    /// `inserted IP:PORT`, or why it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toa: Option<String>,
    /// What changed the tuple.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<String>,
    /// The ENI the fabric attributes the frame to, or that is judged, or that receives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eni: Option<String>,
    /// What decided in the security groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_group: Option<String>,
    /// What had opened the session that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened_by: Option<String>,
    /// The load balancer's listener or session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slb: Option<String>,
    /// The next hop and its MAC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub neighbour: Option<String>,
    /// The reason, where the packet was dropped here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<String>,
    /// Whether the element itself consumed the packet here.
    #[serde(skip_serializing_if = "is_false")]
    pub consumed: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// How tuples are written.
#[derive(Clone, Debug, Default)]
pub struct Symbols(Vec<((Ipv4Addr, u16), &'static str)>);

impl Symbols {
    /// Ports as they are.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The client's port as `$client`, the one of its masquerade as `$masq` and the one it gets in
    /// mode fnat as `$local`: what differs from run to run though all is equal.
    #[must_use]
    pub fn of(flow: &Flow) -> Self {
        let mut symbols = vec![((flow.tuple.src, flow.tuple.src_port), "$client")];
        let requests = flow.of(super::Leg::Request).flat_map(|j| &j.passages);
        for step in requests.flat_map(|passage| &passage.hop.steps) {
            match step {
                Step::Rewritten { by: Rewriter::Masquerade, to, .. } => {
                    symbols.push(((to.src, to.src_port), "$masq"));
                }
                Step::Rewritten { by: Rewriter::Kernel, from, to } if to.src != from.src => {
                    symbols.push(((to.src, to.src_port), "$masq"));
                }
                Step::Rewritten { by: Rewriter::IpvsFnat, to, .. } => {
                    symbols.push(((to.src, to.src_port), "$local"));
                }
                _ => {}
            }
        }
        Self(symbols)
    }

    fn port(&self, ip: Ipv4Addr, port: u16) -> String {
        let symbol = self.0.iter().find(|(end, _)| *end == (ip, port));
        symbol.map_or_else(|| port.to_string(), |(_, symbol)| (*symbol).to_owned())
    }

    /// A tuple as text.
    #[must_use]
    pub fn tuple(&self, tuple: &Tuple<Ipv4Addr>) -> String {
        let Tuple { src, dst, src_port, dst_port, proto } = *tuple;
        if proto == Protocol::ICMP {
            return tuple.to_string();
        }
        let (from, to) = (self.port(src, src_port), self.port(dst, dst_port));
        format!("{proto} {src}:{from} > {dst}:{to}")
    }
}

/// The rows of a journey of `flow`.
#[must_use]
pub fn rows(names: &Names<'_>, flow: &Flow, journey: &Journey, symbols: &Symbols) -> Vec<Row> {
    let mut rows = Vec::new();
    for passage in &journey.passages {
        let tuple = passage.hop.arrival.and_then(|a| a.tuple).or_else(|| first_tuple(passage));
        let text = tuple.map_or_else(String::new, |tuple| symbols.tuple(&tuple));
        let writer = Writer { names, flow, symbols, passage, rows: Vec::new(), tuple: text };
        rows.extend(writer.write());
    }
    rows
}

/// The tuple of a packet the element made.
fn first_tuple(passage: &Passage) -> Option<Tuple<Ipv4Addr>> {
    let changed = passage.hop.steps.iter().find_map(|step| match step {
        Step::Rewritten { from, .. } => Some(*from),
        _ => None,
    });
    changed.or(match passage.hop.fate {
        Fate::Sent(departure) => departure.tuple,
        _ => None,
    })
}

/// Writes the rows of one element.
struct Writer<'a> {
    names: &'a Names<'a>,
    flow: &'a Flow,
    symbols: &'a Symbols,
    passage: &'a Passage,
    rows: Vec<Row>,
    /// The tuple as it is now.
    tuple: String,
}

impl Writer<'_> {
    fn write(mut self) -> Vec<Row> {
        let hop = &self.passage.hop;
        if let Some(arrival) = hop.arrival {
            let socket = Socket { element: self.passage.element, port: arrival.port };
            let port = self.names.port(socket);
            let row = self.begin("ingress");
            (row.port, row.vid) = (Some(port), arrival.vid);
        }
        for step in &hop.steps {
            match self.passage.element {
                ElementId::Node(node) => self.node_step(node, step),
                ElementId::Vpc => self.vpc_step(step),
            }
        }
        match hop.fate {
            Fate::Sent(departure) => {
                let socket = Socket { element: self.passage.element, port: departure.port };
                let port = self.names.port(socket);
                let row = self.at(Hook::Egress.name());
                (row.port, row.vid) = (Some(port), departure.vid);
            }
            Fate::Delivered | Fate::Absorbed => self.last().consumed = true,
            Fate::Dropped(reason) => self.last().dropped = Some(reason.name().into()),
        }
        self.rows
    }

    /// A new row.
    fn begin(&mut self, hook: &str) -> &mut Row {
        let element = self.passage.element.name(self.names.lab()).to_owned();
        let (before, after) = (self.tuple.clone(), self.tuple.clone());
        self.rows.push(Row { element, hook: hook.into(), before, after, ..Row::default() });
        self.last()
    }

    /// The last row if it is `hook`'s, else a new one.
    fn at(&mut self, hook: &str) -> &mut Row {
        if self.rows.last().is_none_or(|row| row.hook != hook) {
            return self.begin(hook);
        }
        self.last()
    }

    fn last(&mut self) -> &mut Row {
        if self.rows.is_empty() {
            self.begin(Hook::Ingress.name());
        }
        let last = self.rows.len() - 1;
        &mut self.rows[last]
    }

    /// A change of the tuple in the present row.
    fn rewritten(&mut self, by: Rewriter, to: &Tuple<Ipv4Addr>) {
        self.tuple = self.symbols.tuple(to);
        let after = self.tuple.clone();
        let row = self.last();
        row.after = after;
        row.rewrite = Some(rewriter(by).into());
    }

    /// Fragments gathered or cut in the present row.
    fn fragments(&mut self, step: &Step) {
        self.last().fragments = match step {
            Step::Gathered(count) => Some(format!("put together from {count}")),
            Step::Cut(count) => Some(format!("cut into {count}")),
            _ => return,
        };
    }

    fn node_step(&mut self, node: usize, step: &Step) {
        let names = self.names;
        match step {
            // The arrival has made that row.
            Step::Hook(Hook::Ingress) => {}
            Step::Hook(hook) => {
                self.begin(hook.name());
            }
            Step::Gathered(_) | Step::Cut(_) => self.fragments(step),
            Step::Flow(state) => self.last().conntrack = Some(flow_state(*state).into()),
            Step::Marked(rule) => self.last().mark = Some(rule.name().into()),
            Step::Route(hit) | Step::Reroute(hit) => {
                let rerouted = matches!(step, Step::Reroute(_));
                let decides = matches!(
                    self.rows.last().map(|row| row.hook.as_str()),
                    None | Some("ingress" | "PREROUTING")
                );
                let row = if decides { self.begin("routing") } else { self.last() };
                row.rule = Some(names.rule(node, hit));
                row.route = Some(names.route(node, hit));
                row.rerouted = rerouted;
            }
            Step::Scheduled { service, vip, destination } => {
                self.last().service = Some(connection(names, *service, *vip, *destination, true));
            }
            Step::Connection { service, vip, destination } => {
                let text = connection(names, *service, *vip, *destination, false);
                self.last().service.get_or_insert(text);
            }
            Step::ToaSeen(ip, port) => {
                let port = self.symbols.port(*ip, *port);
                self.last().toa = Some(format!("tells of {ip}:{port}"));
            }
            Step::ToaInserted(ip, port) => {
                let port = self.symbols.port(*ip, *port);
                self.last().toa = Some(format!("inserted {ip}:{port}"));
            }
            Step::ToaLeftOut(why) => {
                self.last().toa = Some(format!("left out: {}", why.meaning()));
            }
            Step::Masqueraded(rule) => self.last().masquerade = Some(masquerade(*rule).into()),
            Step::Rewritten { by, to, .. } => self.rewritten(*by, to),
            Step::Neighbour(ip, mac) => self.last().neighbour = Some(format!("{ip} at {mac}")),
            Step::Resolving(ip) => self.last().neighbour = Some(format!("{ip} is asked for")),
            // Ports and VIDs are in the rows of ingress and egress; the rest is the VPC's.
            _ => {}
        }
    }

    fn vpc_step(&mut self, step: &Step) {
        let (names, flow) = (self.names, self.flow);
        match *step {
            Step::Gathered(_) => self.fragments(step),
            Step::SendingEni(eni) => self.last().eni = Some(names.eni(eni)),
            Step::SecurityGroup { eni, direction, accept, decision } => {
                let stage = if direction == SgDirection::Out { "SG out" } else { "SG in" };
                let verdict = if accept { "accept" } else { "drop" };
                let what = names.decision(eni, direction, decision);
                let opened = (what == "session").then(|| flow.opened(eni)).flatten();
                let row = self.begin(stage);
                row.eni = Some(names.eni(eni));
                row.security_group = Some(format!("{verdict} by {what}"));
                if let Some(Step::SecurityGroup { direction, decision, .. }) = opened {
                    row.opened_by = Some(names.decision(eni, direction, decision));
                }
            }
            Step::SlbListener { slb, listener } | Step::SlbSession { slb, listener } => {
                let what = if matches!(step, Step::SlbListener { .. }) {
                    "listener"
                } else {
                    "session of listener"
                };
                let model = names.lab().slbs.get(slb).and_then(|slb| slb.listeners.get(listener));
                let listener =
                    model.map_or_else(|| "?".into(), |l| format!("{}/{}", l.proto, l.port));
                self.begin("SLB").slb = Some(format!("{} {what} {listener}", names.slb(slb)));
            }
            Step::Rewritten { by, to, .. } => self.rewritten(by, &to),
            Step::VSwitchRoute(vswitch) => {
                let vswitch = names.lab().vpc.vswitches.get(vswitch);
                let text = vswitch.map_or_else(|| "?".into(), |v| format!("{} {}", v.id, v.cidr));
                self.begin("route").route = Some(format!("vSwitch {text}"));
            }
            Step::CustomRoute(route) => {
                let route = names.lab().vpc.routes.get(route);
                let text = route
                    .map_or_else(|| "?".into(), |r| format!("{} to {}", r.cidr, names.eni(r.eni)));
                self.begin("route").route = Some(format!("custom {text}"));
            }
            Step::OutsideRoute(host) => {
                let name = names.lab().outside.get(host).map_or("?", |host| &host.name);
                self.begin("route").route = Some(format!("outside host {name}"));
            }
            Step::ReceivingEni(eni) => self.last().eni = Some(names.eni(eni)),
            // VIDs are in the rows of ingress and egress; the rest is a node's.
            _ => {}
        }
    }
}

fn connection(
    names: &Names<'_>,
    service: usize,
    (vip, port): (Ipv4Addr, u16),
    (ip, target): (Ipv4Addr, u16),
    scheduled: bool,
) -> String {
    let how = if scheduled { "scheduled" } else { "connection" };
    format!("{} {vip}:{port}, {how} -> {ip}:{target}", names.service(service))
}

const fn flow_state(state: FlowState) -> &'static str {
    match state {
        FlowState::New => "new",
        FlowState::Original => "original",
        FlowState::Reply => "reply",
        FlowState::Related => "related",
        FlowState::Invalid => "invalid",
        FlowState::Untracked => "untracked",
    }
}

const fn masquerade(rule: MasqueradeRule) -> &'static str {
    match rule {
        MasqueradeRule::Marked => "KUBE-POSTROUTING, mark 0x4000",
        MasqueradeRule::LoopBack => "KUBE-LOOP-BACK",
        MasqueradeRule::Clash => "its tuple was taken: another source port",
    }
}

const fn rewriter(by: Rewriter) -> &'static str {
    match by {
        Rewriter::IpvsDnat => "ipvs DNAT",
        Rewriter::IpvsUnDnat => "ipvs restores the VIP",
        Rewriter::IpvsFnat => "ipvs FNAT",
        Rewriter::IpvsUnFnat => "ipvs restores VIP and client",
        Rewriter::Masquerade => "masquerade",
        Rewriter::UnMasquerade => "masquerade undone",
        Rewriter::Kernel => "the kernel translates",
        Rewriter::Slb => "SLB to backend",
        Rewriter::UnSlb => "SLB restores its address",
    }
}
