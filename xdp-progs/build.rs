//! Compiles the XDP programs with clang (`CLANG` picks another one than `clang`).

use std::env;
use std::error::Error;
use std::path::PathBuf;

use libbpf_cargo::SkeletonBuilder;

const PROGRAMS: [&str; 4] = ["redirect", "count", "offer", "devmap"];
const HEADER: &str = "src/xdp.h";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={HEADER}");
    println!("cargo::rerun-if-env-changed=CLANG");
    let clang = env::var_os("CLANG").unwrap_or_else(|| "clang".into());
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo did not set OUT_DIR")?);
    for program in PROGRAMS {
        let source = format!("src/{program}.bpf.c");
        println!("cargo::rerun-if-changed={source}");
        // Version 3 of the instruction set is what every kernel with AF_XDP on veth loads, and
        // the newest one that clang 14 can produce.
        SkeletonBuilder::new()
            .source(source)
            .obj(out.join(format!("{program}.bpf.o")))
            .clang(&clang)
            .clang_args(["-mcpu=v3", "-Wall", "-Werror"])
            .build()?;
    }
    Ok(())
}
