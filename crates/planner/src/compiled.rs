//! Loads machine code that wasmtime has compiled earlier.

use wasmtime::component::Component;
use wasmtime::{Engine, Result};

/// Loads a component from its compiled form.
///
/// `compiled` must be the output of `Component::serialize`. Only a planner may call this, with bytes that the daemon
/// keeps under a MAC. A planner holds no key, so forged bytes could do no more than the plugin may do anyway, and only
/// to that planner.
///
/// # Errors
/// An error if the bytes were made by another version of the engine, or for another machine or configuration.
pub fn deserialize(engine: &Engine, compiled: &[u8]) -> Result<Component> {
    // SAFETY: the bytes came from `Component::serialize` in a planner of this program, and the daemon has verified them
    // (a MAC under a key of the vault). wasmtime compares its version, the target and the configuration of the engine
    // before it maps anything.
    unsafe { Component::deserialize(engine, compiled) }
}
