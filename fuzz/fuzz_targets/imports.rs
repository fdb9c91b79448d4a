//! See `foreign.rs`.
#![no_main]

#[path = "../foreign.rs"]
#[allow(dead_code, reason = "each binary uses one of the targets")]
mod foreign;

libfuzzer_sys::fuzz_target!(|data: &[u8]| foreign::imports(data));
