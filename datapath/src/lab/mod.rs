//! Lab file to validated lab.

pub mod derive;
pub mod model;

pub use model::Lab;
