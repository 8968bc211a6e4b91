//! Scenarios: a request in a lab, what is to become of it, and by which way.
//!
//! A scenario is a [`file::File`]; [`cases()`] resolves it and its variants in their lab,
//! [`run()`] runs one on a [`Datapath`], and [`Report`] is what comes of them. Nothing but the
//! datapath differs between memory and AF_XDP.

mod case;
mod datapath;
pub mod file;
mod library;
mod patch;
mod print;
mod report;
mod run;
mod verdict;

pub use case::{Case, MAX_TIME, MAX_TIME_DENIED, Wanted, cases};
pub use datapath::{Answer, BadUrl, Datapath, Request, Session, Url};
pub use library::{Source, find, names};
pub use patch::merge;
pub use print::{NAME, checks, full, headline};
pub use report::{
    CaseReport, Check, Comparison, ElementReport, JourneyReport, Name, Report, VERSION,
};
pub use run::{Run, run};
pub use verdict::{Denial, denial, eni_of, flow_of};

use clap::ValueEnum;

use crate::live::session::AfXdp;
use crate::memory::Memory;
use crate::oracle::KernelNodes;

/// The datapaths a scenario can run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// In this process, in virtual time: no root, no namespaces.
    #[default]
    Memory,
    /// In network namespaces, over AF_XDP sockets, with curl and a web server.
    Afxdp,
    /// On nodes of a guest's Linux kernel, with our VPC and the hosts of memory.
    Kernel,
}

/// The datapath of a kind; `afxdp` is the one on AF_XDP.
#[must_use]
pub fn datapath(kind: Kind, afxdp: AfXdp) -> Box<dyn Datapath> {
    match kind {
        Kind::Memory => Box::new(Memory),
        Kind::Afxdp => Box::new(afxdp),
        Kind::Kernel => Box::new(KernelNodes),
    }
}
