//! Events that report changes of templates, secrets and references to listeners. They never hold a value.
//!
//! Knows nothing of the listeners.

use std::sync::{Mutex, PoisonError};

use tokio::sync::broadcast;

pub use guillemet_api::events::{Change, Event};

/// How many events a slow listener may fall behind. A listener that is further behind loses events and is told so.
const KEPT: usize = 1024;

/// Sends events to all listeners.
pub struct EventBus(Mutex<Option<broadcast::Sender<Event>>>);

impl Default for EventBus {
    fn default() -> Self {
        Self(Mutex::new(Some(broadcast::channel(KEPT).0)))
    }
}

impl EventBus {
    /// Sends an event to all present listeners.
    pub fn publish(&self, event: Event) {
        if let Some(sender) = &*self.sender() {
            // It is no error if nobody listens.
            let _ = sender.send(event);
        }
    }

    /// Returns a receiver for all events from now on; `None` when the daemon is stopping.
    pub fn subscribe(&self) -> Option<broadcast::Receiver<Event>> {
        self.sender().as_ref().map(broadcast::Sender::subscribe)
    }

    /// Ends the streams of all listeners, and accepts no new ones.
    pub fn close(&self) {
        *self.sender() = None;
    }

    fn sender(&self) -> std::sync::MutexGuard<'_, Option<broadcast::Sender<Event>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
