//! A checked lab, from which the elements are built.

pub mod model;
mod queues;

pub use model::*;
