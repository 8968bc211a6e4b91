//! Network namespaces, the veths between them, and what lives inside.
//!
//! A lab is first written down as a [`plan::Topology`], which is data only, and then made in one
//! go by [`apply::apply`]: all of it or nothing. [`teardown::remove`] takes it away again by the
//! lab's name alone, so it needs no record of what was made and works on what an interrupted run
//! left behind.
//!
//! A thread's namespace is a property of that thread. Everything here that has to be inside a
//! namespace therefore runs on a thread of its own that ends with the call; the caller's thread
//! never changes its namespace, except through [`namespace::enter`], which says so.
//!
//! All of it needs root (`CAP_SYS_ADMIN` and `CAP_NET_ADMIN`).

pub mod apply;
pub mod audit;
mod carrier;
mod connection;
mod error;
mod links;
pub mod namespace;
pub mod plan;
pub mod private;
pub mod process;
pub mod stats;
pub mod sysfs;
pub mod teardown;

pub use apply::apply;
pub(crate) use apply::write_sysctl;
pub use error::{NetError, Refusal};
