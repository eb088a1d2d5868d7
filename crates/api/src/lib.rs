//! The types of the socket API, and a client for it. The server makes its answers of these types, and the command line
//! and the console read them: a field is declared once. `openapi.yaml` describes the same.
//!
//! Invariant: of this workspace it uses `guillemet-base` only, and it depends on no SQLite, wasmtime or TLS.
//!
//! - Times are RFC 3339 in UTC, with milliseconds. Lines and columns count from 1; columns are in characters.
//! - The types of answers keep the order in which their fields are declared: it is the order in the JSON. A reader
//!   ignores fields that it does not know.
//! - The types of requests can only be written. The server reads a request field by field instead, so that
//!   one answer names everything that is wrong with it.
//! - No type of an answer holds a value of a secret but [`secrets::ResolvedValues`], which cannot be printed.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod account;
pub mod client;
pub mod configuration;
pub mod console;
pub mod error;
pub mod events;
pub mod health;
pub mod plugins;
pub mod render;
pub mod secrets;
pub mod status;
pub mod templates;
pub mod usage;

use serde::{Deserialize, Serialize};

pub use guillemet_base::problem::Problem;

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing<T> {
    /// The number of items in all pages.
    pub count: usize,
    /// The items of this page, in the order of the listing.
    pub items: Vec<T>,
}
