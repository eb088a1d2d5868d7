//! Plugins.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// The origin of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginSource {
    /// It is part of the daemon's program.
    BuiltIn,
    /// A user has added it.
    Added,
}

impl PluginSource {
    /// Returns the name of the origin in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::Added => "added",
        }
    }
}

/// Whether a plugin is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginStatus {
    /// It is used.
    Ok,
    /// It is not used, because it has a problem.
    Refused,
}

impl PluginStatus {
    /// Returns the name of the status in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
        }
    }
}

/// A plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginView {
    /// The feature that it implements; also the folder of its templates.
    pub feature: String,
    /// The name of the feature for people; empty if the plugin is refused.
    pub title: String,
    /// The plugin's own version; empty if the plugin is refused.
    pub version: String,
    /// The origin of the plugin.
    pub source: PluginSource,
    /// The SHA-256 of its component, in hexadecimal.
    pub digest: String,
    /// The targets that it can write, the default first.
    pub targets: Vec<PluginTarget>,
    /// Patterns of the fields that may contain a secret, such as `headers.*`.
    pub secret_fields: Vec<String>,
    /// The JSON Schema of its config; null if the plugin is refused.
    pub schema: serde_json::Value,
    /// Whether it is used.
    pub status: PluginStatus,
    /// The reason why it is refused; null if it is not.
    pub problem: Option<String>,
    /// The plugin whose place it takes, or would take if it were added.
    pub replaces: Option<ReplacedPlugin>,
}

/// A format that a plugin can write for one kind of consumer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginTarget {
    /// The id, which `--target` takes.
    pub id: String,
    /// The name of the target for people.
    pub title: String,
    /// The media type of the rendered config.
    pub media_type: String,
    /// The usual file name of the rendered config.
    pub file_name: String,
    /// Former names, which still work; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
}

/// A plugin that another one takes the place of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacedPlugin {
    /// The origin of the replaced plugin.
    pub source: PluginSource,
    /// The version of the replaced plugin; null if it is not loaded.
    pub version: Option<String>,
    /// The SHA-256 of its component, in hexadecimal.
    pub digest: String,
}

/// The body of a request that inspects a plugin, or adds it.
#[derive(Debug, Serialize)]
pub struct AddPlugin<'a> {
    /// The absolute path of the component. The daemon reads it.
    pub file: &'a Path,
    /// Whether to add it. Without, the answer is what would be added.
    pub confirm: bool,
    /// The SHA-256 of the component that was inspected. Needed to add it.
    pub digest: Option<&'a str>,
    /// The SHA-256 of the plugin whose place it may take.
    pub replaces: Option<&'a str>,
}
