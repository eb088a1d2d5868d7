//! Runs `lexer` on whatever libFuzzer thinks of.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| guillemet_fuzz::lexer::holds(data));
