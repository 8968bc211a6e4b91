//! What a run of a lab leaves behind, on every datapath.

use datapath::counters::LedgerReport;
use datapath::journey::{Fate, Hop};
use datapath::link::{ElementId, MemoryLink, Socket};
use serde::{Deserialize, Serialize};

/// The record of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// The hops of every element, in the order in which it ended them.
    pub hops: Vec<(ElementId, Vec<Hop>)>,
    /// What every element has counted.
    pub ledgers: Vec<(ElementId, LedgerReport)>,
    /// What went in and out at every port, counted outside the elements. A port may be left out
    /// where nothing did.
    pub ports: Vec<PortCount>,
    /// The nodes are a kernel's: of them only the frames at their ports are known.
    pub frames_only: bool,
}

/// Frames at a port of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortCount {
    /// The port.
    pub socket: Socket,
    /// Frames that came in.
    pub received: u64,
    /// Frames that went out.
    pub sent: u64,
}

impl PortCount {
    /// A port at which nothing happened.
    #[must_use]
    pub const fn new(socket: Socket) -> Self {
        Self { socket, received: 0, sent: 0 }
    }
}

impl Recording {
    /// The record of a lab in memory, whose journals close; `ports` is what was counted outside.
    #[must_use]
    pub fn of(link: &mut MemoryLink, ports: Vec<PortCount>) -> Self {
        let hops = link.close_journals();
        let ledger = |id| {
            let element = link.element(id)?;
            Some((id, LedgerReport::new(element.ledger(), element.held())))
        };
        let ledgers = ElementId::all(link.lab()).filter_map(ledger).collect();
        Self { hops, ledgers, ports, frames_only: false }
    }

    /// What the journals say went in and out at each port, sorted; ports without a frame are left
    /// out. A frame that an element still holds is in no journal yet.
    #[must_use]
    pub fn journal_counts(&self) -> Vec<PortCount> {
        let mut counts = std::collections::BTreeMap::new();
        for (element, hop) in self.each_hop() {
            let mut at = |port, received, sent| {
                let socket = Socket { element, port };
                let count = counts.entry(socket).or_insert_with(|| PortCount::new(socket));
                count.received += received;
                count.sent += sent;
            };
            if let Some(arrival) = hop.arrival {
                at(arrival.port, 1, 0);
            }
            if let Fate::Sent(departure) = hop.fate {
                at(departure.port, 0, 1);
            }
        }
        counts.into_values().collect()
    }

    fn each_hop(&self) -> impl Iterator<Item = (ElementId, &Hop)> {
        self.hops.iter().flat_map(|(element, hops)| hops.iter().map(|hop| (*element, hop)))
    }
}
