//! Frames by AF_PACKET: what one end of a veth sends arrives whole at the other.

mod common;

use common::{in_netns, next_frame as next, wait_until_up};
use datapath_io::{LinkError, PacketSocket};

/// A veth that carries.
fn veth() {
    common::veth("one", "other", 1);
    wait_until_up(&["one", "other"]);
}

/// A frame to `ff:ff:ff:ff:ff:ff` of an EtherType for experiments, behind these tags.
fn frame(tags: &[[u8; 4]]) -> Vec<u8> {
    let macs = [[0xff; 6], [2, 0, 0, 0, 0, 1]].concat();
    let rest = [&[0x88, 0xb5][..], &[7; 46]].concat();
    [macs, tags.concat(), rest].concat()
}

#[test]
fn tags_are_where_they_were_on_the_wire() {
    in_netns(|| {
        veth();
        let one = PacketSocket::open("one").expect("one end");
        let mut other = PacketSocket::open("other").expect("the other end");
        let tag = [0x81, 0, 0x60, 101];
        let outer = [0x88, 0xa8, 0, 5];
        for sent in [frame(&[]), frame(&[tag]), frame(&[outer, tag])] {
            one.send(&sent).expect("sending");
            assert_eq!(next(&mut other), sent);
        }
    });
}

#[test]
fn what_was_sent_here_is_not_received_here() {
    in_netns(|| {
        veth();
        let mut one = PacketSocket::open("one").expect("one end");
        let second = PacketSocket::open("one").expect("one end again");
        let mut other = PacketSocket::open("other").expect("the other end");
        one.send(&frame(&[])).expect("sending");
        second.send(&frame(&[])).expect("sending");
        assert_eq!([next(&mut other), next(&mut other)], [frame(&[]), frame(&[])]);
        assert_eq!(one.receive().expect("receiving"), None);
    });
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    in_netns(|| {
        let error = PacketSocket::open("nobody").expect_err("no such interface");
        assert!(matches!(&error, LinkError::Unknown { name, .. } if name == "nobody"), "{error}");
    });
}
