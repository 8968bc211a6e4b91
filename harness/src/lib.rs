//! The trunkline command.

pub mod commands;
pub mod net;
pub mod show;
