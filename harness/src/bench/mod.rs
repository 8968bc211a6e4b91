//! Measuring the datapath on real veths, always against a reference taken in the same minute: the
//! speed of a virtual machine changes by half while one watches (spec BENCH-1 to BENCH-10).
//!
//! | file | what |
//! |---|---|
//! | `bed` | the lab, its veths and packet memories |
//! | `frames`, `far_end`, `rehearsal` | the flows; sending one datagram of each and checking it |
//! | `generator`, `sink`, `clock` | the load; counting it where it arrives; what it costs |
//! | `forwarder`, `peer` | what is measured, and what it is held against |
//! | `window` | one forwarder, one input |
//! | `compare` | rounds |
//! | `latency` | requests and answers, one at a time |
//! | `machine`, `report` | cores and priority; what is printed |

pub mod bed;
pub mod clock;
pub mod compare;
pub mod far_end;
pub mod forwarder;
pub mod frames;
pub mod generator;
pub mod latency;
pub mod machine;
pub mod peer;
pub mod rehearsal;
pub mod report;
pub mod sink;
pub mod window;
