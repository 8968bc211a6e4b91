#![no_main]

#[path = "../../harness/tests/hostile/frame/mod.rs"]
mod frame;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| frame::check(bytes));
