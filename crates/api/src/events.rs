//! The events of the stream `GET /v1/events`. They never hold a value.

use serde::{Deserialize, Serialize};

use guillemet_base::names::{SecretId, SecretName};

/// A change of a template, a secret or references.
// Untagged: a reader tries the variants in this order, so that with more fields comes first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Event {
    /// A secret has changed, but not necessarily its value.
    Secret {
        /// The id of the secret, in hexadecimal.
        id: String,
        /// The secret's name; after a rename the new one.
        name: String,
        /// What happened to the secret.
        change: Change,
    },
    /// A template's file has changed.
    Template {
        /// The id of the template.
        id: String,
        /// What happened to the file.
        change: Change,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It was created or added.
    Created,
    /// It exists and was changed.
    Changed,
    /// It was deleted or removed.
    Deleted,
}

impl Event {
    /// Returns the name of the event's kind in the stream.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Template { .. } => "template",
            Self::Secret { .. } => "secret",
            Self::References { .. } => "references",
        }
    }

    /// Returns an event about a secret.
    pub fn of_secret(id: SecretId, name: &SecretName, change: Change) -> Self {
        Self::Secret { id: id.to_string(), name: name.to_string(), change }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_it_was_written() {
        let id = || "a".to_owned();
        for event in [
            Event::Template { id: id(), change: Change::Created },
            Event::Secret { id: id(), name: "n".into(), change: Change::Deleted },
            Event::References { template: id(), secrets: vec!["n".into()] },
        ] {
            let text = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event, "{text}");
        }
    }
}
