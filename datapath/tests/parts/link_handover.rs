//! Fused links between elements that are run together (spec LINK-2, LINK-5).

use datapath::element::{Departure, Place};
use datapath::journey::PortId;
use datapath::lab::{self, Lab};
use datapath::link::{ElementId, FusedCounters, Handover};
use datapath::node::{ETH0, ETH1};

const NODE: usize = 0;
const VPC: usize = 1;
/// The VPC's ends of the node's eth0 and eth1.
const PRIMARY: PortId = PortId(0);
const TRUNK: PortId = PortId(1);

fn lab(links: &str) -> Lab {
    let text = format!(
        "
vpc: {{cidr: 10.0.0.0/16, vSwitches: {{vsw: {{cidr: 10.0.4.0/24}}}}}}
nodes: [{{name: n1, eth0: {{}}}}]
pods: [{{name: demo/a, node: n1}}, {{name: demo/b, node: n1}}]
limits: {{linkQueue: 4}}
links: {links}
"
    );
    lab::load(&text, "lab").expect("a lab")
}

fn handover() -> Handover<u32> {
    Handover::new(&lab("fused"), &[ElementId::Node(0), ElementId::Vpc])
}

fn place(port: PortId, queue: u16) -> Place {
    Place { port, queue }
}

/// Sends numbers from a place; those that leave otherwise are returned.
fn send(link: &mut Handover<u32>, from: (usize, Place), frames: &[u32]) -> Vec<u32> {
    let (element, place) = from;
    let mut departures = frames.iter().map(|frame| Departure { place, frame: *frame }).collect();
    let mut left = Vec::new();
    link.pass_on(element, &mut departures, |_, frame| left.push(frame));
    assert!(departures.is_empty());
    left
}

#[test]
fn batches_arrive_whole_by_queue_in_the_order_of_their_first_frames() {
    let mut link = handover();
    assert_eq!(send(&mut link, (NODE, place(ETH1, 2)), &[1, 2, 3]), Vec::<u32>::new());
    assert_eq!(send(&mut link, (NODE, place(ETH0, 0)), &[4]), Vec::<u32>::new());
    assert_eq!(send(&mut link, (NODE, place(ETH1, 2)), &[5]), Vec::<u32>::new());
    let mut batch = Vec::new();
    assert_eq!(link.take_next(64, &mut batch), Some((VPC, place(TRUNK, 2))));
    assert_eq!(std::mem::take(&mut batch), [1, 2, 3, 5]);
    assert_eq!(link.take_next(64, &mut batch), Some((VPC, place(PRIMARY, 0))));
    assert_eq!(std::mem::take(&mut batch), [4]);
    assert_eq!(link.take_next(64, &mut batch), None);
    send(&mut link, (VPC, place(TRUNK, 1)), &[6, 7, 8]);
    assert_eq!(link.take_next(2, &mut batch), Some((NODE, place(ETH1, 1))));
    assert_eq!(std::mem::take(&mut batch), [6, 7]);
    assert_eq!(link.take_next(2, &mut batch), Some((NODE, place(ETH1, 1))));
    assert_eq!(batch, [8]);
}

#[test]
fn a_full_queue_loses_its_own_frames_and_counts_them_where_they_were_sent() {
    let mut link = handover();
    send(&mut link, (NODE, place(ETH1, 1)), &[1, 2, 3, 4, 5, 6]);
    send(&mut link, (NODE, place(ETH1, 2)), &[7]);
    let sent = link.counters(NODE, ETH1).expect("a fused port");
    assert_eq!(sent[1], FusedCounters { rx: 0, tx: 4, full: 2 });
    assert_eq!(sent[2], FusedCounters { rx: 0, tx: 1, full: 0 });
    assert_eq!((link.waiting(), link.balances()), (5, true));
    let mut batch = Vec::new();
    link.take(VPC, place(TRUNK, 1), 3, &mut batch);
    assert_eq!(batch, [1, 2, 3]);
    assert_eq!(link.counters(VPC, TRUNK).expect("a fused port")[1].rx, 3);
    batch.clear();
    // A place that was emptied by name is not met again.
    link.take(VPC, place(TRUNK, 1), 64, &mut batch);
    batch.clear();
    assert_eq!(link.take_next(64, &mut batch), Some((VPC, place(TRUNK, 2))));
    assert!(link.waiting() == 0 && link.balances());
}

#[test]
fn what_is_not_fused_here_leaves() {
    let mut link = handover();
    let pod = place(PortId(datapath::node::FIRST_CALI), 0);
    assert_eq!(send(&mut link, (NODE, pod), &[1]), [1]);
    // The other end is another thread's.
    let mut alone = Handover::new(&lab("fused"), &[ElementId::Node(0)]);
    assert_eq!(send(&mut alone, (NODE, place(ETH0, 0)), &[1]), [1]);
    let mut wired = Handover::new(&lab("wired"), &[ElementId::Node(0), ElementId::Vpc]);
    assert_eq!(send(&mut wired, (NODE, place(ETH0, 0)), &[1]), [1]);
    assert_eq!(wired.counters(NODE, ETH0), None);
}

#[test]
fn an_unknown_kind_of_link_is_told_with_its_place() {
    let text = "
vpc: {cidr: 10.0.0.0/16, vSwitches: {vsw: {cidr: 10.0.4.0/24}}}
nodes: [{name: n1, eth0: {}}]
links: wire
";
    let error = lab::load(text, "lab.yaml").expect_err("no such links").to_string();
    assert!(error.contains("lab.yaml:4:8"), "{error}");
    assert!(error.contains("expected `wired` or `fused`"), "{error}");
}
