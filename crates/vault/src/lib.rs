//! The vault: a SQLite file with one sealed box per secret, and the usage journal beside it.
//!
//! Records templates, plugins and requests by name only: reads no template, runs no plugin and answers no request.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod audit;
pub mod event;
pub mod journal;
pub mod keys;
pub mod lock;
pub mod passphrase;
pub mod store;
mod trail;
pub mod usage;
