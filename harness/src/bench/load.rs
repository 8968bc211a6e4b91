//! What is offered: sizes, flows, and between whom.

use std::fmt;
use std::str::FromStr;

use anyhow::bail;
use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::generator::Input;

/// Bytes of the checksum that a wire adds to a frame.
pub const FRAME_CHECK: usize = 4;
/// Bytes of preamble and gap that a wire takes beside each frame.
const WIRE_GAP: usize = 20;
/// The smallest and the largest frame, checksum included: Ethernet's, and an MTU of 8500.
const SIZES: std::ops::RangeInclusive<u16> = 64..=8_518;
/// The largest frame of an MTU of 1500, checksum included.
const MOST_ORDINARY: u16 = 1_518;
/// The largest XDP frame, checksum included: with what the kernel keeps beside it, it takes a page.
const MOST_LIVE: u16 = 3_400;
/// Bytes in front of a payload.
const HEADERS: [(Proto, usize); 2] = [(Proto::Udp, 42), (Proto::Tcp, 54)];
/// Bytes of a payload that carries the time.
const STAMP: usize = 10;
/// Source ports that a pod has for the flows to one service.
pub const PORTS: u32 = 50_000;
/// Most frames of a mix before it begins again.
const LONGEST_MIX: u32 = 1_000;

/// The transport of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Proto {
    /// Datagrams.
    Udp,
    /// Segments of connections that have been opened by a handshake.
    Tcp,
}

impl Proto {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// Sizes of frames in bytes on a wire, checksum included, each with its share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Mix(Vec<(u16, u32)>);

impl Mix {
    /// Frames of one size.
    #[must_use]
    pub fn of(size: u16) -> Self {
        Self(vec![(size, 1)])
    }

    /// The sizes, in the order in which they were given.
    pub fn sizes(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().map(|(size, _)| *size)
    }

    /// Whether a frame is longer than an MTU of 1500 has them, so that the lab's is 8500.
    #[must_use]
    pub fn is_jumbo(&self) -> bool {
        self.sizes().any(|size| size > MOST_ORDINARY)
    }

    /// The places of the sizes in the order in which frames take them, over and over: each size
    /// as often as its share says, spread evenly.
    #[must_use]
    pub fn pattern(&self) -> Vec<usize> {
        let total: u32 = self.0.iter().map(|(_, share)| share).sum();
        let mut due = vec![0_i64; self.0.len()];
        let mut pattern = Vec::new();
        for _ in 0..total {
            for (due, (_, share)) in due.iter_mut().zip(&self.0) {
                *due += i64::from(*share);
            }
            let next = (0..due.len()).max_by_key(|at| (due[*at], usize::MAX - at)).unwrap_or(0);
            due[next] -= i64::from(total);
            pattern.push(next);
        }
        pattern
    }

    /// Bytes of the average frame.
    #[must_use]
    pub fn mean(&self) -> f64 {
        let sum = |value: fn(&(u16, u32)) -> f64| self.0.iter().map(value).sum::<f64>();
        sum(|(size, share)| f64::from(*size) * f64::from(*share)) / sum(|(_, n)| f64::from(*n))
    }

    /// What so many frames a second are in Gb/s: by the frames themselves (layer 2), and with what
    /// a wire takes beside them (layer 1).
    #[must_use]
    pub fn gbps(&self, frames_per_second: f64) -> [f64; 2] {
        [0, WIRE_GAP].map(|more| (self.mean() + more as f64) * 8.0 * frames_per_second / 1e9)
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "imix" {
            return "64:7,570:4,1518:1".parse();
        }
        let part = |part: &str| -> Result<(u16, u32), String> {
            let (size, share) = part.split_once(':').unwrap_or((part, "1"));
            let size = size.parse().map_err(|_| format!("{size:?} is no number of bytes"))?;
            let share = share.parse().map_err(|_| format!("{share:?} is no share"))?;
            let (least, most) = (SIZES.start(), SIZES.end());
            if !SIZES.contains(&size) {
                return Err(format!("a frame has {least} to {most} bytes, not {size}"));
            }
            Some((size, share)).filter(|_| share > 0).ok_or_else(|| "a share is 1 or more".into())
        };
        let parts = text.split(',').map(part).collect::<Result<Vec<_>, _>>()?;
        let total = parts.iter().fold(0_u32, |sum, (_, share)| sum.saturating_add(*share));
        if total > LONGEST_MIX {
            return Err(format!("the shares add up to {LONGEST_MIX} at most, not {total}"));
        }
        Ok(Self(parts))
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [(size, _)] = self.0[..] {
            return write!(f, "{size}-byte");
        }
        let parts: Vec<_> = self.0.iter().map(|(size, share)| format!("{size}:{share}")).collect();
        f.write_str(&parts.join(","))
    }
}

/// What is offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Load {
    /// Sizes of frames in bytes with their shares. With one above 1518 the lab's MTU is 8500.
    pub sizes: Mix,
    /// Flows, all of them established both ways before anything is measured.
    pub flows: u32,
    /// Pods that send, each with a member ENI and so a VID of its own.
    pub pods: u16,
    /// Services that are asked.
    pub services: u16,
    /// The transport.
    pub proto: Proto,
    /// Of the order in which flows have their turns.
    pub seed: u64,
    /// How the load comes in.
    pub input: Input,
}

impl Load {
    /// 64-byte UDP frames of 1,000 flows from a pod to a service.
    #[must_use]
    pub fn smallest(input: Input) -> Self {
        Self {
            sizes: Mix::of(64),
            flows: 1_000,
            pods: 1,
            services: 1,
            proto: Proto::Udp,
            seed: 1,
            input,
        }
    }

    /// The same with so many flows, to as few services as have the ports for them.
    #[must_use]
    pub fn with_flows(self, flows: u32) -> Self {
        let services = flows.div_ceil(PORTS * u32::from(self.pods)).max(1);
        Self { flows, services: u16::try_from(services).unwrap_or(u16::MAX), ..self }
    }

    /// Whether it can be offered as XDP frames: so many flows, of one size that a page has room for.
    ///
    /// # Errors
    /// What does not fit, named as arguments do.
    pub fn check_live(&self) -> anyhow::Result<()> {
        let Self { sizes, flows, .. } = self;
        if self.services > 1 {
            bail!("--flows {flows}: XDP frames have {PORTS}; see --input");
        }
        let mut each = sizes.sizes();
        match (each.next(), each.next()) {
            (Some(size), None) if size > MOST_LIVE => {
                bail!("--size {size}: XDP frames have {MOST_LIVE} bytes at most; see --input")
            }
            (_, Some(_)) => bail!("--size {sizes}: XDP frames are of one size; see --input"),
            _ => Ok(()),
        }
    }

    /// What it is, in words.
    #[must_use]
    pub fn in_words(&self) -> String {
        format!(
            "{}, {} frames{}, {} from {} to {} as {}, seed {}",
            self.proto.name().to_uppercase(),
            self.sizes,
            if self.sizes.is_jumbo() { ", MTU 8500" } else { "" },
            many(self.flows, "flow"),
            many(self.pods.into(), "pod"),
            many(self.services.into(), "service"),
            self.input.name(),
            self.seed,
        )
    }

    /// Whether there are so many flows, and room in each frame for what it carries; `stamped`
    /// frames carry the time.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check(&self, stamped: bool) -> anyhow::Result<()> {
        let most = PORTS * u32::from(self.pods) * u32::from(self.services);
        if self.flows == 0 || self.flows > most {
            let (pods, services) = (self.pods, self.services);
            bail!("{pods} pods have 1 to {most} flows to {services} services, not {}", self.flows);
        }
        let headers = HEADERS.iter().find(|(proto, _)| *proto == self.proto).map_or(0, |h| h.1);
        let least =
            if stamped { headers + STAMP + FRAME_CHECK } else { usize::from(*SIZES.start()) };
        if let Some(size) = self.sizes.sizes().find(|size| usize::from(*size) < least) {
            let proto = self.proto.name();
            bail!("a {proto} frame that carries the time has {least} bytes or more, not {size}");
        }
        if self.input == Input::Live {
            bail!(
                "XDP frames are offered as fast as the kernel makes them, never at a given rate: \
                 only `bench smoke` measures under them"
            );
        }
        if self.input == Input::Sockets && (self.proto, stamped) != (Proto::Udp, false) {
            bail!("sockets send datagrams that do not carry the time");
        }
        Ok(())
    }
}

/// A number of things.
#[must_use]
pub fn many(count: u32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(text: &str) -> Result<Mix, String> {
        text.parse()
    }

    #[test]
    fn a_mix_is_read_spread_and_averaged() {
        let imix = mix("imix").expect("a mix");
        assert_eq!(imix, mix("64:7,570:4,1518:1").expect("a mix"));
        let pattern = imix.pattern();
        let count = |size| pattern.iter().filter(|at| **at == size).count();
        assert_eq!([0, 1, 2].map(count), [7, 4, 1]);
        // No more than two small ones follow each other.
        assert!(!pattern.windows(3).any(|three| three == [0, 0, 0]), "{pattern:?}");
        assert!((imix.mean() - (7.0 * 64.0 + 4.0 * 570.0 + 1_518.0) / 12.0).abs() < 1e-9);
        // 14.88 million of the smallest frames fill a wire of 10 Gb/s.
        let [frames, wire] = Mix::of(64).gbps(14_880_952.0);
        assert!((wire - 10.0).abs() < 1e-4 && (frames - 7.619).abs() < 1e-3);
    }

    #[test]
    fn one_long_frame_makes_a_load_jumbo() {
        for (sizes, jumbo) in [("1518", false), ("imix", false), ("1519", true), ("64,8518", true)]
        {
            let load = Load { sizes: mix(sizes).expect("a mix"), ..Load::smallest(Input::Skb) };
            assert_eq!(load.sizes.is_jumbo(), jumbo, "{sizes}");
            assert_eq!(load.in_words().contains("MTU 8500"), jumbo, "{sizes}");
        }
    }

    #[test]
    fn what_is_no_mix_is_refused_with_the_reason() {
        for (text, why) in [
            ("63", "64 to 8518"),
            ("8519", "64 to 8518"),
            ("small", "no number"),
            ("64:0", "1 or more"),
            ("64:x", "no share"),
            ("64:999,128:2", "at most"),
        ] {
            assert!(mix(text).is_err_and(|error| error.contains(why)), "{text}");
        }
    }

    #[test]
    fn more_flows_ask_more_services() {
        for (flows, services) in [(1, 1), (PORTS, 1), (PORTS + 1, 2), (1_000_000, 20)] {
            let load = Load::smallest(Input::Skb).with_flows(flows);
            assert_eq!((load.flows, load.services), (flows, services));
            assert!(load.check(false).is_ok());
        }
    }

    #[test]
    fn a_load_without_room_is_refused() {
        let mut load = Load::smallest(Input::Skb);
        assert!(load.check(true).is_ok());
        load.proto = Proto::Tcp;
        assert!(load.check(false).is_ok());
        assert!(load.check(true).is_err_and(|error| error.to_string().contains("68 bytes")));
        load.flows = PORTS + 1;
        assert!(load.check(false).is_err_and(|error| error.to_string().contains("50000 flows")));
        load = Load::smallest(Input::Live);
        assert!(load.check(false).is_err() && load.check_live().is_ok());
        for (sizes, why) in [("64,128", "of one size"), ("3401", "3400 bytes at most")] {
            load.sizes = mix(sizes).expect("a mix");
            assert!(load.check_live().is_err_and(|error| error.to_string().contains(why)));
        }
    }
}
