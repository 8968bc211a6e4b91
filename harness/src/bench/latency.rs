//! `bench compare --latency`: how long a request and its answer take through one node, one at a
//! time, beside a kernel that forwards (spec BENCH-9). The client is a socket in the pod; the
//! endpoint is the bench at the far end, asleep until a request arrives. Every way has two cores:
//! the node's loop has one of them, or, where the kernel forwards, the endpoint.

use std::fmt::{self, Write};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use crossbeam::channel::Receiver;
use datapath_io::{Waiter, Waker};
use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bed::{Bed, CALI, PRIMARY};
use super::compare::interruption;
use super::far_end::FarEnd;
use super::forwarder::{Forwarder, Kind, Row, Spread};
use super::frames::{FIRST_PORT, Flows, Frames};
use super::machine::{Cores, Machine, Priority, alone, calibrate, pin};
use super::peer::node::Node;
use super::report::{Calibration, Expectation, Report, VERSION};
use super::window::Interrupted;
use crate::live::worker::Poll;
use crate::net::namespace;
use benches::statistics::Estimate;

/// Requests before any is timed: neighbours are found, flows are known.
const WARM_UP: u32 = 200;
/// How long an answer may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of the headers before a datagram's payload.
const HEADERS: usize = 42;
/// Bytes of the checksum that a wire adds to a frame.
const FRAME_CHECK: usize = 4;

/// What answers are timed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The kernel as a router with one route, client and endpoint on a core each, as they are on
    /// two machines: what the others are held against.
    Kernel,
    /// The same with everything on one core: each wakes the next without waking a processor.
    KernelOneCore,
    /// The node, spinning.
    Spinning,
    /// The node, asleep when idle.
    Adaptive,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kernel, Self::KernelOneCore, Self::Spinning, Self::Adaptive];

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel-forward",
            Self::KernelOneCore => "kernel-forward-one-core",
            Self::Spinning => "node",
            Self::Adaptive => "node-adaptive",
        }
    }

    const fn kind(self) -> Kind {
        match self {
            Self::Kernel | Self::KernelOneCore => Kind::Forward,
            Self::Spinning | Self::Adaptive => Kind::Node,
        }
    }

    /// Where the endpoint runs. The client is on the generator's core.
    const fn endpoint(self, cores: Cores) -> usize {
        match self {
            Self::Kernel => cores.forwarder,
            Self::KernelOneCore | Self::Spinning | Self::Adaptive => cores.generator,
        }
    }

    /// Processors used.
    const fn cores(self) -> usize {
        match self {
            Self::KernelOneCore => 1,
            Self::Kernel | Self::Spinning | Self::Adaptive => 2,
        }
    }

    fn start(self, bed: &Bed, frames: &Frames, cores: Cores) -> anyhow::Result<Box<dyn Forwarder>> {
        let poll = match self {
            Self::Kernel | Self::KernelOneCore => {
                let row = Row { kind: Kind::Forward, spread: Spread::Sender };
                return row.start(bed, frames, cores);
            }
            Self::Spinning => Poll::Busy,
            Self::Adaptive => Poll::Adaptive,
        };
        Ok(Box::new(Node::start_polling(bed, cores.forwarder, poll)?))
    }
}

/// Times of one round, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Times {
    /// Requests answered.
    pub answered: u64,
    /// Requests without an answer within a second.
    pub lost: u64,
    /// Half of the answers took no longer.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// 99 of a hundred.
    pub p99: f64,
    /// 999 of a thousand.
    pub p999: f64,
    /// None took longer.
    pub max: f64,
}

/// What was measured of one way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LatencyReport {
    /// Its name.
    pub name: String,
    /// Processors used, those of client and endpoint included.
    pub cores: usize,
    /// The median time in microseconds, over the rounds.
    pub p50: Estimate,
    /// The time of 99 of a hundred answers.
    pub p99: Estimate,
    /// The median divided by the kernel's of the same round; none of the kernel itself.
    pub kernel_ratio: Option<Estimate>,
    /// What was expected of that ratio.
    pub expected: Option<Expectation>,
    /// Every round.
    pub rounds: Vec<Times>,
}

/// What to measure, for how long, and what is expected.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rounds; each measures every way.
    pub rounds: u32,
    /// For how long each is measured.
    pub time: Duration,
    /// The most that a way's median may be of the kernel's.
    pub expected: Vec<(Way, f64)>,
}

impl Plan {
    /// Measures, telling `progress` of it. Once the user interrupts it, the report is of the rounds
    /// that were complete.
    ///
    /// # Errors
    /// [`Interrupted`] in the first round, or where the machine cannot run it. Nothing is left
    /// behind in any case.
    pub fn measure(&self, mut progress: impl FnMut(Way, &Times)) -> anyhow::Result<Report> {
        let _alone = alone()?;
        // Before anything is made, so that whatever is made is also taken down.
        let interrupted = interruption()?;
        let cores = Cores::first_two()?;
        let flows = Flows::at_least(1);
        let bed = Bed::make(flows)?;
        let frames = Frames::of(&bed.lab, flows)?;
        let priority = Priority::raise();
        let machine = Machine::this(cores, &priority)?;
        let setting = Setting {
            bed: &bed,
            frames: &frames,
            cores,
            time: self.time,
            interrupted: &interrupted,
        };
        let mut rounds = Vec::new();
        let mut calibrations = Vec::new();
        for number in 0..self.rounds {
            calibrations.push(calibrate().as_secs_f64() * 1e3);
            match setting.round(number, &mut progress) {
                Ok(round) => rounds.push(round),
                Err(error) if error.is::<Interrupted>() && !rounds.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        let latency: Vec<_> = Way::ALL.iter().map(|way| self.report(*way, &rounds)).collect();
        let kept = latency.iter().all(|way| way.rounds.iter().all(|times| times.lost == 0));
        let reached = latency.iter().filter_map(|way| way.expected).all(|found| found.reached);
        Ok(Report {
            version: VERSION,
            passed: kept && reached,
            interrupted: rounds.len() < self.rounds as usize,
            machine,
            frame_bytes: frames.request(0).len() + FRAME_CHECK,
            loads: Vec::new(),
            latency,
            absent: Vec::new(),
            calibration: Calibration::of(&calibrations),
        })
    }

    fn report(&self, way: Way, rounds: &[[Times; Way::ALL.len()]]) -> LatencyReport {
        let of = |way: Way| rounds.iter().map(move |round| round[way as usize]);
        let over =
            |value: &dyn Fn(Times) -> f64| Estimate::of(&of(way).map(value).collect::<Vec<_>>());
        let ratios = of(way).zip(of(Way::Kernel)).map(|(times, kernel)| times.p50 / kernel.p50);
        let ratio = (way != Way::Kernel).then(|| Estimate::of(&ratios.collect::<Vec<_>>()));
        let expected = self.expected.iter().find(|(of, _)| *of == way);
        LatencyReport {
            name: way.name().to_owned(),
            cores: way.cores(),
            p50: over(&|times| times.p50),
            p99: over(&|times| times.p99),
            kernel_ratio: ratio,
            expected: expected.zip(ratio).map(|((_, most), found)| Expectation::most(*most, found)),
            rounds: of(way).collect(),
        }
    }
}

/// What stays the same from round to round.
struct Setting<'a> {
    bed: &'a Bed,
    frames: &'a Frames,
    cores: Cores,
    time: Duration,
    interrupted: &'a Receiver<()>,
}

impl Setting<'_> {
    /// Every way once; in each round another begins. The result is in the order of [`Way::ALL`].
    fn round(
        &self,
        number: u32,
        progress: &mut impl FnMut(Way, &Times),
    ) -> anyhow::Result<[Times; Way::ALL.len()]> {
        let mut order = Way::ALL;
        order.rotate_left(number as usize % Way::ALL.len());
        let mut found = [None; Way::ALL.len()];
        for way in order {
            let times = self.measure(way).with_context(|| way.name())?;
            progress(way, &times);
            found[way as usize] = Some(times);
        }
        let found: Vec<_> = found.into_iter().flatten().collect();
        found.try_into().map_err(|_| anyhow!("a way was not measured"))
    }

    fn measure(&self, way: Way) -> anyhow::Result<Times> {
        let forwarder = way.start(self.bed, self.frames, self.cores)?;
        let endpoint = Endpoint::open(self.bed, self.frames, way.kind())?;
        let client = client(self.bed, self.frames)?;
        let request = self.frames.request(0);
        let payload = request.get(HEADERS..).context("a request without payload")?;
        let waker = endpoint.waiter.waker();
        let times = thread::scope(|scope| {
            let answering = scope.spawn(|| {
                pin(way.endpoint(self.cores))?;
                endpoint.answer()
            });
            let wakes = WakeOnDrop(&waker);
            let asking = scope.spawn(|| {
                pin(self.cores.generator)?;
                self.ask(&client, payload)
            });
            let times = asking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            drop(wakes);
            answering.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            times
        })?;
        let books = forwarder.stop()?;
        match books.map(|books| books.imbalances).unwrap_or_default().first() {
            Some(imbalance) => bail!("the books do not add up: {imbalance}"),
            None => Ok(times),
        }
    }

    /// Asks one request after the other and times the answers.
    fn ask(&self, client: &UdpSocket, payload: &[u8]) -> anyhow::Result<Times> {
        let mut histogram = Histogram::<u64>::new_with_max(PATIENCE.as_nanos() as u64 * 2, 3)?;
        let mut lost = 0;
        let (mut asked, mut until) = (0, None);
        let mut buffer = [0; 64];
        while until.is_none_or(|until| Instant::now() < until) {
            if asked == WARM_UP {
                until = Some(Instant::now() + self.time);
            }
            asked += 1;
            let began = Instant::now();
            client.send(payload).context("send a request")?;
            match client.recv(&mut buffer) {
                Ok(len) if buffer.get(..len) == Some(payload) => {
                    let took = began.elapsed().as_nanos();
                    if until.is_some() {
                        histogram.saturating_record(u64::try_from(took).unwrap_or(u64::MAX));
                    }
                }
                Ok(_) => bail!("an answer is not what was sent"),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    lost += 1;
                }
                Err(error) => return Err(error).context("receive an answer"),
            }
            if self.interrupted.try_recv().is_ok() {
                return Err(Interrupted.into());
            }
        }
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
        let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(at);
        let max = histogram.max() as f64 / 1e3;
        Ok(Times { answered: histogram.len(), lost, p50, p90, p99, p999, max })
    }
}

/// A socket in the pod that talks to the service.
fn client(bed: &Bed, frames: &Frames) -> anyhow::Result<UdpSocket> {
    let pod = bed.far(CALI)?;
    let (service, ports) = frames.services();
    let socket = namespace::run_in(&pod.namespace, || -> std::io::Result<UdpSocket> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, FIRST_PORT))?;
        socket.connect((service, *ports.start()))?;
        Ok(socket)
    })??;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Ends the endpoint's thread, however its owner ends.
struct WakeOnDrop<'a>(&'a Waker);

impl Drop for WakeOnDrop<'_> {
    fn drop(&mut self) {
        // The event of a waiter has no reason to refuse.
        let _ = self.0.wake();
    }
}

/// The service's endpoint, behind the VPC.
struct Endpoint {
    vpc: FarEnd,
    /// Where answers go in, if it is another wire.
    trunk: Option<(FarEnd, u16)>,
    waiter: Waiter,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Endpoint {
    fn open(bed: &Bed, frames: &Frames, kind: Kind) -> anyhow::Result<Self> {
        let gateway = bed.gateway();
        let vpc = FarEnd::new(bed.open_far(PRIMARY)?, gateway);
        let waiter = Waiter::new()?;
        vpc.register(&waiter)?;
        let trunk = match kind.answered_at().filter(|socket| *socket != PRIMARY) {
            Some(socket) => {
                let queue = bed.lab.trunk_queue(0, bed.pod()?.vid);
                Some((FarEnd::new(bed.open_far(socket)?, gateway), queue))
            }
            None => None,
        };
        let [answer, _] = kind.answer(frames, 0);
        Ok(Self { vpc, trunk, waiter, request: kind.expected(frames, 0), answer })
    }

    /// Answers requests until it is woken.
    fn answer(mut self) -> anyhow::Result<()> {
        let mut ready = Vec::new();
        while !self.waiter.wait(None, &mut ready)? {
            for frame in self.vpc.take() {
                // The IP id is the client's stack's to choose, and the checksum goes with it.
                if !is_alike(&frame, &self.request) {
                    bail!("a request arrived wrong: {frame:02x?}");
                }
                match &mut self.trunk {
                    Some((trunk, queue)) => {
                        trunk.send(*queue, &self.answer);
                        trunk.flush();
                    }
                    None => {
                        self.vpc.send(0, &self.answer);
                        self.vpc.flush();
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether two untagged datagrams differ at most in the IP header's id, flags and checksum.
fn is_alike(one: &[u8], other: &[u8]) -> bool {
    const ID_AND_FLAGS: std::ops::Range<usize> = 18..22;
    const CHECKSUM: std::ops::Range<usize> = 24..26;
    one.len() == other.len()
        && one.iter().zip(other).enumerate().all(|(at, (one, other))| {
            one == other || ID_AND_FLAGS.contains(&at) || CHECKSUM.contains(&at)
        })
}

impl LatencyReport {
    /// The reports for people.
    ///
    /// # Errors
    /// What `to` says.
    pub(super) fn write_all(reports: &[Self], to: &mut impl Write) -> fmt::Result {
        let Some(first) = reports.first() else { return Ok(()) };
        writeln!(to, "\nrequest and answer, one at a time, {} rounds; us", first.rounds.len())?;
        let head = ["row", "cores", "p50", "p99", "p50/kernel", "95 % interval"];
        let [row, cores, p50, p99, ratio, interval] = head;
        write!(to, "  {row:<25} {cores:>5} {p50:>6} {p99:>10}  {ratio:>10}")?;
        writeln!(to, "  {interval:<14}  expected")?;
        for Self { name, cores, p50, p99, kernel_ratio, expected, .. } in reports {
            let (p50, p99) = (p50.median, p99.median);
            write!(to, "  {name:<25} {cores:>5} {p50:>6.1} {p99:>10.1}")?;
            if let Some(Estimate { median, low, high, .. }) = kernel_ratio {
                write!(to, "  {median:>10.3}  {low:.3} to {high:.3}")?;
            }
            if let Some(expected) = expected {
                write!(to, "  {expected}")?;
            }
            writeln!(to)?;
        }
        for Self { name, rounds, .. } in reports {
            let lost: u64 = rounds.iter().map(|times| times.lost).sum();
            if lost > 0 {
                writeln!(to, "FAULT {name}: {lost} requests without an answer")?;
            }
        }
        Ok(())
    }
}
