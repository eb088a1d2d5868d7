//! What the daemon and a planner say to each other over the planner's stdin and stdout.
//!
//! A message is a frame: its length as a little-endian `u32`, then that many bytes. A request is one
//! JSON frame (`Request`); `Load` is followed by one frame with the bytes it announces. An answer is
//! one JSON frame (`Answer`); `Loaded` is followed by one frame with the compiled form, empty when the
//! compiled form was what had been sent, or the component cannot be used.
//!
//! Nothing here can hold a value. The daemon treats every answer as hostile (`plugin::plan::check`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::plugin::contract::Import;
use crate::plugin::expr::{Expr, ValueFilter};
use crate::template::{Format, Problem};

/// The largest frame either side accepts, in bytes.
pub const FRAME_MAX: usize = 64 << 20;

/// The largest compiled form of a plugin, in bytes: two to three times its component.
pub const FORM_MAX: usize = 128 << 20;

/// The largest answer frame (JSON) the daemon accepts, in bytes.
pub const ANSWER_MAX: usize = 16 << 20;

/// What the daemon asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Take this plugin; the next frame is the component.
    Load {
        /// Whether the bytes are a compiled form that this planner's own kind has made (vouched for by
        /// the daemon) rather than a component.
        compiled: bool,
    },
    /// Work a template out for one target.
    Plan(PlanRequest),
    /// Say which targets a template names for itself. The target of this request counts for nothing.
    Targets(PlanRequest),
}

/// A template to plan. `text` has been through the daemon's lexer: its tags have private-use
/// delimiters, and where secret number `i` stood it calls `{call_prefix}{i}()`.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlanRequest {
    /// The text for the template engine.
    pub text: String,
    /// How the rendered text is to be read.
    pub format: Format,
    /// The beginning of the name of every call that stands for a secret.
    pub call_prefix: String,
    /// For each reference, in order: the secret's name (for messages) and its value filters.
    pub references: Vec<PlanReference>,
    /// `vars` of the configuration.
    pub vars: serde_json::Value,
    /// The allowed variables of the environment.
    pub env: BTreeMap<String, String>,
    /// The target wanted.
    pub target: String,
}

/// One reference as the planner needs it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanReference {
    /// The secret's name, for messages only.
    pub name: String,
    /// Line of the tag in the template, from 1.
    pub line: u32,
    /// Column of the tag in characters, from 1.
    pub column: u32,
    /// The filters behind it, applied first to last.
    pub filters: Vec<ValueFilter>,
}

/// What a planner answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What the component is; it can be asked where nothing stands against it. The next frame is its compiled form,
    /// or empty.
    Loaded(Report),
    /// The template worked out.
    Planned(Planned),
    /// The ids of the targets that the template names, in its order; none where it names none.
    Targets(Vec<String>),
    /// The template is wrong.
    Problems(Vec<Problem>),
    /// The plugin is wrong: it trapped, overran a limit, or broke a rule of the contract while it planned.
    Broken {
        /// What it did.
        rule: String,
    },
    /// The plugin cannot be loaded.
    Failed {
        /// What it did.
        message: String,
    },
}

/// What a planner found out about a component.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What it asks for.
    pub imports: Vec<Import>,
    /// What it says of itself, as far as it could be asked.
    pub description: Option<Description>,
    /// Everything that stands against using it; empty when it is loaded.
    pub broken: Vec<Rule>,
    /// How long it took to be compiled, or to be taken in its compiled form, in microseconds.
    pub compile_micros: u64,
    /// What describing itself took.
    pub describe: Cost,
}

/// A rule of the contract that a component breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// What it is about.
    pub about: About,
    /// What is wrong: a sentence, in which `it` is the component.
    pub sentence: String,
}

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// The component as such, or what it does when it is asked.
    Component,
    /// Imports that no plugin gets: one sentence for all of them.
    Imports,
    /// The version of the contract, and what is used of it.
    Contract,
    /// What it says of itself.
    Description,
    /// Its schema, as far as the contract knows it.
    Schema,
}

/// What one call of a plugin took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Its time in microseconds, with that of making its instance.
    pub micros: u64,
    /// Bytes of linear memory that it had in the end, over all its instances; memory never shrinks.
    pub memory: u64,
}

/// What a plugin says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The feature it knows; the folder of its templates.
    pub feature: String,
    /// For people.
    pub title: String,
    /// The plugin's own version.
    pub version: String,
    /// JSON Schema of the config, as JSON text.
    pub schema: String,
    /// Where a secret may stand.
    pub secret_fields: Vec<String>,
    /// The first is the default.
    pub targets: Vec<Target>,
}

/// A consumer's format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// What `--target` takes.
    pub id: String,
    /// For people.
    pub title: String,
    /// Of the rendered config.
    pub media_type: String,
    /// A usual name for the file.
    pub file_name: String,
    /// Former names, which still work (`x-target-aliases` of the schema).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
}

impl Target {
    /// Every name it answers to, the present one first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.id).chain(&self.aliases).map(String::as_str)
    }

    /// What to tell whoever used a former name; nothing for the present one.
    pub fn renamed(&self, asked: Option<&str>) -> Option<String> {
        let former = asked.filter(|asked| self.aliases.iter().any(|alias| alias == asked))?;
        Some(format!("the target `{former}` is now called `{}`; the old name still works", self.id))
    }
}

/// A document with slots, and what each slot stands for.
#[derive(Debug, Serialize, Deserialize)]
pub struct Planned {
    /// The document's text; every slot in it is one of `slots`.
    pub document: String,
    /// How the document is written.
    pub kind: DocumentKind,
    /// Every slot of the document, each exactly once.
    pub slots: Vec<PlannedSlot>,
    /// Every secret the template engine emitted, in order; `Expr::Secret` counts in this list.
    pub emissions: Vec<Emission>,
    /// Worth telling, not an error.
    pub warnings: Vec<Problem>,
    /// What it took. For people only.
    #[serde(default)]
    pub cost: Cost,
}

/// How a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentKind {
    /// Written by the host from a tree; a slot stands inside a string.
    Json,
    /// Written by the plugin; the outermost operation on every slot is a terminal encoder.
    Text,
}

/// A slot of a document.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlannedSlot {
    /// `Z` and 39 digits.
    pub slot: String,
    /// What stands there in the end.
    pub expr: Expr,
}

/// One secret emitted by the template engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emission {
    /// Which reference of the request.
    pub reference: u32,
    /// The field of the config it stands in: `headers.Authorization`.
    pub field: String,
}
