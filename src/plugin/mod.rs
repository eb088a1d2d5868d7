//! Plugins as the daemon sees them: what an operation means (`encode`), what a planner answered and
//! whether to believe it (`plan`), the children that run them (`client`), and which there are
//! (`registry`).
//!
//! Runs no plugin code, no template engine, and no tree parser in the daemon: `canary`, which reads documents, `cases` and
//! `schema` are for the command line's checks and for tests.

pub mod builtin;
pub mod cache;
pub mod canary;
pub mod cases;
pub mod client;
pub mod contract;
pub mod encode;
pub mod expr;
pub mod plan;
pub mod registry;
pub mod schema;
