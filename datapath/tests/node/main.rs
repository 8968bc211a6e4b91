//! A node, packet by packet.

#[path = "../common/mod.rs"]
mod common;

mod allocation;
mod answer;
mod apply;
mod arp;
mod conntrack;
mod conntrack_windows;
mod flow_cache;
mod fnat;
mod fragments;
mod fragments_property;
mod frame;
mod icmp;
mod ipvs;
mod ipvs_life;
mod ipvs_persistence;
mod link_fnat;
mod link_fragments;
mod masquerade;
mod path;
mod policy;
mod policy_ranges;
mod policy_rules;
mod populate;
mod property;
mod route;
mod scheduler;
mod size;
mod toa;
mod trunk;
mod ways;
