//! Reads the rendered text in its format, into the config tree.
//!
//! Knows of slots only where they are in the text, for a better message about missing quotes.

mod json;
mod toml;
mod yaml;

use std::collections::HashMap;

use serde_json::Value;

use super::slots;
use guillemet_template::Format;

/// The deepest nesting of a config.
pub const DEPTH_MAX: usize = 64;
/// The most values in a config.
pub const NODES_MAX: usize = 100_000;

/// A config, with the place of each of its fields in the rendered text.
#[derive(Debug)]
pub struct Tree {
    /// The config's root, which is always an object.
    pub root: Value,
    /// The byte offset of each field's value, by the field's path (`headers.Authorization`, `tools.0`).
    pub places: HashMap<String, usize>,
}

/// The reason why a text is not a config. Quotes no more of it than a key.
#[derive(Debug, PartialEq, Eq)]
pub struct TreeError {
    /// What is wrong, as a sentence for people.
    pub message: String,
    /// What to do about it; `None` if there is nothing to suggest.
    pub help: Option<String>,
    /// The byte offset in the text; `None` if it is not known.
    pub at: Option<usize>,
}

impl TreeError {
    fn new(message: impl Into<String>, at: Option<usize>) -> Self {
        Self { message: message.into(), help: None, at }
    }

    fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// Reads a text in its format.
///
/// # Errors
/// Returns every mistake that the format's parser finds; most parsers only report the first.
pub fn parse(format: Format, text: &str) -> Result<Tree, Vec<TreeError>> {
    let parsed = match format {
        Format::Toml => toml::parse(text),
        Format::Json => json::parse(text, json::Dialect::Strict),
        Format::Jsonc => json::parse(text, json::Dialect::Comments),
        Format::Yaml => yaml::parse(text),
    };
    let tree = parsed.map_err(|errors| unquoted(format, text, errors))?;
    if tree.root.is_object() {
        return Ok(tree);
    }
    let error = TreeError::new("the config is not a table of fields", None);
    Err(vec![error.help("give it fields: a name and a value for each")])
}

/// Replaces an error by advice to add quotes, if the parser stumbled over a placeholder outside quotes.
fn unquoted(format: Format, text: &str, errors: Vec<TreeError>) -> Vec<TreeError> {
    if format == Format::Yaml {
        return errors;
    }
    let slots = slots::find(text);
    // The parser may stumble over what is joined to the slot from the left.
    let touched = |at: usize| {
        slots.iter().find(|slot| {
            let before = text.get(at..**slot).is_some_and(|between| !between.contains(['"', '\'', '\n']));
            before || (**slot..**slot + slots::SLOT_LEN).contains(&at)
        })
    };
    let mut seen = Vec::new();
    let mut out = Vec::new();
    for error in errors {
        match error.at.and_then(touched) {
            Some(slot) if seen.contains(slot) => {}
            Some(slot) => {
                seen.push(*slot);
                let error = TreeError::new("a placeholder is not in quotes", Some(*slot));
                out.push(error.help("put it in quotes: \"<< secret '…' >>\""));
            }
            None => out.push(error),
        }
    }
    out
}

/// Counts values and records their places.
#[derive(Default)]
struct TreeBuilder {
    places: HashMap<String, usize>,
    path: Vec<String>,
    nodes: usize,
}

impl TreeBuilder {
    /// Records a value. Call it for each value, before its children.
    fn enter(&mut self, at: usize) -> Result<(), TreeError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(TreeError::new(format!("the config has more than {NODES_MAX} values"), Some(at)));
        }
        if self.path.len() > DEPTH_MAX {
            return Err(TreeError::new(format!("the config is nested deeper than {DEPTH_MAX} levels"), Some(at)));
        }
        if !self.path.is_empty() {
            self.places.entry(self.path.join(".")).or_insert(at);
        }
        Ok(())
    }
}

fn duplicate(key: &str, at: Option<usize>) -> TreeError {
    let key = guillemet_base::display::sanitize(key, 64);
    TreeError::new(format!("the key \"{key}\" appears twice in the same table"), at).help("keep only one of them")
}

fn too_large(at: usize) -> TreeError {
    TreeError::new("the number does not fit in 64 bits", Some(at)).help("put it in quotes")
}

fn not_finite(at: usize) -> TreeError {
    TreeError::new("a number must be finite", Some(at)).help("put it in quotes if it is text")
}

#[cfg(test)]
mod tests;
