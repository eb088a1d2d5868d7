//! The engine among devices, with a network and a server that are honest or are not.

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

/// So many cases, or as many as `PROPTEST_CASES` says; a case that fails is not kept, for keys differ each time.
fn cases(number: u32) -> proptest::test_runner::Config {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|wanted| wanted.parse().ok());
    proptest::test_runner::Config {
        cases: wanted.unwrap_or(number),
        failure_persistence: None,
        ..proptest::test_runner::Config::default()
    }
}
