//! Runs `http_body` on whatever libFuzzer thinks of.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| guillemet_fuzz::http_body::holds(data));
