//! The side of plugins that runs with keys: knows which plugins exist (`registry`), runs the planners as children
//! (`client`), makes the plans of templates (`plans`), places values in them (`fill`), and says what another plugin would
//! change (`compare`).
//!
//! Runs no plugin code, no template engine and no tree parser in the daemon: `canary`, which reads documents, `cases`,
//! `schema`, `offline`, which compiles and fills without a daemon, `package` and `index`, which read what strangers wrote,
//! are for the command line and for tests. For the daemon, `checker` runs those checks in a child without keys.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod cache;
pub mod canary;
pub mod cases;
pub mod checker;
pub mod client;
pub mod compare;
pub mod fill;
pub mod findings;
pub mod index;
pub mod location;
pub mod offline;
pub mod package;
pub mod plans;
pub mod registry;
pub mod schema;
