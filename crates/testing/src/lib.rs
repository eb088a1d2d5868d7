//! What the tests of every crate, the integration tests and the benchmarks share: parts of the machine that may be
//! missing, waiting for something, the first line of an account server, values to look for, and the MCP example.
//!
//! Depends on nothing of ours. Must never become a normal dependency.

pub mod canary;
pub mod mcp;
pub mod missing;
pub mod random;
pub mod server;
pub mod wait;
