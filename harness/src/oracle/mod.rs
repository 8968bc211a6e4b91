//! A real kernel as the judge: a guest that runs cases on nodes of its own kernel, and what both
//! saw held against each other (spec ORA-1 to ORA-9).

mod boot;
mod exceptions;
pub mod guest;
mod guests;
mod job;
mod judge;
mod scenario;

pub use boot::GuestKernel;
pub use exceptions::{Exception, Exceptions};
pub use guests::not_judged;
pub use job::{Answer, Job};
pub use judge::{GUESTS, Judgement, judge, judge_expected};
pub use scenario::{KernelNodes, Scenario};
