//! A small host: it answers echo requests, and TCP and UDP as far as it is told to.

use std::net::Ipv4Addr;

use datapath::lab::Lab;
use datapath::link::HostId;
use datapath::time::Time;
use datapath::wire::{Packet, Transport, Tuple, tcp::Flags};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::{tcp, udp};

use super::http::Exchange;
use super::stack::Stack;

/// Connections a host has at once; what comes on top is refused.
const CONNECTIONS: usize = 256;
/// UDP ports a host answers on at once; the one opened longest ago makes room.
const UDP_PORTS: usize = 64;
/// Bytes of each buffer of a connection.
const TCP_BUFFER: usize = 65_535;
/// Datagrams and bytes of each buffer of a UDP port.
const UDP_BUFFER: (usize, usize) = (16, 32_768);

/// What a host offers beside echo replies. What it does not offer it refuses: a reset, or port
/// unreachable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    /// Accepts TCP on every port and sends back what it gets.
    pub tcp_echo: bool,
    /// Sends datagrams to any port back.
    pub udp_echo: bool,
    /// Serves these pages over HTTP: port and body. They come before `tcp_echo`.
    pub pages: Vec<(u16, String)>,
}

impl Services {
    /// Echo on every TCP and UDP port.
    #[must_use]
    pub const fn echo() -> Self {
        Self { tcp_echo: true, udp_echo: true, pages: Vec::new() }
    }
}

/// A connection the host has accepted, or is about to.
#[derive(Debug)]
struct Connection {
    handle: SocketHandle,
    tuple: Tuple<Ipv4Addr>,
    exchange: Option<Exchange>,
}

/// A host of a lab with its stack and its services.
///
/// ```
/// # use harness::memory::{Services, SmallHost};
/// # use datapath::{lab, link::HostId, time::Time};
/// # let text = "{vpc: {cidr: 10.0.0.0/16, vSwitches: {v: {cidr: 10.0.4.0/24}}, \
/// #   securityGroups: {g: {}}}, nodes: [{name: n, eth0: {securityGroups: g}}], \
/// #   pods: [{name: a/b, node: n, member: {securityGroups: g}}]}";
/// # let lab = lab::load(text, "lab")?;
/// # let frame = [0; 60];
/// let mut host = SmallHost::new(&lab, HostId::Pod(0), Services::echo()).expect("a pod");
/// host.receive(&frame, Time::ZERO);
/// while let Some(answer) = host.take_frame() {
///     // Send the answer.
/// #   let _ = answer;
/// }
/// # Ok::<(), lab::LabError>(())
/// ```
#[derive(Debug)]
pub struct SmallHost {
    stack: Stack,
    services: Services,
    connections: Vec<Connection>,
    udp: Vec<(u16, SocketHandle)>,
    /// Answers to what was sent in the host's name.
    awaited: Vec<Tuple<Ipv4Addr>>,
}

impl SmallHost {
    /// A host of the lab; `None` where the lab has no such host.
    #[must_use]
    pub fn new(lab: &Lab, host: HostId, services: Services) -> Option<Self> {
        // Every host draws its own numbers from the lab's seed.
        let number = HostId::all(lab).position(|other| other == host)?;
        let seed = lab.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number as u64);
        let stack = Stack::new(lab, host, seed)?;
        Some(Self {
            stack,
            services,
            connections: Vec::new(),
            udp: Vec::new(),
            awaited: Vec::new(),
        })
    }

    /// The host's stack.
    pub fn stack(&mut self) -> &mut Stack {
        &mut self.stack
    }

    /// Has the host offer one more page.
    pub fn serve(&mut self, port: u16, page: &str) {
        self.services.pages.push((port, page.to_owned()));
    }

    /// Has the host send an IP packet of a flow that none of its sockets knows. It takes answers
    /// without a word, in place of resetting them or echoing them back.
    pub fn send(&mut self, packet: Vec<u8>) {
        let parsed = Packet::<Ipv4Addr>::parse(&packet).ok();
        self.awaited.extend(parsed.and_then(|packet| packet.tuple.inverse()));
        self.stack.inject(packet);
    }

    /// A frame has reached the host; its answer is there at once. ARP is no business of the
    /// host's: the lab's link answers that.
    pub fn receive(&mut self, frame: &[u8], now: Time) {
        let Some(packet) = self.stack.packet(frame) else { return };
        if self.awaited.contains(&packet.tuple) {
            return;
        }
        self.stack.receive(frame, &packet);
        match packet.transport {
            Transport::Tcp { flags, .. }
                if flags & (Flags::SYN | Flags::ACK | Flags::RST) == Flags::SYN =>
            {
                self.expect(&packet);
            }
            Transport::Udp { .. } if self.services.udp_echo => self.open_udp(packet.tuple.dst_port),
            _ => {}
        }
        self.poll(now);
    }

    /// Lets the host work on what has come and what is due.
    pub fn poll(&mut self, now: Time) {
        self.stack.poll(now);
        if self.work() {
            self.stack.poll(now);
        }
    }

    /// The next moment at which [`poll`](Self::poll) has something to do.
    pub fn poll_at(&mut self, now: Time) -> Option<Time> {
        self.stack.poll_at(now)
    }

    /// The oldest frame the host sends.
    pub fn take_frame(&mut self) -> Option<Vec<u8>> {
        self.stack.take_frame()
    }

    /// Makes a listener for a first segment, where the host offers something on its port. smoltcp
    /// resets what finds no listener.
    fn expect(&mut self, packet: &Packet<Ipv4Addr>) {
        let tuple = packet.tuple;
        let page = self.services.pages.iter().find(|(port, _)| *port == tuple.dst_port);
        let exchange = page.map(|(_, page)| Exchange::new(page));
        if exchange.is_none() && !self.services.tcp_echo {
            return;
        }
        self.forget_closed();
        // A repeated first segment has its socket already.
        let known = self.connections.iter().any(|c| c.tuple == tuple);
        if known || self.connections.len() >= CONNECTIONS {
            return;
        }
        let buffer = || tcp::SocketBuffer::new(vec![0; TCP_BUFFER]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        // A closed socket can listen on any port but 0.
        if socket.listen((tuple.dst, tuple.dst_port)).is_ok() {
            let handle = self.stack.sockets.add(socket);
            self.connections.push(Connection { handle, tuple, exchange });
        }
    }

    fn forget_closed(&mut self) {
        let sockets = &mut self.stack.sockets;
        self.connections.retain(|c| {
            let ended = matches!(
                sockets.get::<tcp::Socket<'_>>(c.handle).state(),
                tcp::State::Closed | tcp::State::TimeWait
            );
            if ended {
                sockets.remove(c.handle);
            }
            !ended
        });
    }

    fn open_udp(&mut self, port: u16) {
        if port == 0 || self.udp.iter().any(|(known, _)| *known == port) {
            return;
        }
        if self.udp.len() >= UDP_PORTS {
            let (_, handle) = self.udp.remove(0);
            self.stack.sockets.remove(handle);
        }
        let buffer = || {
            let (datagrams, bytes) = UDP_BUFFER;
            udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; datagrams], vec![0; bytes])
        };
        let mut socket = udp::Socket::new(buffer(), buffer());
        // A new socket can be bound to any port but 0.
        if socket.bind(port).is_ok() {
            self.udp.push((port, self.stack.sockets.add(socket)));
        }
    }

    /// Does what the services do with what has come. Whether there is something to send.
    fn work(&mut self) -> bool {
        let Self { stack, connections, udp, .. } = self;
        let mut worked = false;
        for Connection { handle, exchange, .. } in connections {
            let socket = stack.sockets.get_mut::<tcp::Socket<'_>>(*handle);
            worked |= match exchange {
                Some(exchange) => exchange.step(socket),
                None => echo(socket),
            };
        }
        for (_, handle) in udp {
            let socket = stack.sockets.get_mut::<udp::Socket<'_>>(*handle);
            while let Ok((data, from)) = socket.recv() {
                let data = data.to_vec();
                // Where the answer finds no room it is lost, as a datagram may be.
                worked |= socket.send_slice(&data, from).is_ok();
            }
        }
        worked
    }
}

/// Sends back what a connection has received, and closes it after the other side did.
fn echo(socket: &mut tcp::Socket<'_>) -> bool {
    let mut worked = false;
    while socket.can_recv() && socket.can_send() {
        let room = socket.send_capacity() - socket.send_queue();
        let mut data = vec![0; room.min(socket.recv_queue())];
        let Ok(taken) = socket.recv_slice(&mut data) else { break };
        let sent = data.get(..taken).and_then(|data| socket.send_slice(data).ok());
        if sent.is_none_or(|sent| sent == 0) {
            break;
        }
        worked = true;
    }
    if socket.state() == tcp::State::CloseWait && socket.recv_queue() == 0 {
        socket.close();
        worked = true;
    }
    worked
}
