//! The prefix table against a search through all prefixes.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::{Ipv4Addr, Ipv6Addr};

use datapath::table::{PrefixKey, PrefixTable};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op<A> {
    Insert(A, u8, u32),
    Remove(A, u8),
    /// Removes the prefix stored at this place in order.
    RemoveNth(usize),
}

fn op<A: Debug + Clone + 'static>(
    address: impl Strategy<Value = A> + Clone + 'static,
    len: impl Strategy<Value = u8> + Clone + 'static,
) -> impl Strategy<Value = Op<A>> {
    prop_oneof![
        4 => (address.clone(), len.clone(), any::<u32>()).prop_map(|(a, l, v)| Op::Insert(a, l, v)),
        1 => (address, len).prop_map(|(a, l)| Op::Remove(a, l)),
        2 => any::<usize>().prop_map(Op::RemoveNth),
    ]
}

/// Addresses that share many of their leading bits, so that prefixes nest and part anywhere.
fn v4() -> impl Strategy<Value = Ipv4Addr> + Clone {
    prop_oneof![
        (any::<u32>(), 0_u32..32).prop_map(|(bit, at)| Ipv4Addr::from_bits((bit & 3) << at)),
        any::<u32>().prop_map(Ipv4Addr::from_bits),
    ]
}

fn v6() -> impl Strategy<Value = Ipv6Addr> + Clone {
    prop_oneof![
        (any::<u128>(), 0_u32..128).prop_map(|(bit, at)| Ipv6Addr::from_bits((bit & 3) << at)),
        any::<u128>().prop_map(Ipv6Addr::from_bits),
    ]
}

/// All lengths, the ends more often, and some beyond the longest.
fn len(bits: u8) -> impl Strategy<Value = u8> + Clone {
    prop_oneof![1 => Just(0), 1 => Just(bits), 6 => 0..=bits, 1 => bits..=u8::MAX]
}

fn cut<A: PrefixKey>(addr: A, len: u8) -> (u128, u8) {
    let len = len.min(A::BITS);
    let bits = if len == 0 { 0 } else { addr.bits() >> (128 - len) << (128 - len) };
    (bits, len)
}

fn check<A: PrefixKey + Debug>(ops: Vec<Op<A>>, probes: &[A]) -> Result<(), TestCaseError> {
    let mut table = PrefixTable::new();
    let mut model = BTreeMap::<(u128, u8), u32>::new();
    for op in ops {
        match op {
            Op::Insert(addr, len, value) => {
                prop_assert_eq!(
                    table.insert(addr, len, value),
                    model.insert(cut(addr, len), value)
                );
            }
            Op::Remove(addr, len) => {
                prop_assert_eq!(table.remove(addr, len), model.remove(&cut(addr, len)));
            }
            Op::RemoveNth(n) => {
                let nth = n.checked_rem(model.len()).and_then(|n| model.keys().nth(n)).copied();
                if let Some((bits, len)) = nth {
                    prop_assert_eq!(
                        table.remove(A::from_bits(bits), len),
                        model.remove(&(bits, len))
                    );
                }
            }
        }
        prop_assert_eq!(table.len(), model.len());
        prop_assert_eq!(table.is_empty(), model.is_empty());
        let stored: Vec<_> = table.iter().map(|(addr, len, v)| ((addr.bits(), len), *v)).collect();
        prop_assert!(stored.into_iter().eq(model.iter().map(|(k, v)| (*k, *v))));
        let starts = model.keys().map(|(bits, _)| A::from_bits(*bits));
        for addr in starts.chain(probes.iter().copied()) {
            let longest = model
                .iter()
                .filter(|((bits, len), _)| cut(addr, *len).0 == *bits)
                .max_by_key(|((_, len), _)| *len)
                .map(|((_, len), value)| (value, *len));
            prop_assert_eq!(table.lookup(addr), longest);
            for len in [0, 1, A::BITS / 2, A::BITS, u8::MAX] {
                prop_assert_eq!(table.get(addr, len), model.get(&cut(addr, len)));
            }
        }
        for ((bits, len), value) in &model {
            prop_assert_eq!(table.get(A::from_bits(*bits), *len), Some(value));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn v4_behaves_as_a_search(
        ops in prop::collection::vec(op(v4(), len(32)), 0..60),
        probes in prop::collection::vec(v4(), 0..20),
    ) {
        check(ops, &probes)?;
    }

    #[test]
    fn v6_behaves_as_a_search(
        ops in prop::collection::vec(op(v6(), len(128)), 0..60),
        probes in prop::collection::vec(v6(), 0..20),
    ) {
        check(ops, &probes)?;
    }
}

#[test]
fn the_default_route_and_a_host_route() {
    let host = Ipv4Addr::new(10, 0, 0, 1);
    let mut table = PrefixTable::new();
    assert_eq!(table.lookup(host), None);
    assert_eq!(table.insert(host, 0, "default"), None);
    assert_eq!(table.insert(host, 32, "host"), None);
    assert_eq!(table.lookup(host), Some((&"host", 32)));
    assert_eq!(table.lookup(Ipv4Addr::new(10, 0, 0, 0)), Some((&"default", 0)));
    assert_eq!(table.lookup(Ipv4Addr::BROADCAST), Some((&"default", 0)));
    let all: Vec<_> = table.iter().collect();
    assert_eq!(all, [(Ipv4Addr::UNSPECIFIED, 0, &"default"), (host, 32, &"host")]);
    assert_eq!(table.remove(Ipv4Addr::LOCALHOST, 0), Some("default"));
    assert_eq!(table.lookup(Ipv4Addr::BROADCAST), None);
    assert_eq!(table.lookup(host), Some((&"host", 32)));
}

#[test]
fn a_hundred_thousand_prefixes() {
    let mut table = PrefixTable::new();
    // Odd multiples mod 2^17 visit every one of the 2^17 /24s below 10.0.0.0/7 once.
    let nth = |n: u32| Ipv4Addr::from_bits(0x0a00_0000 | (n.wrapping_mul(77_777) % (1 << 17)) << 8);
    for n in 0..100_000 {
        assert_eq!(table.insert(nth(n), 24, n), None);
    }
    assert_eq!(table.len(), 100_000);
    for n in 0..1 << 17 {
        let host = Ipv4Addr::from_bits(nth(n).to_bits() | 7);
        assert_eq!(table.lookup(host), (n < 100_000).then_some((&n, 24)));
    }
    for n in 0..100_000 {
        assert_eq!(table.remove(nth(n), 24), Some(n));
    }
    assert!(table.is_empty());
    assert_eq!(table.iter().count(), 0);
}
