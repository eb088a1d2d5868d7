//! Writes the plugin itself, in each language, for the fields of a sample: it reads exactly these, and writes one JSON
//! document of the same form.
//!
//! What the languages share is here: names of functions, quoting, and the order of tables.

mod c;
mod javascript;
mod python;
mod rust;
mod toml;

use super::Language;
use super::fields::{Field, Kind, Place, Sketch};
use crate::cli::plugin::build::declarative;

/// The parts of a plugin that all languages write.
struct Plugin<'a> {
    name: &'a str,
    title: &'a str,
    secret_fields: Vec<String>,
    fields: &'a [Field],
    /// Every table below the config, each after the tables inside it.
    tables: Vec<Table<'a>>,
}

/// A table of the config, which is written by a function of its own.
struct Table<'a> {
    /// The words of the function's name.
    words: Vec<String>,
    /// The path of the field.
    path: String,
    fields: &'a [Field],
}

/// Writes the source of a plugin. Returns its path in the project, and its text.
pub fn source(language: Language, name: &str, title: &str, sketch: &Sketch) -> (String, String) {
    let mut tables = Vec::new();
    collect(&sketch.fields, "", &mut tables);
    let plugin = Plugin { name, title, secret_fields: sketch.secret_fields(), fields: &sketch.fields, tables };
    let (path, text) = match language {
        Language::Rust => ("src/lib.rs", rust::write(&plugin)),
        Language::C => ("plugin.c", c::write(&plugin)),
        Language::JavaScript => ("plugin.js", javascript::write(&plugin)),
        Language::Python => ("plugin.py", python::write(&plugin)),
        Language::Toml => (declarative::FILE, toml::write(&plugin)),
    };
    (path.to_owned(), text)
}

fn collect<'a>(fields: &'a [Field], above: &str, tables: &mut Vec<Table<'a>>) {
    for Field { name, kind, .. } in fields {
        let (Kind::Table(inner) | Kind::Tables(inner)) = kind else { continue };
        let path = format!("{above}{name}");
        collect(inner, &format!("{path}."), tables);
        let words = unique(words(&path), tables);
        tables.push(Table { words, path, fields: inner });
    }
}

/// Returns the words of a path that can be in an identifier.
fn words(path: &str) -> Vec<String> {
    let parts = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    let words: Vec<String> = parts.map(str::to_ascii_lowercase).collect();
    if words.is_empty() { vec!["table".to_owned()] } else { words }
}

/// Returns the words with a number, if another table has the same.
fn unique(words: Vec<String>, tables: &[Table<'_>]) -> Vec<String> {
    let is_taken = |words: &[String]| tables.iter().any(|table| table.words.concat() == words.concat());
    let numbered = (2..).map(|number| [words.as_slice(), &[format!("n{number}")]].concat());
    std::iter::once(words.clone()).chain(numbered).find(|words| !is_taken(words)).unwrap_or_default()
}

impl Plugin<'_> {
    /// Returns the words of the function that writes a table. `path` is that of the table's field.
    fn function(&self, path: &str) -> &[String] {
        self.tables.iter().find(|table| table.path == path).map_or(&[], |table| table.words.as_slice())
    }

    /// Reports whether a field of any table fits.
    fn has(&self, fits: impl Fn(&Field) -> bool) -> bool {
        let tables = self.tables.iter().map(|table| table.fields);
        tables.chain([self.fields]).flatten().any(fits)
    }

    /// Returns the places of secrets that need an encoder.
    fn encoders(&self) -> Vec<Place> {
        let places = [Place::Header, Place::Url].into_iter();
        places.filter(|place| self.has_kind(|kind| kind.secret() == Some(*place))).collect()
    }

    fn has_kind(&self, fits: impl Fn(&Kind) -> bool) -> bool {
        self.has(|field| fits(&field.kind))
    }
}

/// Returns `write_auth_token`.
fn snake(words: &[String]) -> String {
    format!("write_{}", words.join("_"))
}

/// Returns a printable text as a string of any of the languages.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Returns texts as strings, with commas between them.
fn list(texts: &[String]) -> String {
    texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ")
}

/// Returns the path of a field below a table, whose own path ends with a dot or is empty.
fn below(above: &str, name: &str) -> String {
    if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") }
}
