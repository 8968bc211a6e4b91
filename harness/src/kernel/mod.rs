//! Nodes in a Linux kernel: network namespaces programmed as Terway and kube-proxy program a
//! node, with our VPC between them (spec ORA-1 to ORA-9).
//!
//! This is for a kernel of its own, booted for the purpose ([`crate::oracle`]): it loads modules,
//! and what it measures would be disturbed by whatever else a machine does.

mod bed;
mod link;
mod program;
mod settings;
mod stack;
mod tables;
pub(crate) mod tool;
mod wires;

pub use bed::Kernel;
pub use link::KernelLink;
pub use program::Program;
