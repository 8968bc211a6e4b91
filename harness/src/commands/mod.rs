//! The faces of the command line, one file a group.

pub mod doctor;
pub mod explain;
pub mod lab;
pub mod replay;
pub mod run;
pub mod show;
