//! Reads a file of cases and reports everything that is wrong with it.

use std::path::PathBuf;

use serde_json::{Map, Number, Value as Json};
use toml_edit::{ArrayOfTables, Document, Item, Table, TableLike, Value};

use super::{Case, CaseFile};
use guillemet_base::files;
use guillemet_base::names::SecretName;

/// The fields that a case may have.
const FIELDS: [&str; 10] =
    ["name", "target", "config", "document", "warnings", "problems", "secrets", "rendered", "read", "refused"];

/// The largest size of a file of cases, in bytes.
const FILE_MAX: u64 = 16 << 20;

/// Reads a file of cases.
///
/// # Errors
/// Returns one line for each mistake, with its place.
pub fn read(path: PathBuf) -> Result<CaseFile, Vec<String>> {
    let unreadable = |error| vec![format!("{} cannot be read: {error}", path.display())];
    let text = files::read_text(&path, FILE_MAX).map_err(unreadable)?;
    parse(path, text)
}

/// Reads the text of a file of cases.
///
/// # Errors
/// As [`read`].
pub fn parse(path: PathBuf, text: String) -> Result<CaseFile, Vec<String>> {
    let label = path.display().to_string();
    let document = Document::parse(text.as_str()).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(&text, span.start));
        vec![format!("{label}:{line}: {}", error.message())]
    })?;
    let mut reader = CaseReader { label, text: &text, problems: Vec::new() };
    let cases = reader.file(document.as_table());
    if reader.problems.is_empty() { Ok(CaseFile { path, cases, text }) } else { Err(reader.problems) }
}

/// Returns the line of a byte offset, counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count() + 1
}

struct CaseReader<'a> {
    label: String,
    text: &'a str,
    problems: Vec<String>,
}

impl CaseReader<'_> {
    fn add_problem(&mut self, span: Option<std::ops::Range<usize>>, message: impl std::fmt::Display) {
        let line = span.map_or(1, |span| line_of(self.text, span.start));
        self.problems.push(format!("{}:{line}: {message}", self.label));
    }

    fn file(&mut self, root: &Table) -> Vec<Case> {
        let empty = ArrayOfTables::new();
        let mut cases = &empty;
        for (key, item) in root {
            match item {
                Item::ArrayOfTables(tables) if key == "case" => cases = tables,
                _ => self.add_problem(item.span(), format!("unknown key `{key}`; write `[[case]]` for each case")),
            }
        }
        cases.iter().map(|table| self.case(table)).collect()
    }

    fn case(&mut self, table: &Table) -> Case {
        let line = table.span().map_or(1, |span| line_of(self.text, span.start));
        for (key, item) in table {
            if !FIELDS.contains(&key) {
                self.add_problem(item.span(), format!("unknown key `{key}` in a case; use {}", FIELDS.join(", ")));
            }
        }
        let mut text = |key: &str| match table.get(key).map(|item| (item.as_str(), item.span())) {
            Some((None, span)) => {
                self.add_problem(span, format!("`{key}` must be a string"));
                None
            }
            found => found.and_then(|(text, _)| Some(text?.to_owned())),
        };
        let (name, target, document, rendered) = (text("name"), text("target"), text("document"), text("rendered"));
        if name.is_none() {
            self.add_problem(table.span(), "a case needs a `name`");
        }
        let mut list = |key: &str| self.texts(key, table.get(key));
        let (warnings, problems, refused) = (list("warnings"), list("problems"), list("refused"));
        let (secrets, read) = (self.pairs("secrets", table.get("secrets")), self.pairs("read", table.get("read")));
        if document.is_some() && !problems.is_empty() {
            self.add_problem(table.span(), "a case can have a `document` or `problems`, not both");
        }
        for (name, _) in &secrets {
            if let Err(error) = name.parse::<SecretName>() {
                self.add_problem(table.span(), format!("`secrets`: `{name}`: {error}"));
            }
        }
        let is_filled = rendered.is_some() || !read.is_empty() || !refused.is_empty();
        if is_filled == secrets.is_empty() {
            let message =
                "`secrets` goes with `rendered`, `read` or `refused`: give the values and what becomes of them";
            self.add_problem(table.span(), message);
        }
        if !secrets.is_empty() && !problems.is_empty() {
            self.add_problem(table.span(), "a case can have `secrets` or `problems`, not both");
        }
        if !refused.is_empty() && (rendered.is_some() || !read.is_empty()) {
            self.add_problem(table.span(), "a case can have `refused`, or `rendered` and `read`, not both");
        }
        let config = match table.get("config").map(|item| (item.as_table_like(), item.span())) {
            Some((Some(config), _)) => self.table(config),
            Some((None, span)) => {
                self.add_problem(span, "`config` must be a table");
                Map::new()
            }
            None => {
                self.add_problem(table.span(), "a case needs a `config`");
                Map::new()
            }
        };
        let (name, secrets) = (name.unwrap_or_default(), secrets.into_iter().collect());
        Case { name, line, target, config, document, warnings, problems, secrets, rendered, read, refused }
    }

    fn texts(&mut self, key: &str, item: Option<&Item>) -> Vec<String> {
        let Some(item) = item else { return Vec::new() };
        let texts = item.as_array().map(|list| list.iter().map(|text| text.as_str().map(str::to_owned)).collect());
        match texts.and_then(|texts: Vec<Option<String>>| texts.into_iter().collect()) {
            Some(texts) => texts,
            None => {
                self.add_problem(item.span(), format!("`{key}` must be a list of strings"));
                Vec::new()
            }
        }
    }

    /// Reads a table of strings.
    fn pairs(&mut self, key: &str, item: Option<&Item>) -> Vec<(String, String)> {
        let Some(item) = item else { return Vec::new() };
        let text = |(key, item): (&str, &Item)| Some((key.to_owned(), item.as_str()?.to_owned()));
        match item.as_table_like().and_then(|table| table.iter().map(text).collect()) {
            Some(pairs) => pairs,
            None => {
                self.add_problem(item.span(), format!("`{key}` must be a table of strings"));
                Vec::new()
            }
        }
    }

    fn table(&mut self, table: &dyn TableLike) -> Map<String, Json> {
        table.iter().map(|(key, item)| (key.to_owned(), self.item(item))).collect()
    }

    fn item(&mut self, item: &Item) -> Json {
        match item {
            Item::Value(value) => self.value(value),
            Item::Table(table) => Json::Object(self.table(table)),
            Item::ArrayOfTables(tables) => tables.iter().map(|table| Json::Object(self.table(table))).collect(),
            Item::None => Json::Null,
        }
    }

    fn value(&mut self, value: &Value) -> Json {
        match value {
            Value::String(text) => {
                self.names(text.value(), value.span());
                Json::String(text.value().clone())
            }
            Value::Integer(number) => (*number.value()).into(),
            Value::Float(number) => match Number::from_f64(*number.value()) {
                Some(number) => Json::Number(number),
                None => {
                    self.add_problem(value.span(), "this number cannot be used in a config");
                    Json::Null
                }
            },
            Value::Boolean(boolean) => (*boolean.value()).into(),
            Value::Datetime(time) => Json::String(time.value().to_string()),
            Value::Array(list) => list.iter().map(|value| self.value(value)).collect(),
            Value::InlineTable(table) => Json::Object(self.table(table)),
        }
    }

    /// Checks the text between `«` and `»` against the rules for names.
    fn names(&mut self, text: &str, span: Option<std::ops::Range<usize>>) {
        for piece in text.split('«').skip(1) {
            match piece.split_once('»') {
                Some((name, _)) if name.parse::<SecretName>().is_ok() => {}
                Some((name, _)) => {
                    let reason = name.parse::<SecretName>().map_or_else(|error| error.to_string(), |_| String::new());
                    self.add_problem(span.clone(), format!("`«{name}»`: {reason}"));
                }
                None => self.add_problem(span.clone(), "`«` without `»`: write a secret as «name»"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
