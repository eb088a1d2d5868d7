//! The part of the stack that calls have used and left.
//!
//! What a function computed stays beneath its caller's frame until something writes over it: registers
//! that were saved there, and blocks of a cipher. Buffers that wipe themselves do not reach it.

/// How far down calls leave something that is worth overwriting: a render with three secrets was found to
/// use 2.5 KiB, reading a JSON body 3 KiB. Frames of a build without optimisation are several times as large.
const DEPTH: usize = if cfg!(debug_assertions) { 256 << 10 } else { 16 << 10 };

/// Calls `work` and overwrites what it has left on the stack.
pub fn leaving_nothing<T>(work: impl FnOnce() -> T) -> T {
    let result = beneath(work);
    overwrite();
    result
}

/// In a frame of its own, so that all of it lies where `overwrite` writes.
#[inline(never)]
fn beneath<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn overwrite() {
    let left = [0_u8; DEPTH];
    // Whoever might look at it: so the compiler has to write it.
    std::hint::black_box(&left);
}
