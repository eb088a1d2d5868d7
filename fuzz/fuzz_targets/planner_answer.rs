//! Runs `planner_answer` on whatever libFuzzer thinks of.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| guillemet_fuzz::planner_answer::holds(data));
