//! Runs `plugin_package` on whatever libFuzzer thinks of.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| guillemet_fuzz::plugin_package::holds(data));
