//! Loading, filling and attaching `redirect.bpf.c`.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use libbpf_rs::{
    Link, Map, MapCore, MapFlags, Object, ObjectBuilder, Program, ProgramInput, Xdp, XdpFlags,
};

/// The bytes of an object file at an address libelf can read its headers from directly.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

/// `BPF_F_TEST_XDP_LIVE_FRAMES`.
const LIVE_FRAMES: u32 = 1 << 1;

/// The program as compiled by the build script.
static OBJECT: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/redirect.bpf.o")));

/// Why a program could not be loaded, filled or attached.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProgError {
    /// A port needs at least one queue.
    NoQueues,
    /// The queue number is not below the number given to [`Redirect::load`].
    NoSuchQueue {
        /// The queue asked for.
        queue: u16,
        /// Number of queues the program was loaded for.
        queues: u16,
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
fn at(step: &'static str) -> impl Fn(libbpf_rs::Error) -> ProgError {
    move |source| ProgError::Kernel { step, source }
}

/// What a program decided about a frame in a test run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The frame is dropped and counted by the driver.
    Drop,
    /// The frame goes on to the kernel's stack.
    Pass,
    /// The frame is handed to the socket of its queue.
    Redirect,
    /// Any other return value of an XDP program.
    Other(u32),
}

/// One port's program: every frame goes to the socket of the queue it came in on.
///
/// It is detached when this value is dropped, and by the kernel when the process ends. A queue
/// without a socket drops its frames, which the driver counts (`rx_queue_N_xdp_drops`).
pub struct Redirect {
    // Declared first, so that the program is detached before its maps are closed.
    link: Option<Link>,
    object: Object,
    queues: u16,
}

impl fmt::Debug for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redirect")
            .field("queues", &self.queues)
            .field("attached", &self.link.is_some())
            .finish()
    }
}

impl Redirect {
    /// Loads a program of its own for a port with `queues` queues, with no socket in any slot.
    ///
    /// # Errors
    /// [`ProgError::NoQueues`], or [`ProgError::Kernel`] where the rights are missing.
    pub fn load(queues: u16) -> Result<Self, ProgError> {
        if queues == 0 {
            return Err(ProgError::NoQueues);
        }
        let mut open = ObjectBuilder::default().open_memory(&OBJECT.0).map_err(at("open"))?;
        for mut map in open.maps_mut() {
            map.set_max_entries(u32::from(queues)).map_err(at("size the socket map of"))?;
        }
        let object = open.load().map_err(at("load"))?;
        Ok(Self { link: None, object, queues })
    }

    /// Number of queues the program was loaded for.
    #[must_use]
    pub fn queues(&self) -> u16 {
        self.queues
    }

    /// Hands the frames of `queue` to an AF_XDP socket bound to that very queue. The kernel
    /// refuses frames of another queue at delivery, so a wrong socket means silence.
    ///
    /// # Errors
    /// [`ProgError::NoSuchQueue`], or [`ProgError::Kernel`] where the descriptor is not an
    /// AF_XDP socket.
    pub fn set_socket(&self, queue: u16, socket: BorrowedFd<'_>) -> Result<(), ProgError> {
        if queue >= self.queues {
            return Err(ProgError::NoSuchQueue { queue, queues: self.queues });
        }
        let key = u32::from(queue).to_ne_bytes();
        let value = socket.as_raw_fd().to_ne_bytes();
        self.map()?.update(&key, &value, MapFlags::ANY).map_err(at("put a socket into"))
    }

    /// Attaches the program to the interface with this index, which is looked up in the calling
    /// thread's network namespace, and makes sure that it runs in native mode.
    ///
    /// # Errors
    /// [`ProgError::Kernel`] where the interface has a program already or has fewer receive
    /// queues than its peer has transmit queues; [`ProgError::NotNative`] where the driver cannot
    /// run XDP itself (the program is detached again).
    pub fn attach(&mut self, ifindex: i32) -> Result<(), ProgError> {
        let program = self.program()?;
        let link = program.attach_xdp(ifindex).map_err(at("attach"))?;
        let ours = Program::id_from_fd(program.as_fd()).map_err(at("identify"))?;
        let state =
            Xdp::new(program.as_fd()).query(ifindex, XdpFlags::NONE).map_err(at("query"))?;
        if state.drv_prog_id != ours {
            return Err(ProgError::NotNative { ifindex });
        }
        self.link = Some(link);
        Ok(())
    }

    /// Takes the program off its interface; without one, nothing happens.
    pub fn detach(&mut self) {
        self.link = None;
    }

    /// Whether [`Redirect::attach`] has succeeded.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.link.is_some()
    }

    /// The descriptor of the loaded program.
    ///
    /// # Errors
    /// [`ProgError::Kernel`] where the object holds no program, which a build can not produce.
    pub fn fd(&self) -> Result<std::os::fd::OwnedFd, ProgError> {
        self.program()?
            .as_fd()
            .try_clone_to_owned()
            .map_err(libbpf_rs::Error::from)
            .map_err(at("share"))
    }

    /// Runs the program on `frame` in the kernel without any interface; the frame counts as
    /// received on queue 0.
    ///
    /// # Errors
    /// [`ProgError::Kernel`] where the rights are missing or the frame is shorter than an
    /// Ethernet header.
    pub fn test_run(&self, frame: &[u8]) -> Result<Verdict, ProgError> {
        let input = ProgramInput { data_in: Some(frame), ..Default::default() };
        let output = self.program()?.test_run(input).map_err(at("test"))?;
        Ok(match output.return_value {
            1 => Verdict::Drop,
            2 => Verdict::Pass,
            4 => Verdict::Redirect,
            other => Verdict::Other(other),
        })
    }

    /// Whether the kernel can run the program on frames that it then really drops or sends
    /// (`BPF_F_TEST_XDP_LIVE_FRAMES`), tried with one that no socket takes.
    ///
    /// # Errors
    /// [`ProgError::Kernel`] where the object holds no program, which a build can not produce.
    pub fn runs_live_frames(&self) -> Result<bool, ProgError> {
        let frame = [0; 60];
        let input = ProgramInput {
            data_in: Some(&frame),
            flags: LIVE_FRAMES,
            repeat: 1,
            ..Default::default()
        };
        Ok(self.program()?.test_run(input).is_ok())
    }

    fn program(&self) -> Result<libbpf_rs::ProgramMut<'_>, ProgError> {
        self.object.progs_mut().find(|p| p.name() == "redirect").ok_or_else(missing)
    }

    fn map(&self) -> Result<Map<'_>, ProgError> {
        self.object.maps().find(|m| m.name() == "xsks").ok_or_else(missing)
    }
}

/// The object built by the build script lacks what it was built from.
fn missing() -> ProgError {
    at("find a part of")(libbpf_rs::Error::from(std::io::Error::from(std::io::ErrorKind::NotFound)))
}
