//! Running a lab in memory on a feed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use datapath::counters::LedgerReport;
use datapath::lab::Lab;
use datapath::link::{ElementId, MemoryLink};
use datapath::time::Time;

use super::answer::Answerers;
use super::feed::Feed;
use super::interfaces::Interfaces;
use super::outcomes::{Outcomes, VERSION};
use super::port::InputPort;
use crate::pcap::Direction;

/// How long the lab runs on after its last frame where nothing else is said: longer than a frame
/// waits for a neighbour that never answers, so that no frame is left on its way.
pub const AFTER_LAST: Duration = Duration::from_secs(10);

/// A frame at a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight<'a> {
    /// When, in nanoseconds since 1970.
    pub at: u64,
    /// Where, an index into [`Interfaces::names`].
    pub interface: usize,
    /// Which way, seen from the element or host the interface is named after.
    pub direction: Direction,
    /// The frame.
    pub frame: &'a [u8],
    /// The outer port by which it leaves the data link here, an index into
    /// [`Interfaces::outer_names`].
    pub outer: Option<usize>,
}

/// How a replay is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Run until this virtual time and feed no frame later than that; where it is `None`, until
    /// [`AFTER_LAST`] has passed after the last frame.
    pub until: Option<Duration>,
    /// Have hosts answer echo, TCP and UDP on every port, but for what answers the feed itself.
    pub answer: bool,
}

/// Feeds the lab and shows `watch` every frame at every hop, in order.
pub fn run(
    lab: Lab,
    feed: &Feed,
    options: Options,
    watch: impl FnMut(Sight<'_>) + 'static,
) -> Outcomes {
    let last = feed.frames().last().map_or(Time::ZERO, |frame| frame.at);
    let until = options.until.map_or(last + AFTER_LAST, |until| Time::ZERO + until);
    let names: BTreeMap<InputPort, String> =
        InputPort::all(&lab).into_iter().map(|(name, port)| (port, name)).collect();
    let mut frames_in: BTreeMap<String, u64> = names.values().map(|n| (n.clone(), 0)).collect();
    let interfaces = Interfaces::new(&lab);
    let outer_names = interfaces.outer_names().to_vec();
    let mut link = MemoryLink::new(lab);
    let left = observe(&mut link, feed.epoch(), interfaces, watch);
    let mut hosts = if options.answer { Answerers::new(&link, feed) } else { Answerers::default() };
    for frame in feed.frames() {
        if frame.at > until {
            break;
        }
        hosts.advance(&mut link, frame.at);
        frame.port.feed(&mut link, &frame.bytes);
        hosts.settle(&mut link);
        if let Some(count) = names.get(&frame.port).and_then(|name| frames_in.get_mut(name)) {
            *count += 1;
        }
    }
    hosts.advance(&mut link, until);
    let frames_out = outer_names.into_iter().zip(left.borrow().iter().copied()).collect();
    outcomes(&link, until, frames_in, frames_out)
}

/// Has the link show its frames to `watch`; gives the number of frames that left by each outer
/// port, kept up to date.
fn observe(
    link: &mut MemoryLink,
    epoch: u64,
    interfaces: Interfaces,
    mut watch: impl FnMut(Sight<'_>) + 'static,
) -> Rc<RefCell<Vec<u64>>> {
    let left = Rc::new(RefCell::new(vec![0; interfaces.outer_names().len()]));
    let counted = Rc::clone(&left);
    link.watch(move |now, tap, way, frame| {
        let Some((interface, direction, frame)) = interfaces.at(tap, way, frame) else { return };
        let outer = interfaces.outer(interface, direction);
        if let Some(outer) = outer
            && let Some(count) = left.borrow_mut().get_mut(outer)
        {
            *count += 1;
        }
        let at = epoch.saturating_add(now.as_nanos());
        watch(Sight { at, interface, direction, frame: &frame, outer });
    });
    counted
}

fn outcomes(
    link: &MemoryLink,
    until: Time,
    frames_in: BTreeMap<String, u64>,
    frames_out: BTreeMap<String, u64>,
) -> Outcomes {
    let elements = ElementId::all(link.lab())
        .filter_map(|id| {
            let element = link.element(id)?;
            let report = LedgerReport::new(element.ledger(), element.held());
            Some((id.name(link.lab()).to_owned(), report))
        })
        .collect();
    Outcomes {
        version: VERSION,
        frames_in,
        frames_out,
        elements,
        link_lost: link.lost(),
        until: until.since(Time::ZERO).as_secs_f64(),
    }
}
