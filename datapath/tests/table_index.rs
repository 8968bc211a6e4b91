//! The index against a list of what should be in it, and that it never grows.

use datapath::table::{Full, Handle, Index};
use proptest::prelude::*;

fn handle(slot: u32) -> Handle {
    Handle { slot, generation: 0 }
}

proptest! {
    /// Few hashes and few handles, so that equal ones meet, and equal pairs too.
    #[test]
    fn behaves_as_a_bag(
        limit in 0_usize..10,
        ops in prop::collection::vec((any::<bool>(), 0_u64..4, 0_u32..4), 0..100),
    ) {
        let mut index = Index::with_capacity(limit, 1);
        let mut model = Vec::<(u64, Handle)>::new();
        for (insert, hash, slot) in ops {
            let entry = (hash, handle(slot));
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
                    let found = index.find(hash, |h| h == handle(slot));
                    let expected = model.contains(&(hash, handle(slot)));
                    prop_assert_eq!(found, expected.then_some(handle(slot)));
                }
            }
        }
    }

    /// Spread hashes in a small table, so that runs meet and go around the end.
    #[test]
    fn what_was_not_removed_is_found(
        seed: u64,
        ops in prop::collection::vec((any::<bool>(), 0_u32..24), 0..300),
    ) {
        let mut index = Index::with_capacity(24, seed);
        let mut stored = [false; 24];
        for (insert, slot) in ops {
            let (hash, is_in) = (index.hash_of(&slot), &mut stored[slot as usize]);
            if insert && !*is_in {
                prop_assert_eq!(index.insert(hash, handle(slot)), Ok(()));
                *is_in = true;
            } else if !insert {
                prop_assert_eq!(index.remove(hash, handle(slot)), *is_in);
                *is_in = false;
            }
            for (slot, is_in) in (0..).zip(stored) {
                let found = index.find(index.hash_of(&slot), |h| h == handle(slot));
                prop_assert_eq!(found, is_in.then_some(handle(slot)));
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
fn hashes_that_name_one_place_are_told_apart() {
    let mut index = Index::with_capacity(64, 0);
    for slot in 0..64 {
        assert_eq!(index.insert(u64::from(slot), handle(slot)), Ok(()));
    }
    for slot in (0..64).step_by(2) {
        assert!(index.remove(u64::from(slot), handle(slot)));
    }
    for slot in 0..64 {
        let expected = (slot % 2 == 1).then_some(handle(slot));
        assert_eq!(index.find(u64::from(slot), |_| true), expected);
    }
}

#[test]
fn never_grows_however_long_it_is_churned_at_its_limit() {
    for limit in [1_u32, 3, 7, 100, 1000] {
        let mut index = Index::with_capacity(limit as usize, 3);
        let size = index.allocation_size();
        let hashes: Vec<_> = (0..200_000_u32).map(|n| index.hash_of(&n)).collect();
        for (slot, hash) in (0..).zip(&hashes) {
            assert_eq!(index.insert(*hash, handle(slot)), Ok(()));
            if let Some(old) = (slot + 1).checked_sub(limit) {
                assert!(index.remove(hashes[old as usize], handle(old)));
            }
        }
        assert_eq!(index.allocation_size(), size);
    }
}

#[test]
fn a_handle_of_the_limit_takes_eighteen_bytes() {
    for limit in [1_000, 1 << 20, 1_500_000] {
        let size = Index::with_capacity(limit, 0).allocation_size();
        assert!(size <= 18 * limit + 24, "{size} bytes for {limit}");
    }
}

#[test]
fn debug_shows_no_content() {
    let mut index = Index::with_capacity(4, 0);
    assert_eq!(index.insert(1, handle(77)), Ok(()));
    assert_eq!(format!("{index:?}"), "Index { len: 1, limit: 4, .. }");
}
