//! What became of a frame, and why not.

use serde::{Deserialize, Serialize};

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a frame went no further. Closed: whoever loses a frame names one of these, and an
        /// element counts it (spec LAW-3).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant,)+
        }

        impl DropReason {
            /// Every reason, in the order of the way of a packet.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The reason's name in reports and captures.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence that says what it means.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

drop_reasons! {
    /// The frame is shorter than an Ethernet header.
    Runt = "runt",
    /// The frame's destination MAC is another interface's.
    OtherHost = "other-host",
    /// The frame is for a multicast group.
    Multicast = "multicast",
    /// The frame carries a VLAN tag where no device takes one off, or a second tag.
    UnexpectedTag = "unexpected-tag",
    /// The member ENI's queue is full: its frames come faster than they are served.
    MemberQueueFull = "member-queue-full",
    /// IPv6 is not handled yet.
    Ipv6 = "ipv6",
    /// The EtherType is neither IPv4 nor ARP.
    UnknownEtherType = "unknown-ethertype",
    /// The ARP message is cut short or not for IPv4 over Ethernet.
    BadArp = "bad-arp",
    /// The IP header is cut short or contradicts itself.
    BadHeader = "bad-header",
    /// The IP header's checksum is wrong, or that of a message for a virtual address itself.
    BadChecksum = "bad-checksum",
    /// IP options are not handled yet.
    IpOptions = "ip-options",
    /// The fragment has come before.
    FragmentDuplicate = "fragment-duplicate",
    /// Two fragments of the packet overlap.
    FragmentOverlap = "fragment-overlap",
    /// The fragments contradict each other, or are too large together.
    FragmentInvalid = "fragment-invalid",
    /// As many fragments as may wait do so already.
    FragmentTableFull = "fragment-table-full",
    /// The rest of the packet's fragments did not come in time.
    FragmentTimeout = "fragment-timeout",
    /// The transport header is cut short.
    BadTransport = "bad-transport",
    /// Every flow record is in use.
    FlowTableFull = "flow-table-full",
    /// Another flow already has both tuples.
    FlowClash = "flow-clash",
    /// The source address cannot be a sender here: zero, loopback, a group or our own.
    MartianSource = "martian-source",
    /// The destination address cannot be reached from outside: zero, loopback or a group.
    MartianDestination = "martian-destination",
    /// The reverse path does not lead to the interface the packet came in by.
    ReversePath = "reverse-path",
    /// No rule and no table has a route.
    NoRoute = "no-route",
    /// The load balancer's address is not for this source (loadBalancerSourceRanges).
    SourceRange = "source-range",
    /// The service has no destination with a weight above zero.
    NoDestination = "no-destination",
    /// The destination of the packet's connection has been removed.
    DestinationGone = "destination-gone",
    /// The packet ends its connection to begin another, which the flow it belongs to rules out.
    ConnectionReused = "connection-reused",
    /// Every connection of ipvs is in use.
    ConnectionTableFull = "connection-table-full",
    /// No service listens on this port of the virtual address.
    NoService = "no-service",
    /// Not a first segment, and no connection that it belongs to.
    NoConnection = "no-connection",
    /// The echo request to a virtual address is rejected by kube-proxy's filter.
    VipPingRejected = "vip-ping-rejected",
    /// No local address of the service has a free port towards the destination.
    LocalPortsExhausted = "local-ports-exhausted",
    /// The ICMP error is about a translated flow, but a redirect, or its checksum is wrong.
    UntranslatableError = "untranslatable-error",
    /// No source port is free for the masqueraded flow.
    NoFreePort = "no-free-port",
    /// The TTL ran out.
    TtlExceeded = "ttl-exceeded",
    /// The packet is larger than the MTU of the interface it should leave by.
    MtuExceeded = "mtu-exceeded",
    /// Nobody answered the ARP requests for the next hop.
    NeighbourFailed = "neighbour-failed",
    /// Too many frames wait for the same next hop.
    NeighbourQueueFull = "neighbour-queue-full",
    /// Every neighbour entry is in use.
    NeighbourTableFull = "neighbour-table-full",
    /// The buffer has no room for a tag.
    NoHeadroom = "no-headroom",
    /// No buffer was free for a frame of our own.
    NoBuffer = "no-buffer",
    /// No member ENI is bound to the frame's VID.
    UnknownVid = "unknown-vid",
    /// A tagged frame's source address is not its member ENI's.
    ForeignSource = "foreign-source",
    /// Source/destination check: the sender's source address is not its own.
    SourceCheck = "source-check",
    /// Source/destination check: the destination is not the receiver's own address.
    DestinationCheck = "destination-check",
    /// The sending ENI's security groups forbid it.
    SecurityGroupOut = "security-group-out",
    /// The receiving ENI's security groups forbid it.
    SecurityGroupIn = "security-group-in",
    /// Nothing in the VPC or outside has the destination address.
    NoSuchAddress = "no-such-address",
    /// Every session record of the VPC is in use.
    SessionTableFull = "session-table-full",
    /// The load balancer has no such listener.
    NoListener = "no-listener",
    /// The listener has no backend.
    NoBackend = "no-backend",
}
