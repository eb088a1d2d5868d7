//! The account: several machines, one vault, and a server between them that knows nothing.
//!
//! `wire` is what travels, `seal` what is sealed and bound, `tree` the root over all records, `code` what people
//! carry, `join` how a device shows that it was invited, `api_key` how it shows the server who it is, `words` what
//! people compare, `engine` the state machine without I/O, `client` the way to the server, `server` the other end.
//! docs/account-protocol.md is the specification.

pub mod api_key;
pub mod client;
pub mod code;
pub mod engine;
pub mod intent;
pub mod join;
mod reader;
pub mod seal;
pub mod server;
pub mod tree;
pub mod wire;
pub mod words;
