//! Which endpoints of a service kube-proxy gives to a virtual service
//! (kube-proxy: pkg/proxy/topology.go, pkg/proxy/ipvs/proxier.go; spec IPVS-5, IPVS-6, IPVS-91).

use super::service::Destination;
use crate::lab::{Condition, Endpoint, KubeProxyVersion, Lab, LocalNoEndpoint, Service};

/// The destinations of a virtual service on node `node`, without their port, in order of addition.
/// `local` says whether the traffic policy of its address is Local.
pub(super) fn destinations(
    lab: &Lab,
    node: usize,
    service: &Service,
    local: bool,
) -> Vec<Destination> {
    let of_node = |endpoint: &Endpoint| is_local(lab, node, endpoint);
    let near = usable(lab, service, of_node);
    let chosen = if !local {
        usable(lab, service, |_| true)
    } else if near.is_empty() && falls_back(lab, service) {
        usable(lab, service, |_| true)
    } else {
        near
    };
    let destination = |endpoint: &Endpoint| {
        let ip = lab.pods.get(endpoint.pod)?.ip;
        let Endpoint { weight, upper, lower, .. } = *endpoint;
        Some(Destination { ip, port: 0, weight, upper, lower })
    };
    chosen.into_iter().filter_map(destination).collect()
}

/// The endpoints that the set KUBE-LOOP-BACK of node `node` has.
pub(in crate::node) fn looping(
    lab: &Lab,
    node: usize,
    service: &Service,
) -> impl Iterator<Item = Endpoint> {
    let known = move |endpoint: &Endpoint| match lab.switches.kube_proxy {
        KubeProxyVersion::V1_20 => endpoint.condition == Condition::Ready,
        KubeProxyVersion::V1_28 => true,
    };
    let endpoints = service.endpoints.iter().copied();
    endpoints.filter(move |endpoint| known(endpoint) && is_local(lab, node, endpoint))
}

fn is_local(lab: &Lab, node: usize, endpoint: &Endpoint) -> bool {
    lab.pods.get(endpoint.pod).is_some_and(|pod| pod.node == node)
}

/// Of the endpoints in scope those that are ready; where none is, a kube-proxy that knows of
/// terminating endpoints takes those that serve still.
fn usable<'a>(
    lab: &Lab,
    service: &'a Service,
    in_scope: impl Fn(&Endpoint) -> bool,
) -> Vec<&'a Endpoint> {
    let with = |condition| -> Vec<&Endpoint> {
        let has = |endpoint: &&Endpoint| endpoint.condition == condition && in_scope(endpoint);
        service.endpoints.iter().filter(has).collect()
    };
    let ready = with(Condition::Ready);
    match lab.switches.kube_proxy {
        KubeProxyVersion::V1_28 if ready.is_empty() => with(Condition::ServingTerminating),
        KubeProxyVersion::V1_20 | KubeProxyVersion::V1_28 => ready,
    }
}

/// Whether a policy Local that finds no local endpoint takes them all. The endpoints of the whole
/// cluster are known only for a service that has a use for them: one whose ClusterIP has policy
/// Cluster, or that is reached from outside.
fn falls_back(lab: &Lab, service: &Service) -> bool {
    let known = !service.internal_local || service.is_external();
    known && lab.switches.local_no_endpoint == LocalNoEndpoint::Fallback
}
