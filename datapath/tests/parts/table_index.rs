//! The index against a list of what should be in it, and that it never grows.

use datapath::table::{Full, Index};
use proptest::prelude::*;

proptest! {
    /// Few hashes and few handles, so that equal ones meet, and equal pairs too.
    #[test]
    fn behaves_as_a_bag(
        limit in 0_usize..10,
        ops in prop::collection::vec((any::<bool>(), 0_u64..4, 0_u32..4), 0..100),
    ) {
        let mut index = Index::with_capacity(limit, 1);
        let mut model = Vec::<(u64, u32)>::new();
        for (insert, hash, slot) in ops {
            let entry = (hash, slot);
            if insert {
                let expected = if model.len() < limit { Ok(()) } else { Err(Full) };
                prop_assert_eq!(index.insert(hash, entry.1), expected);
                if expected.is_ok() {
                    model.push(entry);
                }
            } else {
                let at = model.iter().position(|e| *e == entry);
                prop_assert_eq!(index.remove(hash, entry.1), at.is_some());
                if let Some(at) = at {
                    model.swap_remove(at);
                }
            }
            prop_assert_eq!(index.len(), model.len());
            prop_assert_eq!(index.is_empty(), model.is_empty());
            prop_assert_eq!(index.capacity(), limit);
            for hash in 0..4 {
                for slot in 0..4 {
                    let found = index.find(hash, |h| h == slot);
                    let expected = model.contains(&(hash, slot));
                    prop_assert_eq!(found, expected.then_some(slot));
                }
            }
        }
    }

    #[test]
    fn equal_keys_hash_equally_under_equal_seeds(key: (u32, u16), seed: u64) {
        let (a, b) = (Index::with_capacity(1, seed), Index::with_capacity(9, seed));
        prop_assert_eq!(a.hash_of(&key), b.hash_of(&key));
    }
}

#[test]
fn slots_that_crowd_one_bucket_are_found_and_leave_nothing_behind() {
    let mut index = Index::with_capacity(64, 0);
    let is = |wanted: u32| move |slot| slot == wanted;
    // All have the same first bucket, which does not hold them all, and the same tag.
    for slot in 0..64 {
        assert_eq!(index.insert(u64::MAX, slot), Ok(()));
    }
    for slot in 0..64 {
        assert_eq!(index.find(u64::MAX, is(slot)), Some(slot));
    }
    assert_eq!(index.insert(1, 64), Err(Full));
    for slot in 0..64 {
        assert!(index.remove(u64::MAX, slot));
        assert!(!index.remove(u64::MAX, slot));
        assert_eq!(index.find(u64::MAX, is(slot)), None);
        let left = (slot + 1..64).all(|other| index.find(u64::MAX, is(other)) == Some(other));
        assert!(left, "the others stay");
    }
    assert_eq!(index.find(u64::MAX, |_| true), None);
}

#[test]
fn a_slot_too_large_is_refused() {
    let mut index = Index::with_capacity(1, 0);
    assert_eq!(index.insert(5, Index::SLOTS), Err(Full));
    assert_eq!(index.insert(5, Index::SLOTS - 1), Ok(()));
    assert_eq!(index.find(5, |_| true), Some(Index::SLOTS - 1));
}

#[test]
fn never_grows_however_long_it_is_churned_at_its_limit() {
    for limit in [1_u32, 3, 7, 100, 1000] {
        let mut index = Index::with_capacity(limit as usize, 3);
        let size = index.allocation_size();
        let hashes: Vec<_> = (0..200_000_u32).map(|n| index.hash_of(&n)).collect();
        for (slot, hash) in (0..).zip(&hashes) {
            assert_eq!(index.insert(*hash, slot), Ok(()));
            if let Some(old) = (slot + 1).checked_sub(limit) {
                assert!(index.remove(hashes[old as usize], old));
            }
        }
        assert_eq!(index.allocation_size(), size);
    }
}

#[test]
fn debug_shows_no_content() {
    let mut index = Index::with_capacity(4, 0);
    assert_eq!(index.insert(1, 77), Ok(()));
    assert_eq!(format!("{index:?}"), "Index { len: 1, limit: 4, .. }");
}
