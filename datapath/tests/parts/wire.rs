//! Headers against etherparse, incremental checksums against computed ones.

use std::net::Ipv4Addr;

use crate::common::{checksums_hold, ping, tcp_data, udp, with_ip};
use datapath::port::{Buffer, Heap};
use datapath::wire::arp::{Arp, Operation};
use datapath::wire::checksum::{self, Delta};
use datapath::wire::tcp::Flags;
use datapath::wire::{
    Mac, Packet, Protocol, QuotedSums, Transport, Tuple, Unparsed, Vid, ZeroChecksum, ethernet,
    icmpv4, ipv4, tcp,
};
use etherparse::{Ipv4Header, TcpHeader};
use proptest::collection::vec;
use proptest::prelude::*;

fn ip() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from)
}

fn tuple(proto: Protocol) -> impl Strategy<Value = Tuple<Ipv4Addr>> {
    (ip(), ip(), any::<u16>(), any::<u16>()).prop_map(move |(src, dst, src_port, dst_port)| Tuple {
        src,
        dst,
        src_port,
        dst_port,
        proto,
    })
}

/// A packet of each transport that has a checksum, and a tuple for it to get.
fn packet() -> impl Strategy<Value = (Vec<u8>, Tuple<Ipv4Addr>)> {
    let of = |proto| (tuple(proto), tuple(proto), vec(any::<u8>(), 0..50));
    let ends = |t: &Tuple<Ipv4Addr>| ((t.src, t.src_port), (t.dst, t.dst_port));
    prop_oneof![
        (of(Protocol::TCP), 0..64_u8).prop_map(move |((from, to, data), flags)| {
            let (src, dst) = ends(&from);
            (tcp_data(src, dst, Flags::from_bits_truncate(flags), &data), to)
        }),
        of(Protocol::UDP).prop_map(move |(from, to, data)| {
            let (src, dst) = ends(&from);
            (udp(src, dst, &data), to)
        }),
        of(Protocol::ICMP).prop_map(|(from, to, _)| {
            let to = Tuple { dst_port: 0x0800, ..to };
            (ping(from.src, from.dst, from.src_port), to)
        }),
    ]
}

/// The sum of all words the plain way.
fn plain_sum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |b| u32::from(*b)));
    words.fold(0_u32, |sum, word| {
        let sum = sum + word;
        (sum & 0xffff) + (sum >> 16)
    }) as u16
}

proptest! {
    #[test]
    fn packets_are_read_as_etherparse_reads_them((bytes, _) in packet(), padding in 0..9_usize) {
        let padded = [&bytes[..], &vec![0; padding]].concat();
        let packet = Packet::parse(&padded).expect("a packet");
        let (ip, payload) = Ipv4Header::from_slice(&bytes).expect("a header");
        prop_assert_eq!(packet.tuple.src.octets(), ip.source);
        prop_assert_eq!(packet.tuple.dst.octets(), ip.destination);
        prop_assert_eq!(packet.tuple.proto.0, ip.protocol.0);
        prop_assert_eq!(packet.total_len, ip.total_len);
        prop_assert_eq!((packet.ttl, packet.dont_fragment), (ip.time_to_live, ip.dont_fragment));
        prop_assert!(packet.checksum_holds(&padded));
        match packet.transport {
            Transport::Tcp { flags, seq, ack, payload_len, .. } => {
                let (tcp, data) = TcpHeader::from_slice(payload).expect("a header");
                let ports = (packet.tuple.src_port, packet.tuple.dst_port);
                prop_assert_eq!(ports, (tcp.source_port, tcp.destination_port));
                prop_assert_eq!((seq, ack), (tcp.sequence_number, tcp.acknowledgment_number));
                prop_assert_eq!(usize::from(payload_len), data.len());
                prop_assert_eq!(flags.contains(Flags::SYN), tcp.syn);
                prop_assert_eq!(flags.contains(Flags::ACK), tcp.ack);
                prop_assert_eq!(flags.contains(Flags::FIN), tcp.fin);
                prop_assert_eq!(flags.contains(Flags::RST), tcp.rst);
                prop_assert_eq!(flags.contains(Flags::URG), tcp.urg);
            }
            Transport::Udp { payload_len } => {
                prop_assert_eq!(usize::from(payload_len), payload.len() - 8);
            }
            Transport::Icmp { kind, code } => prop_assert_eq!([kind, code], [payload[0], payload[1]]),
            Transport::Other => prop_assert!(false, "a known transport"),
        }
    }

    #[test]
    fn a_rewrite_leaves_every_checksum_right((mut bytes, to) in packet()) {
        let mut packet = Packet::parse(&bytes).expect("a packet");
        packet.rewrite(&mut bytes, to, ZeroChecksum::Keep);
        prop_assert!(checksums_hold(&bytes), "{:02x?}", bytes);
        let again = Packet::parse(&bytes).expect("a packet");
        prop_assert_eq!((again.tuple, packet.tuple), (to, to));
        prop_assert!(packet.checksum_holds(&bytes));
    }

    #[test]
    fn a_rewrite_and_its_reverse_leave_the_packet_as_it_was((bytes, to) in packet()) {
        let mut changed = bytes.clone();
        let mut packet = Packet::parse(&bytes).expect("a packet");
        let from = packet.tuple;
        packet.rewrite(&mut changed, to, ZeroChecksum::Keep);
        packet.rewrite(&mut changed, from, ZeroChecksum::Keep);
        prop_assert_eq!(changed, bytes);
    }

    #[test]
    fn a_quoted_packet_is_rewritten_as_the_packet_itself((bytes, to) in packet()) {
        let mut error = crate::common::error(to.src, to.dst, (11, 0), 0, &bytes);
        let outer = Packet::parse(&error).expect("a packet");
        let mut quoted = outer.quoted(&error).expect("a quote");
        let mut own = Packet::parse(&bytes).expect("a packet");
        prop_assert_eq!(quoted.tuple, own.tuple);
        quoted.rewrite(&mut error, to, QuotedSums::Update);
        let mut rewritten = bytes;
        own.rewrite(&mut rewritten, to, ZeroChecksum::Keep);
        prop_assert_eq!(&error[28..], &rewritten[..]);
        prop_assert!(checksums_hold(&error));
        prop_assert_eq!(outer.quoted(&error).expect("a quote").tuple, quoted.tuple);
    }

    #[test]
    fn ipvs_leaves_the_quoted_transport_sum_as_it_is((bytes, to) in packet(), cut in 28..60_usize) {
        let quote = &bytes[..cut.min(bytes.len())];
        let mut error = crate::common::error(to.src, to.dst, (11, 0), 0, quote);
        let outer = Packet::parse(&error).expect("a packet");
        let mut quoted = outer.quoted(&error).expect("a quote");
        let sum = match quoted.tuple.proto {
            Protocol::TCP => 36..38,
            Protocol::UDP => 26..28,
            _ => 22..24,
        };
        quoted.rewrite(&mut error, to, QuotedSums::HeaderOnly);
        prop_assert!(checksums_hold(&error));
        prop_assert!(crate::common::header_holds(&error[28..48]));
        prop_assert_eq!(error[28..].get(sum.clone()), quote.get(sum));
        prop_assert_eq!(outer.quoted(&error).expect("a quote").tuple, quoted.tuple);
    }

    #[test]
    fn a_wrong_checksum_stays_wrong((mut bytes, to) in packet(), bit in 0..8_u8) {
        let last = bytes.len() - 1;
        let udp_without = bytes[9] == 17 && bytes[26..28] == [0, 0];
        bytes[last] ^= 1 << bit;
        let Ok(mut packet) = Packet::parse(&bytes) else { return Ok(()) };
        prop_assume!(!udp_without && !checksums_hold(&bytes));
        prop_assert!(!packet.checksum_holds(&bytes));
        packet.rewrite(&mut bytes, to, ZeroChecksum::Compute);
        prop_assert!(!checksums_hold(&bytes));
    }

    #[test]
    fn udp_without_a_checksum_keeps_none_or_gets_a_right_one(
        from in tuple(Protocol::UDP),
        to in tuple(Protocol::UDP),
        data in vec(any::<u8>(), 0..50),
        behind in 0..5_u16,
    ) {
        prop_assume!(from != to);
        let mut bytes = udp((from.src, from.src_port), (from.dst, from.dst_port), &data);
        bytes[26..28].copy_from_slice(&[0, 0]);
        bytes.extend(vec![0xaa; usize::from(behind)]);
        let bytes = with_ip(bytes, |ip| ip.total_len += behind);
        let packet = Packet::parse(&bytes).expect("a packet");
        let (mut kept, mut computed) = (bytes.clone(), bytes);
        { packet }.rewrite(&mut kept, to, ZeroChecksum::Keep);
        { packet }.rewrite(&mut computed, to, ZeroChecksum::Compute);
        prop_assert_eq!(&kept[26..28], &[0, 0]);
        prop_assert_ne!(&computed[26..28], &[0, 0]);
        prop_assert!(checksums_hold(&computed) && checksums_hold(&kept));
    }

    /// Data whose checksum behind the rewrite is zero, which UDP writes as all ones.
    #[test]
    fn a_udp_checksum_of_zero_is_written_as_ones(
        from in tuple(Protocol::UDP),
        to in tuple(Protocol::UDP),
        zero in any::<bool>(),
    ) {
        prop_assume!(from != to);
        let ends = |t: &Tuple<Ipv4Addr>| ((t.src, t.src_port), (t.dst, t.dst_port));
        let probe = udp(ends(&to).0, ends(&to).1, &[0, 0]);
        let word = [probe[26], probe[27]];
        let mut bytes = udp(ends(&from).0, ends(&from).1, &word);
        if zero {
            bytes[26..28].copy_from_slice(&[0, 0]);
        }
        let mut packet = Packet::parse(&bytes).expect("a packet");
        packet.rewrite(&mut bytes, to, ZeroChecksum::Compute);
        prop_assert_eq!(&bytes[26..28], &[0xff, 0xff]);
        prop_assert!(checksums_hold(&bytes));
    }

    #[test]
    fn sums_are_those_of_plain_words(bytes in vec(any::<u8>(), 0..200), onto in any::<u32>()) {
        let sum = checksum::fold(checksum::sum(&bytes, 0));
        // Zero has two forms.
        prop_assert!(sum == plain_sum(&bytes) || sum % 0xffff == plain_sum(&bytes) % 0xffff);
        let both = u64::from(checksum::sum(&bytes, onto));
        prop_assert!(both < 1 << 18);
        let expected = u64::from(plain_sum(&bytes)) + u64::from(onto);
        prop_assert_eq!(both % 0xffff, expected % 0xffff);
    }

    #[test]
    fn a_delta_is_a_new_sum(
        mut bytes in vec(any::<u8>(), 4..80),
        new in vec(any::<u8>(), 4..40),
        at in any::<usize>(),
    ) {
        let words = new.len().min(bytes.len()) / 2;
        let at = (at % (bytes.len() / 2 - words + 1)) * 2;
        let field = checksum::of(&bytes);
        let old: Vec<u8> = bytes[at..at + words * 2].to_vec();
        let new = &new[..words * 2];
        bytes[at..at + words * 2].copy_from_slice(new);
        let delta = Delta::default().bytes(&old, new).apply(field);
        let expected = checksum::of(&bytes);
        prop_assert!(delta == expected || [delta, expected] == [0, 0xffff] || [delta, expected] == [0xffff, 0]);
    }

    #[test]
    fn ttl_goes_down_with_its_checksum((mut bytes, _) in packet(), ttl in 2..=255_u8) {
        bytes = with_ip(bytes, |ip| ip.time_to_live = ttl);
        ipv4::decrement_ttl(&mut bytes);
        prop_assert_eq!(bytes[8], ttl - 1);
        prop_assert!(checksums_hold(&bytes));
    }

    #[test]
    fn arp_comes_back_as_it_went(
        request in any::<bool>(),
        macs in any::<[[u8; 6]; 4]>(),
        ips in any::<[u32; 2]>(),
    ) {
        let arp = Arp {
            operation: if request { Operation::Request } else { Operation::Reply },
            sender_mac: Mac(macs[0]),
            sender_ip: ips[0].into(),
            target_mac: Mac(macs[1]),
            target_ip: ips[1].into(),
        };
        let frame = arp.frame(Mac(macs[2]), Mac(macs[3]));
        prop_assert_eq!(Arp::parse(&frame[14..]), Some(arp));
        let header = ethernet::Header::parse(&frame).expect("a header");
        prop_assert_eq!((header.dst, header.src), (Mac(macs[2]), Mac(macs[3])));
        let sliced = etherparse::SlicedPacket::from_ethernet(&frame).expect("a packet");
        let Some(etherparse::NetSlice::Arp(read)) = sliced.net else { panic!("not ARP") };
        prop_assert_eq!(read.sender_protocol_addr(), arp.sender_ip.octets());
        prop_assert_eq!(read.target_hw_addr(), macs[1]);
        prop_assert_eq!(read.operation().0, if request { 1 } else { 2 });
    }

    #[test]
    fn a_tag_pushed_and_popped_leaves_the_frame_as_it_was(
        bytes in vec(any::<u8>(), 14..100),
        id in 1..=4094_u16,
    ) {
        let vid = Vid::new(id).expect("a VID");
        let mut frame = Heap::new(&bytes);
        prop_assert!(ethernet::push(&mut frame, vid));
        prop_assert_eq!(frame.bytes().len(), bytes.len() + 4);
        prop_assert_eq!(ethernet::tag(frame.bytes()).and_then(ethernet::Tag::vid), Some(vid));
        let sliced = etherparse::SingleVlanHeader::from_slice(&frame.bytes()[14..]);
        let (tag, rest) = sliced.expect("a tag");
        prop_assert_eq!((tag.vlan_id.value(), tag.pcp.value()), (id, 0));
        prop_assert_eq!(tag.ether_type.0.to_be_bytes(), [bytes[12], bytes[13]]);
        prop_assert_eq!(rest, &bytes[14..]);
        ethernet::pop(&mut frame);
        prop_assert_eq!(frame.bytes(), &bytes[..]);
    }

    #[test]
    fn no_bytes_make_a_parser_panic(
        bytes in vec(any::<u8>(), 0..120),
        to in tuple(Protocol::TCP),
        other in vec(any::<u8>(), 0..60),
    ) {
        let _ = (ethernet::Header::parse(&bytes), ethernet::tag(&bytes), Arp::parse(&bytes));
        let _ = (ipv4::Header::parse(&bytes), tcp::Header::parse(&bytes));
        let _ = (icmpv4::Header::parse(&bytes), datapath::wire::udp::Header::parse(&bytes));
        let _ = checksum::of(&bytes);
        let mut frame = Heap::new(&bytes);
        ethernet::pop(&mut frame);
        let _ = ethernet::push(&mut frame, Vid::new(1).expect("a VID"));
        // A sound header in front gets past the checksum.
        let mut packet = bytes;
        if packet.len() >= 20 {
            packet[0] = 0x45;
            packet[6..8].copy_from_slice(&[0, 0]);
            let len = u16::try_from(packet.len()).expect("a length");
            packet[2..4].copy_from_slice(&len.to_be_bytes());
            packet[10..12].copy_from_slice(&[0, 0]);
            let sum = checksum::of(&packet[..20]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        if let Ok(parsed) = Packet::parse(&packet) {
            // Also on bytes that are not the packet's.
            for mut bytes in [packet, other] {
                for zero in [ZeroChecksum::Keep, ZeroChecksum::Compute] {
                    let _ = parsed.checksum_holds(&bytes);
                    let proto = parsed.tuple.proto;
                    { parsed }.rewrite(&mut bytes, Tuple { proto, ..to }, zero);
                    ipv4::decrement_ttl(&mut bytes);
                }
            }
        }
    }

    #[test]
    fn headers_are_written_as_etherparse_reads_them(
        t in tuple(Protocol::TCP),
        fields in any::<(u8, u8, u16, bool, u32, u32, u8, u16)>(),
    ) {
        let (ttl, tos, id, dont_fragment, seq, ack, flags, window) = fields;
        let header = ipv4::Header {
            src: t.src,
            dst: t.dst,
            protocol: t.proto,
            ttl,
            tos,
            id,
            total_len: 40,
            header_len: 20,
            dont_fragment,
            fragment: false,
        };
        let flags = Flags::from_bits_truncate(flags);
        let segment = tcp::Header {
            src_port: t.src_port,
            dst_port: t.dst_port,
            seq,
            ack,
            header_len: 20,
            flags,
            window,
        };
        let mut bytes = [0; 40];
        header.emit(&mut bytes);
        segment.emit(&mut bytes[20..]);
        prop_assert_eq!(ipv4::Header::parse(&bytes), Ok(header));
        prop_assert_eq!(tcp::Header::parse(&bytes[20..]), Some(segment));
        let (read, rest) = Ipv4Header::from_slice(&bytes).expect("a header");
        prop_assert_eq!(read.header_checksum, read.calc_header_checksum());
        prop_assert_eq!((read.time_to_live, read.identification), (ttl, id));
        prop_assert_eq!(read.dscp.value() << 2 | read.ecn.value(), tos);
        let (read, _) = TcpHeader::from_slice(rest).expect("a header");
        prop_assert_eq!((read.sequence_number, read.acknowledgment_number), (seq, ack));
        prop_assert_eq!((read.window_size, read.urg), (window, flags.contains(Flags::URG)));
    }
}

#[test]
fn too_short_buffers_are_left_alone() {
    for len in 0..20 {
        let mut bytes = vec![7; len];
        ipv4::decrement_ttl(&mut bytes);
        ethernet::set_macs(&mut bytes[..len.min(11)], Mac::BROADCAST, Mac::BROADCAST);
        assert_eq!(bytes, vec![7; len]);
        assert_eq!(Packet::parse(&bytes).err(), Some(Unparsed::Header));
    }
    let mut runt = Heap::new(&[7; 13]);
    assert!(!ethernet::push(&mut runt, Vid::new(1).expect("a VID")));
    ethernet::pop(&mut runt);
    assert_eq!(runt.bytes(), [7; 13]);
}

#[test]
fn a_buffer_without_headroom_takes_no_tag() {
    let vid = Vid::new(1).expect("a VID");
    let mut frame = Heap::new(&[7; 60]);
    while ethernet::push(&mut frame, vid) {}
    let before = frame.clone();
    assert!(!ethernet::push(&mut frame, vid));
    assert!(frame == before);
}

#[test]
fn addresses_are_read_as_they_are_written() {
    let mac: Mac = "02:ca:00:00:00:0a".parse().expect("a MAC");
    assert_eq!((mac, mac.to_string().as_str()), (Mac([2, 0xca, 0, 0, 0, 10]), "02:ca:00:00:00:0a"));
    for wrong in [
        "",
        "02",
        "02:ca:00:00:00",
        "02:ca:00:00:00:0a:0b",
        "2:ca:00:00:00:0a",
        "g2:ca:00:00:00:0a",
    ] {
        assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
    }
    let vids: Vec<_> = [0, 1, 4094, 4095].map(|id| Vid::new(id).is_some()).to_vec();
    assert_eq!(vids, [false, true, true, false]);
}
