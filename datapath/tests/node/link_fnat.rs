//! Mode fnat across both nodes and the fabric between them: answers come back to the node that owns
//! the local address (spec FNAT-1, VPC-24).

use crate::common::*;
use datapath::lab::{Peer, RpFilter};
use datapath::link::HostId;

const CLIENT_POD: HostId = HostId::Pod(POD_A);
const SERVER_POD: HostId = HostId::Pod(POD_C);

#[test]
fn requests_leave_by_the_local_address_and_answers_find_back_by_it() {
    for profile in ["terway-1.3", "terway-1.4.0", "terway-1.4.2"] {
        let mut run =
            Run::new(lab_fnat_with("2000-2999", "toa: true", &format!("profile: {profile}")));
        run.send(CLIENT_POD, &tcp((A, 40_000), (FNAT, 80), SYN));
        let (host, request) = run.delivered();
        assert_eq!((host, request.dst, request.ttl), (SERVER_POD, (C, 8080), 62), "{profile}");
        assert!(LOCALS.contains(&request.from()), "{profile}");
        let trace = run.trace();
        assert!(trace[1].starts_with("n1.eth0 > gw tcp"), "{trace:#?}");
        run.send(SERVER_POD, &tcp((C, 8080), request.src, SYN_ACK));
        let (host, answer) = run.delivered();
        assert_eq!((host, answer.tuple()), (CLIENT_POD, ((FNAT, 80), (A, 40_000))), "{profile}");
        let trace = run.trace();
        assert!(trace.iter().any(|line| line.starts_with("gw > n1.eth0 tcp SA")), "{trace:#?}");
    }
}

#[test]
fn the_checks_of_source_and_destination_and_the_reverse_path_know_local_addresses() {
    let mut lab = lab_fnat("2000-2999", "toa: false");
    let primary = lab.nodes[0].primary;
    lab.enis[primary].src_dst_check = true;
    lab.switches.rp_filter = RpFilter::Loose;
    let mut run = Run::new(lab);
    run.send(CLIENT_POD, &tcp((A, 40_000), (FNAT, 80), SYN));
    let (_, request) = run.delivered();
    run.send(SERVER_POD, &tcp((C, 8080), request.src, SYN_ACK));
    assert_eq!(run.delivered().0, CLIENT_POD);
}

#[test]
fn security_groups_of_endpoints_judge_the_local_address() {
    let mut lab = lab_fnat("2000-2999", "toa: false");
    for (from, passes) in [("10.0.4.40/29", true), ("10.0.4.20/32", false)] {
        lab.vpc.groups[0].inner_accept = false;
        lab.vpc.groups[0].ingress[0].peer = Peer::Cidr(from.parse().expect("a range"));
        let mut run = Run::new(lab.clone());
        run.send(CLIENT_POD, &tcp((A, 40_000), (FNAT, 80), SYN));
        assert_eq!(run.link.take_delivery().is_some(), passes, "{from}");
    }
}

#[test]
fn a_local_address_belongs_to_eth0_of_its_node() {
    let mut run = Run::new(lab_fnat("2000-2999", "toa: false"));
    run.send(SERVER_POD, &ping(C, LOCALS[1], 7));
    let (host, answer) = run.delivered();
    assert_eq!((host, answer.src), (SERVER_POD, (LOCALS[1], 7)));
}
