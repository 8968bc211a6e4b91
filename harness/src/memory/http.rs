//! As much of HTTP/1.1 as a GET of a fixed page takes, on smoltcp's sockets: both sides.

use std::net::Ipv4Addr;
use std::time::Duration;

use datapath::time::Time;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;
use smoltcp::wire::IpAddress;

use super::stack::{Stack, Unreachable};
use crate::scenario::{Answer, Url};

/// Longest head of a request that is read.
const HEAD: usize = 8_192;
/// Longest response that is read.
const RESPONSE: usize = 1 << 20;
/// Bytes of each buffer of the client's connection.
const BUFFER: usize = 65_535;

/// What curl's exit status says.
mod curl {
    /// All is well.
    pub(super) const OK: i32 = 0;
    /// The connection was refused, or nobody is there.
    pub(super) const COULD_NOT_CONNECT: i32 = 7;
    /// The time ran out.
    pub(super) const TIMED_OUT: i32 = 28;
    /// The server closed without an answer.
    pub(super) const GOT_NOTHING: i32 = 52;
    /// The connection broke while the answer came.
    pub(super) const RECEIVE_ERROR: i32 = 56;
}

/// The server's side of one connection.
#[derive(Debug)]
pub(super) struct Exchange {
    head: Vec<u8>,
    page: String,
    answered: bool,
}

impl Exchange {
    /// A connection that will be sent `page`.
    pub(super) fn new(page: &str) -> Self {
        Self { head: Vec::new(), page: page.to_owned(), answered: false }
    }

    /// Reads what has come, answers a whole request and closes. Whether there is something to
    /// send.
    pub(super) fn step(&mut self, socket: &mut tcp::Socket<'_>) -> bool {
        while socket.can_recv() {
            let mut bytes = vec![0; socket.recv_queue()];
            let Ok(taken) = socket.recv_slice(&mut bytes) else { break };
            self.head.extend(bytes.iter().take(taken));
        }
        if self.answered || !socket.may_send() {
            return false;
        }
        if self.head.windows(4).any(|end| end == b"\r\n\r\n") {
            let response = self.response();
            // A page is far smaller than the buffer.
            let _ = socket.send_slice(response.as_bytes());
        } else if !socket.may_recv() || self.head.len() > HEAD {
            // Nothing can become a request any more.
        } else {
            return false;
        }
        self.answered = true;
        socket.close();
        true
    }

    fn response(&self) -> String {
        let get = self.head.starts_with(b"GET ");
        let (status, page) = if get {
            ("200 OK", self.page.as_str())
        } else {
            ("405 Method Not Allowed", "only GET is served here\n")
        };
        let len = page.len();
        format!(
            "HTTP/1.1 {status}\r\nServer: trunkline\r\nContent-Type: text/plain\r\n\
             Content-Length: {len}\r\nConnection: close\r\n\r\n{page}"
        )
    }
}

/// The client's side of one GET.
#[derive(Debug)]
pub(super) struct Fetch {
    handle: SocketHandle,
    local_port: u16,
    url: Url,
    deadline: Time,
    asked: bool,
    response: Vec<u8>,
}

impl Fetch {
    /// Opens the connection; `None` where the stack cannot.
    pub(super) fn start(
        stack: &mut Stack,
        url: &Url,
        local_port: u16,
        now: Time,
        max_time: Duration,
    ) -> Option<Self> {
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        let (interface, sockets) = stack.parts();
        let to = (IpAddress::Ipv4(url.ip), url.port);
        socket.connect(interface.context(), to, local_port).ok()?;
        let handle = sockets.add(socket);
        let (url, deadline) = (url.clone(), now + max_time);
        Some(Self { handle, local_port, url, deadline, asked: false, response: Vec::new() })
    }

    /// When the client gives up.
    pub(super) const fn deadline(&self) -> Time {
        self.deadline
    }

    /// Goes on as far as it can; the answer when there is one, good or bad.
    pub(super) fn step(&mut self, stack: &mut Stack, now: Time) -> Option<Answer> {
        let about_us = Unreachable { from_port: self.local_port, to: (self.url.ip, self.url.port) };
        let refused = stack.take_unreachable().contains(&about_us);
        let socket = stack.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        if refused && socket.state() == tcp::State::SynSent {
            return Some(self.failed(curl::COULD_NOT_CONNECT, "port or host unreachable"));
        }
        if !self.asked && socket.may_send() {
            // A request is far smaller than the buffer.
            let _ = socket.send_slice(self.request().as_bytes());
            self.asked = true;
        }
        while socket.can_recv() && self.response.len() < RESPONSE {
            let mut bytes = vec![0; socket.recv_queue()];
            let Ok(taken) = socket.recv_slice(&mut bytes) else { break };
            self.response.extend(bytes.iter().take(taken));
        }
        let ended = socket.state();
        if self.asked && matches!(ended, tcp::State::CloseWait) {
            socket.close();
            return Some(self.read());
        }
        match ended {
            tcp::State::Closed if !self.asked => {
                Some(self.failed(curl::COULD_NOT_CONNECT, "connection refused"))
            }
            tcp::State::Closed => Some(self.failed(curl::RECEIVE_ERROR, "connection reset")),
            state if now >= self.deadline => {
                // A kernel forgets an attempt that its program gives up; it sends nothing.
                if state == tcp::State::SynSent {
                    stack.sockets.remove(self.handle);
                } else {
                    socket.close();
                }
                Some(self.timed_out())
            }
            _ => None,
        }
    }

    fn request(&self) -> String {
        let Url { ip, port, path } = &self.url;
        let host = if *port == 80 { ip.to_string() } else { format!("{ip}:{port}") };
        format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: trunkline\r\nAccept: */*\r\n\
             Connection: close\r\n\r\n"
        )
    }

    fn timed_out(&self) -> Answer {
        let what = if self.asked { "no answer in time" } else { "no connection in time" };
        self.failed(curl::TIMED_OUT, what)
    }

    fn failed(&self, exit: i32, error: &str) -> Answer {
        let Url { ip, port, .. } = &self.url;
        Answer { exit, status: None, body: None, error: Some(format!("{ip}:{port}: {error}")) }
    }

    /// The answer in a response that is complete.
    fn read(&self) -> Answer {
        let text = String::from_utf8_lossy(&self.response);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            return self.failed(curl::GOT_NOTHING, "the server closed without an answer");
        };
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Answer { exit: curl::OK, status, body: Some(body.to_owned()), error: None }
    }
}

/// First port of those a client is given.
const EPHEMERAL: u16 = 32_768;

/// The client's port for its `nth` request: Linux's range from its start, so that runs repeat.
pub(super) fn client_port(nth: u16) -> u16 {
    EPHEMERAL + nth % 28_232
}

/// Whether an address is one a client can ask.
pub(super) fn can_be_asked(ip: Ipv4Addr) -> bool {
    !ip.is_unspecified() && !ip.is_broadcast() && !ip.is_multicast()
}
