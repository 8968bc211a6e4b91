//! Who owns which frame of an arena.
//!
//! Plain bookkeeping without a system call, but the memory safety of the crate stands on it: a
//! frame number becomes a writable buffer only when this table says that nobody else has it.

/// Frames an element may have in hand while it works on one batch; also the largest number
/// moved in or out of a ring at once.
pub(crate) const BATCH: usize = 64;

/// Frames of a run: room for the largest packet of a lab, whose MTU is 8,500 at most.
pub(crate) const RUN: u32 = 5;

const FREE: u16 = 0;
const HAND: u16 = 1;
const FIRST_PORT: u16 = 2;
/// Largest number of ports one arena serves: each takes two values of the owner table.
const MAX_PORTS: usize = ((u16::MAX - FIRST_PORT) / 2) as usize;

/// A port's place in the owner table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortId(u16);

impl PortId {
    fn fill(self) -> u16 {
        FIRST_PORT + 2 * self.0
    }

    fn tx(self) -> u16 {
        self.fill() + 1
    }
}

/// Where the frames of an arena are at one moment. The four always add up to its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Frames nobody uses.
    pub free: usize,
    /// Frames the kernel holds to receive into, or has received and nobody has taken yet.
    pub in_fill: usize,
    /// Frames handed to the kernel to send and not reported back.
    pub in_tx: usize,
    /// Frames and runs that exist as a [`UmemFrame`](crate::UmemFrame) somewhere.
    pub in_hand: usize,
}

impl Census {
    /// All frames of the arena.
    #[must_use]
    pub fn total(&self) -> usize {
        self.free + self.in_fill + self.in_tx + self.in_hand
    }
}

/// Mistakes in the handling of frames, found by the owner table. All stay zero unless this crate
/// or the kernel has a bug.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Frames given back twice. They were ignored.
    pub double_free: u64,
    /// Descriptors of a receive or completion ring whose frame was not with that ring, or which
    /// reach over the end of their frame. They were ignored.
    pub foreign: u64,
}

/// What a port has been promised: it can always fill its rings again.
#[derive(Clone, Copy, Debug)]
struct Share {
    fill: usize,
    tx: usize,
}

/// An arena too small for one more port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    pub(crate) need: usize,
    pub(crate) left: usize,
}

/// The owner of every frame and the list of the free ones.
///
/// Behind the frames an arena may have *runs*: frames beside each other that are used as one piece
/// of memory, for packets that no single frame holds. A run has the number of its first frame. It
/// is free or in hand, never with a ring.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Of every frame, and behind them of every run.
    owner: Vec<u16>,
    free: Vec<u32>,
    free_runs: Vec<u32>,
    /// Frames that are not in a run; the number of the first that is.
    frames: u32,
    ports: Vec<Option<Share>>,
    held: usize,
    in_fill: usize,
    /// Frames that the fill rings of all ports hold when full.
    promised: usize,
    faults: Faults,
}

impl Pool {
    /// All `frames` frames and `runs` runs free; of the frames, `held` are kept for what elements
    /// hold themselves.
    pub(crate) fn new(frames: u32, runs: u32, held: usize) -> Self {
        Self {
            owner: vec![FREE; (frames + runs) as usize],
            // Taken from the end, so that low numbers are used first and stay warm in the cache.
            free: (0..frames).rev().collect(),
            free_runs: (0..runs).rev().map(|run| frames + run * RUN).collect(),
            frames,
            ports: Vec::new(),
            held,
            in_fill: 0,
            promised: 0,
            faults: Faults::default(),
        }
    }

    /// Where the owner of what has this number is noted. For the number of no frame and no run,
    /// nowhere.
    fn place(&self, number: u32) -> Option<usize> {
        let Some(behind) = number.checked_sub(self.frames) else { return Some(number as usize) };
        behind.is_multiple_of(RUN).then_some((self.frames + behind / RUN) as usize)
    }

    /// Reserves frames for a port's rings.
    pub(crate) fn register(&mut self, fill: usize, tx: usize) -> Result<PortId, Shortage> {
        let reserved: usize = self.ports.iter().flatten().map(|s| s.fill + s.tx).sum();
        let left = (self.frames as usize).saturating_sub(reserved + self.held + BATCH);
        let need = fill + tx;
        let at = self.ports.iter().position(Option::is_none).unwrap_or(self.ports.len());
        if need > left || at >= MAX_PORTS {
            return Err(Shortage { need, left });
        }
        if at == self.ports.len() {
            self.ports.push(None);
        }
        self.ports[at] = Some(Share { fill, tx });
        self.promised += fill;
        Ok(PortId(at as u16))
    }

    /// Forgets a port and frees every frame its rings held. To be called only after the port's
    /// sockets are closed, when the kernel touches none of them any more.
    pub(crate) fn unregister(&mut self, port: PortId) {
        for (owner, number) in self.owner.iter_mut().zip(0..self.frames) {
            if *owner == port.fill() {
                self.in_fill -= 1;
            }
            if *owner == port.fill() || *owner == port.tx() {
                *owner = FREE;
                self.free.push(number);
            }
        }
        let share = self.ports.get_mut(usize::from(port.0)).and_then(Option::take);
        self.promised -= share.map_or(0, |share| share.fill);
    }

    /// A free frame for a frame of our own. None where the rest is owed to fill rings: a frame
    /// made here must never leave a port without buffers to receive into.
    pub(crate) fn take(&mut self) -> Option<u32> {
        if self.free.len() <= self.promised.saturating_sub(self.in_fill) {
            return None;
        }
        let number = self.free.pop()?;
        self.owner[number as usize] = HAND;
        Some(number)
    }

    /// A free run.
    pub(crate) fn take_run(&mut self) -> Option<u32> {
        let number = self.free_runs.pop()?;
        if let Some(place) = self.place(number) {
            self.owner[place] = HAND;
        }
        Some(number)
    }

    /// Frees a frame or run in hand.
    pub(crate) fn release(&mut self, number: u32) {
        self.hand_back(number, HAND);
    }

    /// Moves up to `want` free frames to a port's fill ring and appends their numbers to `to`.
    pub(crate) fn lend(&mut self, port: PortId, want: usize, to: &mut Vec<u32>) {
        let rest = self.free.len() - want.min(self.free.len());
        for number in self.free.drain(rest..) {
            self.owner[number as usize] = port.fill();
            self.in_fill += 1;
            to.push(number);
        }
    }

    /// Takes back lent frames that the fill ring had no room for.
    pub(crate) fn take_back(&mut self, port: PortId, numbers: &[u32]) {
        for &number in numbers {
            if self.hand_back(number, port.fill()) {
                self.in_fill -= 1;
            }
        }
    }

    /// Moves a frame that a port has received into hand. False (and a counted fault) where the
    /// frame was not with that port, so that no buffer may be made of it.
    #[must_use]
    pub(crate) fn claim(&mut self, port: PortId, number: u32) -> bool {
        // No run is ever with a port, so that what is noted of one is never taken for a frame's.
        match self.owner.get_mut(number as usize) {
            Some(owner) if *owner == port.fill() => {
                *owner = HAND;
                self.in_fill -= 1;
                true
            }
            _ => {
                self.fault();
                false
            }
        }
    }

    /// Moves a frame in hand to a port's transmit ring.
    pub(crate) fn sent(&mut self, port: PortId, number: u32) {
        if let Some(owner) = self.owner.get_mut(number as usize) {
            debug_assert_eq!(*owner, HAND, "frame {number} was sent by someone not having it");
            *owner = port.tx();
        }
    }

    /// Frees a frame that the kernel has sent.
    pub(crate) fn completed(&mut self, port: PortId, number: u32) -> bool {
        let known = self.owner.get(number as usize) == Some(&port.tx());
        if known {
            self.hand_back(number, port.tx());
        } else {
            self.fault();
        }
        known
    }

    /// Counts a descriptor that cannot be right.
    pub(crate) fn fault(&mut self) {
        self.faults.foreign += 1;
    }

    /// Mistakes found so far.
    pub(crate) fn faults(&self) -> Faults {
        self.faults
    }

    /// Counts the frames by owner, from the owner table itself.
    pub(crate) fn census(&self) -> Census {
        let mut census = Census::default();
        for &owner in &self.owner {
            match owner {
                FREE => census.free += 1,
                HAND => census.in_hand += 1,
                port if port % 2 == 0 => census.in_fill += 1,
                _ => census.in_tx += 1,
            }
        }
        debug_assert_eq!(census.free, self.free.len() + self.free_runs.len());
        debug_assert_eq!(census.in_fill, self.in_fill);
        census
    }

    fn hand_back(&mut self, number: u32, from: u16) -> bool {
        let place = self.place(number);
        match place.and_then(|place| self.owner.get_mut(place)) {
            Some(owner) if *owner == from => {
                *owner = FREE;
                let list = if number < self.frames { &mut self.free } else { &mut self.free_runs };
                list.push(number);
                true
            }
            _ => {
                debug_assert!(false, "frame {number} was given back twice");
                self.faults.double_free += 1;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lent(pool: &mut Pool, port: PortId, want: usize) -> Vec<u32> {
        let mut to = Vec::new();
        pool.lend(port, want, &mut to);
        to
    }

    #[test]
    fn a_frame_goes_round_and_every_station_is_counted() {
        let mut pool = Pool::new(200, 0, 0);
        let port = pool.register(100, 20).unwrap();
        let numbers = lent(&mut pool, port, 100);
        assert_eq!(numbers.len(), 100);
        assert!(pool.claim(port, numbers[0]));
        pool.sent(port, numbers[0]);
        assert!(pool.claim(port, numbers[1]));
        assert_eq!(pool.census(), Census { free: 100, in_fill: 98, in_tx: 1, in_hand: 1 });
        assert!(pool.completed(port, numbers[0]));
        pool.release(numbers[1]);
        assert_eq!(pool.census(), Census { free: 102, in_fill: 98, in_tx: 0, in_hand: 0 });
        assert_eq!(pool.faults(), Faults::default());
    }

    #[test]
    fn removing_a_port_returns_its_frames_and_nobody_elses() {
        let mut pool = Pool::new(400, 0, 0);
        let (a, b) = (pool.register(100, 20).unwrap(), pool.register(100, 20).unwrap());
        let of_a = lent(&mut pool, a, 100);
        lent(&mut pool, b, 100);
        assert!(pool.claim(a, of_a[3]) && pool.claim(a, of_a[4]));
        pool.sent(b, of_a[3]);
        pool.unregister(a);
        assert_eq!(pool.census(), Census { free: 298, in_fill: 100, in_tx: 1, in_hand: 1 });
        assert_eq!(pool.register(100, 20), Ok(a));
    }

    #[test]
    fn a_descriptor_of_somebody_elses_frame_is_refused() {
        let mut pool = Pool::new(300, 0, 0);
        let (a, b) = (pool.register(50, 10).unwrap(), pool.register(50, 10).unwrap());
        let of_a = lent(&mut pool, a, 1)[0];
        assert!(!pool.claim(b, of_a));
        assert!(!pool.claim(b, 299));
        assert!(!pool.claim(b, 300));
        assert!(!pool.completed(a, of_a));
        assert_eq!(pool.faults(), Faults { double_free: 0, foreign: 4 });
        assert!(pool.claim(a, of_a));
        assert!(!pool.claim(a, of_a));
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "given back twice"))]
    fn a_double_free_is_caught() {
        let mut pool = Pool::new(10, 0, 0);
        let number = pool.take().unwrap();
        pool.release(number);
        pool.release(number);
        assert_eq!(pool.faults().double_free, 1);
        assert_eq!(pool.census().free, 10);
    }

    #[test]
    fn made_frames_never_eat_what_fill_rings_are_owed() {
        let mut pool = Pool::new(100 + BATCH as u32, 0, 0);
        let port = pool.register(90, 10).unwrap();
        assert_eq!(lent(&mut pool, port, 60).len(), 60);
        let made = std::iter::from_fn(|| pool.take()).count();
        assert_eq!(made, 10 + BATCH);
        assert_eq!(lent(&mut pool, port, 30).len(), 30);
    }

    #[test]
    fn runs_are_taken_and_freed_beside_frames_and_never_received_into() {
        let mut pool = Pool::new(200, 2, 0);
        let port = pool.register(100, 20).unwrap();
        lent(&mut pool, port, 100);
        let runs: Vec<_> = std::iter::from_fn(|| pool.take_run()).collect();
        assert_eq!(runs, [200, 200 + RUN]);
        assert_eq!(pool.census(), Census { free: 100, in_fill: 100, in_tx: 0, in_hand: 2 });
        for number in 200..200 + 3 * RUN {
            assert!(!pool.claim(port, number) && !pool.completed(port, number));
        }
        pool.release(runs[1]);
        assert_eq!(pool.take_run(), Some(runs[1]));
        pool.release(runs[0]);
        pool.unregister(port);
        assert_eq!(pool.census(), Census { free: 201, in_fill: 0, in_tx: 0, in_hand: 1 });
    }

    #[test]
    fn a_port_without_a_full_share_is_refused() {
        let mut pool = Pool::new(200, 0, 6);
        assert!(pool.register(100, 20).is_ok());
        assert_eq!(pool.register(10, 1), Err(Shortage { need: 11, left: 10 }));
        assert!(pool.register(9, 1).is_ok());
    }
}
