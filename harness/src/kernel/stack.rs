//! What passes between a case and a node's own stack: packets enter the node at LOCAL_OUT and are
//! read where LOCAL_IN has let them through, by raw sockets (spec ORA-5).

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use anyhow::Context;
use datapath::lab::Lab;
use datapath::wire::Protocol;
use datapath::wire::ethernet::{self, Header};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto,
    setsockopt, socket, sockopt,
};

/// The mark of what is sent here; it is not one of kube-proxy's.
const MARK: u32 = 0x1;
/// The source port that ipvs never schedules.
const FTP_DATA: u16 = 20;
/// Longest IPv4 packet.
const LONGEST: usize = 65_535;
/// Where the destination stands in an IPv4 header.
const DESTINATION: std::ops::Range<usize> = 16..20;

/// The node's side of host0.
#[derive(Debug)]
pub(super) struct Stack {
    sender: OwnedFd,
    receivers: Vec<OwnedFd>,
    ip: Ipv4Addr,
    header: Header,
    buffer: Vec<u8>,
}

impl Stack {
    /// Opens the stack of a node. The calling thread is in the node's namespace.
    pub(super) fn open(lab: &Lab, node: usize) -> anyhow::Result<Self> {
        let model = lab.nodes.get(node).context("no such node")?;
        let ip = ip_of(lab, node)?;
        let open = |protocol| {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            socket(AddressFamily::Inet, SockType::Raw, flags, protocol).context("open a raw socket")
        };
        let sender = open(SockProtocol::Raw)?;
        setsockopt(&sender, sockopt::Mark, &MARK).context("set a socket's mark")?;
        let receivers = [SockProtocol::Tcp, SockProtocol::Udp, SockProtocol::Icmp];
        let receivers = receivers.into_iter().map(open).collect::<anyhow::Result<_>>()?;
        let header =
            Header { dst: model.host_mac, src: model.host0_mac, ethertype: ethernet::IPV4 };
        Ok(Self { sender, receivers, ip, header, buffer: vec![0; LONGEST] })
    }

    /// Rules for `iptables-legacy-restore` that keep a node's stack from answering what was sent
    /// to the node's own address, as a host of a case does not. It answers for VIPs, and what ipvs
    /// and routing have to say is said. In the raw table, so that conntrack does not see what is
    /// not sent.
    ///
    /// Port unreachable is both the stack's word and that of ipvs for a node port without a
    /// destination, or for an answer to nobody (spec IPVS-43). Only ipvs says it about TCP; about
    /// UDP it does where it has a virtual server that may be asked, which one from port 20 may not
    /// (spec IPVS-42).
    ///
    /// # Errors
    /// Where the lab has no such node.
    pub(super) fn silence(lab: &Lab, node: usize) -> anyhow::Result<String> {
        let ip = ip_of(lab, node)?;
        let drop = |matches: &str| format!("-A OUTPUT -s {ip} {matches} -j DROP\n");
        let unreachable = "-p icmp --icmp-type port-unreachable -m u32 --u32";
        let ports = lab.services.iter().flat_map(|service| &service.ports);
        let ports = ports.filter(|port| port.proto == Protocol::UDP);
        // Behind 20 bytes of IP and 8 of ICMP: the quoted ports.
        let told = |source: &str, destination: &str| {
            let quoted = format!("34&0xff=17&&48>>16={source}&&48&0xffff={destination}");
            format!("-A OUTPUT -s {ip} {unreachable} \"{quoted}\" -j ACCEPT\n")
        };
        let others = format!("0:{},{}:65535", FTP_DATA - 1, FTP_DATA + 1);
        let refused: String = ports
            .map(|port| {
                let asked = port.node_port.map(|port| told(&others, &port.to_string()));
                let answers = lab.switches.ipvs.nat_icmp_send;
                let answers = answers.then(|| told(&port.target_port.to_string(), "0:65535"));
                asked.unwrap_or_default() + &answers.unwrap_or_default()
            })
            .collect();
        let silent = [
            drop("-p tcp --tcp-flags RST RST"),
            drop("-p icmp --icmp-type protocol-unreachable"),
            drop("-p icmp --icmp-type echo-reply"),
            drop(&format!("{unreachable} \"34&0xff=17\"")),
        ];
        Ok(format!(
            "*raw\n-A OUTPUT -m mark --mark {MARK:#x}/{MARK:#x} -j ACCEPT\n{refused}{}COMMIT\n",
            silent.concat()
        ))
    }

    /// Has the node send the packet of a frame. The kernel sets its total length and header
    /// checksum, and an ID where it has none.
    pub(super) fn send(&self, frame: &[u8]) -> anyhow::Result<()> {
        let packet = frame.get(ethernet::HEADER_LEN..).unwrap_or_default();
        let destination: Option<[u8; 4]> =
            packet.get(DESTINATION).and_then(|bytes| bytes.try_into().ok());
        let [a, b, c, d] = destination.context("the node's own stack sends IPv4 only")?;
        let to = SockaddrIn::new(a, b, c, d, 0);
        match sendto(self.sender.as_raw_fd(), packet, &to, MsgFlags::empty()) {
            // What the kernel lets go no further tells its sender so.
            Ok(_) | Err(Errno::EPERM | Errno::ENETUNREACH | Errno::EHOSTUNREACH) => Ok(()),
            Err(errno) => Err(errno).context("send from a node's own stack"),
        }
    }

    /// The next packet that the node was given, in a frame as host0 carries it.
    pub(super) fn receive(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        for receiver in &self.receivers {
            loop {
                let length = match recv(receiver.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                    Ok(length) => length,
                    Err(Errno::EAGAIN) => break,
                    Err(errno) => return Err(errno).context("receive at a node's own stack"),
                };
                let packet = self.buffer.get(..length).unwrap_or_default();
                // What is for a VIP the forwarder keeps (spec ROUTE-9).
                if packet.get(DESTINATION) == Some(&self.ip.octets()) {
                    let mut frame = vec![0; ethernet::HEADER_LEN];
                    self.header.emit(&mut frame);
                    frame.extend_from_slice(packet);
                    return Ok(Some(frame));
                }
            }
        }
        Ok(None)
    }

    /// Its sockets, to wait for.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.receivers.iter().map(AsFd::as_fd)
    }
}

fn ip_of(lab: &Lab, node: usize) -> anyhow::Result<Ipv4Addr> {
    let primary = lab.nodes.get(node).context("no such node")?.primary;
    Ok(lab.enis.get(primary).context("no such ENI")?.ip)
}
