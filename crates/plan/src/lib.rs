//! What planners and the process with keys share: expressions and the encoders that give them meaning, plans and their
//! verification, the protocol between the two, the contract with plugins, and documents with positions.
//!
//! Runs no plugin and no template engine, and holds no secret.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod contract;
pub mod description;
pub mod document;
pub mod dotenv;
pub mod encode;
pub mod expr;
pub mod plan;
pub mod preview;
pub mod protocol;
pub mod schema_fields;
pub mod slots;
