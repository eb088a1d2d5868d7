//! Keys, sealed boxes, secrets with their versions and the layout in which they are sealed, and the reader that takes
//! one secret from a descriptor.
//!
//! Knows nothing of the files and databases that hold them, of templates or of requests.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod crypto;
pub mod memory;
pub mod reader;
pub mod record;
