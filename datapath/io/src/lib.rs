//! AF_XDP ports for the datapath: the only crate of the workspace with unsafe code.
//!
//! An [`Arena`] is one packet memory (UMEM) cut into 2 KiB frames. An [`XskPort`] binds every
//! queue of a network device to an AF_XDP socket on that memory and implements
//! [`datapath::port::Port`]; the frames it receives are [`UmemFrame`]s, which implement
//! [`datapath::port::Buffer`]. Frames move between the ports of an arena without being copied, and
//! between arenas with one copy. A packet longer than a frame comes and goes in several; in hand it
//! is one. [`budget::plan`] says how many frames and arenas a lab needs.
//!
//! Everything runs in copy mode on veth devices with native XDP. It takes `CAP_NET_RAW`,
//! `CAP_NET_ADMIN`, `CAP_BPF` and, beyond the locked-memory limit, `CAP_IPC_LOCK`; root has them.
//!
//! # How a worker uses it
//!
//! ```no_run
//! use std::time::{Duration, Instant};
//!
//! use datapath::port::Port;
//! use datapath::time::Time;
//! use datapath_io::budget::{ElementNeed, plan};
//! use datapath_io::{Arena, ArenaConfig, Idle, Waiter, XskPort};
//!
//! # fn enter(_namespace: &str) {}
//! # fn process(_: &mut Vec<datapath_io::UmemFrame<'_>>) {}
//! fn worker() -> Result<(), Box<dyn std::error::Error>> {
//!     // A pod's interface and a trunk with four queues; the element keeps 256 frames at most.
//!     let ports = vec![1.into(), 4.into()];
//!     let plan = plan(&[ElementNeed { ports, held: 256, jumbo: false }])?;
//!     let part = &plan.arenas[0];
//!     let arena = Arena::new(&ArenaConfig {
//!         anchor: "anchor0".to_owned(), // one end of a veth of our own, set up beforehand
//!         anchor_queue: 0,
//!         rings: part.rings,
//!         frames: part.frames,
//!         held: part.held,
//!         runs: part.runs,
//!     })?;
//!
//!     // A port is opened in its network namespace and used from anywhere.
//!     enter("node-1");
//!     let mut ports = [XskPort::open(&arena, "pod-a", 1)?, XskPort::open(&arena, "trunk", 4)?];
//!     enter("daemon");
//!
//!     let mut waiter = Waiter::new()?;
//!     for (port, token) in ports.iter().zip(0..) {
//!         waiter.add_port(token, port)?;
//!     }
//!     let waker = waiter.waker(); // for the thread that wants this one to stop
//! #   drop(waker);
//!
//!     let (mut frames, mut ready) = (Vec::with_capacity(64), Vec::new());
//!     let (began, mut idle) = (Instant::now(), Idle::new(Duration::from_micros(100)));
//!     loop {
//!         let mut worked = false;
//!         let now = Time::ZERO + began.elapsed();
//!         for port in &mut ports {
//!             for queue in 0..port.queues() {
//!                 port.receive(queue, 64, &mut frames);
//!                 worked |= !frames.is_empty();
//!                 process(&mut frames); // sends on some port, or drops and thereby frees
//!             }
//!         }
//!         ports.iter_mut().for_each(Port::flush);
//!         if idle.sleep_after(worked, now) {
//!             let sending = ports.iter().any(XskPort::is_sending);
//!             let most = Duration::from_millis(if sending { 1 } else { 1_000 });
//!             if waiter.wait(Some(most), &mut ready)? {
//!                 return Ok(());
//!             }
//!         }
//!     }
//! }
//! ```
//!
//! # Where a frame can get lost, and who counts it
//!
//! | place | counter |
//! |---|---|
//! | the datapath is too slow to read a queue | [`KernelCounters::rx_ring_full`] |
//! | no memory to put a packet of several frames together in | [`QueueCounters::rx_no_memory`] |
//! | as many frames as allowed are on their way out of a queue | [`QueueCounters::tx_full`] |
//! | the veth's own ring, 256 frames a queue, is full | `tx_dropped` of the sending interface |
//! | a queue without socket | `rx_queue_N_xdp_drops` of [`link::stats`] |
//! | anything a receiving veth dropped on a queue, the first line included | `rx_queue_N_drops` |
#![deny(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn)]

mod arena;
pub mod budget;
mod error;
mod frame;
mod large;
pub mod link;
mod live;
mod packet;
mod pool;
mod port;
pub mod probe;
mod rings;
mod sys;
mod wait;

pub use arena::{Arena, ArenaConfig};
pub use error::{ArenaError, LinkError, PortError};
pub use frame::UmemFrame;
pub use large::LargePages;
pub use live::{
    Frame, FusedQueue, LiveLink, Memory, OpenError, PortView, Rings, Site, Tapped, memory_plan,
};
pub use packet::PacketSocket;
pub use pool::{Census, Faults};
pub use port::{KernelCounters, QueueCounters, XskPort};
pub use wait::{Idle, Waiter, Waker};

/// Sends what libbpf has to say to `tracing` instead of standard error, for the whole process.
pub fn log_libbpf() {
    use libbpf_rs::PrintLevel;
    libbpf_rs::set_print(Some((PrintLevel::Debug, |level, message| {
        let message = message.trim_end();
        match level {
            PrintLevel::Warn => tracing::warn!(target: "libbpf", "{message}"),
            PrintLevel::Info => tracing::info!(target: "libbpf", "{message}"),
            PrintLevel::Debug => tracing::debug!(target: "libbpf", "{message}"),
        }
    })));
}
