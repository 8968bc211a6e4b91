//! Frames by AF_PACKET: what one end of a veth sends arrives whole at the other.

mod common;

use std::os::fd::AsFd;
use std::process::Command;

use common::{PATIENCE, in_netns};
use datapath_io::{LinkError, PacketSocket};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A veth that carries: the kernel sends nothing on one before its state is UP.
fn veth() {
    common::veth("one", "other", 1);
    let up = |name| {
        let output = Command::new("ip").args(["link", "show", name]).output().expect("iproute2");
        String::from_utf8_lossy(&output.stdout).contains("state UP")
    };
    assert!((0..PATIENCE).any(|_| up("one") && up("other")), "the veth never came up");
}

/// Waits for the next frame.
fn next(socket: &mut PacketSocket) -> Vec<u8> {
    let mut watched = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    poll(&mut watched, PollTimeout::from(10_000_u16)).expect("poll");
    socket.receive().expect("receiving").expect("a frame")
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
