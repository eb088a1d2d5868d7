//! The system below the program: memory that wipes itself, files that are replaced whole, names, time, and text made
//! safe to show.
//!
//! Has names and places, and never a value: parses no template and answers no request.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod display;
pub mod files;
pub mod home;
pub mod lock_file;
pub mod logging;
pub mod names;
pub mod permissions;
pub mod problem;
pub mod random;
#[expect(unsafe_code, reason = "the one place for it, but for what a planner compiled before")]
pub mod sys;
pub mod time;

#[global_allocator]
static ALLOCATOR: sys::memory::WipingAllocator = sys::memory::WipingAllocator;
