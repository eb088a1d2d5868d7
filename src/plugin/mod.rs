//! The daemon's side of plugins: implements the operations (`encode`), checks a planner's answers (`plan`), runs the
//! planners as children (`client`), and knows which plugins exist (`registry`).
//!
//! Runs no plugin code, no template engine and no tree parser in the daemon: `canary`, which reads documents, `cases`
//! and `schema` are for the command line's checks and for tests.

pub mod builtin;
pub mod cache;
pub mod canary;
pub mod cases;
pub mod client;
pub mod registry;
pub mod schema;
