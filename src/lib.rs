//! Guillemet keeps an encrypted vault of secrets on the machine where agents run and fills
//! `<< secret "name" >>` in the configs those agents read.
//!
//! `ARCHITECTURE.md` tells the way of a config and the invariants. Arrows point downwards:
//! `cli` → `api`, `console` → `http` → `app` → `resolve`, `inventory`, `template` → `vault`, `plugin`. `planner` is the child
//! process and uses nothing of `vault`, `api` or `resolve`.

#![deny(unsafe_code)]
#![deny(missing_docs)]
// They panic where standard output or error cannot be written: `cli::output` and `logging` do not.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod account;
pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod console;
pub mod daemon;
pub mod dotenv;
pub mod events;
pub mod files;
pub mod home;
pub mod http;
pub mod inventory;
pub mod lock_file;
pub mod logging;
pub mod membership;
#[cfg(test)]
#[allow(dead_code, reason = "the integration tests use the rest of it")]
#[path = "../tests/support/missing.rs"]
mod missing;
pub mod names;
pub mod pattern;
pub mod permissions;
pub mod planner;
pub mod plugin;
pub mod resolve;
pub mod secret_reader;
pub mod shares;
#[expect(unsafe_code, reason = "the one place for it")]
pub mod sys;
pub mod template;
pub mod user_namespace;
pub mod vault;
pub mod when;

#[global_allocator]
static ALLOCATOR: sys::memory::WipingAllocator = sys::memory::WipingAllocator;
