//! The configuration in force.

use serde::{Deserialize, Serialize};

use crate::Problem;

/// The configuration in force after a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The path of the file.
    pub file: String,
    /// The SHA-256 of the file that is in force, in hexadecimal.
    pub digest: String,
    /// The time at which it was loaded.
    pub loaded_at: String,
    /// The keys that the reload changed, such as `limits.idle_seconds`; `client` for the rules.
    pub changed: Vec<String>,
    /// The keys that are read only at the start, and have changed since then.
    pub needs_restart: Vec<String>,
    /// Rules whose user or group does not exist.
    pub warnings: Vec<Problem>,
}

/// The configuration in force, and whether its file is valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationView {
    /// The path of the file.
    pub file: String,
    /// The SHA-256 of the file that is in force, in hexadecimal.
    pub digest: String,
    /// The time at which it was loaded.
    pub loaded_at: String,
    /// Whether the file can be used. If not, the configuration from before stays in force.
    pub valid: bool,
    /// What is wrong with the file.
    pub problems: Vec<Problem>,
    /// The keys that are read only at the start, and have changed since then.
    pub needs_restart: Vec<String>,
}
