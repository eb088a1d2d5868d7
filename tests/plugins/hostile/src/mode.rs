//! What the plugin does before it gets a target: when it is instantiated, when it is described, and when the host asks
//! it for memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The tests overwrite the part behind the colon with a mode.
#[used]
static MODE: [u8; 32] = *b"hostile-mode:                   ";

pub fn mode() -> &'static str {
    let bytes: &'static [u8; 32] = std::hint::black_box(&MODE);
    std::str::from_utf8(&bytes[13..]).unwrap_or_default().trim_end()
}

/// The part of a call that this instance is in. In `plan`, the first allocation is the host's.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Beginning,
    Own,
    Answered,
}

struct Shared(Cell<Part>);

// SAFETY: the component has no threads.
unsafe impl Sync for Shared {}

static PART: Shared = Shared(Cell::new(Part::Beginning));

pub fn describing() {
    PART.0.set(Part::Own);
}

/// Notes that from here on, only the host frees memory.
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

// SAFETY: it breaks the contract only where the host should notice.
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
