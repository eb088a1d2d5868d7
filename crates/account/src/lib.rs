//! The account: one vault shared by several machines through a server that cannot read it.
//!
//! - `wire`: the types that travel between device and server
//! - `seal`: the sealed boxes, and what each is bound to
//! - `tree`: the root over all records
//! - `code`: the codes that people carry
//! - `join`: the proof that a device was invited
//! - `api_key`: the key by which the server recognizes a device
//! - `words`: the words that people compare
//! - `intent`: a change that waits until the account has it
//! - `engine`: the state machine of a device, without I/O
//! - `client`: the connection to the account server
//! - `server`: the account server itself
//!
//! docs/account-protocol.md is the specification.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod client;
pub mod code;
pub mod engine;
pub mod intent;
pub mod join;
mod reader;
pub mod seal;
pub mod tree;
pub mod words;
