//! The definition of a declarative plugin: what `plugin build` reads from plugin.toml and writes into the component.
//!
//! The program and the component share this file, so it uses nothing of either.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The bytes that a component has for its definition: four for the length of the JSON, least significant first, and
/// the JSON.
pub const CAPACITY: usize = 512 << 10;

/// A plugin.
#[derive(Serialize, Deserialize)]
pub struct Definition {
    /// The id of the feature.
    pub feature: String,
    /// The name for people.
    pub title: String,
    /// The version of the plugin.
    pub version: String,
    /// The JSON Schema of the config.
    pub schema: String,
    /// The fields that may contain secrets.
    pub secret_fields: Vec<String>,
    /// The fields of a config, in their order.
    pub fields: Vec<Field>,
    /// The targets. The first is the default.
    pub targets: Vec<Target>,
    /// The tables of the encoder `escape`.
    pub escapes: Vec<Escape>,
}

/// A field of a config.
#[derive(Serialize, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// Whether a config without it is refused.
    pub required: bool,
    /// Whether it may hold secrets.
    pub secret: bool,
    /// The value of an absent field.
    pub default: Option<Value>,
}

/// What a field holds.
#[derive(Serialize, Deserialize)]
pub enum Kind {
    /// A text.
    Text,
    /// An absolute http(s) URL.
    Url,
    /// A whole number.
    Number {
        /// The smallest number that is allowed.
        minimum: u64,
        /// The largest number that is allowed.
        maximum: u64,
    },
    /// True or false.
    Bool,
    /// One of these words.
    Choice(Vec<String>),
    /// Texts.
    List,
    /// Names, and a text for each.
    Map,
    /// Anything, which a JSON document holds as it is.
    Any,
    /// Fields.
    Table(Vec<Field>),
    /// A list of tables with these fields.
    Tables(Vec<Field>),
}

/// A document for a consumer.
#[derive(Serialize, Deserialize)]
pub struct Target {
    /// Its id.
    pub id: String,
    /// The name for people.
    pub title: String,
    /// The media type of the document.
    pub media_type: String,
    /// The usual name of the file.
    pub file_name: String,
    /// Whether the document is JSON.
    pub json: bool,
    /// The document with its tags, which have the delimiters of templates' engine texts.
    pub document: String,
    /// The line of plugin.toml that the document begins in.
    pub line: usize,
}

/// A table of the encoder `escape`.
#[derive(Serialize, Deserialize)]
pub struct Escape {
    /// Its name in documents.
    pub name: String,
    /// The text before a value.
    pub opening: String,
    /// The text after a value.
    pub closing: String,
    /// Characters, and the text that is written in place of each.
    pub replacements: Vec<(char, String)>,
    /// Sets of characters that are refused, and why.
    pub refused: Vec<(String, String)>,
}
