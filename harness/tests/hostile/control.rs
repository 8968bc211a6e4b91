//! Bytes of any kind, as a request on a daemon's control socket.

use std::sync::OnceLock;

use datapath::lab::{Lab, load};
use datapath::node::Node;
use datapath::port::Heap;
use datapath::time::Time;
use datapath::vpc::Vpc;
use harness::live::protocol::{Answer, REQUEST_MAX, Reply, Request, VERSION};
use harness::show;

/// Reads the request: a reason why it is none, of one line, or a request whose answer can be sent.
/// Of requests only those for a table are answered here: the others are for sockets of AF_XDP.
pub(crate) fn check(bytes: &[u8]) {
    assert!((bytes.len() as u64) < REQUEST_MAX);
    match Request::read(bytes) {
        Ok(Request::Show { query }) => answer(&query),
        Ok(_) => {}
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains('\n'), "{text}");
            send(Err(text));
        }
    }
}

fn answer(query: &show::Query) {
    static LAB: OnceLock<Lab> = OnceLock::new();
    let lab = LAB.get_or_init(|| {
        load(include_str!("../../../datapath/tests/common/lab.yaml"), "lab.yaml").expect("a lab")
    });
    let nodes = (0..lab.nodes.len()).map(|index| Node::<Heap>::new(lab, index).expect("a node"));
    let nodes: Vec<_> = nodes.collect();
    let nodes: Vec<_> = nodes.iter().collect();
    send(match show::take(query, lab, &nodes, &Vpc::new(lab), Time::ZERO) {
        Ok(table) => {
            let json = serde_json::to_value(&table).expect("a table is JSON");
            Ok(Answer::Table { text: table.text(), json })
        }
        Err(error) => Err(error.to_string()),
    });
}

/// An answer is one line, which a client understands.
fn send(result: Result<Answer, String>) {
    let line = serde_json::to_string(&Reply { version: VERSION, result }).expect("JSON");
    assert!(!line.contains('\n'));
    let _: Reply = serde_json::from_str(&line).expect("a reply");
}
