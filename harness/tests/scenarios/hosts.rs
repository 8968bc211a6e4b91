//! The small hosts of memory labs, each against another one over a wire without a lab between.

use std::net::Ipv4Addr;
use std::time::Duration;

use datapath::lab::{self, Lab};
use datapath::link::HostId;
use datapath::time::Time;
use datapath::wire::{Mac, Packet, Protocol, Transport, ethernet, tcp::Flags};
use harness::memory::{Services, SmallHost};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::{icmp, tcp, udp};
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, IpAddress, Ipv4Address};

const LAB: &str = "
vpc:
  cidr: 10.0.0.0/16
  vSwitches: {vsw: {cidr: 10.0.4.0/24}}
  securityGroups: {sg: {}}
nodes: [{name: n1, eth0: {securityGroups: sg}}]
pods:
  - {name: t/a, node: n1, ip: 10.0.4.11, member: {securityGroups: sg}}
  - {name: t/b, node: n1, ip: 10.0.4.12, member: {securityGroups: sg}}
outside: [{name: far, ips: [198.51.100.1, 198.51.100.2, 198.51.100.3]}]
";
const B: Ipv4Addr = Ipv4Addr::new(10, 0, 4, 12);

fn lab() -> Lab {
    lab::load(LAB, "lab").unwrap()
}

/// Pod a, which asks, and another host, which answers.
struct Pair {
    lab: Lab,
    asker: SmallHost,
    host: SmallHost,
    host_mac: Mac,
    now: Time,
}

impl Pair {
    fn new(host: HostId, services: Services) -> Self {
        let lab = lab();
        let host_mac = match host {
            HostId::Pod(pod) => lab.pods[pod].mac,
            HostId::NodeHost(node) => lab.nodes[node].host_mac,
            HostId::Outside(host) => lab.outside[host].mac,
        };
        let asker = SmallHost::new(&lab, HostId::Pod(0), Services::default()).unwrap();
        let host = SmallHost::new(&lab, host, services).unwrap();
        Self { lab, asker, host, host_mac, now: Time::ZERO }
    }

    /// Lets hosts talk for longer than an acknowledgment is put off; gives the packets the host has
    /// sent.
    fn settle(&mut self) -> Vec<Packet<Ipv4Addr>> {
        let mut answers = self.carry();
        for _ in 0..3 {
            self.now = self.now + Duration::from_millis(20);
            answers.extend(self.carry());
        }
        answers
    }

    /// Carries frames to and fro until there are none.
    fn carry(&mut self) -> Vec<Packet<Ipv4Addr>> {
        let mut answers = Vec::new();
        self.asker.poll(self.now);
        self.host.poll(self.now);
        loop {
            let mut moved = false;
            while let Some(mut frame) = self.asker.take_frame() {
                assert_eq!(
                    ethernet::Header::parse(&frame).unwrap().dst,
                    self.lab.pods[0].cali_mac,
                    "a pod's next hop is its cali"
                );
                ethernet::set_macs(&mut frame, self.host_mac, Mac([2; 6]));
                self.host.receive(&frame, self.now);
                moved = true;
            }
            while let Some(mut frame) = self.host.take_frame() {
                answers.push(Packet::parse(&frame[ethernet::HEADER_LEN..]).unwrap());
                ethernet::set_macs(&mut frame, self.lab.pods[0].mac, Mac([2; 6]));
                self.asker.receive(&frame, self.now);
                moved = true;
            }
            if !moved {
                return answers;
            }
        }
    }

    fn connect(&mut self, to: Ipv4Addr, port: u16, from: u16) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 8192]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        let (interface, sockets) = self.asker.stack().parts();
        let to = (IpAddress::Ipv4(to), port);
        socket.connect(interface.context(), to, from).unwrap();
        sockets.add(socket)
    }

    fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.asker.stack().sockets.get_mut(handle)
    }

    fn read(&mut self, handle: SocketHandle) -> String {
        let mut text = vec![0; 8192];
        let len = self.socket(handle).recv_slice(&mut text).unwrap();
        String::from_utf8_lossy(&text[..len]).into_owned()
    }
}

#[test]
fn tcp_is_accepted_on_any_port_and_echoed() {
    let mut pair = Pair::new(HostId::Pod(1), Services::echo());
    for (from, port) in [(4000, 1), (4001, 80), (4002, 80), (4003, 65_535)] {
        let handle = pair.connect(B, port, from);
        pair.settle();
        assert_eq!(pair.socket(handle).state(), tcp::State::Established);
        pair.socket(handle).send_slice(b"hello").unwrap();
        pair.settle();
        assert_eq!(pair.read(handle), "hello");
        pair.socket(handle).close();
        pair.settle();
        assert_eq!(pair.socket(handle).state(), tcp::State::TimeWait);
    }
}

#[test]
fn what_is_not_offered_is_refused() {
    let mut pair = Pair::new(HostId::Pod(1), Services::default());
    let handle = pair.connect(B, 80, 4000);
    let answers = pair.settle();
    assert_eq!(pair.socket(handle).state(), tcp::State::Closed);
    assert!(answers[0].tcp_flags().contains(Flags::RST));
}

#[test]
fn a_host_has_no_more_than_its_connections() {
    let mut pair = Pair::new(HostId::Pod(1), Services::echo());
    let handles: Vec<_> = (0..300).map(|n| pair.connect(B, 80, 4000 + n)).collect();
    for _ in 0..4 {
        pair.settle();
    }
    let open = handles
        .iter()
        .filter(|handle| pair.asker.stack().sockets.get::<tcp::Socket<'_>>(**handle).is_active())
        .count();
    assert_eq!(open, 256);
}

#[test]
fn pages_are_served_by_http() {
    let services = Services { pages: vec![(80, "a page\n".into())], ..Services::default() };
    let mut pair = Pair::new(HostId::Pod(1), services);
    let cases = [
        ("GET / HTTP/1.1\r\nHost: b\r\n\r\n", "HTTP/1.1 200 OK\r\n", "\r\n\r\na page\n"),
        ("PUT / HTTP/1.1\r\nHost: b\r\n\r\n", "HTTP/1.1 405", "\r\n\r\nonly GET is served here\n"),
    ];
    for (number, (request, head, body)) in (0..).zip(cases) {
        let handle = pair.connect(B, 80, 4000 + number);
        pair.settle();
        // A request may come in pieces.
        let (first, rest) = request.split_at(7);
        for piece in [first, rest] {
            pair.socket(handle).send_slice(piece.as_bytes()).unwrap();
            pair.settle();
        }
        let response = pair.read(handle);
        assert!(response.starts_with(head) && response.ends_with(body), "{response}");
        assert_eq!(pair.socket(handle).state(), tcp::State::CloseWait, "the server closes");
    }
    let handle = pair.connect(B, 81, 5000);
    pair.settle();
    assert_eq!(pair.socket(handle).state(), tcp::State::Closed, "no page on port 81");
}

#[test]
fn datagrams_come_back_from_where_they_went() {
    let mut pair = Pair::new(HostId::Outside(0), Services::echo());
    let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 4096]);
    let mut socket = udp::Socket::new(buffer(), buffer());
    socket.bind(4000).unwrap();
    let handle = pair.asker.stack().sockets.add(socket);
    // More addresses than smoltcp keeps, and more ports than the host does.
    for number in 0..200_u16 {
        let to = Ipv4Addr::new(198, 51, 100, 1 + u8::try_from(number % 3).unwrap());
        let to = (IpAddress::Ipv4(to), 1000 + number);
        let socket = pair.asker.stack().sockets.get_mut::<udp::Socket<'_>>(handle);
        socket.send_slice(b"data", to).unwrap();
        pair.settle();
        let socket = pair.asker.stack().sockets.get_mut::<udp::Socket<'_>>(handle);
        let (data, from) = socket.recv().unwrap();
        assert_eq!((data, (from.endpoint.addr, from.endpoint.port)), (&b"data"[..], to));
    }
}

#[test]
fn echo_requests_are_answered() {
    for (host, ip) in [(HostId::Pod(1), B), (HostId::Outside(0), Ipv4Addr::new(198, 51, 100, 3))] {
        let mut pair = Pair::new(host, Services::default());
        let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 512]);
        let mut socket = icmp::Socket::new(buffer(), buffer());
        socket.bind(icmp::Endpoint::Ident(7)).unwrap();
        let handle = pair.asker.stack().sockets.add(socket);
        let socket = pair.asker.stack().sockets.get_mut::<icmp::Socket<'_>>(handle);
        let echo = Icmpv4Repr::EchoRequest { ident: 7, seq_no: 1, data: b"ping" };
        let room = socket.send(echo.buffer_len(), IpAddress::Ipv4(ip as Ipv4Address)).unwrap();
        echo.emit(&mut Icmpv4Packet::new_unchecked(room), &Default::default());
        let answers = pair.settle();
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].tuple.src, ip);
        assert!(matches!(answers[0].transport, Transport::Icmp { kind: 0, .. }));
    }
}

#[test]
fn what_is_not_for_the_host_is_left_alone() {
    let lab = lab();
    let mut sender = SmallHost::new(&lab, HostId::Pod(0), Services::default()).unwrap();
    sender.stack().inject(syn(B));
    let frame = sender.take_frame().unwrap();
    let mut host = SmallHost::new(&lab, HostId::Pod(1), Services::echo()).unwrap();
    // Another MAC; then another address; then no whole header; then the right one.
    host.receive(&frame, Time::ZERO);
    let mut other = frame.clone();
    ethernet::set_macs(&mut other, lab.pods[1].mac, Mac([2; 6]));
    let right = other.clone();
    sender.stack().inject(syn(Ipv4Addr::new(10, 0, 4, 13)));
    let mut foreign = sender.take_frame().unwrap();
    ethernet::set_macs(&mut foreign, lab.pods[1].mac, Mac([2; 6]));
    host.receive(&foreign, Time::ZERO);
    for len in 0..frame.len() - 1 {
        host.receive(&right[..len], Time::ZERO);
    }
    assert_eq!(host.take_frame(), None);
    host.receive(&right, Time::ZERO);
    let answer = host.take_frame().unwrap();
    let answer = Packet::<Ipv4Addr>::parse(&answer[ethernet::HEADER_LEN..]).unwrap();
    assert_eq!(answer.tcp_flags(), Flags::SYN | Flags::ACK);
    assert_eq!(SmallHost::new(&lab, HostId::Pod(9), Services::default()).map(|_| ()), None);
}

/// A packet sent past the sockets has an answer that no socket knows.
#[test]
fn answers_to_what_no_socket_sent_are_taken_without_a_word() {
    let mut pair = Pair::new(HostId::Pod(1), Services::echo());
    pair.asker.send(syn(B));
    let answers = pair.carry();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].tcp_flags(), Flags::SYN | Flags::ACK);
    assert_eq!(pair.asker.take_frame(), None);
}

/// A SYN from pod a.
fn syn(dst: Ipv4Addr) -> Vec<u8> {
    use datapath::wire::{checksum, ipv4, tcp};
    let src = Ipv4Addr::new(10, 0, 4, 11);
    let mut segment = [0; tcp::HEADER_LEN];
    tcp::Header {
        src_port: 4000,
        dst_port: 80,
        seq: 1,
        ack: 0,
        header_len: 20,
        flags: Flags::SYN,
        window: 1000,
    }
    .emit(&mut segment);
    let pseudo = checksum::pseudo_header(&src.octets(), &dst.octets(), Protocol::TCP.0, 20);
    let sum = !checksum::fold(checksum::sum(&segment, pseudo));
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut packet = vec![0; ipv4::HEADER_LEN];
    packet.extend_from_slice(&segment);
    ipv4::Header {
        src,
        dst,
        protocol: Protocol::TCP,
        ttl: 64,
        tos: 0,
        id: 0,
        total_len: 40,
        header_len: 20,
        dont_fragment: true,
        fragment: false,
    }
    .emit(&mut packet);
    packet
}
