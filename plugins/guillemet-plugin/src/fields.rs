//! Reads a config field by field, and finds everything that is wrong with it.
//!
//! A wrong field is noted and reads as absent. A field that was never read is noted when its table is dropped, so no
//! plugin can forget to check for unknown fields.

use std::cell::RefCell;
use std::ops::{Deref, RangeInclusive};

use serde_json::{Map, Value};

use crate::{Notes, encode};

/// A table of the config, which notes unknown fields when it is dropped.
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: String,
    notes: &'a Notes,
    asked: RefCell<Vec<&'static str>>,
}

/// A text of the config. It is never empty, and may contain secrets.
#[derive(Clone)]
pub struct Text<'a> {
    text: &'a str,
    path: String,
    notes: &'a Notes,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(object: &'a Map<String, Value>, path: String, notes: &'a Notes) -> Self {
        Self { object, path, notes, asked: RefCell::default() }
    }

    /// Returns the path of a field of this table, such as `auth.token`.
    pub fn path(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// Notes a problem with a field, which makes the plan fail.
    pub fn problem(&self, name: &str, message: impl Into<String>) {
        self.notes.problem(&self.path(name), message, None);
    }

    /// Notes a warning about a field.
    pub fn warning(&self, name: &str, message: impl Into<String>) {
        self.notes.warning(&self.path(name), message, None);
    }

    /// Returns the notes that problems and warnings go to.
    pub fn notes(&self) -> &'a Notes {
        self.notes
    }

    /// Reads a field of any type. Null counts as a problem.
    pub fn value(&self, name: &'static str) -> Option<&'a Value> {
        self.asked.borrow_mut().push(name);
        let value = self.object.get(name)?;
        if value.is_null() {
            self.notes.problem(&self.path(name), "has no value", Some("set a value, or remove the field".into()));
            return None;
        }
        Some(value)
    }

    /// Reads an optional text.
    pub fn text(&self, name: &'static str) -> Option<Text<'a>> {
        Text::read(self.value(name)?, self.path(name), self.notes)
    }

    /// Notes a field that is absent. Goes before any reader: `config.need("retries").number("retries", 0..=10)`.
    pub fn need(&self, name: &'static str) -> &Self {
        if !self.object.contains_key(name) {
            self.problem(name, "is required");
        }
        self
    }

    /// Reads a required text.
    pub fn required(&self, name: &'static str) -> Option<Text<'a>> {
        self.need(name).text(name)
    }

    /// Reads an optional text that has to be one of `words`.
    pub fn choice(&self, name: &'static str, words: &[&'static str]) -> Option<&'static str> {
        let text = self.text(name)?;
        let word = words.iter().copied().find(|&word| word == &*text);
        if word.is_none() {
            let list: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
            let message = format!("must be one of {}", list.join(", "));
            self.notes.problem(&text.path, message, did_you_mean(&text, words));
        }
        word
    }

    /// Reads an optional boolean.
    pub fn flag(&self, name: &'static str) -> Option<bool> {
        let flag = self.value(name)?.as_bool();
        if flag.is_none() {
            self.notes.problem(&self.path(name), "must be true or false", Some("write it without quotes".into()));
        }
        flag
    }

    /// Reads an optional whole number within bounds.
    pub fn number(&self, name: &'static str, bounds: RangeInclusive<u64>) -> Option<u64> {
        let number = self.value(name)?.as_u64().filter(|number| bounds.contains(number));
        if number.is_none() {
            let message = format!("must be a whole number from {} to {}", bounds.start(), bounds.end());
            self.notes.problem(&self.path(name), message, None);
        }
        number
    }

    /// Reads a list of texts; empty if it is absent.
    pub fn texts(&self, name: &'static str) -> Vec<Text<'a>> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let Some(list) = value.as_array() else {
            self.problem(name, "must be a list");
            return Vec::new();
        };
        let path = |index: usize| join(&self.path(name), &index.to_string());
        list.iter().enumerate().filter_map(|(index, value)| Text::read(value, path(index), self.notes)).collect()
    }

    /// Reads a table with any names and with texts as values; empty if it is absent.
    pub fn entries(&self, name: &'static str) -> Vec<(&'a str, Text<'a>)> {
        let Some(object) = self.object_at(name) else { return Vec::new() };
        let entry = |(key, value): (&'a String, &'a Value)| {
            Some((key.as_str(), Text::read(value, join(&self.path(name), key), self.notes)?))
        };
        object.iter().filter_map(entry).collect()
    }

    /// Reads a list of tables of known fields; empty if it is absent.
    pub fn tables(&self, name: &'static str) -> Vec<Fields<'a>> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let Some(list) = value.as_array() else {
            self.problem(name, "must be a list of tables");
            return Vec::new();
        };
        let table = |(index, value): (usize, &'a Value)| {
            let path = join(&self.path(name), &index.to_string());
            match value.as_object() {
                Some(object) => Some(Fields::new(object, path, self.notes)),
                None => {
                    self.notes.problem(&path, "must be a table of fields", None);
                    None
                }
            }
        };
        list.iter().enumerate().filter_map(table).collect()
    }

    /// Reads an optional table of known fields.
    pub fn table(&self, name: &'static str) -> Option<Fields<'a>> {
        Some(Fields::new(self.object_at(name)?, self.path(name), self.notes))
    }

    fn object_at(&self, name: &'static str) -> Option<&'a Map<String, Value>> {
        let object = self.value(name)?.as_object();
        if object.is_none() {
            self.problem(name, "must be a table of fields");
        }
        object
    }
}

impl Drop for Fields<'_> {
    fn drop(&mut self) {
        let asked = self.asked.borrow();
        for name in self.object.keys().filter(|name| !asked.contains(&name.as_str())) {
            self.notes.problem(&self.path(name), "unknown field", did_you_mean(name, &asked));
        }
    }
}

impl<'a> Text<'a> {
    /// Reads the text at `path`. A value that is not text, or is empty, is noted.
    pub fn read(value: &'a Value, path: String, notes: &'a Notes) -> Option<Self> {
        match value {
            Value::String(text) if !text.is_empty() => Some(Self { text, path, notes }),
            Value::String(_) => {
                notes.problem(&path, "must not be empty", None);
                None
            }
            Value::Number(_) | Value::Bool(_) => {
                notes.problem(&path, "must be text", Some("put the value in quotes".into()));
                None
            }
            _ => {
                notes.problem(&path, "must be text", None);
                None
            }
        }
    }

    /// Returns the text itself, in which secrets are slots.
    pub fn get(&self) -> &'a str {
        self.text
    }

    /// Returns the path of the text in the config, such as `headers.Authorization`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Notes a problem with this text, which makes the plan fail.
    pub fn problem(&self, message: impl Into<String>) {
        self.notes.problem(&self.path, message, None);
    }

    /// Notes a warning about this text.
    pub fn warning(&self, message: impl Into<String>) {
        self.notes.warning(&self.path, message, None);
    }

    /// Checks literal text with `fits`, and notes `message` if it fails. A text with a secret passes, because its value
    /// is not known yet.
    pub fn check(self, fits: impl Fn(&str) -> bool, message: &str) -> Self {
        if !encode::has_secret(self.text) && !fits(self.text) {
            self.problem(message);
        }
        self
    }

    /// Warns if a credential is written in the template itself instead of in the vault.
    pub fn credential(self) -> Self {
        if !encode::has_secret(self.text) {
            let help = "keep it in the vault and write << secret \"name\" >> instead";
            self.notes.warning(&self.path, "is written into the template in the clear", Some(help.into()));
        }
        self
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.text
    }
}

/// Returns the path of a member.
fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}

/// Returns a suggestion of the word that was probably meant.
fn did_you_mean(word: &str, words: &[&str]) -> Option<String> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    let distance = |known: &&str| edit_distance(&word, &known.to_ascii_lowercase().replace('-', "_"));
    let near = words.iter().copied().map(|known| (distance(&known), known)).min()?;
    (near.0 <= 2 && near.0 < near.1.len()).then(|| format!("did you mean `{}`?", near.1))
}

/// Returns the Levenshtein distance of two names. A longer text counts as far from every name.
fn edit_distance(a: &str, b: &str) -> usize {
    if a.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
