//! What can go wrong with a program.

use std::fmt;

/// Why a program could not be loaded, filled or attached.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProgError {
    /// A port needs at least one queue.
    NoQueues,
    /// The queue number is not below the number given to
    /// [`Redirect::load`](crate::Redirect::load).
    NoSuchQueue {
        /// The queue asked for.
        queue: u16,
        /// Number of queues the program was loaded for.
        queues: u16,
    },
    /// Not a datagram: shorter than its headers.
    ShortFrame,
    /// Some frames have a VLAN tag and others do not, or those that have one begin with different
    /// bytes.
    MixedFrames,
    /// So many source ports do not exist from that one on.
    NoSuchPorts {
        /// The first one asked for.
        first_port: u16,
        /// How many were asked for.
        flows: u16,
    },
    /// The kernel or libbpf refused a step.
    Kernel {
        /// What was being done.
        step: &'static str,
        /// The reason given.
        source: libbpf_rs::Error,
    },
    /// The program is attached, but in the slow generic mode.
    NotNative {
        /// The interface it was to be attached to.
        ifindex: i32,
    },
}

impl fmt::Display for ProgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoQueues => f.write_str("an XDP port needs at least one queue"),
            Self::NoSuchQueue { queue, queues } => {
                write!(f, "queue {queue} does not exist: the program was loaded for {queues}")
            }
            Self::ShortFrame => f.write_str("a frame is too short for a datagram's headers"),
            Self::MixedFrames => {
                f.write_str("of frames with VLAN tags all have one, and the same first four bytes")
            }
            Self::NoSuchPorts { first_port, flows } => {
                write!(f, "there are no {flows} source ports from {first_port} on")
            }
            Self::Kernel { step, source } => {
                write!(f, "cannot {step} the XDP program: {source}")?;
                match source.kind() {
                    libbpf_rs::ErrorKind::PermissionDenied => {
                        f.write_str(" (run as root or with CAP_BPF and CAP_NET_ADMIN)")
                    }
                    libbpf_rs::ErrorKind::InvalidInput if *step == "attach" => f.write_str(
                        " (the MTU may be too large for one buffer, or the interface does not \
                         speak XDP)",
                    ),
                    _ if *step == "attach" => f.write_str(
                        " (a veth needs at least as many receive queues as its peer has transmit \
                         queues: create both ends with the same number, and detach any other XDP \
                         program)",
                    ),
                    _ => Ok(()),
                }
            }
            Self::NotNative { ifindex } => write!(
                f,
                "interface {ifindex} took the XDP program in generic mode only; the datapath \
                 needs a driver with native XDP, such as veth"
            ),
        }
    }
}

impl std::error::Error for ProgError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Kernel { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Adds the step to an error of libbpf.
pub(crate) fn at(step: &'static str) -> impl Fn(libbpf_rs::Error) -> ProgError {
    move |source| ProgError::Kernel { step, source }
}

/// The object built by the build script lacks what it was built from.
pub(crate) fn missing() -> ProgError {
    at("find a part of")(libbpf_rs::Error::from(std::io::Error::from(std::io::ErrorKind::NotFound)))
}
