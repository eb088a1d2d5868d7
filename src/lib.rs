//! The program `guillemet`: the command line, and what it does without a daemon (`adopt`, the author tools, `demo`).
//!
//! The parts that it starts are crates of their own; ARCHITECTURE.md describes them and the arrows between them.

// The print macros panic where standard output or error cannot be written; `cli::output` and `logging` do not.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod cli;
