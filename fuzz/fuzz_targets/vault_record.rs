//! Runs `vault_record` on whatever libFuzzer thinks of.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| guillemet_fuzz::vault_record::holds(data));
