//! Cases: a lab, what its hosts send, and every frame and table entry that is to come of it, as
//! folders of files that each datapath is held against (spec LAW-10).

mod bed;
pub mod expected;
pub mod file;
mod flows;
mod frame;
mod instance;
mod matrix;
mod memory;
mod mistake;
pub mod names;
pub mod packet;
mod play;
mod render;
mod report;
pub mod spec;
mod suite;
mod tables;

pub use bed::{Bed, CannotJudge, CaseDatapath, Crossing, Tables, Timed};
pub use expected::{Difference, compare};
pub use instance::{CASE, Instance, folders, instances};
pub use memory::Memory;
pub use play::{Observation, Played, Seen, Sent, play, play_by_clock};
pub use render::{Line, render};
pub use report::{capture, junit, text, told};
pub use suite::{Judged, Suite, Verdict};
pub use tables::{drops, tables};
