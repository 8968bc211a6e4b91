//! A real kernel as the judge.
pub mod boot;
pub mod guest;
