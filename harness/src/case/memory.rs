//! Cases in memory: virtual time, silent hosts.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use datapath::lab::Lab;
use datapath::link::{ElementId, HostId, MemoryLink, Tap};

use super::bed::{Bed, CaseDatapath, Crossing, Tables};
use super::tables::{drops, tables};
use crate::journey::Recording;

/// Hops kept of each element.
const HOPS: usize = 65_536;

/// The datapath in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory;

impl CaseDatapath for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn start(&self, lab: &Lab, _text: &str) -> anyhow::Result<Box<dyn Bed>> {
        let mut link = MemoryLink::new(lab.clone());
        link.open_journals(HOPS);
        let seen = Rc::<RefCell<Vec<Crossing>>>::default();
        let watched = Rc::clone(&seen);
        link.watch(move |_, tap, direction, frame| {
            if let Tap::Port(socket) = tap {
                watched.borrow_mut().push(Crossing { socket, direction, frame: frame.to_vec() });
            }
        });
        Ok(Box::new(MemoryBed { link, seen }))
    }
}

/// A lab in memory.
struct MemoryBed {
    link: MemoryLink,
    seen: Rc<RefCell<Vec<Crossing>>>,
}

impl Bed for MemoryBed {
    fn send(&mut self, from: HostId, frame: &[u8]) -> anyhow::Result<()> {
        anyhow::ensure!(self.link.send(from, frame), "the lab has no such host");
        Ok(())
    }

    fn settle(&mut self) -> anyhow::Result<Vec<Crossing>> {
        self.link.settle();
        while self.link.take_delivery().is_some() {}
        Ok(self.seen.take())
    }

    fn advance(&mut self, by: Duration) -> anyhow::Result<()> {
        let until = self.link.now() + by;
        self.link.advance(until);
        Ok(())
    }

    fn apply(&mut self, lab: &Lab, _text: &str) -> anyhow::Result<()> {
        anyhow::ensure!(self.link.apply(lab.clone()), "only profile, switches and services change");
        Ok(())
    }

    fn tables(&mut self, node: usize) -> anyhow::Result<Tables> {
        let at = self.link.node(node).context("the lab has no such node")?;
        Ok(tables(self.link.lab(), at, self.link.now()))
    }

    fn drops(&mut self, element: ElementId) -> anyhow::Result<Vec<String>> {
        let element = self.link.element(element).context("the lab has no such element")?;
        Ok(drops(element.ledger()))
    }

    fn recording(&mut self) -> Option<Recording> {
        Some(Recording::of(&mut self.link, Vec::new()))
    }
}
