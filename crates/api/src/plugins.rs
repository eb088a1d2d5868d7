//! Plugins.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Problem;

/// The origin of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginSource {
    /// It is part of the daemon's program.
    BuiltIn,
    /// A user has added it.
    Added,
    /// It is under development, and stands in for the feature's plugin while its author works on it.
    StandIn,
}

impl PluginSource {
    /// Returns the name of the origin in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::Added => "added",
            Self::StandIn => "stand-in",
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
    /// The time since which it stands in for the feature's plugin; null if it does not.
    #[serde(default)]
    pub stands_in_since: Option<String>,
    /// The plugin that was in force before it, and can be brought back; null if none is kept.
    #[serde(default)]
    pub former: Option<FormerPlugin>,
    /// What would change if it took the place of the present plugin; absent unless it was only inspected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<PluginComparison>,
}

/// A plugin that is kept, so that it can be brought back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerPlugin {
    /// The origin of the plugin.
    pub source: PluginSource,
    /// The version of the plugin; null if that is not known.
    pub version: Option<String>,
    /// The SHA-256 of its component, in hexadecimal.
    pub digest: String,
    /// The reason why it cannot be brought back; null if it can.
    pub problem: Option<String>,
}

/// How the version of a plugin relates to that of the present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionOrder {
    /// There is no present plugin that could be compared.
    First,
    /// It is newer.
    Newer,
    /// It is older.
    Older,
    /// Both have the same version.
    Same,
    /// The versions differ, and at least one is not a semantic version.
    Unordered,
}

/// What would change if a plugin took the place of the present one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginComparison {
    /// How its version relates to that of the present plugin.
    pub version: VersionOrder,
    /// The default targets, if they differ.
    pub default_target: Option<ChangedDefault>,
    /// The names of targets, former names included, that only the new plugin has.
    pub targets_added: Vec<String>,
    /// The names of targets, former names included, that only the present plugin has.
    pub targets_removed: Vec<String>,
    /// The patterns of secret fields that only the new plugin has.
    pub secret_fields_added: Vec<String>,
    /// The patterns of secret fields that only the present plugin has.
    pub secret_fields_removed: Vec<String>,
    /// The templates that change, each for one target.
    pub templates: Vec<ChangedTemplate>,
    /// What would break. The plugin is refused if there is anything, unless the request says `break`.
    pub breaks: Vec<PluginBreak>,
    /// The digest of `breaks`. A request that names it agrees to break these things, and nothing else.
    pub digest: String,
}

/// The default targets of two plugins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedDefault {
    /// The default target of the present plugin.
    pub before: String,
    /// The default target of the new plugin.
    pub after: String,
}

/// What happens to a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TemplateEffect {
    /// It gives another document.
    Changed,
    /// It can be rendered now, and cannot be with the new plugin; or what the new plugin makes of it does not read back.
    Broken,
    /// It cannot be rendered now, and can be with the new plugin.
    Fixed,
    /// It cannot be rendered or read back with the new plugin, nor now.
    Failing,
}

/// A template that changes, for one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedTemplate {
    /// The id of the template.
    pub template: String,
    /// The id of the target; null if the plugin cannot tell the targets of the template.
    pub target: Option<String>,
    /// What happens.
    pub effect: TemplateEffect,
    /// The difference as a unified diff, with `«name»` in place of secrets; null unless the document changes.
    pub diff: Option<String>,
    /// Why it cannot be rendered with the new plugin.
    pub problems: Vec<Problem>,
}

/// Something that works now and would not work any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginBreak {
    /// What it is about.
    pub about: BreakSubject,
    /// The id of the template; null if it is about the plugin.
    pub template: Option<String>,
    /// The id of the target; null if it is about no particular one.
    pub target: Option<String>,
    /// What is wrong.
    #[serde(flatten)]
    pub problem: Problem,
}

/// What a [`PluginBreak`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BreakSubject {
    /// A template.
    Template,
    /// A target that is gone, or is no longer the default.
    Target,
    /// A check of the component.
    Check,
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
    /// The feature whose built-in plugin it may replace.
    pub replace: Option<&'a str>,
    /// Whether to add it, and what was inspected. Without, the answer is what would be added.
    #[serde(flatten)]
    pub confirmed: Option<ConfirmPlugin<'a>>,
}

/// The body of a request that inspects the former plugin of a feature, or brings it back.
#[derive(Debug, Serialize)]
pub struct RollBackPlugin<'a> {
    /// Whether to bring it back, and what was inspected. Without, the answer is what would come back.
    #[serde(flatten)]
    pub confirmed: Option<ConfirmPlugin<'a>>,
}

/// The body of a request that lets a component stand in for a plugin.
#[derive(Debug, Serialize)]
pub struct StandInPlugin<'a> {
    /// The absolute path of the component. The daemon reads it.
    pub file: &'a Path,
    /// The SHA-256 that the component must have.
    pub digest: &'a str,
}

/// An event of the stream that lets a component stand in for a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum StandInEvent {
    /// The component is used from now on.
    Started {
        /// The feature.
        feature: String,
        /// The SHA-256 of the component.
        digest: String,
    },
    /// The component is no longer used. The last event.
    Ended {
        /// Why it ended.
        reason: StandInEnd,
    },
}

impl StandInEvent {
    /// Returns the name of the event in the stream.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Ended { .. } => "ended",
        }
    }
}

/// Why a component no longer stands in for a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StandInEnd {
    /// Another component stands in now.
    Replaced,
    /// The daemon is stopping.
    Stopping,
}

/// The part of a request that confirms what was inspected.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ConfirmPlugin<'a> {
    /// Always true.
    pub confirm: bool,
    /// The SHA-256 of the component that was inspected.
    pub digest: &'a str,
    /// The SHA-256 of the plugin whose place it may take.
    pub replaces: Option<&'a str>,
    /// Whether it may break what works now.
    #[serde(rename = "break")]
    pub breaks: bool,
    /// The digest of what was shown to break.
    pub comparison: Option<&'a str>,
}
