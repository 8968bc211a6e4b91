//! The trunkline command.

pub mod net;
