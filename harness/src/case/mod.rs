//! Cases: a lab, what its hosts send, and every frame and table entry that is to come of it, as
//! folders of files that each datapath is held against (spec LAW-10).

mod bed;

pub use bed::{Bed, CaseDatapath, Crossing, Tables, Timed};
