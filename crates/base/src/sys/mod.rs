//! The only module with `unsafe`: services of the kernel that no crate of ours wraps safely.
//!
//! Every function here is safe to call, and every unsafe block says why it is sound. Knows nothing of the meaning of
//! the bytes.

pub mod map;
pub mod memory;
pub mod peer;
pub mod process;
pub mod signals;
pub mod stack;
pub mod users;
