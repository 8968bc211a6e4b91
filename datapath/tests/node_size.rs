//! How much memory a flow takes (spec IPVS-47).

use datapath::node::conntrack::Conntrack;
use datapath::node::ipvs::ConnectionTable;

#[test]
fn a_flow_through_a_service_takes_what_is_said() {
    let sizes = (Conntrack::BYTES_PER_FLOW, ConnectionTable::BYTES_PER_CONNECTION);
    assert_eq!(sizes, (213, 85));
}
