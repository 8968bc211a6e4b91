//! The control socket of a running lab meets peers that mean no good, or mean nothing.

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use harness::live::client;
use harness::live::protocol::{Answer, REQUEST_MAX, Reply, Request};

use crate::support::{BOUND, TWO_MEMBERS, TestLab, is_root};

const STATUS: &[u8] = b"{\"version\":1,\"request\":{\"op\":\"status\"}}\n";

fn connect(lab: &TestLab) -> UnixStream {
    let client = client::find(Some(&lab.name)).expect("the lab");
    let stream = UnixStream::connect(client.state().socket()).expect("connect");
    stream.set_read_timeout(Some(BOUND)).expect("a timeout");
    stream
}

/// What the daemon answers on this connection.
fn reply(stream: UnixStream) -> Result<Answer, String> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("an answer");
    serde_json::from_str::<Reply>(&line).expect("a reply").result
}

/// What the daemon says to bytes that are no request.
fn refused(lab: &TestLab, bytes: &[u8]) -> String {
    let mut stream = connect(lab);
    // The daemon may close before it has read everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    reply(stream).expect_err("no answer")
}

fn assert_answers(lab: &TestLab) {
    assert!(matches!(lab.ask(Request::Status), Answer::Status(_)));
}

#[test]
fn what_is_no_request_is_refused_with_a_reason() {
    if !is_root() {
        return;
    }
    let lab = TestLab::up(TWO_MEMBERS);
    let endless = vec![b'['; REQUEST_MAX as usize + 1];
    let later = b"{\"version\":99,\"request\":{\"op\":\"status\"}}\n".as_slice();
    let cases = [
        (b"".as_slice(), "ends after 0 bytes"),
        (b"\0\xff\n", "line 1 column 1"),
        (&STATUS[..12], "ends after 12 bytes"),
        (later, "protocol version 99 asked, 1 spoken"),
        (&endless, "longer than 1048576 bytes"),
    ];
    for (bytes, said) in cases {
        let error = refused(&lab, bytes);
        assert!(error.contains(said), "{error}");
        assert_answers(&lab);
    }
    // Peers that do not wait for their answer.
    for bytes in [b"".as_slice(), &STATUS[..9], STATUS] {
        drop(connect(&lab).write_all(bytes));
    }
    assert_answers(&lab);
    // Requests that ask for what there is not.
    let socket = r#"{"element":{"Node":9},"port":65535}"#;
    let inject = format!(
        "{{\"version\":1,\"request\":{{\"op\":\"inject\",\"socket\":{socket},\"queue\":9,\
         \"frame\":[],\"count\":{}}}}}\n",
        u64::MAX
    );
    for _ in 0..2 {
        let mut stream = connect(&lab);
        stream.write_all(inject.as_bytes()).expect("write");
        assert!(reply(stream).is_ok());
    }
    assert!(matches!(lab.ask(Request::InjectionsLeft), Answer::Count { .. }));
}

#[test]
fn silent_peers_hold_up_nobody() {
    if !is_root() {
        return;
    }
    let lab = TestLab::up(TWO_MEMBERS);
    let silent: Vec<_> = (0..100).map(|_| connect(&lab)).collect();
    let mut half = connect(&lab);
    half.write_all(&STATUS[..20]).expect("half a request");
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| assert_answers(&lab));
        }
    });
    let error = reply(half).expect_err("half a request");
    assert!(error.contains("its peer is silent"), "{error}");
    drop(silent);
}

#[test]
fn more_connections_than_are_served_are_told_so() {
    if !is_root() {
        return;
    }
    let lab = TestLab::up(TWO_MEMBERS);
    let silent: Vec<_> = (0..256).map(|_| connect(&lab)).collect();
    let error = reply(connect(&lab)).expect_err("one too many");
    assert!(error.contains("256 control connections are open"), "{error}");
    drop(silent);
    // Each of their threads has to notice first.
    let deadline = Instant::now() + BOUND;
    let client = client::find(Some(&lab.name)).expect("the lab");
    while let Err(error) = client.status() {
        assert!(Instant::now() < deadline, "{error:#}");
    }
}
