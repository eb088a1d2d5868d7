//! The state of the daemon.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::configuration::ConfigurationView;

/// The state of a daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// The version of the daemon's program.
    pub version: Cow<'static, str>,
    /// The number of its process.
    pub pid: u32,
    /// The time at which it started.
    pub started_at: String,
    /// The path of the data folder.
    pub home: String,
    /// The rows of the inventory.
    pub secrets: SecretCounts,
    /// The templates.
    pub templates: TemplateCounts,
    /// The number of plugins.
    pub plugins: usize,
    /// The vault.
    pub vault: VaultView,
    /// The memory of its process; `None` if the system does not tell.
    pub memory: Option<MemoryView>,
    /// The configuration in force.
    pub configuration: ConfigurationView,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

/// The number of rows with each status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretCounts {
    /// Secrets that can be resolved.
    pub active: usize,
    /// Secrets that are kept, but not resolved.
    pub disabled: usize,
    /// Names that references use although there is no such secret.
    pub missing: usize,
}

/// The number of templates and of other files in their folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateCounts {
    /// Templates that can be rendered for every target they are for.
    pub ok: usize,
    /// Templates that cannot.
    pub broken: usize,
    /// Files that are not templates.
    pub strays: usize,
}

/// The vault of a daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultView {
    /// The version of the file's format.
    pub format: u32,
    /// The method that unlocked it: `keyfile` or `passphrase`.
    pub unlock: Cow<'static, str>,
}

/// The resident memory of a daemon, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryView {
    /// What belongs to no file.
    pub own_bytes: u64,
    /// Pages of files: the program, which other processes share, and the usage journal.
    pub file_bytes: u64,
}
