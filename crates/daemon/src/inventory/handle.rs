//! The inventory for async code.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

use super::Inventory;
use guillemet_base::sys::stack::with_wiped_stack;

/// The inventory for async code. Cheap to clone.
///
/// The inventory's mutex is held while a change is written to the disk, so whatever takes it goes through [`run`], the
/// only way to an `&Inventory`. The other methods take no lock that is held for longer than a few instructions.
///
/// [`run`]: InventoryHandle::run
#[derive(Clone)]
pub struct InventoryHandle(Arc<Inventory>);

/// The error of a call that panicked, or that the stopping daemon did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", Panicked::MESSAGE)]
pub struct Panicked;

impl Panicked {
    /// What callers are told about an internal error. The log says where it happened.
    pub const MESSAGE: &str = "internal error in the daemon; see its log";
}

impl InventoryHandle {
    /// Wraps the inventory, so that only [`InventoryHandle::run`] can reach it.
    pub fn new(inventory: Arc<Inventory>) -> Self {
        Self(inventory)
    }

    /// Calls the inventory on a thread that may block, and leaves none of its values on the stack of that thread. The
    /// call is not undone if the returned future is dropped.
    ///
    /// # Errors
    /// [`Panicked`] if the call panics.
    pub async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Inventory) -> T + Send + 'static,
    ) -> Result<T, Panicked> {
        let inventory = Arc::clone(&self.0);
        let called = tokio::task::spawn_blocking(move || with_wiped_stack(|| call(&inventory)));
        called.await.map_err(|_| Panicked)
    }

    /// Returns the notifier for whenever something may have to be pushed to the account.
    pub fn push_due(&self) -> &Notify {
        &self.0.due
    }

    /// Returns the notifier for whenever templates have changed.
    pub fn template_changes(&self) -> &Notify {
        &self.0.changed
    }

    /// Returns when the next scan of the templates' folders is due.
    pub fn scan_due(&self) -> Instant {
        self.0.scans.due()
    }

    /// Sets how many former versions of a secret are kept from now on.
    pub fn keep_former_versions(&self, number: usize) {
        self.0.keep_former_versions(number);
    }
}
