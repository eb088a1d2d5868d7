//! What a reader makes of a file: the feature's config with the plain values still in it, each text with its
//! way back to the file.

use std::ops::Range;

use serde_json::Value;
use zeroize::Zeroizing;

use super::meaning::Facts;
use super::tokens::{Spot, Tokens};
use crate::template::{Format, ValueFilter};

/// A config, or a part of one.
pub enum Node {
    /// Text, which may hold credentials.
    Text(Leaf),
    /// A number, true, false or null.
    Other(Value),
    /// A list.
    List(Vec<Self>),
    /// Fields in order.
    Table(Table),
}

/// Fields in order.
pub type Table = Vec<(String, Node)>;

/// A text of the config.
#[derive(Default)]
pub struct Leaf {
    /// The text.
    pub text: Zeroizing<String>,
    /// Where it came from.
    pub spot: Option<Spot>,
    /// Credentials that the reader knows of in it. Where there is none, name and value decide.
    pub hints: Vec<Hint>,
}

/// A credential in a text, by what the reader knows of the format.
pub struct Hint {
    /// Where in the text.
    pub range: Range<usize>,
    /// The value, where that range holds another form of it.
    pub value: Option<Zeroizing<String>>,
    /// What makes that form of the value.
    pub filter: Option<ValueFilter>,
    /// Where in the file, when not where the text stands.
    pub spot: Option<Spot>,
    /// What it is for, in the words of a name: `token`.
    pub purpose: String,
    /// Why it counts as one.
    pub why: &'static str,
}

impl Leaf {
    /// A text from somewhere.
    pub fn new(text: &str, spot: Option<Spot>) -> Self {
        Self { text: Zeroizing::new(text.to_owned()), spot, hints: Vec::new() }
    }

    /// The same, which is a credential as a whole.
    #[must_use]
    pub fn credential(mut self, purpose: &str, why: &'static str) -> Self {
        let range = 0..self.text.len();
        self.hints.push(Hint { range, value: None, filter: None, spot: None, purpose: purpose.into(), why });
        self
    }
}

impl From<Leaf> for Node {
    fn from(leaf: Leaf) -> Self {
        Self::Text(leaf)
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Self::Text(Leaf::new(text, None))
    }
}

/// Reads a document as its consumer does, or says what is wrong with it.
pub type Reader = Box<dyn Fn(&str) -> Result<Facts, String>>;

/// What a reader makes of a file.
pub struct Reading {
    /// The config.
    pub config: Table,
    /// The target that writes what was read.
    pub target: &'static str,
    /// What the file means to its consumer.
    pub facts: Facts,
    /// Reads a document of that target as the consumer does; an error says what is wrong with it.
    pub read: Reader,
    /// The pieces of the file the config came from.
    pub tokens: Tokens,
    /// What stays behind in the file, for people.
    pub notes: Vec<String>,
    /// The provider's host, where one is named.
    pub host: Option<String>,
    /// How the template is written unless somebody chooses.
    pub format: Format,
}

/// Every text of a config with its path.
pub fn leaves(table: &Table) -> Vec<(Vec<String>, &Leaf)> {
    fn walk<'a>(node: &'a Node, path: &mut Vec<String>, into: &mut Vec<(Vec<String>, &'a Leaf)>) {
        match node {
            Node::Text(leaf) => into.push((path.clone(), leaf)),
            Node::Other(_) => {}
            Node::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    walk(item, path, into);
                    path.pop();
                }
            }
            Node::Table(table) => fields(table, path, into),
        }
    }
    fn fields<'a>(table: &'a Table, path: &mut Vec<String>, into: &mut Vec<(Vec<String>, &'a Leaf)>) {
        for (name, node) in table {
            path.push(name.clone());
            walk(node, path, into);
            path.pop();
        }
    }
    let mut into = Vec::new();
    fields(table, &mut Vec::new(), &mut into);
    into
}
