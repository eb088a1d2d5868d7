//! The device's side of an account: one vault shared by several devices through a server that cannot read it.
//!
//! - `seal`: the sealed boxes, and what each is bound to
//! - `tree`: the root over all records
//! - `code`: the codes that people carry
//! - `join`: the proof that a device was invited
//! - `fingerprint_words`: the words that people compare
//! - `intent`: a change that waits until the account has it
//! - `engine`: the state machine of a device, without I/O
//! - `connect`: a connection over TLS to a server that is trusted or pinned
//! - `client`: the client of the account server
//!
//! docs/account-protocol.md is the specification; `guillemet_wire` has the types that travel. Knows nothing of the
//! vault's file and of the daemon's API.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod byte_reader;
pub mod client;
pub mod code;
pub mod connect;
pub mod engine;
pub mod fingerprint_words;
pub mod intent;
pub mod join;
pub mod seal;
pub mod tree;
