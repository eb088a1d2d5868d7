//! What the tests of every crate, the integration tests and the benchmarks share: parts of the machine that may be
//! missing, waiting for something, and the first line of an account server.
//!
//! Knows nothing of ours. Must never become a normal dependency.

pub mod missing;
pub mod random;
pub mod server;
pub mod wait;
