//! From capture files to frames in order of time.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use datapath::lab::Lab;
use datapath::port::{Buffer, Heap};
use datapath::time::Time;

use super::nearest::nearest;
use super::port::{InputPort, PortError};
use crate::pcap::{self, Capture, CaptureError, Direction, ETHERNET, Packet};

/// Largest capture file that is read, in bytes; it is held in memory whole.
pub const LARGEST_FILE: u64 = 2 << 30;

/// Longest time from the earliest frame to the latest, in nanoseconds: a hundred years. Virtual time
/// itself ends after 584.
pub const LONGEST_SPAN: u64 = 100 * 365 * 86_400 * 1_000_000_000;

/// One `--in`: `PORT=FILE` or `PORT=FILE#IFACE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The input port's name.
    pub port: String,
    /// The capture, with the interface behind a `#` if one is named.
    pub file: String,
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((port, file)) if !port.is_empty() && !file.is_empty() => {
                Ok(Self { port: port.to_owned(), file: file.to_owned() })
            }
            _ => Err(format!("expected PORT=FILE or PORT=FILE#IFACE, found `{text}`")),
        }
    }
}

impl Source {
    /// File and interface. A file whose whole name exists is taken as it is, so a `#` in a file's
    /// name does no harm; otherwise what follows the last `#` is the interface.
    fn split(&self) -> (&Path, Option<&str>) {
        let whole = Path::new(&self.file);
        match self.file.rsplit_once('#') {
            Some((file, interface)) if !whole.exists() => (Path::new(file), Some(interface)),
            _ => (whole, None),
        }
    }
}

/// Why the captures cannot be fed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// A port's name is unknown.
    #[error("--in {0}")]
    Port(PortError),
    /// A file cannot be read.
    #[error("{}: {cause}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file is too large to be held.
    #[error("{}: larger than 2 GiB, the most that one capture may have; cut it with editcap -c", .0.display())]
    TooLarge(PathBuf),
    /// A file is not a sound capture.
    #[error("{}: {cause}", file.display())]
    Capture {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        cause: CaptureError,
    },
    /// A file has no interface of that name.
    #[error("{}: no interface is called `{name}`; {present}", file.display())]
    NoInterface {
        /// The file.
        file: PathBuf,
        /// The name asked for.
        name: String,
        /// Which interfaces there are, in words.
        present: String,
    },
    /// An interface's frames are not Ethernet.
    #[error("{}: interface `{name}` has link type {link_type}; only Ethernet (1) can be replayed", file.display())]
    LinkType {
        /// The file.
        file: PathBuf,
        /// The interface.
        name: String,
        /// Its link type.
        link_type: u32,
    },
    /// Only the beginning of a frame was captured.
    #[error(
        "{}: packet {number}: only {captured} of {len} bytes were captured; \
         capture without a snap length", file.display()
    )]
    Cut {
        /// The file.
        file: PathBuf,
        /// The packet's number, counted from 1.
        number: u64,
        /// Bytes captured.
        captured: usize,
        /// Bytes on the wire.
        len: u32,
    },
    /// A frame is too long after the earliest one.
    #[error(
        "{}: packet {number}: its time is more than 100 years after that of the earliest packet",
        file.display()
    )]
    TooLate {
        /// The file.
        file: PathBuf,
        /// The packet's number, counted from 1.
        number: u64,
    },
    /// A frame is larger than a buffer.
    #[error(
        "{}: packet {number}: {len} bytes are more than a frame buffer holds; \
         capture with segmentation offload (GSO, GRO) switched off", file.display()
    )]
    Oversized {
        /// The file.
        file: PathBuf,
        /// The packet's number, counted from 1.
        number: u64,
        /// Its length in bytes.
        len: usize,
    },
}

/// One frame to be fed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When, in virtual time.
    pub at: Time,
    /// Where.
    pub port: InputPort,
    /// The frame from its Ethernet header on.
    pub bytes: Vec<u8>,
}

/// What was taken of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What `--in` says.
    pub source: Source,
    /// Packets that are fed.
    pub fed: usize,
    /// Packets of the chosen interface, or of the whole file.
    pub of: usize,
    /// Names of the interfaces whose packets are fed, in file order.
    pub interfaces: Vec<String>,
}

impl Taken {
    /// What the user may not have meant: no frame, or frames of several interfaces in one port.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let Self { source, fed, of, interfaces } = self;
        let file = &source.file;
        if *fed == 0 {
            let why = match of {
                0 => "it holds no packet of the interface",
                _ => {
                    "every packet that tells its direction is inbound, and only outbound ones are fed"
                }
            };
            return Some(format!("{file}: nothing is fed: {why}"));
        }
        (interfaces.len() > 1).then(|| {
            let names = interfaces.join(", ");
            format!(
                "{file}: frames of several interfaces go into {}: {names}; FILE#IFACE picks one",
                source.port
            )
        })
    }
}

/// Frames in the order in which they are fed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Feed {
    epoch: u64,
    frames: Vec<Frame>,
    taken: Vec<Taken>,
}

impl Feed {
    /// Brings frames into order: by time (nanoseconds since 1970), equal times as they are given.
    /// Frames without a time go first. No two times should be further apart than [`LONGEST_SPAN`].
    #[must_use]
    pub fn new(mut frames: Vec<(Option<u64>, InputPort, Vec<u8>)>) -> Self {
        let epoch = frames.iter().filter_map(|(at, ..)| *at).min().unwrap_or(0);
        frames.sort_by_key(|(at, ..)| at.unwrap_or(epoch));
        let frames = frames
            .into_iter()
            .map(|(at, port, bytes)| {
                let at = Time::from_nanos(at.unwrap_or(epoch) - epoch);
                Frame { at, port, bytes }
            })
            .collect();
        Self { epoch, frames, taken: Vec::new() }
    }

    /// Reads the captures of all sources.
    ///
    /// # Errors
    /// The first source that cannot be read, with file and packet.
    pub fn read(lab: &Lab, sources: &[Source]) -> Result<Self, FeedError> {
        let ports: Vec<InputPort> = sources
            .iter()
            .map(|source| InputPort::find(lab, &source.port).map_err(FeedError::Port))
            .collect::<Result<_, _>>()?;
        let mut frames = Vec::new();
        let mut taken = Vec::new();
        let mut latest = Vec::new();
        for (source, port) in sources.iter().zip(ports) {
            let (file, interface) = source.split();
            let bytes = read_file(file)?;
            let of_file = |cause| FeedError::Capture { file: file.to_owned(), cause };
            let capture = pcap::read(&bytes).map_err(of_file)?;
            let chosen = choose(&capture, file, interface)?;
            taken.push(chosen.taken(&capture, source));
            let last = chosen.packets.iter().max_by_key(|packet| packet.at);
            latest.extend(last.and_then(|packet| Some((packet.at?, packet.number, file))));
            frames.extend(chosen.packets.iter().map(|p| (p.at, port, p.data.to_vec())));
        }
        let feed = Self { taken, ..Self::new(frames) };
        match latest.into_iter().find(|(at, ..)| at - feed.epoch > LONGEST_SPAN) {
            Some((_, number, file)) => Err(FeedError::TooLate { file: file.to_owned(), number }),
            None => Ok(feed),
        }
    }

    /// What was taken of each file, in the order of the sources.
    #[must_use]
    pub fn taken(&self) -> &[Taken] {
        &self.taken
    }

    /// The time of the earliest frame, in nanoseconds since 1970: virtual time zero.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The frames, in order.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }
}

fn read_file(file: &Path) -> Result<Vec<u8>, FeedError> {
    let failed = |cause| FeedError::Io { file: file.to_owned(), cause };
    let open = File::open(file).map_err(failed)?;
    if open.metadata().map_err(failed)?.len() > LARGEST_FILE {
        return Err(FeedError::TooLarge(file.to_owned()));
    }
    let mut bytes = Vec::new();
    // A pipe or a growing file has no length to look at beforehand.
    open.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(FeedError::TooLarge(file.to_owned()));
    }
    Ok(bytes)
}

/// The packets of a capture that are fed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen<'a> {
    /// The packets, in file order. One without a time has that of the one before it in the file.
    pub packets: Vec<Packet<'a>>,
    /// Packets of the chosen interface, fed or not.
    of: usize,
}

impl Chosen<'_> {
    fn taken(&self, capture: &Capture<'_>, source: &Source) -> Taken {
        let numbers: BTreeSet<usize> = self.packets.iter().map(|packet| packet.interface).collect();
        let named = numbers.into_iter().filter_map(|number| capture.interfaces.get(number));
        Taken {
            source: source.clone(),
            fed: self.packets.len(),
            of: self.of,
            interfaces: named.map(|interface| interface.name.clone()).collect(),
        }
    }
}

/// Chooses the packets of `capture` that are fed: those of `interface`, or all; where any of them
/// tells its direction only the outbound ones. `file` is what messages call the capture.
///
/// # Errors
/// There is no such interface, or a packet is not Ethernet, not whole, or larger than a buffer.
pub fn choose<'a>(
    capture: &Capture<'a>,
    file: &Path,
    interface: Option<&str>,
) -> Result<Chosen<'a>, FeedError> {
    let wanted = |index: usize| {
        let name = capture.interfaces.get(index).map(|i| i.name.as_str());
        interface.is_none_or(|wanted| capture.names_interfaces && name == Some(wanted))
    };
    if let Some(name) = interface.filter(|_| !(0..capture.interfaces.len()).any(wanted)) {
        let (file, name) = (file.to_owned(), name.to_owned());
        let present = present(capture, &name);
        return Err(FeedError::NoInterface { file, name, present });
    }
    let mut last = None;
    let mut chosen = Vec::new();
    for packet in &capture.packets {
        last = packet.at.or(last);
        if wanted(packet.interface) {
            chosen.push(Packet { at: last, ..packet.clone() });
        }
    }
    let foreign = chosen.iter().filter_map(|packet| capture.interfaces.get(packet.interface));
    if let Some(other) = foreign.clone().find(|i| i.link_type != ETHERNET) {
        let (name, link_type) = (other.name.clone(), other.link_type);
        return Err(FeedError::LinkType { file: file.to_owned(), name, link_type });
    }
    let of = chosen.len();
    if chosen.iter().any(|packet| packet.direction.is_some()) {
        chosen.retain(|packet| packet.direction == Some(Direction::Outbound));
    }
    chosen.iter().try_for_each(|packet| check(packet, file))?;
    Ok(Chosen { packets: chosen, of })
}

/// Says which interfaces a capture has.
fn present(capture: &Capture<'_>, wrong: &str) -> String {
    if !capture.names_interfaces {
        return "a pcap file names no interfaces: leave the # out".to_owned();
    }
    let mut names: Vec<&str> = Vec::new();
    for interface in &capture.interfaces {
        if !names.contains(&interface.name.as_str()) {
            names.push(&interface.name);
        }
    }
    match names.len() {
        0 => "the file declares none".to_owned(),
        1..=32 => format!("there are: {}", names.join(", ")),
        n => format!("there are {n}, nearest: {}", nearest(wrong, names).join(", ")),
    }
}

/// Refuses a packet that is not whole or does not fit a buffer.
fn check(packet: &Packet<'_>, file: &Path) -> Result<(), FeedError> {
    let Packet { number, original_len, data, .. } = *packet;
    if packet.is_cut() {
        let file = file.to_owned();
        return Err(FeedError::Cut { file, number, captured: data.len(), len: original_len });
    }
    if !Heap::default().set_len(data.len()) {
        return Err(FeedError::Oversized { file: file.to_owned(), number, len: data.len() });
    }
    Ok(())
}
