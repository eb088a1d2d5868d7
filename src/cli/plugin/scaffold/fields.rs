//! The fields of a new plugin, read off an example config: the one description that every file of the project is written
//! from. Each writer beside this module takes a [`Sketch`] and makes one file.
//!
//! Invariant: no value of a secret is in it. Knows nothing of languages.

mod read;

use read::{is_empty_text, plain};
use serde_json::{Map, Number, Value};

use crate::cli::Failure;
use crate::cli::adopt::config::{ConfigNode, ConfigTable};
use crate::cli::adopt::credentials::Finding;
use crate::cli::adopt::emit;
use crate::cli::adopt::sample::Sample;
use guillemet_template::Format;

/// The largest whole number that JSON keeps in every language: 2^53 - 1.
pub const WHOLE_MAX: u64 = (1 << 53) - 1;

/// What the files of a project are written from.
pub struct Sketch {
    /// The fields of the config, in the sample's order.
    pub fields: Vec<Field>,
    /// The sample, with `«name»` for each secret, as the plugin's cases write it.
    pub config: Value,
    /// The sample as a template in TOML, with a placeholder for each secret.
    pub template: String,
}

/// A field of a table.
pub struct Field {
    pub name: String,
    pub kind: Kind,
    /// Whether every table of the sample has it, with a value that is not empty.
    pub is_required: bool,
}

/// What a field holds, with an example if the sample has one that can be shown.
pub enum Kind {
    /// A text that is not empty.
    Text { secret: Option<Place>, example: Option<String> },
    /// A list of texts; also a list that is empty in the sample.
    Texts { secret: Option<Place>, example: Vec<String> },
    /// True or false.
    Flag { example: bool },
    /// A whole number from 0 to [`WHOLE_MAX`].
    Whole { example: Number },
    /// Any other number.
    Number { example: Number },
    /// A list of numbers, or of flags.
    Values { is_flags: bool, example: Vec<Value> },
    /// A table of fields.
    Table(Vec<Field>),
    /// A list of such tables.
    Tables(Vec<Field>),
}

impl Kind {
    /// Returns where a secret in this field goes; `None` if it has none.
    pub fn secret(&self) -> Option<Place> {
        match self {
            Self::Text { secret, .. } | Self::Texts { secret, .. } => *secret,
            _ => None,
        }
    }
}

/// The place in the document that a secret goes to, which decides the encoder.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Any text of JSON.
    Plain,
    /// The value of a header: a text below a table whose name ends with `headers`.
    Header,
    /// A URL with a secret inside.
    Url,
}

impl Place {
    /// Returns the place of a text of the sample.
    fn of(path: &[String], text: &str, findings: &[Finding]) -> Self {
        let is_header = path.iter().rev().skip(1).any(|name| name.to_ascii_lowercase().ends_with("headers"));
        let is_part = findings.iter().any(|finding| finding.range != (0..text.len()));
        if is_header {
            Self::Header
        } else if is_part && is_url(text) {
            Self::Url
        } else {
            Self::Plain
        }
    }

    /// Returns the name of the encoder in the contract.
    pub fn encoder(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Header => Some("header-value"),
            Self::Url => Some("url"),
        }
    }
}

impl Sketch {
    /// Makes the description of a sample.
    ///
    /// # Errors
    /// With everything that a plugin could not have, each with its line.
    pub fn new(mut sample: Sample) -> Result<Self, Failure> {
        let fields = read::fields(&sample)?;
        drop_empty(&mut sample.config);
        let config = marked_table(&sample.config, &mut Vec::new(), &sample);
        let (template, _) = emit::write(&sample.config, &sample.findings, Format::Toml);
        Ok(Self { fields, config, template })
    }

    /// Returns the places where a secret may be, as a plugin declares them.
    pub fn secret_fields(&self) -> Vec<String> {
        let mut places = Vec::new();
        secret_fields(&self.fields, "", &mut places);
        places
    }

    /// Returns the document that the plugin makes of the sample: the same fields with the same values.
    pub fn document(&self) -> Value {
        document(&self.fields, &self.config)
    }

    /// Returns the paths of the texts that could be secret and are not: one in a list, where another item is a secret.
    pub fn in_the_clear(&self) -> Vec<String> {
        let mut paths = Vec::new();
        in_the_clear(&self.fields, "", &self.config, &mut paths);
        paths
    }
}

fn in_the_clear(fields: &[Field], above: &str, table: &Value, paths: &mut Vec<String>) {
    for field in fields {
        let path = format!("{above}{}", field.name);
        let Some(value) = table.get(&field.name) else { continue };
        let items = value.as_array().into_iter().flatten().enumerate();
        let mut check = |path: String, text: &Value| {
            if !text.as_str().unwrap_or_default().contains('«') {
                paths.push(path);
            }
        };
        match &field.kind {
            Kind::Text { secret: Some(_), .. } => check(path, value),
            Kind::Texts { secret: Some(_), .. } => {
                items.for_each(|(index, item)| check(format!("{path}.{index}"), item))
            }
            Kind::Table(fields) => in_the_clear(fields, &format!("{path}."), value, paths),
            Kind::Tables(fields) => {
                items.for_each(|(index, item)| in_the_clear(fields, &format!("{path}.{index}."), item, paths));
            }
            _ => {}
        }
    }
}

fn secret_fields(fields: &[Field], above: &str, places: &mut Vec<String>) {
    for Field { name, kind, .. } in fields {
        match kind {
            Kind::Text { secret: Some(_), .. } => places.push(format!("{above}{name}")),
            Kind::Texts { secret: Some(_), .. } => places.push(format!("{above}{name}.*")),
            Kind::Table(fields) => secret_fields(fields, &format!("{above}{name}."), places),
            Kind::Tables(fields) => secret_fields(fields, &format!("{above}{name}.*."), places),
            _ => {}
        }
    }
}

/// Returns a table as plugins write it: the fields in their order, and an absent list as an empty one.
fn document(fields: &[Field], table: &Value) -> Value {
    let member = |field: &Field| {
        let value = match (&field.kind, table.get(&field.name)) {
            (Kind::Texts { .. } | Kind::Tables(_), None) => Value::Array(Vec::new()),
            (_, None) => return None,
            (Kind::Table(fields), Some(table)) => document(fields, table),
            (Kind::Tables(fields), Some(list)) => {
                list.as_array().into_iter().flatten().map(|table| document(fields, table)).collect()
            }
            (Kind::Text { secret: Some(place), .. }, Some(text)) => encoded(*place, text),
            (Kind::Texts { secret: Some(place), .. }, Some(list)) => {
                list.as_array().into_iter().flatten().map(|text| encoded(*place, text)).collect()
            }
            (_, Some(value)) => value.clone(),
        };
        Some((field.name.clone(), value))
    };
    Value::Object(fields.iter().filter_map(member).collect())
}

/// Returns a text of the config as it stands in the document, in the notation of cases.
fn encoded(place: Place, text: &Value) -> Value {
    match (place.encoder(), text.as_str()) {
        (Some(encoder), Some(text)) if text.contains('«') => format!("«{encoder}({text})»").into(),
        _ => text.clone(),
    }
}

/// Leaves out texts that are empty, which no plugin accepts, and writes whole numbers as such.
fn drop_empty(table: &mut ConfigTable) {
    table.retain(|(_, node)| !is_empty_text(node));
    table.iter_mut().for_each(|(_, node)| tidy(node));
}

fn tidy(node: &mut ConfigNode) {
    if let Some(value) = plain(node) {
        *node = ConfigNode::Other(value);
    }
    match node {
        ConfigNode::Table(table) => drop_empty(table),
        ConfigNode::List(items) => items.iter_mut().for_each(tidy),
        ConfigNode::Text(_) | ConfigNode::Other(_) => {}
    }
}

fn marked_table(table: &ConfigTable, path: &mut Vec<String>, sample: &Sample) -> Value {
    let mut map = Map::new();
    for (name, node) in table {
        path.push(name.clone());
        map.insert(name.clone(), marked(node, path, sample));
        path.pop();
    }
    Value::Object(map)
}

fn marked(node: &ConfigNode, path: &mut Vec<String>, sample: &Sample) -> Value {
    match node {
        ConfigNode::Text(leaf) => {
            let findings = sample.findings.get(path).map_or(&[][..], Vec::as_slice);
            // A case has no filter that would make a part of a URL of a value, so the secret is the URL.
            match findings.first().filter(|_| Place::of(path, &leaf.text, findings) == Place::Url) {
                Some(finding) => format!("«{}»", finding.name).into(),
                None => marked_text(&leaf.text, findings).into(),
            }
        }
        ConfigNode::Other(value) => value.clone(),
        ConfigNode::Table(table) => marked_table(table, path, sample),
        ConfigNode::List(items) => {
            let mut list = Vec::new();
            for (index, item) in items.iter().enumerate() {
                path.push(index.to_string());
                list.push(marked(item, path, sample));
                path.pop();
            }
            Value::Array(list)
        }
    }
}

fn is_url(text: &str) -> bool {
    let begins = |scheme: &str| text.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
    begins("http://") || begins("https://")
}

/// Returns a text with `«name»` in place of its secrets.
fn marked_text(text: &str, findings: &[Finding]) -> String {
    let (mut out, mut from) = (String::new(), 0);
    for finding in findings {
        out.push_str(&text[from..finding.range.start]);
        out.push_str(&format!("«{}»", finding.name));
        from = finding.range.end;
    }
    out + &text[from..]
}
