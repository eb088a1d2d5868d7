//! What the plugin does before a target is named: when it is started, described, and when the host asks it
//! for memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The tests write a mode over the part behind the colon.
#[used]
static MODE: [u8; 32] = *b"hostile-mode:                   ";

pub fn mode() -> &'static str {
    let bytes: &'static [u8; 32] = std::hint::black_box(&MODE);
    std::str::from_utf8(&bytes[13..]).unwrap_or_default().trim_end()
}

/// Which part of a call this instance is in. The very first memory of `plan` is asked for by the host.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Beginning,
    Own,
    Answered,
}

struct Shared(Cell<Part>);

// SAFETY: there are no threads here.
unsafe impl Sync for Shared {}

static PART: Shared = Shared(Cell::new(Part::Beginning));

pub fn describing() {
    PART.0.set(Part::Own);
}

/// From here on memory is freed for the host alone.
pub fn answered() {
    PART.0.set(Part::Answered);
}

/// Runs when the component is instantiated.
#[unsafe(no_mangle)]
pub extern "C" fn _initialize() {
    match mode() {
        "start-loop" => crate::endless(),
        "start-panic" => core::arch::wasm32::unreachable(),
        "start-grow" => {
            core::arch::wasm32::memory_grow(0, 30_000);
        }
        _ => {}
    }
}

struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

// SAFETY: where it breaks the contract, it does so for the host to see.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if PART.0.replace(if PART.0.get() == Part::Beginning { Part::Own } else { PART.0.get() }) == Part::Beginning {
            match mode() {
                "realloc-outside" => return 0xffff_ff00_usize as *mut u8,
                "realloc-loop" => crate::endless(),
                "realloc-calls-out" => drop(crate::guillemet::feature::encode::has_secret("x")),
                _ => {}
            }
        }
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if PART.0.get() == Part::Answered {
            match mode() {
                "free-loop" => crate::endless(),
                "free-panic" => core::arch::wasm32::unreachable(),
                _ => {}
            }
        }
        unsafe { System.dealloc(block, layout) }
    }
}
