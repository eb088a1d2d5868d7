//! Tests of the engine among several devices, with networks and servers that are honest or not.

mod daemon;
mod fork;
mod guard;
mod hostile;
mod ledger;
mod network;
mod property;
mod repair;
mod scene;
mod server;
mod story;
mod vectors;
mod world;

/// Runs this many cases, or as many as `PROPTEST_CASES` says. Failed cases are not kept, because keys differ each time.
fn cases(number: u32) -> proptest::test_runner::Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    proptest::test_runner::Config {
        cases: cases.unwrap_or(number),
        failure_persistence: None,
        ..proptest::test_runner::Config::default()
    }
}
