//! Guillemet keeps an encrypted vault of secrets on the machine where agents run and fills `<< secret "name" >>` in the
//! configs those agents read.
//!
//! `ARCHITECTURE.md` describes how a config is made and which invariants hold. Dependencies point downwards: `cli` →
//! `api`, `console` → `resolve`, `inventory`, `template` → `vault`, `plugin`. `planner` is the child process and uses
//! nothing of `vault`, `api` or `resolve`.

#![deny(unsafe_code)]
#![deny(missing_docs)]
// The print macros panic where standard output or error cannot be written; `cli::output` and `logging` do not.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod cli;
#[cfg(test)]
#[allow(dead_code, reason = "the integration tests use the rest of it")]
#[path = "../tests/support/missing.rs"]
mod missing;
