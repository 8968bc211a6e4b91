//! IPv4 fragments: gathering them into packets, and cutting packets into them (kernel:
//! net/ipv4/ip_fragment.c, inet_fragment.c, ip_output.c; spec FRAG).

mod gathering;
mod table;
mod whole;

pub(crate) use gathering::Gathering;
pub(crate) use table::{Fragments, Taken};
pub(crate) use whole::Whole;
