//! The result of reading a file: the feature's config with its plain values, in which each text knows its place in the
//! file.

use std::ops::Range;

use serde_json::Value;
use zeroize::Zeroizing;

use super::equivalence::Facts;
use super::tokens::{Spot, Tokens};
use guillemet_template::{Format, ValueFilter};

/// A value of a config, which may contain others.
pub enum ConfigNode {
    /// A text, which may contain credentials.
    Text(ConfigLeaf),
    /// A number, a boolean or a null.
    Other(Value),
    /// A list of values.
    List(Vec<Self>),
    /// A table, with its fields in the file's order.
    Table(ConfigTable),
}

/// The fields of a table by name, in the file's order.
pub type ConfigTable = Vec<(String, ConfigNode)>;

/// A text of the config, and what the reader knows about it.
#[derive(Default)]
pub struct ConfigLeaf {
    /// The text as the plugin gets it, with its plain values.
    pub text: Zeroizing<String>,
    /// The place it came from; `None` if the reader made it up.
    pub spot: Option<Spot>,
    /// The credentials that the reader knows of in this text. If there are none, the field's name and the text decide.
    pub hints: Vec<Hint>,
}

/// A credential in a text, known from the rules of the format.
pub struct Hint {
    /// The bytes of the text that hold the credential.
    pub range: Range<usize>,
    /// The value itself, if the range holds another form of it, such as Base64.
    pub value: Option<Zeroizing<String>>,
    /// The filter that makes that form from the value.
    pub filter: Option<ValueFilter>,
    /// The place in the file, if it differs from the text's own.
    pub spot: Option<Spot>,
    /// The purpose, in the words of a secret's name, such as `token`.
    pub purpose: String,
    /// The reason it counts as a credential, for the user.
    pub reason: &'static str,
}

impl ConfigLeaf {
    /// Makes a text without hints.
    pub fn new(text: &str, spot: Option<Spot>) -> Self {
        Self { text: Zeroizing::new(text.to_owned()), spot, hints: Vec::new() }
    }

    /// Returns the text with a hint that the whole of it is a credential.
    #[must_use]
    pub fn credential(mut self, purpose: &str, reason: &'static str) -> Self {
        let range = 0..self.text.len();
        self.hints.push(Hint { range, value: None, filter: None, spot: None, purpose: purpose.into(), reason });
        self
    }
}

impl From<ConfigLeaf> for ConfigNode {
    fn from(leaf: ConfigLeaf) -> Self {
        Self::Text(leaf)
    }
}

impl From<&str> for ConfigNode {
    fn from(text: &str) -> Self {
        Self::Text(ConfigLeaf::new(text, None))
    }
}

/// A function that reads a document as its consumer does. Its error says what is wrong with the document.
pub type FactReader = Box<dyn Fn(&str) -> Result<Facts, String>>;

/// Everything that a reader finds out about a file.
pub struct Reading {
    /// The config of the feature, with plain values.
    pub config: ConfigTable,
    /// The target whose format the file has.
    pub target: &'static str,
    /// The meaning of the file for its consumer.
    pub facts: Facts,
    /// Reads a document of that target as the consumer does. Its error says what is wrong with the document.
    pub read: FactReader,
    /// The pieces of the file that the config came from.
    pub tokens: Tokens,
    /// Notes for the user about what the config leaves out.
    pub notes: Vec<String>,
    /// The provider's host, if the file names one.
    pub host: Option<String>,
    /// The format of the template, unless the user chooses another.
    pub format: Format,
}

/// Returns every text of a config with the path of its field.
pub fn leaves(table: &ConfigTable) -> Vec<(Vec<String>, &ConfigLeaf)> {
    fn walk<'a>(node: &'a ConfigNode, path: &mut Vec<String>, out: &mut Vec<(Vec<String>, &'a ConfigLeaf)>) {
        match node {
            ConfigNode::Text(leaf) => out.push((path.clone(), leaf)),
            ConfigNode::Other(_) => {}
            ConfigNode::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    walk(item, path, out);
                    path.pop();
                }
            }
            ConfigNode::Table(table) => fields(table, path, out),
        }
    }
    fn fields<'a>(table: &'a ConfigTable, path: &mut Vec<String>, out: &mut Vec<(Vec<String>, &'a ConfigLeaf)>) {
        for (name, node) in table {
            path.push(name.clone());
            walk(node, path, out);
            path.pop();
        }
    }
    let mut out = Vec::new();
    fields(table, &mut Vec::new(), &mut out);
    out
}
