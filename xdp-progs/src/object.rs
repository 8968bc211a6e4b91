//! A compiled program in the kernel: loaded from the bytes in this binary, found by name,
//! attached.

use std::os::fd::AsFd;

use libbpf_rs::{
    Link, Map, MapCore, Object, ObjectBuilder, OpenMapMut, Program, ProgramMut, Xdp, XdpFlags,
};

use crate::error::{ProgError, at, missing};

/// The bytes of an object file at an address libelf can read its headers from directly.
#[repr(C, align(8))]
pub(crate) struct Aligned<T: ?Sized>(pub(crate) T);

/// The object that the build script has compiled from `src/NAME.bpf.c`.
macro_rules! object {
    ($name:literal) => {{
        static OBJECT: &$crate::object::Aligned<[u8]> = &$crate::object::Aligned(*include_bytes!(
            concat!(env!("OUT_DIR"), "/", $name, ".bpf.o")
        ));
        &OBJECT.0
    }};
}
pub(crate) use object;

/// `BPF_F_TEST_XDP_LIVE_FRAMES`: the program's verdict on a test frame is carried out.
pub(crate) const LIVE_FRAMES: u32 = 1 << 1;

/// `BPF_F_XDP_HAS_FRAGS`: the program takes packets of several buffers, of which it sees the first.
pub(crate) const MULTI_BUFFER: u32 = 1 << 5;

/// A loaded object with one program, attached or not.
pub(crate) struct Loaded {
    // Declared first, so that the program is detached before its maps are closed.
    link: Option<Link>,
    object: Object,
}

impl Loaded {
    /// Loads an object, its program with these flags, after `prepare` has had a look at each of its
    /// maps.
    pub(crate) fn load(
        bytes: &[u8],
        flags: u32,
        mut prepare: impl FnMut(&mut OpenMapMut<'_>) -> libbpf_rs::Result<()>,
    ) -> Result<Self, ProgError> {
        let mut open = ObjectBuilder::default().open_memory(bytes).map_err(at("open"))?;
        for mut map in open.maps_mut() {
            prepare(&mut map).map_err(at("prepare a map of"))?;
        }
        for mut program in open.progs_mut() {
            program.set_flags(flags);
        }
        let object = open.load().map_err(at("load"))?;
        Ok(Self { link: None, object })
    }

    /// Attaches the program to the interface with this index, which is looked up in the calling
    /// thread's network namespace, and makes sure that it runs in native mode.
    pub(crate) fn attach(&mut self, ifindex: i32) -> Result<(), ProgError> {
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
    pub(crate) fn detach(&mut self) {
        self.link = None;
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.link.is_some()
    }

    pub(crate) fn program(&self) -> Result<ProgramMut<'_>, ProgError> {
        self.object.progs_mut().next().ok_or_else(missing)
    }

    /// The map whose name ends like this: the names of those that hold variables begin with the
    /// object's.
    pub(crate) fn map(&self, name: &str) -> Result<Map<'_>, ProgError> {
        let mut maps = self.object.maps();
        maps.find(|map| map.name().to_str().is_some_and(|n| n.ends_with(name))).ok_or_else(missing)
    }
}
