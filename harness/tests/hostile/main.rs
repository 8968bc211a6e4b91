//! Hostile input: frames, lab files, captures and control requests that are truncated, nonsense,
//! oversized or adversarial meet a located error or a named drop, never a panic.
//!
//! Each kind has one `check` of any bytes. Here it meets random ones; the targets in `fuzz/` give
//! it those that libFuzzer finds.

mod capture;
mod captures;
mod control;
mod frame;
mod frames;
mod lab;
mod labs;
mod requests;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_frames(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        frame::check(&bytes);
    }

    #[test]
    fn any_lab(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        lab::check(&bytes);
    }

    #[test]
    fn any_capture(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        capture::check(&bytes);
    }

    #[test]
    fn any_request(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        control::check(&bytes);
    }
}
