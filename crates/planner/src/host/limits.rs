//! Limits what one call of a plugin may take: memory and tables, over all its instances.
//!
//! Knows nothing of the contract.

use wasmtime::ResourceLimiter;

use crate::encoder::PluginError;
use guillemet_plan::protocol::MEMORY_MAX;

/// The most table elements of one call.
const TABLE_MAX: usize = 100_000;
/// The most core instances. Componentize-py links the parts of Python again for each call, which takes 59.
const INSTANCES_MAX: usize = 64;
/// The most tables of one call.
const TABLES_MAX: usize = 32;
/// The most linear memories of one call.
const MEMORIES_MAX: usize = 8;

/// The resources that one call has taken.
#[derive(Default)]
pub struct CallLimiter {
    /// The bytes of linear memory over all its instances, which never shrinks.
    pub memory: usize,
    elements: usize,
    /// The limit that was exceeded, as a phrase for people; `None` if there was none.
    pub overrun: Option<&'static str>,
}

impl CallLimiter {
    fn exceed(&mut self, message: &'static str) -> wasmtime::Result<bool> {
        self.overrun = Some(message);
        Err(wasmtime::Error::new(PluginError(message.to_owned())))
    }
}

impl ResourceLimiter for CallLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.memory = self.memory.saturating_add(desired.saturating_sub(current));
        if self.memory > MEMORY_MAX { self.exceed("it needed more than 64 MiB of memory") } else { Ok(true) }
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.elements = self.elements.saturating_add(desired.saturating_sub(current));
        if self.elements > TABLE_MAX { self.exceed("it needed tables that are too large") } else { Ok(true) }
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
