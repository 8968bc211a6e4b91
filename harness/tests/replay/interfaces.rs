//! Which capture interface a frame is shown at.

use datapath::journey::PortId;
use datapath::lab::load;
use datapath::link::{Direction as Way, ElementId, HostId, Socket, Tap};
use datapath::vpc::Ports;
use harness::pcap::Direction;
use harness::replay::Interfaces;

/// A frame with this tag, or none, told by its last byte.
fn frame(tag: Option<u16>) -> Vec<u8> {
    let tag = tag.map_or_else(Vec::new, |id| [[0x81, 0], id.to_be_bytes()].concat());
    [&[1; 12][..], &tag, &[8, 0, 7]].concat()
}

#[test]
fn the_vpc_s_side_tells_enis_by_port_and_tag() {
    let text = include_str!("../../../datapath/tests/labs/kernel.yaml");
    let lab = load(text, "kernel.yaml").expect("the lab");
    let interfaces = Interfaces::new(&lab);
    let eni = |index: usize| format!("vpc/{}", lab.enis[index].id);
    let ports = Ports::of(&lab);
    let at = |port: PortId, tag| {
        let tap = Tap::Port(Socket { element: ElementId::Vpc, port });
        let bytes = frame(tag);
        let (interface, direction, shown) =
            interfaces.at(tap, Way::In, &bytes).expect("an interface");
        assert_eq!(direction, Direction::Inbound);
        (interfaces.names()[interface].clone(), shown.into_owned())
    };
    let (primary, trunk) = (ports.port_of_primary(0), ports.port_of_trunk(0));
    let (node, pod) = (&lab.nodes[0], &lab.pods[0]);
    assert_eq!(at(primary, None), (eni(node.primary), frame(None)));
    assert_eq!(at(trunk, None), (eni(node.trunk), frame(None)));
    assert_eq!(at(trunk, Some(101)), (eni(pod.member), frame(None)), "the tag is off");
    let priority = 0x6000 | 101;
    assert_eq!(at(trunk, Some(priority)), (eni(pod.member), frame(None)));
    // 201 is a VID of the other node's trunk, 0 a tag for priority only.
    for other in [201, 999, 0] {
        assert_eq!(at(trunk, Some(other)), (eni(node.trunk), frame(Some(other))));
    }
    assert_eq!(at(primary, Some(101)), (eni(node.primary), frame(Some(101))));
    let outside = Tap::Port(Socket { element: ElementId::Vpc, port: ports.port_of_outside(0) });
    assert!(interfaces.at(outside, Way::In, &frame(None)).is_none());
    assert!(interfaces.at(Tap::Host(HostId::NodeHost(0)), Way::In, &frame(None)).is_none());
}
