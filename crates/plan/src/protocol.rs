//! The protocol between the daemon and a planner, over the planner's stdin and stdout.
//!
//! A message is a frame: its length as a little-endian `u32`, then that many bytes. A request is one JSON frame
//! (`PlannerRequest`); `Load` is followed by one frame with the bytes that it announces. An answer is one JSON frame
//! (`PlannerResponse`); `Loaded` is followed by one frame with the compiled form, which is empty if the request
//! contained the compiled form already, or if the component cannot be used.
//!
//! Nothing here can contain a value (promise Blind). The daemon treats every answer as hostile (`plan::verify`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::contract::Import;
use crate::expr::Expr;
use guillemet_base::problem::Problem;
use guillemet_template::{Format, ValueFilter};

/// The exit status of a planner that cannot work on this machine (`EX_OSERR` of sysexits.h). The reason is on its
/// standard error.
pub const CANNOT_WORK: u8 = 71;

/// The largest frame that either side accepts, in bytes, unless another limit is named here.
pub const FRAME_MAX: usize = 64 << 20;

/// The largest compiled form of a plugin, in bytes. It is two to three times as large as its component.
pub const FORM_MAX: usize = 128 << 20;

/// The largest answer frame (JSON) that the daemon accepts, in bytes.
pub const ANSWER_MAX: usize = 16 << 20;

/// The longest time that one call of a plugin may run.
pub const TIME_MAX: Duration = Duration::from_secs(2);

/// The most lines that a plugin may log in one call.
pub const LOG_MAX: usize = 100;

/// The most linear memory that one call of a plugin may use, in bytes.
pub const MEMORY_MAX: usize = 64 << 20;

/// A request from the daemon to the planner.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlannerRequest {
    /// Loads a plugin; the next frame is the component or its compiled form.
    Load {
        /// Whether the bytes are a compiled form rather than a component. The daemon vouches that a planner of this
        /// same build made it.
        compiled: bool,
    },
    /// Makes the plan of a template for one target.
    Plan(PlanRequest),
    /// Asks which targets a template names for itself. The target of this request is ignored.
    Targets(PlanRequest),
}

/// A template to plan. `text` comes from the daemon's lexer: its tags have private-use delimiters, and a call
/// `{call_prefix}{i}()` replaces secret number `i`.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlanRequest {
    /// The text for the template engine.
    pub text: String,
    /// The syntax of the rendered text.
    pub format: Format,
    /// The prefix of the name of every call that stands for a secret.
    pub call_prefix: String,
    /// For each reference, in order: the secret's name (for messages) and its value filters.
    pub references: Vec<PlanReference>,
    /// The table `vars` of the configuration.
    pub vars: serde_json::Value,
    /// The environment variables that templates may read.
    pub env: BTreeMap<String, String>,
    /// The id of the target to plan for.
    pub target: String,
}

/// A reference, as far as the planner needs to know it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanReference {
    /// The secret's name, for messages only.
    pub name: String,
    /// The line of the tag in the template, counted from 1.
    pub line: u32,
    /// The column of the tag in characters, counted from 1.
    pub column: u32,
    /// The value filters of the reference, applied first to last.
    pub filters: Vec<ValueFilter>,
}

/// An answer from the planner to the daemon.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlannerResponse {
    /// The findings about a component, which can be used if no rule is broken. The next frame is its compiled form, or
    /// empty.
    Loaded(Report),
    /// The document made from the template, with slots for the secrets.
    Planned(Planned),
    /// The ids of the targets that the template names, in its order; empty if it names none.
    Targets(Vec<String>),
    /// What the plugin logged while it was called, for its author. Comes before the answer itself, and only if there is
    /// any.
    Log(Vec<String>),
    /// The template is wrong. Holds its problems.
    Problems(Vec<Problem>),
    /// The plugin is wrong: it trapped, exceeded a limit, or broke a rule of the contract while it planned.
    Broken {
        /// What it did, as a sentence for people.
        rule: String,
    },
    /// The plugin cannot be loaded.
    Failed {
        /// What the plugin did wrong, as a sentence for people.
        message: String,
    },
}

/// A planner's findings about a component.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The interfaces that it imports, with their functions.
    pub imports: Vec<Import>,
    /// Its description of itself; `None` if it could not be asked.
    pub description: Option<Description>,
    /// What it logged while it described itself.
    #[serde(default)]
    pub log: Vec<String>,
    /// The broken rules that prevent its use; empty if it is loaded.
    pub broken: Vec<BrokenRule>,
    /// The time to compile the component, or to load its compiled form, in microseconds.
    pub compile_micros: u64,
    /// The cost of the call in which it described itself.
    pub describe: Cost,
}

/// A rule of the contract that a component breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenRule {
    /// The part of the component that the rule concerns.
    pub about: About,
    /// What is wrong: a sentence, in which `it` is the component.
    pub sentence: String,
}

/// The part of a component that a rule concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// The component as such, or what it does when it is called.
    Component,
    /// Imports that no plugin gets: one sentence for all of them.
    Imports,
    /// The version of the contract, and the functions of it that the component uses.
    Contract,
    /// The component's description of itself.
    Description,
    /// The config schema, as far as the contract has rules for it.
    Schema,
}

/// The cost of one call of a plugin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// The time in microseconds, including the creation of the instance.
    pub micros: u64,
    /// The bytes of linear memory at the end, over all its instances; memory never shrinks.
    pub memory: u64,
}

/// A plugin's description of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The feature that the plugin implements; also the folder of its templates.
    pub feature: String,
    /// The name of the feature for people.
    pub title: String,
    /// The plugin's own version, in any form.
    pub version: String,
    /// The JSON Schema of the config, as JSON text.
    pub schema: String,
    /// Patterns of the fields that may contain a secret, such as `headers.*`.
    pub secret_fields: Vec<String>,
    /// The targets that it can write; the first is the default.
    pub targets: Vec<Target>,
}

/// A format that a plugin can write for one kind of consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The id, which `--target` takes.
    pub id: String,
    /// The name of the target for people.
    pub title: String,
    /// The media type of the rendered config.
    pub media_type: String,
    /// The usual file name of the rendered config.
    pub file_name: String,
    /// Former names, which still work (`x-target-aliases` of the schema).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
}

impl Target {
    /// Returns every name that selects this target, the present one first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.id).chain(&self.aliases).map(String::as_str)
    }

    /// Returns the notice for a caller that used a former name; `None` if the caller used the present one.
    pub fn rename_notice(&self, requested: Option<&str>) -> Option<String> {
        let alias = requested.filter(|requested| self.aliases.iter().any(|alias| alias == requested))?;
        Some(format!("the target `{alias}` is now called `{}`; the old name still works", self.id))
    }
}

/// A document with slots, and the expression that each slot stands for.
#[derive(Debug, Serialize, Deserialize)]
pub struct Planned {
    /// The text of the document; every slot in it is one of `slots`.
    pub document: String,
    /// The syntax of the document: JSON or text.
    pub kind: DocumentKind,
    /// Every slot of the document, each exactly once.
    pub slots: Vec<PlannedSlot>,
    /// Every secret that the template engine emitted, in order. `Expr::Secret` is an index in this list.
    pub emissions: Vec<Emission>,
    /// Remarks about the template that are not errors.
    pub warnings: Vec<Problem>,
    /// The cost of the plugin's call, only shown to people.
    #[serde(default)]
    pub cost: Cost,
}

/// The syntax of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentKind {
    /// JSON, written by the host from a tree. A slot is always inside a string.
    Json,
    /// Text, written by the plugin. The outermost operation on every slot is a terminal encoder.
    Text,
}

/// A slot of a document.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlannedSlot {
    /// The slot's text: `Z` and 39 digits.
    pub slot: String,
    /// The expression whose result replaces the slot.
    pub expr: Expr,
}

/// One secret emitted by the template engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emission {
    /// The index of the reference in the request.
    pub reference: u32,
    /// The field of the config that contains it: `headers.Authorization`.
    pub field: String,
}
