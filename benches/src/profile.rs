//! Where a subject's instructions come from: the files of the datapath's sources, each with what of other
//! crates was inlined into it.

use std::collections::BTreeMap;
use std::path::Path;

use addr2line::Loader;

/// Before this in a path is where the sources lie on this machine.
const SOURCES: &str = "/datapath/src/";
/// What is of no file of the datapath: the bench itself, and functions of others that are called.
const ELSEWHERE: &str = "elsewhere";

/// Instructions by file, most first, of what callgrind has written about a run of `program`.
///
/// # Panics
/// Where the program has no debugging information.
#[must_use]
pub fn by_file(program: &Path, written: &str) -> Vec<(String, u64)> {
    let loader = Loader::new(program).expect("read the program's debugging information");
    let mut files = BTreeMap::<String, u64>::new();
    for (address, count) in by_address(written) {
        *files.entry(file_of(&loader, address)).or_default() += count;
    }
    let mut files: Vec<_> = files.into_iter().collect();
    files.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    files
}

/// The innermost of the datapath's functions that the instruction was compiled from.
fn file_of(loader: &Loader, address: u64) -> String {
    let mut frames = loader.find_frames(address).expect("look an address up");
    while let Ok(Some(frame)) = frames.next() {
        let file = frame.location.and_then(|location| location.file).unwrap_or_default();
        if let Some((_, file)) = file.split_once(SOURCES) {
            return file.to_owned();
        }
    }
    ELSEWHERE.to_owned()
}

/// The instructions at each address. A line is an address, or how far it is from the one before, and a
/// count; the line after a call counts what was called, which stands by itself too.
fn by_address(written: &str) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::<u64, u64>::new();
    let (mut address, mut called) = (0_u64, false);
    for line in written.lines() {
        if line.starts_with("calls=") {
            called = true;
            continue;
        }
        let Some((at, count)) = line.split_once(' ') else { continue };
        let (Some(next), Ok(count)) = (place(at, address), count.parse::<u64>()) else { continue };
        address = next;
        if !std::mem::take(&mut called) {
            *counts.entry(address).or_default() += count;
        }
    }
    counts
}

/// An address, as callgrind writes it behind `before`.
fn place(text: &str, before: u64) -> Option<u64> {
    match text.split_at_checked(1)? {
        ("*", "") => Some(before),
        ("+", ahead) => before.checked_add(ahead.parse().ok()?),
        ("-", back) => before.checked_sub(back.parse().ok()?),
        _ => u64::from_str_radix(text.strip_prefix("0x")?, 16).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::by_address;

    #[test]
    fn what_is_called_counts_where_it_stands_itself() {
        let written = "positions: instr\nevents: Ir\nfn=(1)\n0x10 5\n+4 1\ncalls=1 0x40\n* 100\n-4 2\nfn=(2)\n0x40 100\n";
        let counts: Vec<_> = by_address(written).into_iter().collect();
        assert_eq!(counts, [(0x10, 7), (0x14, 1), (0x40, 100)]);
    }
}
