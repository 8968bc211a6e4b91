//! Network namespaces, veths and frames for the tests of this folder.
#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::process::Command;
use std::thread;

use datapath::port::{Buffer, Port};
use datapath_io::budget::Rings;
use datapath_io::{Arena, ArenaConfig, PacketSocket, UmemFrame, XskPort};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};

/// Rounds without any arrival after which a test gives up waiting: far beyond what a frame needs.
pub(crate) const PATIENCE: usize = 200_000;

/// An EtherType for local experiments, by which test frames are told from stray ones.
const MARK: [u8; 2] = [0x88, 0xb5];

/// Runs a test on a thread in a network namespace of its own, or says that it cannot.
pub(crate) fn in_netns(test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        // Not by a macro: the test harness would keep it to itself.
        let _ = writeln!(io::stderr(), "skipped: needs root");
        return;
    }
    let thread = thread::spawn(|| {
        enter_new();
        test();
    });
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

/// Puts the calling thread into a new, silent network namespace.
pub(crate) fn enter_new() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
    for which in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
        // A kernel without IPv6 is as silent.
        let _ = std::fs::write(path, "1");
    }
}

/// The calling thread's network namespace, to come back to.
pub(crate) fn here() -> File {
    File::open("/proc/thread-self/ns/net").expect("procfs")
}

/// Puts the calling thread into a namespace.
pub(crate) fn enter(namespace: &File) {
    setns(namespace, CloneFlags::CLONE_NEWNET).expect("entering a namespace");
}

/// Runs `ip` in the calling thread's namespace.
pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status().expect("iproute2");
    assert!(status.success(), "ip {arguments}");
}

/// A veth whose two ends have `queues` queues each and are up.
pub(crate) fn veth(one: &str, other: &str, queues: u16) {
    let size = format!("numrxqueues {queues} numtxqueues {queues}");
    ip(&format!("link add {one} {size} type veth peer name {other} {size}"));
    ip(&format!("link set {one} up"));
    ip(&format!("link set {other} up"));
}

/// Waits until interfaces carry: the kernel sends nothing on one before its state is UP.
pub(crate) fn wait_until_up(names: &[&str]) {
    let up = |name: &&str| {
        let output = Command::new("ip").args(["link", "show", name]).output().expect("iproute2");
        String::from_utf8_lossy(&output.stdout).contains("state UP")
    };
    assert!((0..PATIENCE).any(|_| names.iter().all(up)), "{names:?} never came up");
}

/// Waits for the next frame at an end of a wire.
pub(crate) fn next_frame(socket: &mut PacketSocket) -> Vec<u8> {
    let mut watched = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    poll(&mut watched, PollTimeout::from(10_000_u16)).expect("poll");
    socket.receive().expect("receiving").expect("a frame")
}

/// A statistics file of an interface.
pub(crate) fn statistic(name: &str, which: &str) -> u64 {
    let output = Command::new("ip").args(["-s", "-j", "link", "show", name]).output();
    let text = String::from_utf8(output.expect("iproute2").stdout).expect("text");
    let (direction, field) = which.split_once('_').expect("direction and field");
    let from = text.find(&format!("\"{direction}\":{{")).expect("the direction");
    let field = format!("\"{field}\":");
    let at = from + text[from..].find(&field).expect("the field") + field.len();
    let digits: String = text[at..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

pub(crate) const SMALL: Rings = Rings { rx: 64, fill: 128, tx: 64 };

/// An arena for `queues` queues in all, anchored in the calling thread's namespace.
pub(crate) fn arena(queues: u32, rings: Rings) -> Arena {
    arena_with_runs(queues, rings, 0, "anchor0")
}

/// The same with another anchor, and with runs of frames for longer packets.
pub(crate) fn arena_with_runs(queues: u32, rings: Rings, runs: u32, anchor: &str) -> Arena {
    veth(anchor, &format!("{anchor}-far"), 1);
    let frames = queues * rings.frames_per_queue() + 256;
    let anchor = anchor.to_owned();
    let config = ArenaConfig { anchor, anchor_queue: 0, rings, frames, held: 128, runs };
    Arena::new(&config).expect("an arena")
}

/// Writes a test frame of `len` bytes: to queue `queue`'s owner, with sequence number `number`.
pub(crate) fn write(frame: &mut UmemFrame<'_>, tag: Option<u16>, number: u32, len: usize) {
    frame.reset();
    assert!(frame.set_len(len));
    let bytes = frame.bytes_mut();
    let mut head = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if let Some(vid) = tag {
        head.extend([0x81, 0x00]);
        head.extend(vid.to_be_bytes());
    }
    head.extend(MARK);
    head.extend(number.to_be_bytes());
    bytes[..head.len()].copy_from_slice(&head);
    for (byte, value) in bytes[head.len()..].iter_mut().zip(0_u32..) {
        *byte = (value + number) as u8;
    }
}

/// What `write` wrote: the tag's VID, the number and the length, if all else is intact.
pub(crate) fn read(frame: &UmemFrame<'_>) -> Option<(Option<u16>, u32, usize)> {
    let bytes = frame.bytes();
    let (vid, rest) = match bytes.get(12..16)? {
        [0x81, 0x00, high, low] => (Some(u16::from_be_bytes([*high, *low])), &bytes[16..]),
        _ => (None, &bytes[12..]),
    };
    let rest = rest.strip_prefix(&MARK)?;
    let (number, filler) = rest.split_first_chunk::<4>()?;
    let number = u32::from_be_bytes(*number);
    let intact = filler.iter().zip(0_u32..).all(|(byte, value)| *byte == (value + number) as u8);
    assert!(intact, "frame {number} arrived damaged");
    Some((vid, number, bytes.len()))
}

/// Sends one new test frame; false where there is no room for it.
pub(crate) fn send(
    port: &mut XskPort<'_>,
    queue: u16,
    tag: Option<u16>,
    number: u32,
    len: usize,
) -> bool {
    let Some(mut frame) = port.arena().take() else { return false };
    write(&mut frame, tag, number, len);
    port.send(queue, frame).is_ok()
}

/// Receives on a queue until `want` test frames have come or nothing comes any more.
pub(crate) fn collect<'a>(port: &mut XskPort<'a>, queue: u16, want: usize) -> Vec<UmemFrame<'a>> {
    let (mut all, mut some) = (Vec::new(), Vec::new());
    let mut silent = 0;
    while all.len() < want && silent < PATIENCE {
        port.receive(queue, 64, &mut some);
        silent = if some.is_empty() { silent + 1 } else { 0 };
        all.extend(some.drain(..).filter(|frame| read(frame).is_some()));
        port.flush();
    }
    all
}

/// Flushes until the kernel has given back everything that was sent.
pub(crate) fn settle(ports: &mut [&mut XskPort<'_>]) {
    for _ in 0..PATIENCE {
        ports.iter_mut().for_each(|port| port.flush());
        if !ports.iter().any(|port| port.is_sending()) {
            return;
        }
    }
    panic!("frames are still on their way out");
}
