//! Frames: sound ones of every kind the datapath knows, and the same with damage.

use std::net::Ipv4Addr;

use arbitrary::{Result, Unstructured};
use datapath::lab::Lab;
use datapath::wire::{Mac, ethernet};
use etherparse::{IpNumber, Ipv4Header, PacketBuilder, PacketBuilderStep, TcpHeader};

/// What means something in a lab.
pub(crate) struct Known {
    addresses: Vec<Ipv4Addr>,
    vids: Vec<u16>,
}

impl Known {
    pub(super) fn of(lab: &Lab) -> Self {
        let mut addresses = vec![Ipv4Addr::new(169, 254, 1, 1), Ipv4Addr::BROADCAST];
        addresses.extend(lab.enis.iter().map(|eni| eni.ip));
        addresses.extend(lab.outside.iter().flat_map(|host| host.ips.clone()));
        addresses.extend(lab.slbs.iter().map(|slb| slb.vip));
        for service in &lab.services {
            addresses.extend(service.cluster_ip);
            addresses.extend(service.external_ips.iter().chain(&service.load_balancer));
        }
        let vids = lab.pods.iter().map(|pod| pod.vid.get()).chain([0, 7, 4_095]).collect();
        Self { addresses, vids }
    }

    fn address(&self, u: &mut Unstructured<'_>) -> Result<Ipv4Addr> {
        if u.ratio(1, 16)? {
            return u.arbitrary::<u32>().map(Ipv4Addr::from);
        }
        u.choose(&self.addresses).copied()
    }
}

/// Any frame to `mac`.
pub(super) fn any(u: &mut Unstructured<'_>, known: &Known, mac: Mac) -> Result<Vec<u8>> {
    let (ethertype, payload) = match u.int_in_range(0..=15)? {
        0 => (u.arbitrary()?, short(u)?),
        1 | 2 => (ethernet::ARP, arp(u, known)?),
        3 => (ethernet::IPV4, short(u)?),
        _ => (ethernet::IPV4, packet(u, known, true)?),
    };
    let tags = match u.int_in_range(0..=7)? {
        0..=3 => vec![],
        4..=6 => vec![(ethernet::VLAN, *u.choose(&known.vids)?)],
        _ => {
            let outer = *u.choose(&[ethernet::VLAN, ethernet::QINQ])?;
            vec![(outer, u.arbitrary()?), (ethernet::VLAN, u.arbitrary()?)]
        }
    };
    let mac = match u.int_in_range(0..=15)? {
        0 => Mac(u.arbitrary()?),
        1 => Mac::BROADCAST,
        _ => mac,
    };
    let mut frame = frame(mac, &tags, ethertype, &payload);
    if u.ratio(1, 4)? {
        damage(u, &mut frame)?;
    }
    Ok(frame)
}

/// An Ethernet frame with these tags, the outer one first.
pub(crate) fn frame(mac: Mac, tags: &[(u16, u16)], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&mac.0[..], &[2, 8, 8, 8, 8, 8]].concat();
    for (protocol, control) in tags {
        frame.extend([protocol.to_be_bytes(), control.to_be_bytes()].concat());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A packet; one that quotes another where `quotes`.
fn packet(u: &mut Unstructured<'_>, known: &Known, quotes: bool) -> Result<Vec<u8>> {
    const PORTS: [u16; 9] = [7, 22, 53, 80, 5_353, 8_080, 40_001, 40_002, 65_535];
    let (src, dst) = (known.address(u)?.octets(), known.address(u)?.octets());
    let (from, to) = (*u.choose(&PORTS)?, *u.choose(&PORTS)?);
    let ttl = *u.choose(&[0, 1, 2, 64, 64, 64, 255])?;
    let mut header = Ipv4Header::new(0, ttl, IpNumber::TCP, src, dst).expect("a header");
    header.dont_fragment = u.arbitrary()?;
    header.more_fragments = u.ratio(1, 32)?;
    let ip = PacketBuilder::ip(etherparse::IpHeaders::Ipv4(header, Default::default()));
    let mut built = Vec::new();
    let done = match u.int_in_range(0..=7)? {
        0..=3 => tcp(u, ip, from, to)?.write(&mut built, &short(u)?),
        4 | 5 => ip.udp(from, to).write(&mut built, &short(u)?),
        6 if quotes => {
            let kind = *u.choose(&[3, 4, 5, 11, 12])?;
            let (code, word) = (u.int_in_range(0..=15)?, u.arbitrary()?);
            let mut quoted = packet(u, known, false)?;
            quoted.truncate(u.int_in_range(0..=600)?);
            ip.icmpv4_raw(kind, code, word).write(&mut built, &quoted)
        }
        _ => {
            let kind = *u.choose(&[0, 8, 8, 13])?;
            ip.icmpv4_raw(kind, 0, u.arbitrary()?).write(&mut built, &short(u)?)
        }
    };
    done.expect("written to memory");
    Ok(built)
}

fn tcp(
    u: &mut Unstructured<'_>,
    ip: PacketBuilderStep<etherparse::IpHeaders>,
    from: u16,
    to: u16,
) -> Result<PacketBuilderStep<TcpHeader>> {
    let mut header = TcpHeader::new(from, to, u.arbitrary()?, u.arbitrary()?);
    let flags: u8 = *u.choose(&[0x02, 0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x14, 0x00, 0xff])?;
    let has = |bit: u8| flags & bit != 0;
    (header.fin, header.syn, header.rst) = (has(1), has(2), has(4));
    (header.psh, header.ack, header.urg) = (has(8), has(16), has(32));
    Ok(ip.tcp_header(header))
}

fn arp(u: &mut Unstructured<'_>, known: &Known) -> Result<Vec<u8>> {
    let operation = u.int_in_range(0..=3)?;
    let sender = Mac(if u.arbitrary()? { [2, 8, 8, 8, 8, 8] } else { u.arbitrary()? });
    let (from, to) = (known.address(u)?, known.address(u)?);
    let fixed = [0, 1, 8, 0, 6, 4, 0, operation];
    Ok([&fixed[..], &sender.0, &from.octets(), &[0; 6], &to.octets()].concat())
}

/// Some bytes.
fn short(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let len = u.int_in_range(0..=48)?;
    Ok(u.bytes(len.min(u.len()))?.to_vec())
}

/// Changes bytes, lengthens or cuts; often mends the IP header's checksum, so that what lies
/// behind that check meets the damage as well.
fn damage(u: &mut Unstructured<'_>, frame: &mut Vec<u8>) -> Result<()> {
    for _ in 0..u.int_in_range(0..=3)? {
        let at = u.choose_index(frame.len().max(1))?;
        if let Some(byte) = frame.get_mut(at) {
            *byte = u.arbitrary()?;
        }
    }
    match u.int_in_range(0..=7)? {
        0 => frame.truncate(u.choose_index(frame.len().max(1))?),
        1 => frame.resize(frame.len() + u.int_in_range(1..=2_000)?, 0),
        2 => frame.resize(9_000, 0xa5),
        _ => {}
    }
    if u.arbitrary()? {
        mend(frame);
    }
    Ok(())
}

/// Makes the checksum of the IP header right.
fn mend(frame: &mut [u8]) {
    let at = if ethernet::tag(frame).is_some() { 18 } else { 14 };
    let Some(packet) = frame.get_mut(at..).filter(|packet| packet.len() >= 20) else { return };
    let len = usize::from(packet[0] & 0x0f) * 4;
    packet[10..12].fill(0);
    let sum = datapath::wire::checksum::of(packet.get(..len).unwrap_or_default());
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}
