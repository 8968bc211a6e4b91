//! Measuring the datapath on real veths, always against a reference taken in the same minute: the
//! speed of a virtual machine changes by half while one watches (spec BENCH-1 to BENCH-5).
//!
//! | file | what |
//! |---|---|
//! | `bed` | the lab, its veths and packet memories |
//! | `frames`, `far_end`, `rehearsal` | the flows; sending one datagram of each and checking it |
//! | `generator`, `sink` | the load, and counting it where it arrives |
//! | `forwarder`, `fused`, `l2fwd` | what is measured, and what it is held against |
//! | `window` | one forwarder, one input |
//! | `smoke` | rounds |
//! | `up` | how long a large lab takes to come up |
//! | `machine`, `report` | cores and priority; what is printed |

pub mod bed;
pub mod far_end;
pub mod forwarder;
pub mod frames;
pub mod fused;
pub mod generator;
pub mod l2fwd;
pub mod machine;
pub mod rehearsal;
pub mod report;
pub mod sink;
pub mod smoke;
pub mod up;
pub mod window;
