//! How much memory a flow takes (spec IPVS-47).

use datapath::node::conntrack::Conntrack;
use datapath::node::ipvs::ConnectionTable;

#[test]
fn a_flow_through_a_service_takes_little_memory() {
    let sizes = (Conntrack::BYTES_PER_FLOW, ConnectionTable::BYTES_PER_CONNECTION);
    assert!(sizes.0 + sizes.1 <= MOST, "{sizes:?}");
    assert_eq!(sizes, (0, 0));
}

/// In bytes.
const MOST: usize = 256;
