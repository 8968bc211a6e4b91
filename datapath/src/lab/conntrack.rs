//! How a node's connection tracking is set: the kernel's `net.netfilter.nf_conntrack_*`.

/// Settings of connection tracking (spec CT-28); timeouts in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConntrackSwitches {
    /// Timeouts of TCP.
    pub tcp: TcpTimeouts,
    /// UDP, until both sides have spoken for more than two seconds.
    pub udp: u32,
    /// UDP, once they have.
    pub udp_stream: u32,
    /// ICMP queries.
    pub icmp: u32,
    /// Every other protocol.
    pub generic: u32,
    /// tcp_be_liberal: a segment outside the window is part of its flow all the same.
    pub be_liberal: bool,
    /// tcp_loose: an ACK opens a flow whose beginning was not seen.
    pub loose: bool,
    /// tcp_max_retrans: how many retransmissions in a row bring the timeout `max_retrans`.
    pub max_retrans: u8,
    /// tcp_ignore_invalid_rst: a reset before the window is judged like any other segment.
    pub ignore_invalid_rst: bool,
}

/// How long a TCP flow lives without a segment, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpTimeouts {
    /// In SYN_SENT.
    pub syn_sent: u32,
    /// In SYN_RECV.
    pub syn_recv: u32,
    /// In ESTABLISHED.
    pub established: u32,
    /// In FIN_WAIT.
    pub fin_wait: u32,
    /// In CLOSE_WAIT.
    pub close_wait: u32,
    /// In LAST_ACK.
    pub last_ack: u32,
    /// In TIME_WAIT.
    pub time_wait: u32,
    /// In CLOSE, and after any reset.
    pub close: u32,
    /// At most this after `max_retrans` retransmissions, or while a window is closed.
    pub max_retrans: u32,
    /// At most this while data is unacknowledged.
    pub unacknowledged: u32,
}

impl Default for ConntrackSwitches {
    fn default() -> Self {
        Self {
            tcp: TcpTimeouts::default(),
            udp: 30,
            udp_stream: 120,
            icmp: 30,
            generic: 600,
            be_liberal: false,
            loose: true,
            max_retrans: 3,
            ignore_invalid_rst: false,
        }
    }
}

impl Default for TcpTimeouts {
    fn default() -> Self {
        Self {
            syn_sent: 120,
            syn_recv: 60,
            established: 432_000,
            fin_wait: 120,
            close_wait: 60,
            last_ack: 30,
            time_wait: 120,
            close: 10,
            max_retrans: 300,
            unacknowledged: 300,
        }
    }
}
