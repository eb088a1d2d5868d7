//! The account: several machines, one vault, and a server between them that knows nothing.
//!
//! `wire` is what travels, `seal` what is sealed and bound, `tree` the root over all records, `engine` the
//! state machine without I/O, `client` the way to the server, `server` the other end. docs/account-protocol.md
//! is the specification.

pub mod client;
pub mod key;
pub mod server;
pub mod wire;
