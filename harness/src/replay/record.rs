//! Writing what a replay shows to capture files.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use super::engine::Sight;
use super::interfaces::Interfaces;
use crate::pcap::Writer;

/// The capture with every frame at every hop.
const HOPS: &str = "hops.pcapng";

/// A capture file being written.
#[derive(Debug)]
struct Sink {
    path: PathBuf,
    writer: Writer<BufWriter<File>>,
}

impl Sink {
    fn create<'n>(
        path: PathBuf,
        interfaces: impl IntoIterator<Item = &'n str>,
    ) -> io::Result<Self> {
        let file = File::create(&path).map_err(|error| at(&path, &error))?;
        let writer = Writer::new(BufWriter::new(file), interfaces);
        let writer = writer.map_err(|error| at(&path, &error))?;
        Ok(Self { path, writer })
    }

    fn write(&mut self, interface: usize, sight: &Sight<'_>) -> io::Result<()> {
        let written = self.writer.packet(interface, sight.at, sight.direction, sight.frame);
        written.map_err(|error| at(&self.path, &error))
    }
}

/// An error with the file it is about.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Writes `hops.pcapng`, and for each outer port what left there.
#[derive(Debug)]
pub struct Recorder {
    hops: Sink,
    outer: Vec<Sink>,
    /// The first file that could not be written; nothing is written after it.
    failed: Option<io::Error>,
}

impl Recorder {
    /// Begins the captures of a lab in the folder `dir`, which is made where it does not exist.
    /// Captures of an earlier replay there are replaced.
    ///
    /// # Errors
    /// A folder or file that cannot be made.
    pub fn create(dir: &Path, interfaces: &Interfaces) -> io::Result<Self> {
        fs::create_dir_all(dir).map_err(|error| at(dir, &error))?;
        let names = interfaces.names().iter().map(String::as_str);
        let hops = Sink::create(dir.join(HOPS), names)?;
        let outer = interfaces
            .outer_names()
            .iter()
            .map(|name| Sink::create(dir.join(Self::file_name(name)), [name.as_str()]))
            .collect::<io::Result<_>>()?;
        Ok(Self { hops, outer, failed: None })
    }

    /// The name of an outer port's file: the port's with `_` for `/` and `:`.
    #[must_use]
    pub fn file_name(port: &str) -> String {
        format!("{}.pcapng", port.replace(['/', ':'], "_"))
    }

    /// Writes a frame at a hop. What fails is told by [`finish`](Self::finish).
    pub fn record(&mut self, sight: &Sight<'_>) {
        if self.failed.is_none() {
            self.failed = self.write(sight).err();
        }
    }

    fn write(&mut self, sight: &Sight<'_>) -> io::Result<()> {
        self.hops.write(sight.interface, sight)?;
        match sight.outer.and_then(|outer| self.outer.get_mut(outer)) {
            Some(sink) => sink.write(0, sight),
            None => Ok(()),
        }
    }

    /// Writes out what is still in memory, of all files.
    ///
    /// # Errors
    /// The first thing that could not be written, with its file.
    pub fn finish(&mut self) -> io::Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        for sink in std::iter::once(&mut self.hops).chain(&mut self.outer) {
            sink.writer.flush().map_err(|error| at(&sink.path, &error))?;
        }
        Ok(())
    }
}
