#![no_main]

#[path = "../../harness/tests/hostile/lab.rs"]
mod lab;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::check(bytes));
