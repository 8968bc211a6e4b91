//! The flow table against a list searched from end to end.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use datapath::table::{Direction, FlowTable, Handle, InsertError, RekeyError};
use proptest::prelude::*;

/// A key of which four share a hash, so that look-ups must compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key(u8);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0 / 4).hash(state);
    }
}

const KEYS: u8 = 16;

fn key() -> impl Strategy<Value = Key> {
    (0..KEYS).prop_map(Key)
}

#[derive(Clone, Debug)]
enum Op {
    Insert(Key, Key, u32),
    SetReply(usize, Key),
    Remove(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (key(), key(), any::<u32>()).prop_map(|(o, r, v)| Op::Insert(o, r, v)),
        1 => (key(), any::<u32>()).prop_map(|(k, v)| Op::Insert(k, k, v)),
        3 => (any::<usize>(), key()).prop_map(|(i, k)| Op::SetReply(i, k)),
        2 => any::<usize>().prop_map(Op::Remove),
    ]
}

type Model = BTreeMap<Handle, (Key, Key, u32)>;

fn owner(model: &Model, key: Key) -> Option<(Handle, Direction)> {
    model.iter().find_map(|(handle, (original, reply, _))| {
        if *original == key {
            Some((*handle, Direction::Original))
        } else {
            (*reply == key).then_some((*handle, Direction::Reply))
        }
    })
}

proptest! {
    #[test]
    fn behaves_as_a_list(
        limit in 0_u32..8,
        seed: u64,
        ops in prop::collection::vec(op(), 0..150),
    ) {
        let mut table = FlowTable::with_limit(limit, seed);
        let mut model = Model::new();
        let mut given = Vec::<Handle>::new();
        for op in ops {
            match op {
                Op::Insert(original, reply, value) => {
                    let clash = owner(&model, original).or_else(|| owner(&model, reply));
                    let inserted = table.insert(original, reply, value);
                    if let Some((handle, _)) = clash {
                        prop_assert_eq!(inserted, Err(InsertError::Clash(handle)));
                    } else if model.len() == limit as usize {
                        prop_assert_eq!(inserted, Err(InsertError::Full));
                    } else {
                        prop_assert!(inserted.is_ok());
                        if let Ok(handle) = inserted {
                            prop_assert!(!given.contains(&handle));
                            given.push(handle);
                            model.insert(handle, (original, reply, value));
                        }
                    }
                }
                Op::SetReply(i, key) if !given.is_empty() => {
                    let handle = given[i % given.len()];
                    let expected = match owner(&model, key) {
                        _ if !model.contains_key(&handle) => Err(RekeyError::Stale),
                        Some((other, _)) if other != handle => Err(RekeyError::Clash(other)),
                        _ => Ok(()),
                    };
                    prop_assert_eq!(table.set_reply(handle, key), expected);
                    if expected.is_ok() {
                        model.entry(handle).and_modify(|flow| flow.1 = key);
                    }
                }
                Op::Remove(i) if !given.is_empty() => {
                    let handle = given[i % given.len()];
                    prop_assert_eq!(table.remove(handle), model.remove(&handle));
                }
                Op::SetReply(..) | Op::Remove(_) => {}
            }
            for key in (0..KEYS).map(Key) {
                prop_assert_eq!(table.find(&key), owner(&model, key));
            }
            for handle in &given {
                let flow = model.get(handle);
                prop_assert_eq!(table.get(*handle), flow.map(|(_, _, v)| v));
                prop_assert_eq!(table.get_mut(*handle).copied(), flow.map(|(_, _, v)| *v));
                prop_assert_eq!(table.keys(*handle), flow.map(|(o, r, _)| (o, r)));
            }
            prop_assert!(table.iter().eq(model.iter().map(|(h, (o, r, v))| (*h, o, r, v))));
            prop_assert_eq!(table.len() as usize, model.len());
            prop_assert_eq!(table.is_empty(), model.is_empty());
            prop_assert_eq!(table.limit(), limit);
        }
    }
}

#[test]
fn a_flow_to_itself_is_met_as_original_through_every_rekeying() {
    let mut table = FlowTable::with_limit(1, 0);
    let Ok(flow) = table.insert(1_u32, 1, ()) else { panic!("an empty table takes a flow") };
    assert_eq!(table.find(&1), Some((flow, Direction::Original)));
    assert_eq!(table.set_reply(flow, 2), Ok(()));
    assert_eq!(table.find(&1), Some((flow, Direction::Original)));
    assert_eq!(table.find(&2), Some((flow, Direction::Reply)));
    assert_eq!(table.set_reply(flow, 1), Ok(()));
    assert_eq!(table.find(&1), Some((flow, Direction::Original)));
    assert_eq!(table.find(&2), None);
    assert_eq!(table.remove(flow), Some((1, 1, ())));
    assert_eq!(table.find(&1), None);
}

#[test]
fn a_full_table_tells_a_clash_before_its_being_full() {
    let mut table = FlowTable::with_limit(1, 0);
    let Ok(flow) = table.insert(1_u32, 2, ()) else { panic!("an empty table takes a flow") };
    assert_eq!(table.insert(3, 4, ()), Err(InsertError::Full));
    assert_eq!(table.insert(3, 1, ()), Err(InsertError::Clash(flow)));
    assert_eq!(table.insert(2, 3, ()), Err(InsertError::Clash(flow)));
}

#[test]
fn a_large_table_can_be_filled_and_turned_over() {
    const LIMIT: u32 = 50_000;
    let mut table = FlowTable::with_limit(LIMIT, 9);
    let mut live = std::collections::VecDeque::new();
    for n in 0..3 * LIMIT {
        if n >= LIMIT {
            assert_eq!(table.insert((n, 0_u8), (n, 1), n), Err(InsertError::Full));
            let oldest = live.pop_front().and_then(|handle| table.remove(handle));
            let old = n - LIMIT;
            assert_eq!(oldest, Some(((old, 0), (old, 1), old)));
        }
        live.extend(table.insert((n, 0), (n, 1), n));
        assert_eq!(table.find(&(n, 1)).map(|(_, direction)| direction), Some(Direction::Reply));
    }
    assert_eq!(table.len(), LIMIT);
}
