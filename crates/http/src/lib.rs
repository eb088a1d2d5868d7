//! What the daemon's API and the account server share of HTTP: finding a route, the form of errors, event streams,
//! metrics and shutdown.
//!
//! Knows no endpoint, no caller and no error of either server.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod error;
pub mod event_stream;
pub mod metrics;
pub mod query;
pub mod router;
pub mod shutdown;
