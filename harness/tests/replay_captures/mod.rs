//! Capture files made byte by byte, so that reading is tested against the formats and not against
//! our own writer.
#![allow(dead_code, reason = "each test file uses a part of it")]

/// A pcapng file in the making.
#[derive(Clone, Debug)]
pub(crate) struct Ng {
    big_endian: bool,
    pub(crate) bytes: Vec<u8>,
}

impl Ng {
    pub(crate) fn new(big_endian: bool) -> Self {
        Self { big_endian, bytes: Vec::new() }.section(big_endian)
    }

    fn u16(&self, n: u16) -> [u8; 2] {
        if self.big_endian { n.to_be_bytes() } else { n.to_le_bytes() }
    }

    fn u32(&self, n: u32) -> [u8; 4] {
        if self.big_endian { n.to_be_bytes() } else { n.to_le_bytes() }
    }

    pub(crate) fn block(mut self, kind: u32, body: &[u8]) -> Self {
        let padding = body.len().next_multiple_of(4) - body.len();
        let len = u32::try_from(12 + body.len() + padding).expect("a short block");
        let (kind, len) = (self.u32(kind), self.u32(len));
        self.bytes.extend([&kind[..], &len[..], body, &[0; 3][..padding], &len[..]].concat());
        self
    }

    pub(crate) fn section(mut self, big_endian: bool) -> Self {
        self.big_endian = big_endian;
        let body =
            [&self.u32(0x1a2b_3c4d)[..], &self.u16(1), &self.u16(0), &[0xff; 8][..]].concat();
        self.block(0x0a0d_0d0a, &body)
    }

    /// An option with its padding.
    pub(crate) fn option(&self, code: u16, value: &[u8]) -> Vec<u8> {
        let len = u16::try_from(value.len()).expect("a short option");
        let padding = value.len().next_multiple_of(4) - value.len();
        [&self.u16(code)[..], &self.u16(len), value, &[0; 3][..padding]].concat()
    }

    /// An interface with these options and no end mark behind them.
    pub(crate) fn interface_with(self, link_type: u16, snap_len: u32, options: &[u8]) -> Self {
        let body = [&self.u16(link_type)[..], &[0, 0], &self.u32(snap_len), options].concat();
        self.block(1, &body)
    }

    /// An Ethernet interface counting nanoseconds.
    pub(crate) fn interface(self, name: &str) -> Self {
        let options =
            [self.option(2, name.as_bytes()), self.option(9, &[9]), self.option(0, &[])].concat();
        self.interface_with(1, 0, &options)
    }

    pub(crate) fn packet_with(
        self,
        interface: u32,
        ticks: u64,
        len: u32,
        data: &[u8],
        options: &[u8],
    ) -> Self {
        let captured = u32::try_from(data.len()).expect("a short packet");
        let words = [interface, (ticks >> 32) as u32, ticks as u32, captured, len];
        let mut body: Vec<u8> = words.iter().flat_map(|word| self.u32(*word)).collect();
        body.extend(data);
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(options);
        self.block(6, &body)
    }

    /// A whole packet with direction bits (0 for none).
    pub(crate) fn packet(self, interface: u32, ticks: u64, data: &[u8], direction: u32) -> Self {
        let flags = self.option(2, &self.u32(direction));
        let options = if direction == 0 { Vec::new() } else { [flags, vec![0; 4]].concat() };
        let len = u32::try_from(data.len()).expect("a short packet");
        self.packet_with(interface, ticks, len, data, &options)
    }
}

/// A pcap file with one packet of 60 bytes for each time (seconds and fraction).
pub(crate) fn pcap(magic: u32, big_endian: bool, times: &[(u32, u32)]) -> Vec<u8> {
    let word = |n: u32| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
    let version = if big_endian { [0, 2, 0, 4] } else { [2, 0, 4, 0] };
    let mut bytes = [&word(magic)[..], &version, &[0; 8], &word(262_144), &word(1)].concat();
    for (number, (secs, fraction)) in (1..).zip(times) {
        for n in [*secs, *fraction, 60, 60] {
            bytes.extend(word(n));
        }
        bytes.extend([number; 60]);
    }
    bytes
}

/// A UDP datagram with four bytes in an untagged frame: MACs and addresses with ports, each from
/// source to destination.
pub(crate) fn udp(macs: [[u8; 6]; 2], from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Vec<u8> {
    let mut ip = [&[0x45, 0, 0, 32, 0, 7, 0, 0, 64, 17, 0, 0][..], &from.0, &to.0].concat();
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let ports = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    // Without a checksum, which UDP over IPv4 allows.
    [&macs[1][..], &macs[0], &[8, 0], &ip, &ports, &[0, 12, 0, 0], b"ping"].concat()
}
