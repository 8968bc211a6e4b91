//! One member ENI's flood costs no other member a frame (spec TRUNK-6), on the running daemon.

use datapath::journey::PortId;
use datapath::link::{ElementId, Socket};
use datapath::port::{Buffer, Heap};
use datapath::wire::{Mac, Protocol, Vid, checksum, ethernet, ipv4};
use harness::live::protocol::Request;

use crate::support::{TWO_MEMBERS, TestLab, is_root, port};

const FLOOD: u64 = 5_000;
const QUIET: u64 = 1_000;
/// Port 1 of the VPC is the far end of the first node's trunk.
const TRUNK: Socket = Socket { element: ElementId::Vpc, port: PortId(1) };

/// A tagged datagram from outside to a pod, as the VPC would send it down the trunk.
fn frame(lab: &datapath::lab::Lab, pod: usize, vid: u16) -> Vec<u8> {
    let to = lab.pods[pod].ip;
    let from = lab.outside[0].ips[0];
    let mut udp = vec![0x30, 0x39, 0x00, 0x09, 0, 12, 0, 0, b'd', b'a', b't', b'a'];
    let sum = checksum::pseudo_header(&from.octets(), &to.octets(), Protocol::UDP.0, 12);
    let sum = !checksum::fold(checksum::sum(&udp, sum));
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    let mut bytes = vec![0; ethernet::HEADER_LEN + ipv4::HEADER_LEN];
    let dst: Mac = lab.enis[lab.nodes[0].trunk].mac;
    let header = ethernet::Header { dst, src: lab.vpc.gateway_mac, ethertype: ethernet::IPV4 };
    header.emit(&mut bytes);
    ipv4::Header {
        src: from,
        dst: to,
        protocol: Protocol::UDP,
        ttl: 64,
        tos: 0,
        id: 7,
        total_len: 32,
        header_len: 20,
        dont_fragment: false,
        fragment: false,
    }
    .emit(&mut bytes[ethernet::HEADER_LEN..]);
    bytes.extend_from_slice(&udp);
    let mut frame = Heap::new(&bytes);
    assert!(ethernet::push(&mut frame, Vid::new(vid).expect("a VID")));
    frame.bytes().to_vec()
}

fn serve(lab: &TestLab, served: bool) {
    lab.ask(Request::ServeTrunkQueue { node: 0, queue: 1, served });
}

fn inject(lab: &TestLab, queue: u16, frame: Vec<u8>, count: u64) {
    lab.ask(Request::Inject { socket: TRUNK, queue, frame, count });
}

/// Packets that have reached pod b's own stack.
fn at_b(ledger: &serde_json::Value, lab: &datapath::lab::Lab) -> u64 {
    port(ledger, "n1", &lab.pods[1].cali)["far"]["rxPackets"].as_u64().expect("a count")
}

/// Floods VID 101 by `flood_queue` while its member queue is not served, and sends VID 102 its
/// thousand. Every one of those arrives; what the flood lost is counted at its own member queue.
fn flood_leaves_the_other_member_whole(links: &str, flood_queue: u16) {
    let text = format!("links: {links}\n{TWO_MEMBERS}");
    let test = TestLab::up(&text);
    let lab = datapath::lab::load(&text, "two members").expect("a lab");
    let limit = u64::from(lab.limits.member_queue);
    // The first frame makes the node ask for the pod; from then on nothing waits.
    inject(&test, 2, frame(&lab, 1, 102), 1);
    let before = test.wait("pod b's first frame", |ledger| at_b(ledger, &lab) >= 2);
    let before = at_b(&before, &lab);

    serve(&test, false);
    inject(&test, flood_queue, frame(&lab, 0, 101), FLOOD);
    inject(&test, 2, frame(&lab, 1, 102), QUIET);
    let after = test.wait("the whole flood and every quiet frame", |ledger| {
        let n1 = &ledger["elements"]["n1"];
        n1["held"].as_u64() == Some(limit)
            && n1["drops"]["member-queue-full"].as_u64() == Some(FLOOD - limit)
            && at_b(ledger, &lab) >= before + QUIET
    });
    assert_eq!(at_b(&after, &lab), before + QUIET, "no more and no fewer than were sent");
    for element in ["n1", "vpc"] {
        assert_eq!(after["elements"][element]["balanced"], true, "{after:#}");
    }
    for queue in port(&after, "n1", "eth1")["queues"].as_array().expect("queues") {
        for loss in ["rxRingFull", "rxDropped", "vethDrops", "xdpDrops"] {
            assert_eq!(queue[loss], 0, "nothing was lost before the member queue: {after:#}");
        }
    }

    serve(&test, true);
    let served = test.wait("the held frames to go on", |ledger| {
        ledger["elements"]["n1"]["held"].as_u64() == Some(0)
    });
    assert_eq!(served["imbalances"], serde_json::json!([]));
}

#[test]
fn a_flood_from_the_vpc_on_its_own_queue() {
    if is_root() {
        flood_leaves_the_other_member_whole("wired", 1);
    }
}

#[test]
fn a_flood_that_arrives_on_another_queue() {
    if is_root() {
        flood_leaves_the_other_member_whole("wired", 2);
    }
}

#[test]
fn a_flood_by_a_fused_link() {
    if is_root() {
        flood_leaves_the_other_member_whole("fused", 1);
    }
}
