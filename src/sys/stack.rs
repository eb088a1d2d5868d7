//! The part of the stack that calls have used and left.
//!
//! What a function computed stays beneath its caller's frame until something writes over it: registers
//! that were saved there, and blocks of a cipher. Buffers that wipe themselves do not reach it.

/// How far down calls leave something that is worth overwriting.
const DEPTH: usize = 16 * KIB;
/// The same of an answer: a render with three secrets was found to use 2.5 KiB, a resolve 1.5 KiB.
const SHALLOW: usize = 4 * KIB;
/// Frames of a build without optimisation are several times as large.
const KIB: usize = if cfg!(debug_assertions) { 16 << 10 } else { 1 << 10 };

/// Calls `work` and overwrites what it has left on the stack.
pub fn leaving_nothing<T>(work: impl FnOnce() -> T) -> T {
    let result = beneath(work);
    overwrite::<DEPTH>();
    result
}

/// As `leaving_nothing`, for an answer from memory, whose calls are few and whose time counts.
pub fn leaving_nothing_shallow<T>(work: impl FnOnce() -> T) -> T {
    let result = beneath(work);
    overwrite::<SHALLOW>();
    result
}

/// In a frame of its own, so that all of it lies where `overwrite` writes.
#[inline(never)]
fn beneath<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn overwrite<const LEN: usize>() {
    let left = [0_u8; LEN];
    // Whoever might look at it: so the compiler has to write it.
    std::hint::black_box(&left);
}
