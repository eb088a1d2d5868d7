//! The parts of HTTP that the API and the console share: slots and deadlines of connections, reading requests, and
//! errors.
//!
//! Knows no endpoint and no page.

pub mod admission;
pub mod connection;
pub mod error;
pub mod request;
