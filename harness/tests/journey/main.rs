//! What is told of a packet's way.

mod explain;
mod golden;
mod stitch;
