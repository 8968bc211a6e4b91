//! The subcommands of `trunkline`, one file each.

pub mod show;
