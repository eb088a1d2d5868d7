//! Random bytes from the operating system.
//!
//! Knows nothing of what they are used for.

use rand_core::{OsRng, RngCore};

/// Returns `N` random bytes, fit for keys and nonces.
///
/// # Panics
/// If the operating system has none to give.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    OsRng.fill_bytes(&mut bytes);
    bytes
}
