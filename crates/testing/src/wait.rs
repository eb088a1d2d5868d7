//! Waits for something instead of for a time.

use std::time::{Duration, Instant};

/// The longest time to wait for anything in a test.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The time between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

/// Asks repeatedly until there is an answer, and returns it.
///
/// # Panics
/// If there is none after [`PATIENCE`]. The message says what was waited for.
#[track_caller]
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "this did not happen in time: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Waits until a condition holds.
///
/// # Panics
/// As [`until`].
#[track_caller]
pub fn until_holds(what: &str, mut holds: impl FnMut() -> bool) {
    until(what, || holds().then_some(()));
}

/// Does the same as [`until`] in an async test.
///
/// # Panics
/// As [`until`].
pub async fn until_async<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "this did not happen in time: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Does the same as [`until_holds`] in an async test.
///
/// # Panics
/// As [`until`].
pub async fn until_holds_async(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "this did not happen in time: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}
