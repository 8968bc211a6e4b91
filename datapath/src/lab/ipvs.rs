//! How a node's ipvs is set: the kernel's `net.ipv4.vs.*` and `ipvsadm --set`.

/// Settings of ipvs (spec IPVS-35).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpvsSwitches {
    /// How long a connection lives without a packet.
    pub timeouts: IpvsTimeouts,
    /// conn_reuse_mode: 0 keeps the destination of a closed connection whose client opens it
    /// again; any other value schedules it anew.
    pub conn_reuse_mode: u8,
    /// expire_nodest_conn: connections end with the destination that they go to.
    pub expire_nodest_conn: bool,
    /// expire_quiescent_template: a client's affinity ends once its destination has weight 0.
    pub expire_quiescent_template: bool,
    /// sloppy_tcp: any segment but a reset begins a connection.
    pub sloppy_tcp: bool,
    /// drop_entry: with 3 a part of the table is looked at every second, and connections are dropped
    /// that have done little. 1 and 2 would do that while memory is short, which here it never is.
    pub drop_entry: u8,
    /// nat_icmp_send: a destination that answers nobody's request is told so.
    pub nat_icmp_send: bool,
    /// Whether kube-proxy lets a removed TCP destination end its connections before it goes.
    pub graceful_termination: bool,
}

/// Timeouts of connections, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpvsTimeouts {
    /// In ESTABLISHED; the first number of `ipvsadm --set`.
    pub tcp: u32,
    /// In FIN_WAIT; the second.
    pub tcp_fin: u32,
    /// UDP; the third.
    pub udp: u32,
    /// In SYN_SENT.
    pub syn_sent: u32,
    /// In SYN_RECV.
    pub syn_recv: u32,
    /// In CLOSE_WAIT.
    pub close_wait: u32,
    /// In TIME_WAIT.
    pub time_wait: u32,
    /// In CLOSE.
    pub close: u32,
}

impl Default for IpvsSwitches {
    /// The kernel's defaults where kube-proxy does not set another value.
    fn default() -> Self {
        Self {
            timeouts: IpvsTimeouts::default(),
            conn_reuse_mode: 1,
            expire_nodest_conn: true,
            expire_quiescent_template: true,
            sloppy_tcp: false,
            drop_entry: 0,
            nat_icmp_send: false,
            graceful_termination: true,
        }
    }
}

impl IpvsSwitches {
    /// Whether drop_entry is at work now.
    #[must_use]
    pub const fn drops_always(&self) -> bool {
        self.drop_entry == 3
    }
}

impl Default for IpvsTimeouts {
    fn default() -> Self {
        Self {
            tcp: 900,
            tcp_fin: 120,
            udp: 300,
            syn_sent: 120,
            syn_recv: 60,
            close_wait: 60,
            time_wait: 120,
            close: 10,
        }
    }
}
