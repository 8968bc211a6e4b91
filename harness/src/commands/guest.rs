//! `trunkline guest`: process 1 of a guest of [`crate::oracle`].
use std::path::PathBuf;
use std::process::ExitCode;

use crate::case::{CaseDatapath, Crossing};
use crate::oracle::guest;
use anyhow::Context;
use clap::Args;
use datapath::link::HostId;

/// Process 1 of a guest.
#[derive(Debug, Args)]
pub struct Guest {
    /// What to do, and where to put what came of it.
    folder: PathBuf,
    /// What user-mode-linux adds of its own to the kernel's command line.
    #[arg(hide = true)]
    rest: Vec<String>,
}

impl Guest {
    /// Does the work.
    ///
    /// # Errors
    /// Where this is no guest.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let folder = self.folder.clone();
        guest::run(&folder, || {
            let file = folder.join("lab.yaml");
            let text = std::fs::read_to_string(&file)?;
            let lab = datapath::lab::load(&text, "lab.yaml")?;
            let kernel = crate::kernel::Kernel::default();
            let steps = std::fs::read_to_string(folder.join("steps"))?;
            for round in 0..3 {
                let t = std::time::Instant::now();
                let mut bed = kernel.start(&lab, &text)?;
                println!("start {:?}", t.elapsed());
                let t = std::time::Instant::now();
                for step in steps.lines() {
                    let (from, hex) = step.split_once(' ').context("step")?;
                    let frame: Vec<u8> = (0..hex.len() / 2)
                        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
                        .collect();
                    bed.send(HostId::named(&lab, from).context("host")?, &frame)?;
                    for Crossing { socket, direction, frame } in bed.settle()? {
                        if round == 0 {
                            let hex: String = frame.iter().map(|b| format!("{b:02x}")).collect();
                            println!("{:?} {:?} {direction:?} {hex}", socket.element, socket.port);
                        }
                    }
                }
                println!("steps {:?}", t.elapsed());
                let t = std::time::Instant::now();
                println!("{:#?}", bed.tables(0)?);
                println!("tables {:?}", t.elapsed());
                let t = std::time::Instant::now();
                drop(bed);
                println!("drop {:?}", t.elapsed());
            }
            Ok(())
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
