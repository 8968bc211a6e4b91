//! Labs in real namespaces, driven through the `trunkline` command.
//!
//! These tests need root. Without it each says so and counts as skipped.

mod apply;
mod bench;
mod cases;
mod control;
mod datagrams;
mod doctor;
mod fused;
mod kill;
mod queues;
mod readme;
mod scenarios;
mod support;
mod up_down;
