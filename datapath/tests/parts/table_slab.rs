//! The slab against a list of what should be in it.

use std::collections::BTreeMap;

use datapath::table::{Handle, Slab};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Insert(u16),
    Remove(usize),
    Change(usize, u16),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => any::<u16>().prop_map(Op::Insert),
        2 => any::<usize>().prop_map(Op::Remove),
        1 => (any::<usize>(), any::<u16>()).prop_map(|(i, v)| Op::Change(i, v)),
    ]
}

proptest! {
    /// Handles ever given out are kept and used again, so most of them are stale.
    #[test]
    fn behaves_as_a_map(limit in 0_u32..12, ops in prop::collection::vec(op(), 0..200)) {
        let mut slab = Slab::with_capacity(limit);
        let mut model = BTreeMap::<Handle, u16>::new();
        let mut given = Vec::<Handle>::new();
        let mut vacant: Vec<u32> = (0..limit).rev().collect();
        for op in ops {
            match op {
                Op::Insert(value) => {
                    let handle = slab.insert(value);
                    prop_assert_eq!(handle.map(|h| h.slot), vacant.pop());
                    if let Some(handle) = handle {
                        prop_assert!(!given.contains(&handle), "a handle must never come back");
                        given.push(handle);
                        model.insert(handle, value);
                    }
                }
                Op::Remove(i) if !given.is_empty() => {
                    let handle = given[i % given.len()];
                    let expected = model.remove(&handle);
                    vacant.extend(expected.map(|_| handle.slot));
                    prop_assert_eq!(slab.remove(handle), expected);
                }
                Op::Change(i, value) if !given.is_empty() => {
                    let handle = given[i % given.len()];
                    prop_assert_eq!(slab.get_mut(handle).copied(), model.get(&handle).copied());
                    if let Some(v) = slab.get_mut(handle) {
                        *v = value;
                        model.insert(handle, value);
                    }
                }
                Op::Remove(_) | Op::Change(..) => {}
            }
            for handle in &given {
                prop_assert_eq!(slab.get(*handle), model.get(handle));
            }
            // Handles order by slot first, and no two live ones share a slot.
            prop_assert!(slab.iter().eq(model.iter().map(|(h, v)| (*h, v))));
            prop_assert_eq!(slab.len() as usize, model.len());
            prop_assert_eq!(slab.is_empty(), model.is_empty());
            prop_assert_eq!(slab.capacity(), limit);
        }
    }
}

#[test]
fn slots_begin_at_zero_and_the_last_vacated_is_reused_first() {
    let mut slab = Slab::with_capacity(3);
    let handles: Vec<_> = (0..4).map(|v| slab.insert(v)).collect();
    let slots: Vec<_> = handles.iter().map(|h| h.map(|h| h.slot)).collect();
    assert_eq!(slots, [Some(0), Some(1), Some(2), None]);
    for handle in handles.iter().take(2).flatten() {
        assert!(slab.remove(*handle).is_some());
    }
    assert_eq!(slab.insert(7), Some(Handle { slot: 1, generation: 1 }));
    assert_eq!(slab.insert(8), Some(Handle { slot: 0, generation: 1 }));
    assert_eq!(slab.insert(9), None);
}

#[test]
fn foreign_handles_are_none() {
    let mut slab = Slab::<u8>::with_capacity(2);
    let foreign = Handle { slot: u32::MAX, generation: 0 };
    assert_eq!(slab.get(foreign), None);
    assert_eq!(slab.get_mut(foreign), None);
    assert_eq!(slab.remove(foreign), None);
}
