//! What a scalar of a lab file can be: each kind says what it expects, reads the text, and
//! describes itself for the JSON Schema.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;
use schemars::Schema;

use super::error::{alternatives, nearest, quoted};
use super::model::{
    GroupKind, KubeProxyVersion, Links, LocalNoEndpoint, Profile, RpFilter, Scheduler, VipPing,
};
use crate::wire::{Mac, Protocol};

/// Why a text was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not what [`Scalar::expected`] says.
    Unexpected(Option<String>),
    /// For a reason of its own: message and help.
    Because(String, Option<String>),
}

/// A kind of scalar.
pub trait Scalar: Sized {
    /// What is expected, as "an IPv4 address".
    fn expected() -> String;
    /// The value of `text`.
    ///
    /// # Errors
    /// Why `text` is not one.
    fn read(text: &str) -> Result<Self, Refusal>;
    /// Its JSON Schema.
    fn schema() -> Schema;
}

/// A JSON Schema that says only the type.
fn typed(kind: &str) -> Schema {
    let mut schema = Schema::default();
    schema.insert("type".to_owned(), kind.into());
    schema
}

/// Any text: a name or an ID, checked where it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub String);

impl Scalar for Text {
    fn expected() -> String {
        "a text".to_owned()
    }
    fn read(text: &str) -> Result<Self, Refusal> {
        Ok(Self(text.to_owned()))
    }
    fn schema() -> Schema {
        typed("string")
    }
}

impl Scalar for Ipv4Addr {
    fn expected() -> String {
        "an IPv4 address, as 10.0.4.20".to_owned()
    }
    fn read(text: &str) -> Result<Self, Refusal> {
        text.parse().map_err(|_| {
            let address = text.split('/').next().unwrap_or_default();
            let help = if text.parse::<Ipv6Addr>().is_ok() {
                Some("IPv6 is not supported yet".to_owned())
            } else if text.eq_ignore_ascii_case("None") {
                Some("a headless service has no virtual server: leave it out of the lab".to_owned())
            } else if address.len() < text.len() && address.parse::<Self>().is_ok() {
                Some(format!("leave the prefix length out: `{address}`"))
            } else {
                None
            };
            Refusal::Unexpected(help)
        })
    }
    fn schema() -> Schema {
        let mut schema = typed("string");
        schema.insert("format".to_owned(), "ipv4".into());
        schema
    }
}

impl Scalar for Ipv4Net {
    fn expected() -> String {
        "an IPv4 range, as 10.0.4.0/24".to_owned()
    }
    fn read(text: &str) -> Result<Self, Refusal> {
        let net: Self = text.parse().map_err(|_| {
            Refusal::Unexpected(
                text.parse::<Ipv4Addr>().ok().map(|ip| format!("one address is `{ip}/32`")),
            )
        })?;
        if net == net.trunc() {
            return Ok(net);
        }
        Err(Refusal::Because(
            format!("{} has bits set after its prefix", quoted(text)),
            Some(format!("the range is `{}`", net.trunc())),
        ))
    }
    fn schema() -> Schema {
        let mut schema = typed("string");
        schema.insert("pattern".to_owned(), r"^\d{1,3}(\.\d{1,3}){3}/\d{1,2}$".into());
        schema
    }
}

impl Scalar for Mac {
    fn expected() -> String {
        "a MAC address, as 02:00:00:00:01:00".to_owned()
    }
    fn read(text: &str) -> Result<Self, Refusal> {
        let mac: Self = text.parse().map_err(|_| Refusal::Unexpected(None))?;
        if mac == Self::default() {
            return Err(Refusal::Because(
                "the MAC of an interface is never all zeros".into(),
                None,
            ));
        }
        if mac.is_group() {
            let message = format!("{} is a group address: an interface has its own", quoted(text));
            return Err(Refusal::Because(message, Some("make the first byte even".into())));
        }
        Ok(mac)
    }
    fn schema() -> Schema {
        let mut schema = typed("string");
        schema.insert("pattern".to_owned(), "^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$".into());
        schema
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int<const MIN: u64, const MAX: u64>(pub u64);

/// A TCP or UDP port.
pub type Port = Int<1, 65_535>;

/// A port of the nodes, from Kubernetes' default range.
pub type NodePort = Int<30_000, 32_767>;

impl<const MIN: u64, const MAX: u64> Int<MIN, MAX> {
    /// The largest number there is.
    pub const LARGEST: u64 = MAX;

    /// The number as 16 bits; a bound above that is cut off at it.
    #[must_use]
    pub fn as_u16(self) -> u16 {
        u16::try_from(self.0).unwrap_or(u16::MAX)
    }

    /// The number as 32 bits; a bound above that is cut off at it.
    #[must_use]
    pub fn as_u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl<const MIN: u64, const MAX: u64> Scalar for Int<MIN, MAX> {
    fn expected() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }
    fn read(text: &str) -> Result<Self, Refusal> {
        whole(text).filter(|n| (MIN..=MAX).contains(n)).map(Self).ok_or(Refusal::Unexpected(None))
    }
    fn schema() -> Schema {
        let mut schema = typed("integer");
        schema.insert("minimum".to_owned(), MIN.into());
        schema.insert("maximum".to_owned(), MAX.into());
        schema
    }
}

/// `text` as decimal digits, and nothing else.
fn whole(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// First and last port, or `None` for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports(pub Option<(u16, u16)>);

impl Scalar for Ports {
    fn expected() -> String {
        "a port, a range of ports as \"80-90\", or `all`".to_owned()
    }
    fn read(text: &str) -> Result<Self, Refusal> {
        // The last is how the cloud's own interface writes it.
        if text.eq_ignore_ascii_case("all") || text == "-1/-1" {
            return Ok(Self(None));
        }
        let port = |text: &str| {
            let number = Port::read(text.trim()).map_err(|_| Refusal::Unexpected(None))?;
            Ok(number.as_u16())
        };
        let (first, last) = match text.split_once(['-', '/']) {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(text)?, port(text)?),
        };
        if first > last {
            let message = format!("the range {} ends before it begins", quoted(text));
            return Err(Refusal::Because(message, Some(format!("write \"{last}-{first}\""))));
        }
        Ok(Self(Some((first, last))))
    }
    fn schema() -> Schema {
        let mut schema = Schema::default();
        schema.insert("type".to_owned(), vec!["integer", "string"].into());
        schema.insert("minimum".to_owned(), 1.into());
        schema.insert("maximum".to_owned(), 65_535.into());
        schema.insert(
            "pattern".to_owned(),
            r"^([aA][lL][lL]|-1/-1|\d{1,5}(\s*[-/]\s*\d{1,5})?)$".into(),
        );
        schema
    }
}

/// The value that `text` names in `table`, whatever its case.
fn word<T: Copy>(text: &str, table: &[(&str, T)]) -> Result<T, Refusal> {
    table.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, value)| *value).ok_or(
        Refusal::Unexpected(
            nearest(text, table.iter().map(|(word, _)| *word))
                .map(|word| format!("did you mean `{word}`?")),
        ),
    )
}

/// Implements [`Scalar`] for a type that has one word a value; a word after `also` is accepted
/// beside those that are advertised, one after `not` is refused with the word that is meant.
macro_rules! words {
    ($type:ty, $json:literal, { $($word:literal => $value:expr),+ $(,)? }
     $(also { $($alias:literal => $same:expr),+ })?
     $(not { $($other:literal => $meant:literal),+ })?) => {
        impl Scalar for $type {
            fn expected() -> String {
                alternatives([$($word),+])
            }
            fn read(text: &str) -> Result<Self, Refusal> {
                $($(if text.eq_ignore_ascii_case($other) {
                    let help = concat!("did you mean `", $meant, "`?");
                    return Err(Refusal::Unexpected(Some(help.to_owned())));
                })+)?
                word(text, &[$(($word, $value),)+ $($(($alias, $same),)+)?])
            }
            fn schema() -> Schema {
                let mut schema = typed($json);
                if $json == "string" {
                    schema.insert("enum".to_owned(), vec![$($word),+].into());
                }
                if $json == "integer" {
                    let numbers: Vec<u64> = [$($word),+].iter().filter_map(|w| whole(w)).collect();
                    schema.insert("enum".to_owned(), numbers.into());
                }
                schema
            }
        }
    };
}

words!(bool, "boolean", { "true" => true, "false" => false }
    not { "1" => "true", "yes" => "true", "on" => "true",
          "0" => "false", "no" => "false", "off" => "false" });
words!(Profile, "string", {
    "terway-1.4.0" => Self::P1, "terway-1.4.2" => Self::P2, "terway-1.3" => Self::P0
} also { "terway-1.4.1" => Self::P1, "P0" => Self::P0, "P1" => Self::P1, "P2" => Self::P2 });
words!(GroupKind, "string", { "basic" => Self::Basic, "advanced" => Self::Advanced }
    also { "enterprise" => Self::Advanced });
words!(LocalNoEndpoint, "string", { "fail" => Self::Fail, "fallback" => Self::Fallback });
words!(KubeProxyVersion, "string", { "v1.20" => Self::V1_20, "v1.28" => Self::V1_28 }
    not { "1.20" => "v1.20", "1.28" => "v1.28" });
words!(Links, "string", { "wired" => Self::Wired, "fused" => Self::Fused });
words!(VipPing, "string", { "answer" => Self::Answer, "reject" => Self::Reject });
words!(RpFilter, "integer", { "0" => Self::Off, "1" => Self::Strict, "2" => Self::Loose }
    not { "false" => "0", "off" => "0", "true" => "1", "strict" => "1", "loose" => "2" });

/// Accept or drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept(pub bool);
words!(Accept, "string", { "accept" => Self(true), "drop" => Self(false) });

/// Cluster or Local; true for Local.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local(pub bool);
words!(Local, "string", { "Cluster" => Self(false), "Local" => Self(true) });

/// Protocol of a security-group rule, `None` for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleProto(pub Option<Protocol>);
words!(RuleProto, "string", {
    "tcp" => Self(Some(Protocol::TCP)), "udp" => Self(Some(Protocol::UDP)),
    "icmp" => Self(Some(Protocol::ICMP)), "all" => Self(None)
});

/// Protocol of a service port or of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortProto(pub Protocol);
words!(PortProto, "string", {
    "tcp" => Self(Protocol::TCP), "udp" => Self(Protocol::UDP)
});

/// How a service is translated: by ipvs alone (fnat), or with kube-proxy's masquerade (nat).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceMode {
    /// ipvs exchanges the destination; the source is kube-proxy's matter.
    Nat,
    /// ipvs exchanges both.
    Fnat,
}

words!(ServiceMode, "string", { "nat" => Self::Nat, "fnat" => Self::Fnat });

words!(Scheduler, "string", {
    "rr" => Self::Rr, "wrr" => Self::Wrr, "lc" => Self::Lc, "wlc" => Self::Wlc, "sh" => Self::Sh,
    "mh" => Self::Mh, "dh" => Self::Dh, "sed" => Self::Sed, "nq" => Self::Nq,
    "lblc" => Self::Lblc, "lblcr" => Self::Lblcr, "fo" => Self::Fo, "ovf" => Self::Ovf,
    "twos" => Self::Twos
});

/// A flag of a scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerFlag {
    /// The scheduler that has it.
    pub scheduler: Scheduler,
    /// Whether it is the one about ports; else it is the one about falling back.
    pub port: bool,
}
words!(SchedulerFlag, "string", {
    "sh-fallback" => Self { scheduler: Scheduler::Sh, port: false },
    "sh-port" => Self { scheduler: Scheduler::Sh, port: true },
    "mh-fallback" => Self { scheduler: Scheduler::Mh, port: false },
    "mh-port" => Self { scheduler: Scheduler::Mh, port: true }
});

/// A session affinity; true for ClientIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affinity(pub bool);
words!(Affinity, "string", { "None" => Self(false), "ClientIP" => Self(true) });

/// The type of a Kubernetes service that has virtual servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceType {
    /// Inside the cluster only, but for its external IPs.
    ClusterIp,
    /// And by a port of every node.
    NodePort,
    /// And by a load balancer.
    LoadBalancer,
}
words!(ServiceType, "string", {
    "ClusterIP" => Self::ClusterIp, "NodePort" => Self::NodePort,
    "LoadBalancer" => Self::LoadBalancer
});

/// The other side of a security-group rule, before groups are known by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerText {
    /// An address range.
    Cidr(Ipv4Net),
    /// The ID of a security group.
    Group(String),
}

impl Scalar for PeerText {
    fn expected() -> String {
        "an IPv4 range, an address or the ID of a security group".to_owned()
    }
    fn read(text: &str) -> Result<Self, Refusal> {
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Cidr(Ipv4Net::from(ip)));
        }
        if is_address_like(text) {
            return Ipv4Net::read(text).map(Self::Cidr);
        }
        Ok(Self::Group(text.to_owned()))
    }
    fn schema() -> Schema {
        typed("string")
    }
}

/// Whether `text` can only be meant as an address or a range, never as an ID.
pub(crate) fn is_address_like(text: &str) -> bool {
    text.contains('/') || text.contains(':') || !text.bytes().any(|b| b.is_ascii_alphabetic())
}
