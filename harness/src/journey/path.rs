//! A journey in the article's form: the interfaces and ENIs it passes, on one line.

use datapath::journey::{Fate, Hop, PortId, Step};
use datapath::lab::EniKind;
use datapath::link::{ElementId, Socket};
use datapath::node::InterfaceKind;

use super::names::Names;
use super::stitch::{End, Journey, Origin};

/// What joins two hops of a path.
pub const ARROW: &str = " -> ";

/// The places a journey passes, as `ECS1 pod1 eth0`, `cali7d5bd3feb5f`, `ECS1 eth0`, `vpc route`,
/// `member ENI eni-x`, `ECS2 trunk ENI`. A vSwitch is passed where both ENIs are in it, a route
/// where they are not. What is dropped ends with the reason.
#[must_use]
pub fn path(names: &Names<'_>, journey: &Journey) -> Vec<String> {
    let mut path = Vec::new();
    match journey.origin {
        Origin::Host(host) => path.push(names.host(host)),
        Origin::Element(element) => path.push(format!("{} itself", names.element(element))),
        Origin::Wire(socket) => path.push(format!("wire at {}", names.port(socket))),
    }
    for passage in &journey.passages {
        let hop = &passage.hop;
        match passage.element {
            ElementId::Node(node) => {
                let departure = match hop.fate {
                    Fate::Sent(departure) => Some(departure.port),
                    Fate::Delivered | Fate::Absorbed | Fate::Dropped(_) => None,
                };
                let arrival = hop.arrival.map(|arrival| arrival.port);
                path.extend(
                    arrival.into_iter().chain(departure).filter_map(|p| interface(names, node, p)),
                );
            }
            ElementId::Vpc => fabric(names, hop, &mut path),
        }
    }
    match journey.end {
        End::Host(host) => path.push(names.host(host)),
        End::Element(element) => path.push(format!("{} itself", names.element(element))),
        End::Dropped(_, reason) => path.push(format!("dropped: {}", reason.name())),
        End::Wire(socket) => path.push(format!("wire at {}", names.port(socket))),
    }
    path
}

/// An interface of a node. host0 and the node's own stack are one place, named as the journey's
/// end.
fn interface(names: &Names<'_>, node: usize, port: PortId) -> Option<String> {
    let element = ElementId::Node(node);
    Some(match names.interface_kind(node, port)? {
        InterfaceKind::Host0 => return None,
        InterfaceKind::Primary => format!("{} eth0", names.node(node)),
        InterfaceKind::Trunk => format!("{} trunk ENI", names.node(node)),
        InterfaceKind::Cali { .. } => names.port(Socket { element, port }),
    })
}

/// What the VPC adds. A primary ENI is the node's eth0, which the node's own hop names; unless the
/// packet never gets there.
fn fabric(names: &Names<'_>, hop: &Hop, path: &mut Vec<String>) {
    let member = |eni: usize| {
        let eni = names.lab().enis.get(eni)?;
        matches!(eni.kind, EniKind::Member { .. }).then(|| format!("member ENI {}", eni.id))
    };
    let sent = matches!(hop.fate, Fate::Sent(_));
    let unreached = |eni: usize| {
        let eni = names.lab().enis.get(eni).filter(|_| !sent)?;
        match eni.kind {
            EniKind::Primary => Some(format!("{} eth0", names.node(eni.node))),
            EniKind::Trunk => Some(format!("{} trunk ENI", names.node(eni.node))),
            EniKind::Member { .. } => None,
        }
    };
    let mut sender = None;
    let mut balanced = false;
    for step in &hop.steps {
        match *step {
            Step::SendingEni(eni) => {
                sender = names.lab().enis.get(eni);
                path.extend(member(eni));
            }
            Step::SlbListener { slb, .. } | Step::SlbSession { slb, .. } => {
                balanced = true;
                path.push(format!("SLB {}", names.slb(slb)));
            }
            Step::VSwitchRoute(vswitch) if !balanced => {
                let same = sender.is_some_and(|eni| eni.vswitch == vswitch);
                path.push(if same { "vSwitch" } else { "vpc route" }.into());
            }
            Step::CustomRoute(_) => path.push("vpc route".into()),
            Step::ReceivingEni(eni) => path.extend(member(eni).or_else(|| unreached(eni))),
            _ => {}
        }
    }
}
