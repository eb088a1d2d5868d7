//! What has changed, for those who want to be told: templates, secrets, references. Never a value.
//!
//! Knows nothing of who listens.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::broadcast;

use crate::names::{SecretId, SecretName};

/// How many changes a slow listener may be behind; one that is further is told to look at everything.
const KEPT: usize = 1024;

/// A change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Event {
    /// Of a template's file.
    Template {
        /// Its id.
        id: String,
        /// What happened.
        change: Change,
    },
    /// Of a secret.
    Secret {
        /// Its id.
        id: String,
        /// Its name; after a rename the new one.
        name: String,
        /// What happened.
        change: Change,
    },
    /// Of what a template names.
    References {
        /// Its id.
        template: String,
        /// The names in it now, each once.
        secrets: Vec<String>,
    },
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is new.
    Created,
    /// It is not what it was.
    Changed,
    /// It is gone.
    Deleted,
}

impl Event {
    /// The kind, as it is called in the stream.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Template { .. } => "template",
            Self::Secret { .. } => "secret",
            Self::References { .. } => "references",
        }
    }

    /// Of a secret.
    pub fn of_secret(id: SecretId, name: &SecretName, change: Change) -> Self {
        Self::Secret { id: id.to_string(), name: name.to_string(), change }
    }
}

/// Tells changes to whoever listens.
pub struct Events(Mutex<Option<broadcast::Sender<Event>>>);

impl Default for Events {
    fn default() -> Self {
        Self(Mutex::new(Some(broadcast::channel(KEPT).0)))
    }
}

impl Events {
    /// Tells a change.
    pub fn tell(&self, event: Event) {
        if let Some(sender) = &*self.sender() {
            // That nobody listens is no mistake.
            let _ = sender.send(event);
        }
    }

    /// Everything from now on; `None` when the daemon stops.
    pub fn listen(&self) -> Option<broadcast::Receiver<Event>> {
        self.sender().as_ref().map(broadcast::Sender::subscribe)
    }

    /// Ends all listening.
    pub fn close(&self) {
        *self.sender() = None;
    }

    fn sender(&self) -> std::sync::MutexGuard<'_, Option<broadcast::Sender<Event>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
