//! How much a test tries. `make test` tries what decides whether a change is right, and no test there takes a minute.
//! `make soak` runs the long forms: every system call, more rounds, and further seeds until its time is over.

use std::time::{Duration, Instant};

/// Returns how long a test goes on with further seeds; `None` in `make test`.
fn soak() -> Option<Duration> {
    let seconds = std::env::var("GUILLEMET_SOAK").ok()?;
    Some(Duration::from_secs(seconds.parse().expect("GUILLEMET_SOAK is a number of seconds")))
}

/// Returns how many rounds a test does: `quick` in `make test`, `long` in `make soak`.
pub fn rounds(quick: u32, long: u32) -> u32 {
    if soak().is_some() { long } else { quick }
}

/// Returns the numbers of the system calls to try, from 1 to below `most`: all of them in `make soak`, otherwise 1, 2,
/// 4, 8 and so on.
pub fn calls(most: u32) -> impl Iterator<Item = u32> {
    let step = |at: u32| if soak().is_some() { 1 } else { at };
    std::iter::successors(Some(1), move |at| Some(at + step(*at))).take_while(move |at| *at < most)
}

/// Returns the seeds to try: `first`, and in `make soak` others until the time is over. A seed in the variable
/// `CRASH_SEED` is tried alone.
pub fn seeds(first: u64) -> impl Iterator<Item = u64> {
    let only: Option<u64> = std::env::var("CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
    let until = soak().map(|time| Instant::now() + time);
    let is_time = move || only.is_none() && until.is_some_and(|until| Instant::now() < until);
    std::iter::successors(Some(only.unwrap_or(first)), move |seed| is_time().then(|| seed.wrapping_mul(31) + 17))
        .inspect(|seed| println!("CRASH_SEED={seed}"))
}
