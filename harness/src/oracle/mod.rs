//! A real kernel as the judge: a guest that runs cases on nodes of its own kernel, and what both
//! saw held against each other (spec ORA-1 to ORA-9).

pub mod boot;
pub mod guest;
