//! Parses JSON and YAML with the places of their texts, as a start for several readers.
//!
//! Uses the parsers that planners use for templates, which know positions, report duplicate keys and limit size and
//! depth.

use std::collections::HashMap;
use std::ops::Range;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::cli::adopt::config::{ConfigLeaf, ConfigNode};
use crate::cli::adopt::source::Problems;
use crate::cli::adopt::tokens::{Quoting, Spot, Tokens};
use guillemet_plan::document;
use guillemet_template::Format;

/// Put before any JSON value, this makes an object of it.
const WRAP: &str = "{\"\":";

/// A parsed document, with the places of its values in the text.
pub struct ParsedDocument<'a> {
    /// The tree of the document, which is always an object.
    pub root: Map<String, Value>,
    places: HashMap<String, usize>,
    text: &'a str,
    format: Format,
    /// The token whose text this is; `None` if it is the file.
    within: Option<usize>,
}

impl<'a> ParsedDocument<'a> {
    /// Parses a file: as JSON with comments if it begins like JSON, else as YAML. Returns `None` if it cannot be
    /// parsed, with problems added, or is not an object.
    pub fn read(text: &'a str, problems: &mut Problems<'_>) -> Option<Self> {
        let first = text.trim_start().chars().next();
        let format = if matches!(first, Some('{' | '[' | '/')) { Format::Jsonc } else { Format::Yaml };
        match document::parse(format, text) {
            Ok(tree) => Self::of(tree, text, format, None),
            Err(errors) => {
                for error in errors {
                    problems.add(error.at, "", error.message, error.help.as_deref());
                }
                None
            }
        }
    }

    /// Parses JSON of any kind that is the text of a token. The value is in the field with the empty name, and paths
    /// begin with that name.
    ///
    /// # Errors
    /// With the first mistake in the text.
    pub fn within(text: &'a str, token: usize) -> Result<Self, String> {
        let wrapped = Zeroizing::new(format!("{WRAP}{text}}}"));
        let mut tree = document::parse(Format::Json, &wrapped)
            .map_err(|errors| errors.into_iter().next().map_or_else(String::new, |error| error.message))?;
        tree.places.values_mut().for_each(|at| *at = at.saturating_sub(WRAP.len()));
        Self::of(tree, text, Format::Json, Some(token)).ok_or_else(String::new)
    }

    fn of(tree: document::Tree, text: &'a str, format: Format, within: Option<usize>) -> Option<Self> {
        let Value::Object(root) = tree.root else { return None };
        Some(Self { root, places: tree.places, text, format, within })
    }

    /// Returns the format in which a template of this document is written.
    pub fn template_format(&self) -> Format {
        if self.format == Format::Yaml { Format::Yaml } else { Format::Json }
    }

    /// Returns the byte at which a field's value begins.
    pub fn at(&self, path: &str) -> Option<usize> {
        self.places.get(path).copied()
    }

    /// Returns the place of a text and adds its token. Returns `None` if the text has a form that cannot be replaced.
    pub fn spot(&self, path: &str, text: &str, tokens: &mut Tokens) -> Option<Spot> {
        let at = self.at(path)?;
        let range = match self.format {
            Format::Yaml => yaml_scalar(self.text, at, text)?,
            _ => json_string(self.text, at)?,
        };
        let token = tokens.add(self.within, range, text, Quoting::Double);
        Some(tokens.spot(token))
    }

    /// Returns a text with its place.
    pub fn leaf(&self, path: &str, text: &str, tokens: &mut Tokens) -> ConfigLeaf {
        ConfigLeaf::new(text, self.spot(path, text, tokens))
    }

    /// Returns a tree with the places of its texts.
    pub fn node(&self, path: &str, value: &Value, tokens: &mut Tokens) -> ConfigNode {
        let child_path = |name: &str| format!("{path}.{name}");
        match value {
            Value::String(text) => self.leaf(path, text, tokens).into(),
            Value::Array(items) => {
                let items = items.iter().enumerate();
                ConfigNode::List(
                    items.map(|(index, item)| self.node(&child_path(&index.to_string()), item, tokens)).collect(),
                )
            }
            Value::Object(map) => ConfigNode::Table(
                map.iter().map(|(name, item)| (name.clone(), self.node(&child_path(name), item, tokens))).collect(),
            ),
            other => ConfigNode::Other(other.clone()),
        }
    }
}

/// Returns the range of the JSON string that begins at a byte, with its quotes.
fn json_string(text: &str, at: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let mut end = at + 1;
    while *bytes.get(end)? != b'"' {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    Some(at..end + 1)
}

/// Returns the range of the YAML scalar that begins at a byte, if it is on one line and its content is `value`. Other
/// forms of scalars are not taken apart.
fn yaml_scalar(text: &str, at: usize, value: &str) -> Option<Range<usize>> {
    let line_end = text[at..].find('\n').map_or(text.len(), |end| at + end);
    let line = &text[at..line_end];
    let end = match line.chars().next()? {
        '"' => return json_string(text, at).filter(|range| range.end <= line_end),
        '\'' => {
            let mut end = 1;
            loop {
                end += line.get(end..)?.find('\'')? + 1;
                if line.as_bytes().get(end) != Some(&b'\'') {
                    break at + end;
                }
                end += 1;
            }
        }
        '|' | '>' | '&' | '*' | '!' => return None,
        // A plain scalar has no escapes.
        _ => line.starts_with(value).then_some(at + value.len())?,
    };
    Some(at..end)
}

/// Returns the text of a field. Adds a problem if the value is not text.
pub fn text_of<'v>(
    document: &ParsedDocument<'_>,
    path: &str,
    value: &'v Value,
    problems: &mut Problems<'_>,
) -> Option<&'v str> {
    let text = value.as_str();
    if text.is_none() {
        problems.add(document.at(path), path, "is not text", Some("put the value in quotes"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::adopt::config::leaves;
    use crate::cli::adopt::source::SourceFile;

    /// Puts a mark in place of every text.
    fn marked(text: &str) -> String {
        let source = SourceFile::of(text);
        let mut problems = Problems::new(&source);
        let document = ParsedDocument::read(&source.text, &mut problems).expect("a document");
        let mut tokens = Tokens::default();
        let config = document.root.iter().map(|(name, value)| (name.clone(), document.node(name, value, &mut tokens)));
        let config = config.collect();
        let marks: Vec<(Spot, String)> = leaves(&config)
            .into_iter()
            .filter_map(|(path, leaf)| Some((leaf.spot.clone()?, format!("«{}»", path.join(".")))))
            .collect();
        (*tokens.rewrite(&source.text, &marks)).clone()
    }

    #[test]
    fn texts_are_found_in_json() {
        let text = "{ // c\n \"a\": \"x\\\"y\", \"o\": {\"b\": [\"z\", 1, \"\"]}, /* d */ \"n\": null,\n}";
        assert_eq!(
            marked(text),
            "{ // c\n \"a\": \"«a»\", \"o\": {\"b\": [\"«o.b.0»\", 1, \"«o.b.2»\"]}, /* d */ \"n\": null,\n}"
        );
    }

    #[test]
    fn texts_are_found_in_yaml() {
        let text = "a: x y # c\nb: 'it''s'\nc: \"q\\n\"\nd: [p, 'q']\ne: |\n  block\nf: 1\n";
        assert_eq!(
            marked(text),
            "a: \"«a»\" # c\nb: \"«b»\"\nc: \"«c»\"\nd: [\"«d.0»\", \"«d.1»\"]\ne: |\n  block\nf: 1\n"
        );
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let source = SourceFile::of("{\"a\": \"s3cret\",\n \"a\": 2}");
        let mut problems = Problems::new(&source);
        assert!(ParsedDocument::read(&source.text, &mut problems).is_none());
        let Err(crate::cli::Failure(text)) = problems.check("x") else { panic!("no problem") };
        assert!(text.contains("file:2:2") && text.contains("twice") && !text.contains("s3cret"), "{text}");
    }
}
