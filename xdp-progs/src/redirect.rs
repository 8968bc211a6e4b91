//! Loading, filling and attaching `redirect.bpf.c`.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use libbpf_rs::{MapCore, MapFlags, ProgramInput};

use crate::error::{ProgError, at};
use crate::object::{LIVE_FRAMES, Loaded, MULTI_BUFFER, object};

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
    loaded: Loaded,
    queues: u16,
}

impl fmt::Debug for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redirect")
            .field("queues", &self.queues)
            .field("attached", &self.loaded.is_attached())
            .finish()
    }
}

impl Redirect {
    /// Loads a program of its own for a port with `queues` queues, with no socket in any slot.
    ///
    /// # Errors
    /// [`ProgError::NoQueues`], or [`ProgError::Kernel`] where the rights are missing.
    pub fn load(queues: u16) -> Result<Self, ProgError> {
        Self::load_with(queues, 0)
    }

    /// The same for an interface whose MTU is beyond what one buffer of the driver holds, about
    /// 3,500: its packets may come in several (multi-buffer XDP), which its sockets have to take.
    ///
    /// # Errors
    /// As [`Redirect::load`].
    pub fn load_multi_buffer(queues: u16) -> Result<Self, ProgError> {
        Self::load_with(queues, MULTI_BUFFER)
    }

    fn load_with(queues: u16, flags: u32) -> Result<Self, ProgError> {
        if queues == 0 {
            return Err(ProgError::NoQueues);
        }
        let loaded =
            Loaded::load(object!("redirect"), flags, |map| map.set_max_entries(u32::from(queues)))?;
        Ok(Self { loaded, queues })
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
        self.loaded
            .map("xsks")?
            .update(&key, &value, MapFlags::ANY)
            .map_err(at("put a socket into"))
    }

    /// Attaches the program to the interface with this index, which is looked up in the calling
    /// thread's network namespace, and makes sure that it runs in native mode.
    ///
    /// # Errors
    /// [`ProgError::Kernel`] where the interface has a program already or has fewer receive
    /// queues than its peer has transmit queues; [`ProgError::NotNative`] where the driver cannot
    /// run XDP itself (the program is detached again).
    pub fn attach(&mut self, ifindex: i32) -> Result<(), ProgError> {
        self.loaded.attach(ifindex)
    }

    /// Takes the program off its interface; without one, nothing happens.
    pub fn detach(&mut self) {
        self.loaded.detach();
    }

    /// Whether [`Redirect::attach`] has succeeded.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.loaded.is_attached()
    }

    /// The descriptor of the loaded program.
    ///
    /// # Errors
    /// [`ProgError::Kernel`] where the object holds no program, which a build can not produce.
    pub fn fd(&self) -> Result<std::os::fd::OwnedFd, ProgError> {
        self.loaded
            .program()?
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
        let output = self.loaded.program()?.test_run(input).map_err(at("test"))?;
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
        let input = ProgramInput {
            data_in: Some(&[0; 60]),
            flags: LIVE_FRAMES,
            repeat: 1,
            ..Default::default()
        };
        Ok(self.loaded.program()?.test_run(input).is_ok())
    }
}
