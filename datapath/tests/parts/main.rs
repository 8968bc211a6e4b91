//! Bytes, tables and clocks: what node and VPC are made of.

#[path = "../common/mod.rs"]
mod common;

mod link_handover;
mod local_addresses;
mod table_flow;
mod table_index;
mod table_patrol;
mod table_prefix;
mod table_slab;
mod table_wheel;
mod time;
mod wire;
