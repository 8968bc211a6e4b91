//! `trunkline replay`: captures fed into the lab in memory, and what became of every frame.
//!
//! - [`InputPort`] names where frames go in, [`Source`] reads `PORT=FILE#IFACE` and [`Feed`]
//!   brings the frames of all sources into one order of time.
//! - [`run()`] sends them through a [`datapath::link::MemoryLink`] and shows every frame at every
//!   hop to a watcher; [`Interfaces`] says which hop is which capture interface.
//! - [`Recorder`] is the watcher that writes the captures, [`Outcomes`] the report.
//!
//! # Time
//!
//! Virtual time begins with the earliest frame that is fed. A frame goes in at its own time, after
//! the timers due until then have run; frames of equal time go in one after the other, in the
//! order of their sources, each only when nothing of the one before is on its way any more. Wires
//! and elements take no time. Timestamps of the output are the time of the earliest frame plus
//! virtual time, in nanoseconds, so two replays of the same input write the same bytes.
//!
//! # Answers
//!
//! Hosts answer ARP for their own addresses. With [`Options::answer`] they also answer echo, TCP
//! and UDP on every port, sending back what they get. What a capture asks for is left to the
//! capture: a packet whose tuple is the inverse of a fed frame's reaches its host but is not
//! answered, since the host never opened that connection and would reset it.
//!
//! # Hops
//!
//! | interface | frames seen at | inbound means |
//! |---|---|---|
//! | `pod:NS/NAME` | the pod's eth0 | the pod receives |
//! | `NODE/caliX` | the node's end of the pod's veth | the node receives |
//! | `NODE/eth0`, `NODE/eth1` | the node's ENIs, tagged as on the wire | the node receives |
//! | `NODE/host0` | the port to the node's own stack | the node receives (its stack sent) |
//! | `vpc/ENI` | the VPC's side of an ENI, without tag | the VPC receives |
//! | `outside:NAME` | the outside host | the host receives |
//!
//! Every interface of the lab is declared, in the order of this table and of the lab, whether
//! frames were seen there or not. On the VPC's side port and tag choose the ENI: a tag bound to a
//! member ENI is that ENI's and is taken off; a frame with any other tag is shown at the port's
//! own ENI, primary or trunk, with its tag.

mod answer;
mod engine;
mod feed;
mod interfaces;
mod nearest;
mod outcomes;
mod port;
mod record;

pub use engine::{AFTER_LAST, Options, Sight, run};
pub use feed::{Chosen, Feed, FeedError, Frame, LARGEST_FILE, LONGEST_SPAN, Source, Taken, choose};
pub use interfaces::Interfaces;
pub use outcomes::{Outcomes, schema};
pub use port::{InputPort, PortError};
pub use record::Recorder;
