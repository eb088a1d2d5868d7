//! Machine code that wasmtime has written before.

use wasmtime::component::Component;
use wasmtime::{Engine, Result};

/// Takes a component in its compiled form.
///
/// `compiled` must be what `Component::serialize` gave. Only a planner may call this, with bytes that
/// the daemon keeps under a MAC: a planner holds no key, so the worst that forged bytes could do is
/// what the plugin may do anyway, to itself.
///
/// # Errors
/// Where the bytes were made by another version of the engine, for another machine or configuration.
pub fn deserialize(engine: &Engine, compiled: &[u8]) -> Result<Component> {
    // SAFETY: the bytes came from `Component::serialize` in a planner of this program and were vouched
    // for by the daemon (a MAC under a key of the vault). wasmtime compares its version, the target and
    // the engine's configuration before it maps anything.
    unsafe { Component::deserialize(engine, compiled) }
}
