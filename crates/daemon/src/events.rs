//! Events that report changes of templates, secrets and references to listeners. They never hold a value.
//!
//! Knows nothing of the listeners.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::broadcast;

use guillemet_base::names::{SecretId, SecretName};

/// How many events a slow listener may fall behind. A listener that is further behind loses events and is told so.
const KEPT: usize = 1024;

/// A change of a template, a secret or references.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum DaemonEvent {
    /// A template's file has changed.
    Template {
        /// The id of the template.
        id: String,
        /// What happened to the file.
        change: DaemonEventKind,
    },
    /// A secret has changed, but not necessarily its value.
    Secret {
        /// The id of the secret, in hexadecimal.
        id: String,
        /// The secret's name; after a rename the new one.
        name: String,
        /// What happened to the secret.
        change: DaemonEventKind,
    },
    /// The references of a template have changed.
    References {
        /// The id of the template.
        template: String,
        /// The names that the template references now, each once.
        secrets: Vec<String>,
    },
}

/// What happened to a template or secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DaemonEventKind {
    /// It was created or added.
    Created,
    /// It exists and was changed.
    Changed,
    /// It was deleted or removed.
    Deleted,
}

impl DaemonEvent {
    /// Returns the name of the event's kind in the stream.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Template { .. } => "template",
            Self::Secret { .. } => "secret",
            Self::References { .. } => "references",
        }
    }

    /// Returns an event about a secret.
    pub fn of_secret(id: SecretId, name: &SecretName, change: DaemonEventKind) -> Self {
        Self::Secret { id: id.to_string(), name: name.to_string(), change }
    }
}

/// Sends events to all listeners.
pub struct EventBus(Mutex<Option<broadcast::Sender<DaemonEvent>>>);

impl Default for EventBus {
    fn default() -> Self {
        Self(Mutex::new(Some(broadcast::channel(KEPT).0)))
    }
}

impl EventBus {
    /// Sends an event to all present listeners.
    pub fn tell(&self, event: DaemonEvent) {
        if let Some(sender) = &*self.sender() {
            // It is no error if nobody listens.
            let _ = sender.send(event);
        }
    }

    /// Returns a receiver for all events from now on; `None` when the daemon is stopping.
    pub fn listen(&self) -> Option<broadcast::Receiver<DaemonEvent>> {
        self.sender().as_ref().map(broadcast::Sender::subscribe)
    }

    /// Ends the streams of all listeners, and accepts no new ones.
    pub fn close(&self) {
        *self.sender() = None;
    }

    fn sender(&self) -> std::sync::MutexGuard<'_, Option<broadcast::Sender<DaemonEvent>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
