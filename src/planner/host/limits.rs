//! What one call of a plugin may take: memory and tables, over all its instances.
//!
//! Knows nothing of the contract.

use wasmtime::ResourceLimiter;

use crate::planner::encoder::Broken;

/// Most bytes of linear memory one call may use.
pub const MEMORY_MAX: usize = 64 << 20;
/// Most elements of its tables.
const TABLE_MAX: usize = 100_000;
/// Most core instances. Componentize-py links the parts of Python anew for each call: 59.
const INSTANCES_MAX: usize = 64;
/// Most tables.
const TABLES_MAX: usize = 32;
/// Most memories.
const MEMORIES_MAX: usize = 8;

/// What one call has taken.
#[derive(Default)]
pub struct Limits {
    /// Bytes of linear memory, over all its instances. It never shrinks.
    pub memory: usize,
    elements: usize,
    /// Which limit has been met, in words.
    pub overrun: Option<&'static str>,
}

impl Limits {
    fn stop(&mut self, what: &'static str) -> wasmtime::Result<bool> {
        self.overrun = Some(what);
        Err(wasmtime::Error::new(Broken(what.to_owned())))
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.memory = self.memory.saturating_add(desired.saturating_sub(current));
        if self.memory > MEMORY_MAX { self.stop("it needed more than 64 MiB of memory") } else { Ok(true) }
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.elements = self.elements.saturating_add(desired.saturating_sub(current));
        if self.elements > TABLE_MAX { self.stop("it needed tables that are too large") } else { Ok(true) }
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}
