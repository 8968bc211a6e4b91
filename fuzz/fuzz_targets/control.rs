#![no_main]

#[path = "../../harness/tests/hostile/control.rs"]
mod control;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| control::check(bytes));
