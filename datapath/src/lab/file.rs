//! The lab file as written: its keys, and nothing resolved yet. The doc comments here are the
//! descriptions in the JSON Schema.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::Deserialize;

use super::model::{
    GroupKind, KubeProxyVersion, Links, LocalNoEndpoint, Profile, RpFilter, Scheduler, VipPing,
};
use super::scalar::{
    Accept, Affinity, Int, Local, NodePort, PeerText, Port, PortProto, Ports, RuleProto,
    SchedulerFlag, ServiceMode, ServiceType, Text,
};
use super::written::{Keyed, List, OneOrMany, Written};
use crate::wire::Mac;

/// An MTU, up to that of jumbo frames on ECS.
pub type Mtu = Int<576, 8500>;

/// A Trunkline lab: a VPC, its nodes and pods, services and load balancers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(title = "Trunkline lab")]
pub struct File {
    /// Which generation of Terway programs the nodes; default terway-1.4.0.
    pub profile: Option<Written<Profile>>,
    /// The fabric.
    pub vpc: Vpc,
    /// The ECS instances; at least one.
    #[serde(default)]
    pub nodes: List<Node>,
    /// The pods.
    #[serde(default)]
    pub pods: List<Pod>,
    /// The Kubernetes services.
    #[serde(default)]
    pub services: List<Service>,
    /// The load balancers of the cloud.
    #[serde(default)]
    pub slbs: List<Slb>,
    /// Hosts outside the VPC.
    #[serde(default)]
    pub outside: List<Outside>,
    /// Behaviours that differ between versions and configurations; defaults by profile.
    pub switches: Option<Switches>,
    /// Sizes of the bounded tables.
    pub limits: Option<Limits>,
    /// Seed of everything that is random in the lab; default 1.
    pub seed: Option<Written<Int<0, { u64::MAX }>>>,
    /// How eth0 and eth1 of the nodes are joined to the VPC in namespaces. wired (default): by
    /// veths, so that tagged frames really cross the trunk. fused: in memory, so that a packet
    /// between nodes costs one receive and one send; the same journeys and counts, no devices.
    pub links: Option<Written<Links>>,
}

/// The fabric: vSwitches, routes, security groups.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Vpc {
    /// Address range of the VPC; every vSwitch lies in it.
    pub cidr: Written<Ipv4Net>,
    /// MAC with which the VPC answers every ARP request; default ee:ff:ff:ff:ff:ff.
    pub gateway_mac: Option<Written<Mac>>,
    /// Whether the fabric takes one from the TTL; default false.
    pub decrement_ttl: Option<Written<bool>>,
    /// vSwitches by ID; at least one.
    #[serde(default)]
    pub v_switches: Keyed<VSwitch>,
    /// Custom routes beside the system routes of the vSwitches.
    #[serde(default)]
    pub routes: List<Route>,
    /// Security groups by ID. Without any, everything passes everywhere.
    #[serde(default)]
    pub security_groups: Keyed<SecurityGroup>,
}

/// A vSwitch.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct VSwitch {
    /// Its range, at most a /29. The first and the last three addresses are reserved; the third
    /// from the end is the gateway.
    pub cidr: Written<Ipv4Net>,
    /// Its zone, for the reader.
    pub zone: Option<Written<Text>>,
}

/// A custom route.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Route {
    /// Destination range.
    pub dst: Written<Ipv4Net>,
    /// The ENI that gets the packets, by ID; NS/NAME of a pod stands for its member ENI.
    pub next_hop: Written<Text>,
}

/// A security group.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SecurityGroup {
    /// basic: inbound closed but within the group, outbound open. advanced: closed both ways.
    /// Default basic.
    #[serde(rename = "type")]
    pub kind: Option<Written<GroupKind>>,
    /// Basic only: whether members reach each other whatever the rules say; default accept.
    pub inner: Option<Written<Accept>>,
    /// Rules for traffic to the group's ENIs.
    #[serde(default)]
    pub ingress: List<Rule>,
    /// Rules for traffic from the group's ENIs.
    #[serde(default)]
    pub egress: List<Rule>,
}

/// A rule of a security group.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rule {
    /// accept (default) or drop.
    pub policy: Option<Written<Accept>>,
    /// tcp, udp, icmp or all (default).
    pub proto: Option<Written<RuleProto>>,
    /// Destination ports with tcp and udp: 80, "80-90" or all (default).
    pub ports: Option<Written<Ports>>,
    /// The other side: a range, an address, or the ID of a security group (basic groups only).
    pub peer: Written<PeerText>,
    /// 1 (first, default) to 100; at the same priority drop wins.
    pub priority: Option<Written<Int<1, 100>>>,
}

/// An ECS instance.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Node {
    /// Its name.
    pub name: Written<Text>,
    /// Its primary ENI; its address is the node's.
    pub eth0: Interface,
    /// Its trunk ENI; what is left out of vSwitch and securityGroups is as in eth0.
    pub trunk: Option<Interface>,
    /// Secondary private addresses of eth0, one or a list, that services in mode fnat send from.
    #[serde(default)]
    pub local_addresses: OneOrMany<Ipv4Addr>,
    /// Ports that services in mode fnat send from, as "1025-65535", the default.
    pub local_ports: Option<Written<Ports>>,
}

/// A primary or a trunk ENI. Every address left out is derived.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Interface {
    /// Its private address.
    pub ip: Option<Written<Ipv4Addr>>,
    /// Its MAC.
    pub mac: Option<Written<Mac>>,
    /// Its MTU; default 1500.
    pub mtu: Option<Written<Mtu>>,
    /// Its ID.
    pub eni: Option<Written<Text>>,
    /// Its vSwitch, by ID; found by the address, or the only one there is.
    pub v_switch: Option<Written<Text>>,
    /// Its security groups, one ID or a list, all of one type. Required for eth0 where the VPC has
    /// any.
    pub security_groups: Option<OneOrMany<Text>>,
    /// Source/destination check; default false.
    pub src_dst_check: Option<Written<bool>>,
}

/// A pod.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Pod {
    /// Namespace and name, as NS/NAME.
    pub name: Written<Text>,
    /// Its node, by name.
    pub node: Written<Text>,
    /// Its address, which is its member ENI's.
    pub ip: Option<Written<Ipv4Addr>>,
    /// MAC of its eth0.
    pub mac: Option<Written<Mac>>,
    /// Name of its host-side veth; default by Terway's algorithm.
    pub cali: Option<Written<Text>>,
    /// MAC of its host-side veth.
    pub cali_mac: Option<Written<Mac>>,
    /// MTU of both ends; default 1500.
    pub mtu: Option<Written<Mtu>>,
    /// Its member ENI.
    pub member: Option<Member>,
}

/// A pod's own ENI, bound to a VID of its node's trunk.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Member {
    /// Its ID.
    pub eni: Option<Written<Text>>,
    /// Its VID; default the lowest unused on its trunk from 101.
    pub vid: Option<Written<Int<1, 4094>>>,
    /// Its vSwitch, by ID; found by the pod's address, else its node's eth0's.
    pub v_switch: Option<Written<Text>>,
    /// Its security groups, one ID or a list, all of one type; default its node's eth0's.
    pub security_groups: Option<OneOrMany<Text>>,
}

/// A Kubernetes service.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Service {
    /// Namespace and name, as NS/NAME.
    pub name: Written<Text>,
    /// ClusterIP, NodePort or LoadBalancer; default LoadBalancer where there is a loadBalancer
    /// address, else ClusterIP.
    #[serde(rename = "type")]
    pub kind: Option<Written<ServiceType>>,
    /// Its ClusterIP.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<Written<Ipv4Addr>>,
    /// spec.externalIPs, one or a list.
    #[serde(default, rename = "externalIPs")]
    pub external_ips: OneOrMany<Ipv4Addr>,
    /// status.loadBalancer.ingress addresses, one or a list.
    #[serde(default)]
    pub load_balancer: OneOrMany<Ipv4Addr>,
    /// Sources that may use the loadBalancer addresses, one range or a list; default all.
    #[serde(default)]
    pub load_balancer_source_ranges: OneOrMany<Ipv4Net>,
    /// Cluster (default) or Local; for a service that can be reached from outside.
    pub external_traffic_policy: Option<Written<Local>>,
    /// Cluster (default) or Local.
    pub internal_traffic_policy: Option<Written<Local>>,
    /// None (default) or ClientIP: a client keeps the endpoint it once got.
    pub session_affinity: Option<Written<Affinity>>,
    /// Settings of the session affinity.
    pub session_affinity_config: Option<SessionAffinityConfig>,
    /// The ipvs scheduler, default rr.
    pub scheduler: Option<Written<Scheduler>>,
    /// Flags of the scheduler, one or a list: sh-port and sh-fallback, mh-port and mh-fallback.
    #[serde(default)]
    pub scheduler_flags: OneOrMany<SchedulerFlag>,
    /// nat (default): kube-proxy's DNAT with masquerade. fnat: ipvs exchanges both addresses, as
    /// DPVS does.
    pub mode: Option<Written<ServiceMode>>,
    /// With fnat: which of the nodes' localAddresses, one or a list; default all.
    #[serde(default)]
    pub local_addresses: OneOrMany<Ipv4Addr>,
    /// With fnat: TCP requests carry the client's address and port in option 254; default false.
    pub toa: Option<Written<bool>>,
    /// One-packet scheduling: ipvs schedules every datagram by itself; default false. kube-proxy
    /// has no such setting.
    pub one_packet: Option<Written<bool>>,
    /// Its ports; at least one.
    #[serde(default)]
    pub ports: List<ServicePort>,
    /// Its endpoints, in order of addition.
    #[serde(default)]
    pub endpoints: List<Endpoint>,
}

/// A port of a service.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ServicePort {
    /// The port of the VIP.
    pub port: Written<Port>,
    /// The port of the endpoints; default the same.
    pub target_port: Option<Written<Port>>,
    /// tcp (default) or udp.
    pub proto: Option<Written<PortProto>>,
    /// The port of every node's address; for the types NodePort, which needs it, and LoadBalancer.
    pub node_port: Option<Written<NodePort>>,
}

/// Settings of a session affinity.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SessionAffinityConfig {
    /// Of the affinity ClientIP.
    #[serde(default, rename = "clientIP")]
    pub client_ip: ClientIpConfig,
}

/// Settings of the session affinity ClientIP.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClientIpConfig {
    /// How long a client keeps its endpoint after its last connection, in seconds; default 10800.
    pub timeout_seconds: Option<Written<Int<1, 86_400>>>,
}

/// An endpoint of a service.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Endpoint {
    /// The pod, as NS/NAME.
    pub pod: Written<Text>,
    /// ipvs weight, default 1; 0 takes no new connections.
    pub weight: Option<Written<Int<0, 65_535>>>,
    /// Connections at which it takes no more; default 0, no limit.
    pub upper: Option<Written<Int<0, 4_294_967_295>>>,
    /// Connections below which it takes new ones again; default 0, three quarters of `upper`.
    pub lower: Option<Written<Int<0, 4_294_967_295>>>,
    /// Condition of its EndpointSlice; default true where it is serving and not terminating.
    pub ready: Option<Written<bool>>,
    /// Condition of its EndpointSlice; default what ready says, or true.
    pub serving: Option<Written<bool>>,
    /// Condition of its EndpointSlice: its pod is being deleted; default false.
    pub terminating: Option<Written<bool>>,
}

/// A load balancer of the cloud.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Slb {
    /// Its ID.
    pub id: Written<Text>,
    /// Its address; may be the loadBalancer address of services.
    pub vip: Written<Ipv4Addr>,
    /// Its listeners; at least one.
    #[serde(default)]
    pub listeners: List<Listener>,
}

/// A layer-4 listener.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Listener {
    /// Its port.
    pub port: Written<Port>,
    /// tcp (default) or udp.
    pub proto: Option<Written<PortProto>>,
    /// Member ENIs behind it, by ID; NS/NAME of a pod stands for its member ENI.
    #[serde(default)]
    pub backends: OneOrMany<Text>,
    /// Port of the backends; default the same.
    pub backend_port: Option<Written<Port>>,
}

/// A host outside the VPC.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Outside {
    /// Its name.
    pub name: Written<Text>,
    /// Its addresses, one or a list; the first is the one it sends from.
    #[serde(default)]
    pub ips: OneOrMany<Ipv4Addr>,
    /// Its MAC.
    pub mac: Option<Written<Mac>>,
}

/// Behaviours of node and kube-proxy.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Switches {
    /// Rule 2048 carries `iif caliX`; default true up to terway-1.4.0, false from terway-1.4.2.
    pub from_rule_iif: Option<Written<bool>>,
    /// The trunk's egress filter pushes the pod's VID by IP source; default false for terway-1.3,
    /// true later.
    pub vlan_push: Option<Written<bool>>,
    /// net.ipv4.vs.conntrack; default true.
    pub vs_conntrack: Option<Written<bool>>,
    /// net.ipv4.vs.snat_reroute; default true.
    pub snat_reroute: Option<Written<bool>>,
    /// Which generation of kube-proxy programs the nodes; default v1.20 up to terway-1.4.0, v1.28
    /// from terway-1.4.2.
    pub kube_proxy: Option<Written<KubeProxyVersion>>,
    /// kube-proxy's clusterCIDR: traffic to a ClusterIP from outside it is masqueraded; default
    /// none.
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: Option<Written<Ipv4Net>>,
    /// kube-proxy's masqueradeAll: all traffic to a ClusterIP is masqueraded; default false.
    pub masquerade_all: Option<Written<bool>>,
    /// MASQUERADE --random-fully: always a random source port; default true.
    pub masquerade_random_fully: Option<Written<bool>>,
    /// net.ipv4.icmp_ratelimit in milliseconds, 0 for unlimited; default 1000.
    pub icmp_ratelimit: Option<Written<Int<0, 3_600_000>>>,
    /// What a Local policy without a local endpoint does; default fail for kube-proxy v1.20,
    /// fallback for v1.28.
    pub local_no_endpoint: Option<Written<LocalNoEndpoint>>,
    /// What an echo request to a VIP meets; default answer for kube-proxy v1.20, reject for v1.28.
    pub vip_ping: Option<Written<VipPing>>,
    /// kube-proxy's strictARP (arp_ignore=1, arp_announce=2); default false.
    pub strict_arp: Option<Written<bool>>,
    /// net.ipv4.conf.*.rp_filter: 0 off (default), 1 strict, 2 loose.
    pub rp_filter: Option<Written<RpFilter>>,
    /// Nodes are given the MACs of their pods, gateways and of everybody in eth0's vSwitch, and
    /// never ask for them by ARP; default false.
    pub permanent_neighbours: Option<Written<bool>>,
    /// Packets of established flows take the way their flow has learned instead of walking every
    /// hook, with the same result; default true.
    pub flow_cache: Option<Written<bool>>,
    /// ipvs: net.ipv4.vs.* and its timeouts.
    #[serde(default)]
    pub ipvs: Ipvs,
    /// Connection tracking: net.netfilter.nf_conntrack_*.
    #[serde(default)]
    pub conntrack: Conntrack,
}

/// Settings of ipvs.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Ipvs {
    /// How long a connection lives without a packet.
    #[serde(default)]
    pub timeouts: IpvsTimeouts,
    /// conn_reuse_mode: 0 keeps the destination of a closed connection that is opened again, 1 and
    /// 2 schedule it anew; default 1.
    pub conn_reuse_mode: Option<Written<Int<0, 2>>>,
    /// expire_nodest_conn: connections end with their destination; default true.
    pub expire_nodest_conn: Option<Written<bool>>,
    /// expire_quiescent_template: affinity to a destination ends with its weight; default true.
    pub expire_quiescent_template: Option<Written<bool>>,
    /// sloppy_tcp: any segment but a reset begins a connection; default false.
    pub sloppy_tcp: Option<Written<bool>>,
    /// drop_entry: 3 drops connections that have done little, at random, 1 and 2 only while memory is
    /// short, which here it never is; default 0.
    pub drop_entry: Option<Written<Int<0, 3>>>,
    /// nat_icmp_send: port unreachable to a destination whose packet answers none; default false.
    pub nat_icmp_send: Option<Written<bool>>,
    /// kube-proxy keeps a removed TCP destination with weight 0 until its connections have ended;
    /// default true.
    pub graceful_termination: Option<Written<bool>>,
}

/// Timeouts of ipvs connections in seconds; the first three are those of `ipvsadm --set`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IpvsTimeouts {
    /// In ESTABLISHED; default 900.
    pub tcp: Option<Written<Int<1, 2_147_483>>>,
    /// In FIN_WAIT; default 120.
    pub tcp_fin: Option<Written<Int<1, 2_147_483>>>,
    /// UDP; default 300.
    pub udp: Option<Written<Int<1, 2_147_483>>>,
    /// In SYN_SENT; default 120.
    pub syn_sent: Option<Written<Int<1, 2_147_483>>>,
    /// In SYN_RECV; default 60.
    pub syn_recv: Option<Written<Int<1, 2_147_483>>>,
    /// In CLOSE_WAIT; default 60.
    pub close_wait: Option<Written<Int<1, 2_147_483>>>,
    /// In TIME_WAIT; default 120.
    pub time_wait: Option<Written<Int<1, 2_147_483>>>,
    /// In CLOSE; default 10.
    pub close: Option<Written<Int<1, 2_147_483>>>,
}

/// A timeout in seconds.
pub type Timeout = Int<1, 2_147_483>;

/// Settings of connection tracking.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Conntrack {
    /// Timeouts of TCP flows.
    #[serde(default)]
    pub tcp_timeouts: TcpTimeouts,
    /// nf_conntrack_udp_timeout; default 30.
    pub udp_timeout: Option<Written<Timeout>>,
    /// nf_conntrack_udp_timeout_stream; default 120.
    pub udp_stream_timeout: Option<Written<Timeout>>,
    /// nf_conntrack_icmp_timeout; default 30.
    pub icmp_timeout: Option<Written<Timeout>>,
    /// nf_conntrack_generic_timeout; default 600.
    pub generic_timeout: Option<Written<Timeout>>,
    /// nf_conntrack_tcp_be_liberal: segments outside the window are part of their flow; default
    /// false.
    pub be_liberal: Option<Written<bool>>,
    /// nf_conntrack_tcp_loose: an ACK opens a flow whose beginning was not seen; default true.
    pub loose: Option<Written<bool>>,
    /// nf_conntrack_tcp_max_retrans; default 3.
    pub max_retrans: Option<Written<Int<0, 255>>>,
    /// nf_conntrack_tcp_ignore_invalid_rst; default false.
    pub ignore_invalid_rst: Option<Written<bool>>,
}

/// nf_conntrack_tcp_timeout_*: seconds without a segment.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TcpTimeouts {
    /// In SYN_SENT; default 120.
    pub syn_sent: Option<Written<Timeout>>,
    /// In SYN_RECV; default 60.
    pub syn_recv: Option<Written<Timeout>>,
    /// In ESTABLISHED; default 432000. kube-proxy's own default is 86400.
    pub established: Option<Written<Timeout>>,
    /// In FIN_WAIT; default 120.
    pub fin_wait: Option<Written<Timeout>>,
    /// In CLOSE_WAIT; default 60. kube-proxy's own default is 3600.
    pub close_wait: Option<Written<Timeout>>,
    /// In LAST_ACK; default 30.
    pub last_ack: Option<Written<Timeout>>,
    /// In TIME_WAIT; default 120.
    pub time_wait: Option<Written<Timeout>>,
    /// In CLOSE; default 10.
    pub close: Option<Written<Timeout>>,
    /// At most this after maxRetrans retransmissions, or while a window is closed; default 300.
    pub max_retrans: Option<Written<Timeout>>,
    /// At most this while data is unacknowledged; default 300.
    pub unacknowledged: Option<Written<Timeout>>,
}

/// Sizes of the bounded tables.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Limits {
    /// Flows (conntrack entries, ipvs connections) a node holds; default 16384.
    pub flows: Option<Written<Int<1, 16_777_216>>>,
    /// Sessions (security groups and SLB) the VPC holds; default 65536.
    pub sessions: Option<Written<Int<1, 16_777_216>>>,
    /// Neighbour entries a node holds; default 1024.
    pub neighbours: Option<Written<Int<1, 65_536>>>,
    /// Frames waiting for one neighbour; default 64.
    pub neighbour_queue: Option<Written<Int<1, 4096>>>,
    /// Frames waiting in one member ENI's queue of a trunk; default 128.
    pub member_queue: Option<Written<Int<1, 65_536>>>,
    /// Fragments that wait for the rest of their packets, at each node and in the VPC; default 512.
    pub fragments: Option<Written<Int<1, 65_536>>>,
    /// Frames in one queue of a memory link; default 256.
    pub link_queue: Option<Written<Int<1, 65_536>>>,
}
