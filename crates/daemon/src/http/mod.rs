//! What the API and the console share of HTTP: who holds a connection and for how long, reading requests, and errors.
//!
//! Knows no endpoint and no page.

pub mod admission;
pub mod connection;
pub mod error;
pub mod request;
