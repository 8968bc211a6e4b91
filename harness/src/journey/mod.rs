//! The journeys of packets through a whole lab, put together from the hops its elements record.
//!
//! [`stitch()`] joins hops to journeys, [`flows()`] sorts journeys by flow and direction,
//! [`path()`] writes one in the article's form, [`rows()`] as what decided at every hook, and
//! [`table()`] as a person reads it. All of it works on a [`Recording`], from whichever datapath.

mod flow;
mod names;
mod path;
mod recording;
mod row;
mod stitch;
mod style;
mod table;

pub use flow::{Flow, Leg, flows};
pub use names::Names;
pub use path::{ARROW, path};
pub use recording::{PortCount, Recording};
pub use row::{Row, Symbols, rows};
pub use stitch::{End, Journey, Origin, Passage, stitch};
pub use style::Style;
pub use table::{legend, table};
