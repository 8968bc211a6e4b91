//! Local addresses and their ports against lists of what should be free (spec FNAT-6 to FNAT-10).

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;

use datapath::node::ipvs::{LocalAddresses, ServiceKey};
use datapath::wire::Protocol;
use proptest::prelude::*;

type End = (Ipv4Addr, u16);

const ADDRESSES: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3)];
const PORTS: (u16, u16) = (65_533, 65_535);
/// The first two share their pools; the third has others.
const DESTINATIONS: [End; 3] = [
    (Ipv4Addr::new(10, 1, 0, 1), 80),
    (Ipv4Addr::new(10, 1, 0, 17), 80),
    (Ipv4Addr::new(10, 1, 0, 2), 80),
];

fn service(at: usize) -> (ServiceKey, &'static [Ipv4Addr]) {
    let key = (Protocol::TCP, Ipv4Addr::new(47, 0, 0, 1), 80 + at as u16);
    (key, if at == 0 { &ADDRESSES } else { &ADDRESSES[1..] })
}

/// What should be free, oldest first, and where each service's turn is.
#[derive(Default)]
struct Model {
    free: BTreeMap<(Ipv4Addr, usize), VecDeque<u16>>,
    last: [Option<usize>; 2],
    missed: BTreeMap<Ipv4Addr, u64>,
}

impl Model {
    fn pool(&mut self, ip: Ipv4Addr, destination: usize) -> &mut VecDeque<u16> {
        let pool = self.free.entry((ip, destination / 2));
        pool.or_insert_with(|| (PORTS.0..=PORTS.1).collect())
    }

    fn take(&mut self, of: usize, destination: usize) -> Option<End> {
        let (_, list) = service(of);
        for _ in list {
            let at = self.last[of].map_or(0, |last| (last + 1) % list.len());
            self.last[of] = Some(at);
            if let Some(port) = self.pool(list[at], destination).pop_front() {
                return Some((list[at], port));
            }
            *self.missed.entry(list[at]).or_default() += 1;
        }
        None
    }
}

#[derive(Clone, Debug)]
enum Op {
    Take(usize, usize),
    GiveBack(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..2_usize, 0..3_usize).prop_map(|(of, to)| Op::Take(of, to)),
        2 => any::<usize>().prop_map(Op::GiveBack),
    ]
}

proptest! {
    #[test]
    fn the_port_that_was_free_longest_goes_first(ops in prop::collection::vec(op(), 0..200)) {
        let mut pools = LocalAddresses::new(&ADDRESSES, PORTS, 1);
        for (key, list) in (0..2).map(service) {
            pools.set_up(key, list);
        }
        let mut model = Model::default();
        let mut taken = Vec::new();
        for op in ops {
            match op {
                Op::Take(of, to) => {
                    let local = pools.take(service(of).0, false, DESTINATIONS[to]);
                    prop_assert_eq!(local, model.take(of, to));
                    taken.extend(local.map(|local| (of, local, to)));
                }
                Op::GiveBack(at) if !taken.is_empty() => {
                    let (of, local, to) = taken.swap_remove(at % taken.len());
                    pools.give_back(service(of).0, local, DESTINATIONS[to]);
                    model.pool(local.0, to).push_back(local.1);
                }
                Op::GiveBack(_) => {}
            }
            for counted in pools.ports() {
                let used = taken.iter().filter(|(_, local, _)| local.0 == counted.ip).count();
                prop_assert_eq!(counted.used as usize, used);
                prop_assert_eq!(counted.free as usize, 16 * 3 - used);
                prop_assert_eq!(counted.missed, model.missed.get(&counted.ip).copied().unwrap_or(0));
            }
            for of in 0..2 {
                let (key, list) = service(of);
                for counted in pools.of_service(key, list) {
                    let held = |(by, local, _): &&(usize, End, usize)| {
                        *by == of && local.0 == counted.ip
                    };
                    prop_assert_eq!(counted.connections as usize, taken.iter().filter(held).count());
                }
            }
        }
    }
}

#[test]
fn a_service_without_local_addresses_gets_none() {
    let mut pools = LocalAddresses::new(&[], PORTS, 1);
    assert_eq!(pools.take(service(0).0, true, DESTINATIONS[0]), None);
    pools.set_up(service(0).0, &[]);
    assert_eq!(pools.take(service(0).0, true, DESTINATIONS[0]), None);
}
