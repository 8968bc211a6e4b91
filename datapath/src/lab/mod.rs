//! Lab file to validated lab.
//!
//! [`load()`] reads a YAML file ([`mod@file`] has its keys, [`schema()`] their JSON Schema), derives
//! what is left out ([`mod@derive`]) and checks everything, so that a [`Lab`] can be run (spec LAW-7).
//! What is wrong comes back as one [`LabError`] with every mistake, in file order, each with
//! line, column, what was expected and the nearest known name.
//!
//! ```
//! let lab = datapath::lab::load(
//!     "
//! vpc:
//!   cidr: 10.0.0.0/16
//!   vSwitches: {vsw-a: {cidr: 10.0.4.0/24}}
//!   securityGroups: {sg-open: {ingress: [{peer: 0.0.0.0/0}]}}
//! nodes:
//!   - {name: n1, eth0: {securityGroups: sg-open}}
//! pods:
//!   - {name: demo/client, node: n1, member: {securityGroups: sg-open}}
//! ",
//!     "lab.yaml",
//! )?;
//! assert_eq!(lab.pods.len(), 1);
//! # Ok::<(), datapath::lab::LabError>(())
//! ```

pub mod derive;
pub mod error;
pub mod file;
mod ipvs;
pub mod load;
pub mod model;
mod queues;
pub mod scalar;
pub mod written;

pub use error::{LabError, Position, Problem};
pub use load::load;
pub use model::*;

/// The JSON Schema of a lab file.
#[must_use]
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(file::File)
}
