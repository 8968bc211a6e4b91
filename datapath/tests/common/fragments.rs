//! Fragments, cut and put together the obvious way.

use etherparse::{IpFragOffset, Ipv4Header};

use super::with_ip;

/// The packet without the don't-fragment flag.
pub(crate) fn loose(packet: Vec<u8>) -> Vec<u8> {
    with_ip(packet, |ip| ip.dont_fragment = false)
}

/// The packet in fragments with so many bytes of payload each; the last takes the rest.
pub(crate) fn fragments_of(packet: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
    let (header, payload) = packet.split_at(20);
    let mut fragments = Vec::new();
    let mut start = 0;
    for size in sizes.iter().copied().chain([usize::MAX]) {
        let end = start + size.min(payload.len() - start);
        if start < end {
            let bytes = [header, &payload[start..end]].concat();
            fragments.push(with_ip(bytes, |ip| {
                let unit = u16::try_from(start / 8).expect("an offset");
                ip.fragment_offset = IpFragOffset::try_new(unit).expect("an offset");
                ip.more_fragments = end < payload.len();
                ip.total_len = u16::try_from(20 + end - start).expect("a length");
            }));
        }
        start = end;
    }
    fragments
}

/// The packet in fragments of `size` bytes of payload.
pub(crate) fn cut(packet: &[u8], size: usize) -> Vec<Vec<u8>> {
    fragments_of(packet, &vec![size; packet.len() / size])
}

/// The IP packet in a frame.
pub(crate) fn packet_of(frame: &[u8]) -> &[u8] {
    let tagged = frame[12..14] == [0x81, 0x00];
    &frame[if tagged { 18 } else { 14 }..]
}

/// The packet that fragments make, which must lie one behind the other, alike but for their
/// place and length.
pub(crate) fn joined<'a>(fragments: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut first: Option<Ipv4Header> = None;
    let mut payload = Vec::new();
    let mut more = true;
    for fragment in fragments {
        assert!(more, "a fragment behind the last");
        let (header, rest) = Ipv4Header::from_slice(fragment).expect("a header");
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert_eq!(usize::from(header.total_len), fragment.len());
        assert_eq!(usize::from(header.fragment_offset.value()) * 8, payload.len());
        more = header.more_fragments;
        payload.extend_from_slice(rest);
        let alike = Ipv4Header {
            total_len: 0,
            fragment_offset: IpFragOffset::ZERO,
            more_fragments: false,
            header_checksum: 0,
            ..header
        };
        assert_eq!(*first.get_or_insert_with(|| alike.clone()), alike);
    }
    assert!(!more, "the last fragment is missing");
    let mut header = first.expect("a fragment");
    header.total_len = u16::try_from(20 + payload.len()).expect("a length");
    header.header_checksum = header.calc_header_checksum();
    [&header.to_bytes()[..], &payload].concat()
}
