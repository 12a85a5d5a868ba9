//! The fuzz target with this binary's name; src/fuzz/mod.rs has them all.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvllama::fuzz::run(env!("CARGO_BIN_NAME"), bytes));
