//! Packets longer than a frame over fused links between threads, every element with a memory of its
//! own (spec LINK-3, LINK-4, LAB-32).

mod common;

use std::fs::File;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use common::{enter, here, in_netns, ip, next_frame, veth, wait_until_up};
use datapath::journey::PortId;
use datapath::lab::Lab;
use datapath::link::{ElementId, Snapshot, Socket};
use datapath::node::{ETH1, FIRST_CALI, HOST0};
use datapath::port::Buffer;
use datapath::time::Time;
use datapath::vpc::Vpc;
use datapath::wire::Mac;
use datapath_io::{Frame, LiveLink, Memory, PacketSocket, PortView, Rings, Site, Waiter};
use etherparse::PacketBuilder;

/// Two nodes with a pod each, of which the second is the endpoint of a service.
const LAB: &str = "\
links: fused
vpc:
  cidr: 10.0.0.0/16
  vSwitches: {vsw-a: {cidr: 10.0.4.0/24}}
nodes:
  - {name: n1, eth0: {ip: 10.0.4.20, mtu: 8500}, trunk: {ip: 10.0.4.120, mtu: 8500}}
  - {name: n2, eth0: {ip: 10.0.4.21, mtu: 8500}, trunk: {ip: 10.0.4.121, mtu: 8500}}
pods:
  - {name: demo/client, node: n1, ip: 10.0.4.31, mtu: 8500}
  - {name: demo/server, node: n2, ip: 10.0.4.41, mtu: 8500}
services:
  - name: demo/dns
    clusterIP: 192.168.0.10
    ports: [{port: 53, targetPort: 5353, proto: udp}]
    endpoints: [{pod: demo/server}]
switches: {permanentNeighbours: true}
";
const N1: ElementId = ElementId::Node(0);
const N2: ElementId = ElementId::Node(1);
const VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 168, 0, 10), 53);
const CLIENT_PORT: u16 = 40_000;
const TTL: u8 = 64;
/// Bytes of a payload that takes a frame, and of the longest, with which a packet has 8,500 bytes.
const SHORT: usize = 100;
const LONGEST: usize = 8_472;

/// The elements on two threads, each element with its own memory, and the pods' ends of their veths.
struct Fused {
    lab: Lab,
    memories: Vec<Memory>,
    links: [LiveLink; 2],
    pods: [PacketSocket; 2],
}

impl Fused {
    /// Makes everything in the calling thread's namespace.
    fn open() -> Self {
        let lab = datapath::lab::load(LAB, "fused").expect("a lab");
        let home = here();
        veth("anchor", "anchor-far", 3);
        let sites =
            [N1, N2].into_iter().zip(0..).flat_map(|(element, number)| site(element, number));
        let sites: Vec<_> = sites.collect();
        wait_until_up(&["cali0", "pod0", "cali1", "pod1"]);
        let shares = [N1, ElementId::Vpc, N2].map(|element| vec![element]);
        let wakers = shares.iter().map(|_| Waiter::new().expect("a waiter").waker()).collect();
        let rings = Rings::between(&lab, &shares, wakers).expect("rings");
        let go = |_: &str| go_to(&home);
        let (mut memories, mut links) = (Vec::new(), Vec::new());
        for ((share, rings), queue) in shares.iter().zip(rings).zip(0..) {
            let memory = Memory::open(&lab, share, ("", "anchor"), queue, go).expect("a memory");
            let link = LiveLink::open(lab.clone(), &memory, Some(rings), &sites, go);
            links.push(link.expect("a link"));
            memories.push(memory);
        }
        let n2 = links.pop().expect("the second node");
        let others = LiveLink::join(links).expect("the first node and the VPC");
        let pods = ["pod0", "pod1"].map(|name| PacketSocket::open(name).expect("a pod's end"));
        Self { lab, memories, links: [others, n2], pods }
    }

    /// Forwards on two threads while `what` is done at the pods' ends, and gives the link in one
    /// piece afterwards.
    fn forward(self, what: impl FnOnce(&Lab, &mut [PacketSocket; 2])) -> LiveLink {
        let Self { lab, links, mut pods, .. } = self;
        let stop = AtomicBool::new(false);
        let links = thread::scope(|scope| {
            let ended = StopOnDrop(&stop);
            let threads = links.map(|link| scope.spawn(|| poll_until(link, &stop)));
            what(&lab, &mut pods);
            drop(ended);
            threads.map(|thread| thread.join().expect("a thread that forwards"))
        });
        LiveLink::join(links.into()).expect("the link")
    }
}

/// Ends the threads that forward, also where a check fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn poll_until(mut link: LiveLink, stop: &AtomicBool) -> LiveLink {
    let began = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if !link.poll(Time::ZERO + began.elapsed()) {
            thread::yield_now();
        }
    }
    link
}

fn go_to(namespace: &File) -> Result<(), String> {
    enter(namespace);
    Ok(())
}

/// Makes the devices of a node with one pod.
fn site(element: ElementId, number: usize) -> [Site; 2] {
    let devices = [(HOST0.0, "host", "stack"), (FIRST_CALI, "cali", "pod")];
    devices.map(|(port, near, far)| {
        let [near, far] = [near, far].map(|name| format!("{name}{number}"));
        veth(&near, &far, 1);
        for end in [&near, &far] {
            ip(&format!("link set {end} mtu 8500"));
        }
        let socket = Socket { element, port: PortId(port) };
        Site { socket, namespace: String::new(), ifname: near }
    })
}

/// A datagram between two ends, of which no two stretches of four bytes are alike.
fn datagram(
    [src, dst]: [Mac; 2],
    [from, to]: [(Ipv4Addr, u16); 2],
    ttl: u8,
    payload: usize,
) -> Vec<u8> {
    let udp = PacketBuilder::ethernet2(src.0, dst.0)
        .ipv4(from.0.octets(), to.0.octets(), ttl)
        .udp(from.1, to.1);
    let words = (0..=payload as u32 / 4).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes());
    let mut frame = Vec::new();
    udp.write(&mut frame, &words.take(payload).collect::<Vec<_>>()).expect("a datagram");
    frame
}

/// A request as the client sends it to the service, and as it reaches the endpoint: with the
/// endpoint's address and two TTLs less.
fn request(lab: &Lab, payload: usize) -> [Vec<u8>; 2] {
    let [client, server] = [&lab.pods[0], &lab.pods[1]];
    let ends = |to| [(client.ip, CLIENT_PORT), to];
    [
        datagram([client.mac, client.cali_mac], ends(VIP), TTL, payload),
        datagram([server.cali_mac, server.mac], ends((server.ip, 5_353)), TTL - 2, payload),
    ]
}

/// The answer as the endpoint sends it, and as it reaches the client: from the service's address.
fn answer(lab: &Lab, payload: usize) -> [Vec<u8>; 2] {
    let [client, server] = [&lab.pods[0], &lab.pods[1]];
    let ends = |from| [from, (client.ip, CLIENT_PORT)];
    [
        datagram([server.mac, server.cali_mac], ends((server.ip, 5_353)), TTL, payload),
        datagram([client.cali_mac, client.mac], ends(VIP), TTL - 2, payload),
    ]
}

/// What an element has copied of what came by its fused links, and lost for want of memory.
fn crossed(link: &LiveLink, element: ElementId) -> (u64, u64) {
    let queues = link.ports(element).into_iter().filter_map(|(_, port)| match port {
        PortView::Fused(queues) => Some(queues),
        PortView::Device(_) => None,
    });
    queues.flatten().fold((0, 0), |sum, queue| (sum.0 + queue.copied, sum.1 + queue.no_frame))
}

#[test]
fn jumbo_packets_pass_a_hand_over_between_memories_whole() {
    in_netns(|| {
        // Around what one frame has room for, with the tag and without it, and the longest.
        let payloads = [SHORT, 1_682, 1_686, 1_687, 4_000, LONGEST];
        let link = Fused::open().forward(|lab, [client, server]| {
            for payload in payloads {
                let [sent, expected] = request(lab, payload);
                client.send(&sent).expect("sending");
                assert!(next_frame(server) == expected, "the request of {payload} bytes");
                let [sent, expected] = answer(lab, payload);
                server.send(&sent).expect("sending");
                assert!(next_frame(client) == expected, "the answer of {payload} bytes");
            }
        });
        // The VPC copies nothing.
        let each = payloads.len() as u64;
        assert_eq!([N1, N2].map(|node| crossed(&link, node)), [(each, 0); 2]);
        assert_eq!(crossed(&link, ElementId::Vpc), (0, 0));
        assert_eq!(link.imbalances(), Vec::<String>::new());
    });
}

#[test]
fn a_jumbo_packet_is_lost_by_name_where_the_memory_has_no_run_left() {
    in_netns(|| {
        let fused = Fused::open();
        let socket = Socket { element: N2, port: ETH1 };
        let arena = fused.memories[2].arena(socket).expect("the second node's memory");
        let long = |mut frame: Frame| frame.set_len(LONGEST).then_some(frame);
        let held: Vec<_> = std::iter::from_fn(|| arena.take().and_then(long)).collect();
        assert!(!held.is_empty());
        let link = fused.forward(|lab, [client, server]| {
            for payload in [SHORT, LONGEST, 1_687, SHORT + 1] {
                client.send(&request(lab, payload)[0]).expect("sending");
            }
            for payload in [SHORT, SHORT + 1] {
                assert!(next_frame(server) == request(lab, payload)[1], "{payload} bytes");
            }
            drop(held);
            let [sent, expected] = request(lab, LONGEST);
            client.send(&sent).expect("sending");
            assert!(next_frame(server) == expected, "the request with memory for it");
        });
        assert_eq!(crossed(&link, N2), (3, 2));
        assert_eq!(link.imbalances(), Vec::<String>::new());
    });
}

#[test]
fn another_version_of_the_lab_reaches_nodes_and_vpc_of_all_threads() {
    in_netns(|| {
        let Fused { lab, links, .. } = Fused::open();
        let mut link = LiveLink::join(links.into()).expect("the link");
        let mut other = lab.clone();
        other.switches.vlan_push = false;
        link.apply(Snapshot::new(other.clone()), Time::ZERO).expect("the same machines");
        assert_eq!(*link.lab(), other);
        let nodes = link.nodes().into_iter().map(|(_, node)| node.config());
        assert!(nodes.clone().all(|config| !config.switches.vlan_push));
        let epochs: Vec<_> = nodes.map(|config| config.epoch).collect();
        assert_eq!((epochs, link.vpc().map(Vpc::epoch)), (vec![2, 2], Some(2)));
    });
}
