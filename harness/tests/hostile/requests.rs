//! Requests on the control socket, as they arrive on a stream.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use harness::live::protocol::{BadRequest, REQUEST_MAX, Request};

use crate::control::check;

const SHOW: &str = "{\"version\":1,\"request\":{\"op\":\"show\",\"query\":{\"what\":\"route\"}}}\n";

fn refused(bytes: &[u8]) -> String {
    Request::read(bytes).expect_err("no request").to_string()
}

#[test]
fn a_request_is_read() {
    assert!(matches!(Request::read(SHOW.as_bytes()), Ok(Request::Show { .. })));
    check(SHOW.as_bytes());
}

#[test]
fn what_is_none_is_told_with_its_place() {
    assert_eq!(refused(b""), "the request ends after 0 bytes, before the end of its line");
    assert_eq!(
        refused(&SHOW.as_bytes()[..20]),
        "the request ends after 20 bytes, before the end of its line"
    );
    let nonsense = refused(b"GET / HTTP/1.1\n");
    assert_eq!(nonsense, "not a request: expected value at line 1 column 1");
    let later = refused(b"{\"version\":2,\"request\":{\"op\":\"of the future\"}}\n");
    assert_eq!(later, "protocol version 2 asked, 1 spoken");
    let unknown = refused(b"{\"version\":1,\"request\":{\"op\":\"reboot\"}}\n");
    assert!(unknown.contains("unknown variant `reboot`"), "{unknown}");
    assert!(unknown.contains("line 1 column"), "{unknown}");
    let quoted = refused(b"{\"version\":1,\"request\":{\"op\":\"re\\n\\u001b[2Jboot\"}}\n");
    assert!(quoted.contains("unknown variant `re  [2Jboot`"), "{quoted}");
    let deep = [b"{\"version\":".as_slice(), "[".repeat(10_000).as_bytes(), b"\n"].concat();
    assert!(refused(&deep).contains("line 1 column"), "{}", refused(&deep));
}

#[test]
fn cut_and_flipped_at_every_byte() {
    for at in 0..SHOW.len() {
        check(&SHOW.as_bytes()[..at]);
        for bit in [0x01, 0x20, 0x80] {
            let mut bytes = SHOW.as_bytes().to_vec();
            bytes[at] ^= bit;
            check(&bytes);
        }
    }
}

/// No more is read than the bound, however much there is.
#[test]
fn an_endless_request_ends_at_the_bound() {
    let error = Request::read(std::io::repeat(b'{')).expect_err("too long");
    assert!(matches!(error, BadRequest::TooLong), "{error}");
    let mut whole = vec![b' '; REQUEST_MAX as usize - SHOW.len()];
    whole.extend(SHOW.bytes());
    assert!(Request::read(&whole[..]).is_ok(), "as long as may be");
}

#[test]
fn a_silent_peer_is_not_waited_for_for_ever() {
    let (here, mut there) = UnixStream::pair().expect("a pair");
    here.set_read_timeout(Some(Duration::from_millis(1))).expect("a timeout");
    there.write_all(&SHOW.as_bytes()[..20]).expect("half a request");
    let error = Request::read(&here).expect_err("silence");
    assert!(matches!(error, BadRequest::Silent), "{error}");
}
