//! How much memory a flow takes (spec IPVS-47).

use datapath::node::conntrack::Conntrack;
use datapath::node::ipvs::ConnectionTable;

/// What a flow through a service may take of a node's memory, in bytes.
const MOST: usize = 256;

#[test]
fn a_flow_through_a_service_takes_what_is_said() {
    let (conntrack, ipvs) = (Conntrack::BYTES_PER_FLOW, ConnectionTable::BYTES_PER_CONNECTION);
    let fnat = ConnectionTable::BYTES_OF_FNAT;
    println!("conntrack {conntrack}, ipvs {ipvs}, fnat {fnat} more");
    assert_eq!((conntrack, ipvs, fnat), (170, 70, 16));
    assert!(conntrack + ipvs <= MOST, "{conntrack} and {ipvs} bytes");
}
