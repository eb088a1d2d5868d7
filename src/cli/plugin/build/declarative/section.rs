//! Reads tables of plugin.toml, and collects everything that is wrong with them, with lines.
//!
//! A wrong value reads as absent. A key that was never asked for is a problem when its table is dropped.

use std::cell::RefCell;

use serde_json::{Map, Value};

use guillemet_base::display::sanitize;
use guillemet_base::problem::Problem;
use guillemet_plan::document::{self, Tree};
use guillemet_template::Format;
use guillemet_template::tokens::PositionCursor;

/// The most characters of a key in a message.
const KEY_MAX: usize = 64;

/// The file, with its problems.
pub struct Reader<'a> {
    text: &'a str,
    tree: Tree,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Reader<'a> {
    /// Reads the file as TOML.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(text: &'a str) -> Result<Self, Vec<Problem>> {
        let tree = document::parse(Format::Toml, text).map_err(|errors| {
            let problem = |error: document::TreeError| {
                let position = error.at.map(|at| position(text, at));
                Problem {
                    line: position.map(|(line, _)| line),
                    column: position.map(|(_, column)| column),
                    message: error.message,
                    help: error.help,
                    ..Problem::default()
                }
            };
            errors.into_iter().map(problem).collect::<Vec<_>>()
        })?;
        Ok(Self { text, tree, problems: RefCell::default() })
    }

    /// Returns the table at the top.
    pub fn root(&self) -> Section<'_> {
        static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
        let object = self.tree.root.as_object().unwrap_or(&EMPTY);
        Section { reader: self, path: String::new(), object, asked: RefCell::default() }
    }

    /// Returns everything that is wrong.
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// Returns the line in which the content of the text at `path` begins: behind the quotes, and behind the line break
    /// after three of them.
    fn first_line(&self, path: &str) -> u32 {
        let Some(&at) = self.tree.places.get(path) else { return 1 };
        let rest = &self.text[at..];
        let is_block = ["'''\n", "\"\"\"\n", "'''\r\n", "\"\"\"\r\n"].iter().any(|quotes| rest.starts_with(quotes));
        position(self.text, at).0 + u32::from(is_block)
    }

    fn add(&self, line: Option<u32>, path: &str, message: String, help: Option<String>) {
        self.problems.borrow_mut().push(Problem { path: path.to_owned(), line, column: None, message, help });
    }
}

fn position(text: &str, at: usize) -> (u32, u32) {
    PositionCursor::new(text).position(text.floor_char_boundary(at))
}

/// A table of the file.
pub struct Section<'a> {
    reader: &'a Reader<'a>,
    path: String,
    object: &'a Map<String, Value>,
    asked: RefCell<Vec<String>>,
}

impl<'a> Section<'a> {
    fn child(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Adds a problem with a key of this table, which need not be there.
    pub fn problem(&self, name: &str, message: impl Into<String>, help: Option<&str>) {
        let path = self.child(name);
        let places = &self.reader.tree.places;
        let at = places.get(&path).or_else(|| places.get(&self.path));
        let line = at.map(|&at| position(self.reader.text, at).0);
        self.reader.add(line, &sanitize(&path, KEY_MAX * 2), message.into(), help.map(str::to_owned));
    }

    /// Adds a problem of a text at the key `name`, in the text's own line, which counts from 1.
    pub fn problem_in(&self, name: &str, line: u32, message: impl Into<String>, help: Option<String>) {
        let path = self.child(name);
        let line = self.first_line(name) + line.max(1) - 1;
        self.reader.add(Some(line), &path, message.into(), help);
    }

    /// Returns the line of the file in which a text begins.
    pub fn first_line(&self, name: &str) -> u32 {
        self.reader.first_line(&self.child(name))
    }

    fn value(&self, name: &str) -> Option<&'a Value> {
        self.asked.borrow_mut().push(name.to_owned());
        self.object.get(name)
    }

    /// Reads a value of any kind.
    pub fn any(&self, name: &str) -> Option<&'a Value> {
        self.value(name)
    }

    /// Reads a text that is not empty.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        let text = self.value(name)?.as_str();
        if text.is_none_or(str::is_empty) {
            self.problem(name, "must be text that is not empty", None);
        }
        text.filter(|text| !text.is_empty())
    }

    /// Reads a text that may be empty.
    pub fn any_text(&self, name: &str) -> Option<&'a str> {
        let text = self.value(name)?.as_str();
        if text.is_none() {
            self.problem(name, "must be text", None);
        }
        text
    }

    /// Reads a text that has to be there.
    pub fn required_text(&self, name: &str) -> Option<&'a str> {
        if !self.object.contains_key(name) {
            self.problem(name, "is missing", None);
        }
        self.text(name)
    }

    /// Reads true or false; false if it is absent.
    pub fn flag(&self, name: &str) -> bool {
        let Some(value) = self.value(name) else { return false };
        value.as_bool().unwrap_or_else(|| {
            self.problem(name, "must be true or false, without quotes", None);
            false
        })
    }

    /// Reads a whole number.
    pub fn number(&self, name: &str) -> Option<u64> {
        let number = self.value(name)?.as_u64();
        if number.is_none() {
            self.problem(name, "must be a whole number that is not negative", None);
        }
        number
    }

    /// Reads a list of texts.
    pub fn words(&self, name: &str) -> Vec<&'a str> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let words = value.as_array().map(|list| list.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
        words.flatten().unwrap_or_else(|| {
            self.problem(name, "must be a list of texts", None);
            Vec::new()
        })
    }

    /// Reads a table.
    pub fn table(&self, name: &str) -> Option<Section<'a>> {
        let value = self.value(name)?;
        let Some(object) = value.as_object() else {
            self.problem(name, "must be a table", None);
            return None;
        };
        Some(Section { reader: self.reader, path: self.child(name), object, asked: RefCell::default() })
    }

    /// Reads a list of tables.
    pub fn tables(&self, name: &str) -> Vec<Section<'a>> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let list = value.as_array().map(|list| list.iter().map(Value::as_object).collect::<Option<Vec<_>>>());
        let Some(objects) = list.flatten() else {
            self.problem(name, "must be a list of tables", None);
            return Vec::new();
        };
        let section = |(index, object)| Section {
            reader: self.reader,
            path: self.child(&format!("{name}.{index}")),
            object,
            asked: RefCell::default(),
        };
        objects.into_iter().enumerate().map(section).collect()
    }

    /// Reads a table with any names, whose values are tables.
    pub fn entries(&self, name: &str) -> Vec<(&'a str, Section<'a>)> {
        let Some(table) = self.table(name) else { return Vec::new() };
        let names = table.object.keys().map(String::as_str);
        names.filter_map(|name| Some((name, table.table(name)?))).collect()
    }

    /// Reads a table with any names, whose values are texts.
    pub fn texts(&self, name: &str) -> Vec<(&'a str, &'a str)> {
        let Some(table) = self.table(name) else { return Vec::new() };
        let names = table.object.keys().map(String::as_str);
        names.filter_map(|name| Some((name, table.any_text(name)?))).collect()
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let asked = self.asked.borrow();
        for name in self.object.keys().filter(|name| !asked.contains(name)) {
            let help = did_you_mean(name, asked.iter().map(String::as_str));
            let known = asked.iter().map(|known| format!("`{known}`")).collect::<Vec<_>>().join(", ");
            let help = help.unwrap_or_else(|| format!("the keys here are {known}"));
            self.problem(name, "is not a key that can be here", Some(&help));
        }
    }
}

/// Returns a suggestion of the word that was probably meant.
pub fn did_you_mean<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let near = known.map(|known| (strsim::osa_distance(known, word), known)).min()?;
    (near.0 <= 2 && near.0 < near.1.len()).then(|| format!("did you mean `{}`?", near.1))
}
