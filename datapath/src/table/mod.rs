//! Fixed-size tables for per-packet state: flows, routes and timers.
//!
//! Every table here takes its limit and, where it hashes, its seed from the caller, so that a run
//! is a function of its inputs alone. None of them shows its content in hash order. Apart from
//! [`PrefixTable`], whose building may allocate, nothing here allocates after construction, and
//! nothing here panics once constructed: what cannot be done is reported.

mod cpu;
mod flow_table;
mod index;
mod memo;
mod patrol;
mod prefix;
mod slab;
mod wheel;

pub use flow_table::{Direction, FlowTable, InsertError, Met, RekeyError};
pub use index::Index;
pub use memo::{Memo, MemoKey};
pub use patrol::Patrol;
pub use prefix::{PrefixKey, PrefixTable};
pub use slab::{Handle, Slab};
pub use wheel::Wheel;

/// A table holds as many entries as it was built for; nothing was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the table is full")]
pub struct Full;
