//! Values a lab file may leave out. Every function here is pure: the same lab file gives the same
//! values on every machine.
//!
//! | value | how |
//! |---|---|
//! | host-side veth | Terway's algorithm, [`cali_name`] |
//! | MAC | `02:` and five bytes of SHA-1 over what the interface is, [`mac`] |
//! | ENI ID | `eni-` and twenty digits of SHA-1 over what the ENI is, [`eni_id`] |
//! | address | the lowest of the vSwitch that is neither reserved nor in the file |
//! | VID | the lowest unused on the trunk from 101, then from 1 |
//!
//! Addresses are given to nodes first (eth0, then trunk), then to pods, each in file order. Where
//! a derived MAC or ID is taken, the next `attempt` is made.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use sha1::{Digest, Sha1};

use crate::wire::{Mac, Vid};

/// First VID given to a member ENI.
const FIRST_VID: u16 = 101;
/// Addresses at the end of a vSwitch that belong to the cloud; the first of them is the gateway.
const RESERVED_AT_END: u32 = 3;

/// Name of the host-side veth of a pod's eth0, as Terway names it: `cali` and the first eleven
/// hexadecimal digits of SHA-1 over `NAMESPACE.POD`.
#[must_use]
pub fn cali_name(namespace: &str, pod: &str) -> String {
    let mut name = String::from("cali");
    name.extend(hex(&format!("{namespace}.{pod}")).chars().take(11));
    name
}

/// A locally administered MAC for `role`, as "eth0 of node n1".
#[must_use]
pub fn mac(role: &str, attempt: u32) -> Mac {
    let mut bytes = [0x02, 0, 0, 0, 0, 0];
    let digest = Sha1::digest(with_attempt(role, attempt));
    for (byte, hashed) in bytes.iter_mut().skip(1).zip(digest) {
        *byte = hashed;
    }
    Mac(bytes)
}

/// An ENI ID for `role`, as "eth0 of node n1".
#[must_use]
pub fn eni_id(role: &str, attempt: u32) -> String {
    let mut id = String::from("eni-");
    id.extend(hex(&with_attempt(role, attempt)).chars().take(20));
    id
}

fn with_attempt(role: &str, attempt: u32) -> String {
    if attempt == 0 { role.to_owned() } else { format!("{role} #{attempt}") }
}

fn hex(text: &str) -> String {
    Sha1::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Addresses of a vSwitch an ENI can have: all but the first and the last three.
#[must_use]
pub fn usable(cidr: Ipv4Net) -> std::ops::RangeInclusive<u32> {
    let first = u32::from(cidr.network()).saturating_add(1);
    let last = u32::from(cidr.broadcast()).saturating_sub(RESERVED_AT_END);
    first..=last
}

/// Hands out the free addresses of one vSwitch, lowest first.
#[derive(Clone, Debug)]
pub struct Addresses(std::ops::RangeInclusive<u32>);

impl Addresses {
    /// Those of `cidr`.
    #[must_use]
    pub fn new(cidr: Ipv4Net) -> Self {
        Self(usable(cidr))
    }

    /// The lowest that was not handed out before and is not in `taken`.
    pub fn next_free(&mut self, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        self.0.by_ref().map(Ipv4Addr::from).find(|ip| !taken.contains(ip))
    }
}

/// Hands out the free VIDs of one trunk: from 101 upwards, then from 1.
#[derive(Clone, Debug)]
pub struct Vids(u16);

impl Default for Vids {
    fn default() -> Self {
        Self(FIRST_VID)
    }
}

impl Vids {
    /// The next that is not in `taken`.
    pub fn next_free(&mut self, taken: &BTreeSet<Vid>) -> Option<Vid> {
        for _ in 0..=4094 {
            let vid = Vid::new(self.0);
            self.0 = if self.0 >= 4094 { 1 } else { self.0.saturating_add(1) };
            if let Some(vid) = vid.filter(|vid| !taken.contains(vid)) {
                return Some(vid);
            }
        }
        None
    }
}

/// Finds a derived value that is not `taken` yet, and takes it.
pub fn take_free<T: Ord + Clone>(taken: &mut BTreeSet<T>, derive: impl Fn(u32) -> T) -> T {
    let mut attempt = 0;
    loop {
        let value = derive(attempt);
        if taken.insert(value.clone()) {
            return value;
        }
        attempt = attempt.wrapping_add(1);
    }
}
