//! The one place with `unsafe`: what the kernel offers and no crate of ours wraps safely.
//!
//! Every function here is safe to call; each unsafe block says why it is sound. Nothing here knows
//! what the bytes mean.

pub mod map;
pub mod memory;
pub mod peer;
pub mod process;
pub mod signals;
pub mod stack;
pub mod users;
pub mod wasm;
