//! The reader for the tables of `guillemet.toml`. It notes every problem with its line and column.
//!
//! Invariant: no problem quotes a value of the file. A secret may have been pasted where it does not belong, and
//! problems go to the log, to `/v1/status` and to the console.

use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigPlace;
use guillemet_base::problem::Problem;

/// The most problems that are reported. One missing quote can make every later line wrong.
const PROBLEMS_MAX: usize = 50;
/// The longest key that a problem quotes, in bytes.
const KEY_MAX: usize = 64;

/// The text that is read, and the problems found so far.
pub(super) struct ConfigReader<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

/// The entries of one table that have not been read yet.
pub(super) struct Entries<'a> {
    /// The dotted path of the table; empty for the whole file.
    path: String,
    remaining: Vec<(&'a Spanned<std::borrow::Cow<'a, str>>, &'a Spanned<DeValue<'a>>)>,
    known_keys: Vec<&'static str>,
}

/// A text in the file, and its offset in bytes.
pub(super) type TextAt<'a> = (&'a str, usize);

impl<'a> Entries<'a> {
    /// Returns the entries of a table.
    pub(super) fn new(path: &str, table: &'a DeTable<'a>) -> Self {
        Self { path: path.to_owned(), remaining: table.iter().collect(), known_keys: Vec::new() }
    }

    fn none(path: String) -> Self {
        Self { path, remaining: Vec::new(), known_keys: Vec::new() }
    }

    /// Returns the value of a key, and removes it from the entries.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known_keys.push(key);
        let index = self.remaining.iter().position(|(name, _)| name.get_ref() == key)?;
        Some(self.remaining.swap_remove(index).1)
    }

    /// Reports whether there is a value for a key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.offset(key).is_some()
    }

    /// Returns the offset of a key that is there.
    pub(super) fn offset(&self, key: &str) -> Option<usize> {
        let entry = self.remaining.iter().find(|(name, _)| name.get_ref() == key);
        entry.map(|(name, _)| name.span().start)
    }

    /// Returns the dotted path of a key.
    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

impl<'a> ConfigReader<'a> {
    /// Starts without problems, at the beginning of this text.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, problems: Vec::new() }
    }

    /// Returns the line and column of an offset in bytes, both counted from 1, the column in characters.
    pub(super) fn place(&self, offset: usize) -> ConfigPlace {
        let before = self.text.get(..offset.min(self.text.len())).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        ConfigPlace { line: number(line), column: number(column) }
    }

    /// Notes a problem with a key, at an offset of the text.
    pub(super) fn add_problem(&mut self, path: String, offset: usize, message: impl Into<String>) {
        if self.problems.len() == PROBLEMS_MAX {
            return;
        }
        let ConfigPlace { line, column } = self.place(offset);
        let (line, column) = (Some(line), Some(column));
        self.problems.push(Problem { path, line, column, message: message.into(), help: None });
    }

    /// Notes the errors of the TOML parser.
    pub(super) fn add_syntax_errors(&mut self, errors: &[toml::de::Error]) {
        for error in errors {
            // The parser's messages contain what it expects, never what the file contains.
            self.add_problem(String::new(), error.span().map_or(0, |span| span.start), error.message());
        }
    }

    /// Returns all problems, ordered by line.
    pub(super) fn problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        self.problems
    }

    /// Notes that a value has the wrong type.
    fn add_type_error(&mut self, path: String, value: &Spanned<DeValue<'_>>, expected: &str) {
        let message = format!("must be {expected}, not {}", kind(value.get_ref()));
        self.add_problem(path, value.span().start, message);
    }

    /// Returns the entries of a table inside another one; no entries if it is absent.
    pub(super) fn table(&mut self, from: &mut Entries<'a>, key: &'static str) -> Entries<'a> {
        let path = from.path_of(key);
        let Some(value) = from.take(key) else { return Entries::none(path) };
        if let DeValue::Table(table) = value.get_ref() {
            return Entries::new(&path, table);
        }
        self.add_type_error(path.clone(), value, "a table");
        Entries::none(path)
    }

    /// Returns all entries that are left, which have to be tables, each with its key and offset.
    pub(super) fn named_tables(&mut self, from: Entries<'a>) -> Vec<(&'a str, Entries<'a>, usize)> {
        let mut tables = Vec::new();
        for (key, value) in from.remaining {
            let name: &'a str = key.get_ref();
            let path = format!("{}.{}", from.path, shown_key(name));
            match value.get_ref() {
                DeValue::Table(table) => tables.push((name, Entries::new(&path, table), key.span().start)),
                _ => self.add_type_error(path, value, "a table"),
            }
        }
        tables
    }

    /// Returns the tables of an array, each with its offset.
    pub(super) fn tables(&mut self, from: &mut Entries<'a>, key: &'static str) -> Vec<(Entries<'a>, usize)> {
        let Some(value) = from.take(key) else { return Vec::new() };
        let path = from.path_of(key);
        let DeValue::Array(items) = value.get_ref() else {
            self.add_type_error(path.clone(), value, &format!("an array of tables, each under [[{path}]]"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{}]", index + 1);
            match item.get_ref() {
                DeValue::Table(table) => tables.push((Entries::new(&path, table), item.span().start)),
                _ => self.add_type_error(path, item, "a table"),
            }
        }
        tables
    }

    /// Returns a whole number within a range, or `default` if it is absent or wrong.
    pub(super) fn number(
        &mut self,
        from: &mut Entries<'a>,
        key: &'static str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> u64 {
        let path = from.path_of(key);
        let Some(value) = from.take(key) else { return default };
        let Some(number) = self.integer(&path, value) else { return default };
        match u64::try_from(number) {
            Ok(number) if range.contains(&number) => number,
            _ => {
                let message = format!("must be between {} and {}", range.start(), range.end());
                self.add_problem(path, value.span().start, message);
                default
            }
        }
    }

    /// Returns a value as a signed 64-bit number.
    pub(super) fn integer(&mut self, path: &str, value: &Spanned<DeValue<'_>>) -> Option<i64> {
        let DeValue::Integer(number) = value.get_ref() else {
            self.add_type_error(path.to_owned(), value, "a whole number");
            return None;
        };
        let number = i64::from_str_radix(number.as_str(), number.radix()).ok();
        if number.is_none() {
            self.add_problem(path.to_owned(), value.span().start, "does not fit in 64 bits");
        }
        number
    }

    /// Returns a boolean; `false` if it is absent or wrong.
    pub(super) fn flag(&mut self, from: &mut Entries<'a>, key: &'static str) -> bool {
        let path = from.path_of(key);
        let Some(value) = from.take(key) else { return false };
        let DeValue::Boolean(flag) = value.get_ref() else {
            self.add_type_error(path, value, "true or false");
            return false;
        };
        *flag
    }

    /// Returns a text with its offset; `None` if it is absent or wrong.
    pub(super) fn text(&mut self, from: &mut Entries<'a>, key: &'static str) -> Option<TextAt<'a>> {
        let value = from.take(key)?;
        let DeValue::String(text) = value.get_ref() else {
            self.add_type_error(from.path_of(key), value, "a string");
            return None;
        };
        Some((text.as_ref(), value.span().start))
    }

    /// Returns the texts of an array, each with its offset; no texts if it is absent.
    pub(super) fn texts(&mut self, from: &mut Entries<'a>, key: &'static str) -> Vec<TextAt<'a>> {
        let path = from.path_of(key);
        let Some(value) = from.take(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.add_type_error(path, value, "an array of strings");
            return Vec::new();
        };
        let mut texts = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match item.get_ref() {
                DeValue::String(text) => texts.push((text.as_ref(), item.span().start)),
                _ => self.add_type_error(format!("{path}[{}]", index + 1), item, "a string"),
            }
        }
        texts
    }

    /// Converts a value to the form that templates see. A date becomes text.
    pub(super) fn json(&mut self, path: &str, value: &Spanned<DeValue<'_>>) -> serde_json::Value {
        match value.get_ref() {
            DeValue::String(text) => text.as_ref().into(),
            DeValue::Integer(_) => self.integer(path, value).into(),
            DeValue::Float(number) => number.as_str().parse::<f64>().unwrap_or(f64::NAN).into(),
            DeValue::Boolean(flag) => (*flag).into(),
            DeValue::Datetime(when) => when.to_string().into(),
            DeValue::Array(items) => items.iter().map(|item| self.json(path, item)).collect(),
            DeValue::Table(table) => serde_json::Value::Object(self.object(path, table)),
        }
    }

    /// Converts a table to the form that templates see.
    fn object(&mut self, path: &str, table: &DeTable<'_>) -> serde_json::Map<String, serde_json::Value> {
        let entry = |(key, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
            (key.get_ref().to_string(), self.json(path, value))
        };
        table.iter().map(entry).collect()
    }

    /// Converts all entries that are left to the form that templates see.
    pub(super) fn rest_as_json(&mut self, from: Entries<'a>) -> serde_json::Value {
        let path = from.path;
        let entry = |(key, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
            (key.get_ref().to_string(), self.json(&path, value))
        };
        serde_json::Value::Object(from.remaining.into_iter().map(entry).collect())
    }

    /// Notes every entry that is left as an unknown key.
    pub(super) fn reject_unknown(&mut self, from: Entries<'a>) {
        let known_keys = from.known_keys.join(", ");
        for (key, _) in from.remaining {
            let shown = shown_key(key.get_ref());
            let path = if from.path.is_empty() { shown.to_owned() } else { format!("{}.{shown}", from.path) };
            self.add_problem(path, key.span().start, format!("is not a known key; use one of: {known_keys}"));
        }
    }
}

/// Returns a key as problems quote it: one that is not written without quotes is left out.
fn shown_key(name: &str) -> &str {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let is_printable = !name.is_empty() && name.len() <= KEY_MAX && name.chars().all(is_bare);
    if is_printable { name } else { "…" }
}

/// Returns the name of a value's type, for messages.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
