//! The labs the twins are in, and what changes in them.

use std::fmt;
use std::sync::LazyLock;

use crate::common::*;
use datapath::lab::model::{Condition, Endpoint, Fnat, KubeProxyVersion, Scheduler};
use datapath::lab::model::{RpFilter, SchedulerFlags, Service, Switches};
use datapath::lab::{Lab, Limits};
use proptest::prelude::*;
use proptest::sample::select;

/// The lab in each profile, with a service in mode fnat that has few local ports.
static LABS: LazyLock<[Lab; 3]> = LazyLock::new(|| {
    ["terway-1.3", "terway-1.4.0", "terway-1.4.2"].map(|profile| {
        let keys = format!("profile: {profile}\nswitches: {{icmpRatelimit: 0}}");
        lab_fnat_with("2000-2002", "toa: false", &keys)
    })
});

/// One of them.
pub(super) fn lab_of(profile: usize, flows: u32, neighbours: u32) -> Lab {
    let lab = LABS[profile].clone();
    Lab { limits: Limits { flows, neighbours, ..lab.limits }, ..lab }
}

/// A switch with a value, as the file has them, and how that is set.
#[derive(Clone, Copy)]
pub(super) struct Switch(&'static str, fn(&mut Switches));

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Switches and values that the lab may get.
const SWITCHES: [Switch; 22] = [
    Switch("rpFilter: 0", |s| s.rp_filter = RpFilter::Off),
    Switch("rpFilter: 1", |s| s.rp_filter = RpFilter::Strict),
    Switch("rpFilter: 2", |s| s.rp_filter = RpFilter::Loose),
    Switch("masqueradeAll: true", |s| s.masquerade_all = true),
    Switch("masqueradeRandomFully: false", |s| s.masquerade_random_fully = false),
    Switch("masqueradeRandomFully: true", |s| s.masquerade_random_fully = true),
    Switch("clusterCIDR: 10.0.4.0/24", |s| s.cluster_cidr = "10.0.4.0/24".parse().ok()),
    Switch("kubeProxy: v1.28", |s| s.kube_proxy = KubeProxyVersion::V1_28),
    Switch("vsConntrack: false", |s| s.vs_conntrack = false),
    Switch("vsConntrack: true", |s| s.vs_conntrack = true),
    Switch("snatReroute: false", |s| s.snat_reroute = false),
    Switch("vlanPush: false", |s| s.vlan_push = false),
    Switch("ipvs: {natIcmpSend: true}", |s| s.ipvs.nat_icmp_send = true),
    Switch("ipvs: {natIcmpSend: false}", |s| s.ipvs.nat_icmp_send = false),
    Switch("ipvs: {sloppyTcp: true}", |s| s.ipvs.sloppy_tcp = true),
    Switch("ipvs: {connReuseMode: 0}", |s| s.ipvs.conn_reuse_mode = 0),
    Switch("ipvs: {dropEntry: 3}", |s| s.ipvs.drop_entry = 3),
    Switch("ipvs: {expireNodestConn: false}", |s| s.ipvs.expire_nodest_conn = false),
    Switch("ipvs: {gracefulTermination: false}", |s| s.ipvs.graceful_termination = false),
    Switch("conntrack: {beLiberal: true}", |s| s.conntrack.be_liberal = true),
    Switch("conntrack: {loose: false}", |s| s.conntrack.loose = false),
    Switch("conntrack: {tcpTimeouts: {established: 20}}", |s| s.conntrack.tcp.established = 20),
];

/// How a service is set up.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    scheduler: Scheduler,
    flags: SchedulerFlags,
    affinity: Option<u32>,
    one_packet: bool,
    local: bool,
    fnat: Option<Fnat>,
    endpoints: Vec<Endpoint>,
}

/// A change of the lab.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Nothing in it; everything is put in place anew all the same.
    Nothing,
    /// Terway of another generation, with the switches it has by default.
    Profile(usize),
    /// A switch has another value.
    Switch(Switch),
    /// The service of this number is set up in another way, or, without one, has no ports.
    Service(usize, Option<Plan>),
}

impl Change {
    pub(super) fn make(&self, lab: &mut Lab) {
        match self {
            Self::Nothing => {}
            Self::Profile(profile) => {
                let other = LABS[*profile].clone();
                (lab.profile, lab.switches) = (other.profile, other.switches);
            }
            Self::Switch(Switch(_, set)) => set(&mut lab.switches),
            Self::Service(number, plan) => {
                let service = lab.services.get_mut(*number).expect("a service");
                service.ports.clear();
                if let Some(plan) = plan {
                    service.ports.clone_from(&LABS[0].services[*number].ports);
                    plan.set_up(service);
                }
            }
        }
    }
}

impl Plan {
    fn set_up(&self, service: &mut Service) {
        let Self { scheduler, flags, affinity, one_packet, local, fnat, endpoints } = self.clone();
        service.scheduler = scheduler;
        service.scheduler_flags = flags;
        service.affinity = affinity;
        service.one_packet = one_packet;
        (service.external_local, service.internal_local) = (local, local);
        service.fnat = fnat;
        service.endpoints = endpoints;
    }
}

fn endpoints() -> impl Strategy<Value = Vec<Endpoint>> {
    let pods = Just(vec![POD_A, POD_B, POD_C, POD_D]).prop_shuffle();
    let weight = prop_oneof![1 => Just(0_u32), 4 => 1..4_u32];
    let upper = prop_oneof![4 => Just(0_u32), 1 => 1..4_u32];
    let condition = prop_oneof![
        8 => Just(Condition::Ready),
        1 => select(vec![Condition::ServingTerminating, Condition::NotReady]),
    ];
    let each = prop::collection::vec((weight, upper, condition), 0..=4);
    (pods, each).prop_map(|(pods, each)| {
        let each = pods.into_iter().zip(each);
        each.map(|(pod, (weight, upper, condition))| Endpoint {
            pod,
            weight,
            upper,
            lower: 0,
            condition,
        })
        .collect()
    })
}

fn plan() -> impl Strategy<Value = Plan> {
    let flags = (any::<bool>(), any::<bool>());
    let scheduler = (select(Scheduler::ALL.to_vec()), flags).prop_map(|(scheduler, flags)| {
        let (fallback, port) = flags;
        let flagged = matches!(scheduler, Scheduler::Sh | Scheduler::Mh);
        (scheduler, SchedulerFlags { fallback: flagged && fallback, port: flagged && port })
    });
    let affinity = prop_oneof![3 => Just(None), 1 => select(vec![Some(10), Some(10_800)])];
    let fnat = prop_oneof![
        3 => Just(None),
        1 => any::<bool>().prop_map(|toa| Some(Fnat { toa, ..Fnat::default() })),
    ];
    let rare = (prop::bool::weighted(0.2), prop::bool::weighted(0.1));
    (scheduler, affinity, rare, fnat, endpoints()).prop_map(
        |((scheduler, flags), affinity, (one_packet, local), fnat, endpoints)| Plan {
            scheduler,
            flags,
            affinity,
            one_packet,
            local,
            fnat,
            endpoints,
        },
    )
}

/// Any change.
pub(super) fn change() -> impl Strategy<Value = Change> {
    let service = 0..LABS[0].services.len();
    let plan = prop_oneof![1 => Just(None), 9 => plan().prop_map(Some)];
    prop_oneof![
        1 => Just(Change::Nothing),
        1 => (0..LABS.len()).prop_map(Change::Profile),
        6 => select(SWITCHES.to_vec()).prop_map(Change::Switch),
        6 => (service, plan).prop_map(|(service, plan)| Change::Service(service, plan)),
    ]
}
