//! Measuring the datapath on real veths, always against a reference taken in the same minute: the
//! speed of a virtual machine changes by half while one watches (spec BENCH-1 to BENCH-21).
//!
//! | file | what |
//! |---|---|
//! | `load`, `lab`, `frames` | what is offered, between whom, and what it has to be after the way |
//! | `bed`, `far_end` | the lab with its veths and packet memories, and the ends that the bench plays |
//! | `rehearsal` | sending what begins each flow and checking it |
//! | `generator`, `sink`, `tally` | the load, counting it where it arrives, and adding up |
//! | `forwarder`, `node`, `l2fwd`, `peer` | what is measured, and what it is held against |
//! | `run`, `window`, `search` | one forwarder under load: at full speed, or at rates that are tried |
//! | `session` | what every measurement begins and ends with |
//! | `talk` | both ends of TCP connections |
//! | `clock` | how much processor time that takes |
//! | `smoke`, `compare`, `rate`, `latency`, `answers`, `connections`, `churn`, `up`, `idle` | what is measured |
//! | `machine`, `nearness` | cores and priority; how near the cores are to each other |
//! | `report`, `diff` | what is printed; two of that |

pub mod answers;
pub mod bed;
pub mod churn;
pub mod clock;
pub mod compare;
pub mod connections;
pub mod diff;
pub mod far_end;
pub mod forwarder;
pub mod frames;
pub mod generator;
pub mod idle;
pub mod l2fwd;
pub mod lab;
pub mod latency;
pub mod load;
pub mod machine;
pub mod nearness;
pub mod node;
pub mod peer;
pub mod rate;
pub mod rehearsal;
pub mod report;
pub mod run;
pub mod search;
pub mod session;
pub mod sink;
pub mod smoke;
pub mod talk;
pub mod tally;
pub mod up;
pub mod window;
