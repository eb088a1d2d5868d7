//! The fields of a new plugin, read off an example config: the one description that every file of the project is written
//! from. Each writer beside this module takes a [`Sketch`] and makes one file.
//!
//! Invariant: no value of a secret is in it. Knows nothing of languages.

use std::fmt;

use serde_json::{Map, Number, Value};

use crate::cli::Failure;
use crate::cli::adopt::config::{ConfigNode, ConfigTable};
use crate::cli::adopt::credentials::Finding;
use crate::cli::adopt::emit;
use crate::cli::adopt::sample::Sample;
use crate::cli::adopt::source::Problems;
use guillemet_base::display::is_unprintable;
use guillemet_plan::description::TARGETS_FIELD;
use guillemet_template::Format;

/// The largest whole number that JSON keeps in every language: 2^53 - 1.
pub const WHOLE_MAX: u64 = (1 << 53) - 1;
/// The most fields of a sample.
const FIELDS_MAX: usize = 200;
/// The most secret fields of a plugin in C.
const SECRETS_MAX: usize = 32;
/// The most bytes of an example in the schema.
const EXAMPLE_MAX: usize = 200;

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

/// A value of the sample at its path.
struct At<'a> {
    path: Vec<String>,
    node: &'a ConfigNode,
}

impl Sketch {
    /// Makes the description of a sample.
    ///
    /// # Errors
    /// With everything that a plugin could not have, each with its line.
    pub fn new(mut sample: Sample) -> Result<Self, Failure> {
        let mut reader = Reader { sample: &sample, problems: sample.problems(), count: 0 };
        let fields = reader.table(&[(Vec::new(), &sample.config)]);
        reader.check_secrets(&fields);
        reader.problems.check(&sample.unusable())?;
        if fields.is_empty() {
            return Err(Failure::new(format!("{}: it has no field", sample.unusable())));
        }
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

/// Reads the fields off a sample.
struct Reader<'a> {
    sample: &'a Sample,
    problems: Problems<'a>,
    count: usize,
}

impl Reader<'_> {
    fn problem(&mut self, path: &[String], message: &str, help: &str) {
        let field = path.join(".");
        self.problems.add(self.sample.at(&field), &field, message, Some(help));
    }

    /// Returns the fields of all tables that stand for one: one table, or the items of a list.
    fn table(&mut self, tables: &[(Vec<String>, &ConfigTable)]) -> Vec<Field> {
        let mut names: Vec<&String> = Vec::new();
        for (name, _) in tables.iter().flat_map(|(_, table)| table.iter()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let mut fields = Vec::new();
        for name in names {
            let mut values = Vec::new();
            for (path, table) in tables {
                if let Some((_, node)) = table.iter().find(|(other, _)| other == name) {
                    values.push(At { path: [path.as_slice(), &[name.clone()]].concat(), node });
                }
            }
            self.count += 1;
            if self.count > FIELDS_MAX {
                if self.count == FIELDS_MAX + 1 {
                    let message = format!("the sample has more than {FIELDS_MAX} fields");
                    self.problem(&values[0].path, &message, "leave out what the plugin need not know");
                }
                break;
            }
            self.check_name(&values[0].path);
            let is_required = values.len() == tables.len() && !values.iter().any(|at| is_empty_text(at.node));
            if let Some(kind) = self.kind(values) {
                fields.push(Field { name: name.clone(), kind, is_required });
            }
        }
        fields
    }

    fn check_name(&mut self, path: &[String]) {
        let name = path.last().map_or("", String::as_str);
        let reason = if name.is_empty() || name.len() > EXAMPLE_MAX || name.contains(is_unprintable) {
            format!("has a name that is not 1 to {EXAMPLE_MAX} bytes of printable characters")
        } else if name.bytes().all(|b| b.is_ascii_digit()) {
            "has a name of digits only, which looks like the number of an item".into()
        } else if name == "__proto__" {
            "has a name that JavaScript keeps for itself".into()
        } else if path.len() == 1 && name == TARGETS_FIELD {
            "is reserved: a template names its targets there".into()
        } else if self.sample.reveals(name) {
            "has a name that contains a secret".into()
        } else {
            return;
        };
        self.problem(path, &reason, "rename the field in the sample");
    }

    /// Returns the kind of a field that has these values in the sample. Adds a problem if it has none.
    fn kind(&mut self, values: Vec<At<'_>>) -> Option<Kind> {
        let first = Shape::of(values[0].node);
        for at in &values {
            let shape = Shape::of(at.node);
            if shape == Shape::Null {
                self.problem(&at.path, "has no value, so its kind is not known", "set a value, or remove the field");
                return None;
            }
            if shape != first {
                let message = format!("is {shape} here and {first} elsewhere");
                self.problem(&at.path, &message, "a field has one kind: change one of them, for example with quotes");
                return None;
            }
        }
        match first {
            Shape::Text => {
                let example = values.iter().find_map(|at| self.example(at));
                Some(Kind::Text { secret: self.secret(&values), example })
            }
            Shape::Flag => Some(Kind::Flag { example: matches!(values[0].node, ConfigNode::Other(Value::Bool(true))) }),
            Shape::Number => self.number(&values),
            Shape::Table => {
                let tables: Vec<_> = values.iter().filter_map(At::as_table).collect();
                if tables.iter().all(|(_, table)| table.is_empty()) {
                    self.problem(&values[0].path, "is an empty table", "give it a field, or remove it");
                    return None;
                }
                Some(Kind::Table(self.table(&tables)))
            }
            Shape::List => self.list(&values),
            Shape::Null => None,
        }
    }

    fn number(&mut self, values: &[At<'_>]) -> Option<Kind> {
        let numbers: Vec<Number> = values.iter().filter_map(|at| number(at.node)).collect();
        if let Some(at) = values.iter().find(|at| number(at.node).is_some_and(|number| is_too_large(&number))) {
            self.problem(&at.path, &format!("is a whole number beyond {WHOLE_MAX}"), "put it in quotes");
            return None;
        }
        let example = numbers.first()?.clone();
        let is_whole = numbers.iter().all(|number| number.as_u64().is_some());
        Some(if is_whole { Kind::Whole { example } } else { Kind::Number { example } })
    }

    fn list(&mut self, values: &[At<'_>]) -> Option<Kind> {
        let items: Vec<At<'_>> = values.iter().flat_map(At::items).collect();
        let Some(first) = items.first().map(|at| Shape::of(at.node)) else {
            return Some(Kind::Texts { secret: None, example: Vec::new() });
        };
        for at in &items {
            let shape = Shape::of(at.node);
            if matches!(shape, Shape::Null | Shape::List) {
                let message = format!("is {shape} in a list");
                self.problem(&at.path, &message, "use a list of texts, numbers or tables");
                return None;
            }
            if shape != first {
                let message = format!("is {shape} in a list whose first item is {first}");
                self.problem(&at.path, &message, "items have one kind: change some, for example with quotes");
                return None;
            }
            if is_empty_text(at.node) {
                self.problem(&at.path, "is an empty text in a list", "give it a value, or remove it");
                return None;
            }
        }
        match first {
            Shape::Text => {
                let example = items.iter().filter_map(|at| self.example(at)).collect();
                Some(Kind::Texts { secret: self.secret(&items), example })
            }
            Shape::Table => {
                let tables: Vec<_> = items.iter().filter_map(At::as_table).collect();
                if tables.iter().all(|(_, table)| table.is_empty()) {
                    self.problem(&items[0].path, "is an empty table", "give it a field, or remove it");
                    return None;
                }
                Some(Kind::Tables(self.table(&tables)))
            }
            _ => {
                self.number(
                    &items.iter().filter(|at| Shape::of(at.node) == Shape::Number).cloned().collect::<Vec<_>>(),
                );
                let example = items.iter().filter_map(|at| plain(at.node)).collect();
                Some(Kind::Values { is_flags: first == Shape::Flag, example })
            }
        }
    }

    /// Returns where the secrets among these texts go, if there are any. An encoder takes texts without a secret too.
    fn secret(&self, texts: &[At<'_>]) -> Option<Place> {
        let place = |at: &At<'_>| {
            let ConfigNode::Text(leaf) = at.node else { return None };
            Some(Place::of(&at.path, &leaf.text, self.sample.findings.get(&at.path)?))
        };
        let places: Vec<Place> = texts.iter().filter_map(place).collect();
        places.iter().find(|place| **place != Place::Plain).or(places.first()).copied()
    }

    /// Returns a text as an example, if it is no secret and can be shown in a schema.
    fn example(&self, at: &At<'_>) -> Option<String> {
        let ConfigNode::Text(leaf) = at.node else { return None };
        let fits = !leaf.text.is_empty() && leaf.text.len() <= EXAMPLE_MAX && !leaf.text.contains(is_unprintable);
        (fits && !self.sample.findings.contains_key(&at.path)).then(|| (*leaf.text).clone())
    }

    /// A plugin names its secret fields by paths, whose names have few characters.
    fn check_secrets(&mut self, fields: &[Field]) {
        let mut paths: Vec<Vec<String>> = self.sample.findings.keys().cloned().collect();
        paths.sort();
        for path in paths {
            let fits = |name: &String| {
                name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
            };
            if !path.iter().all(fits) {
                let help = "rename the field in the sample with `A-Z`, `a-z`, `0-9`, `_` and `-`";
                self.problem(&path, "is secret, but a plugin cannot declare a secret under this name", help);
            } else if path.len() > 16 {
                self.problem(&path, "is a secret more than 16 levels deep", "move it up in the sample");
            }
        }
        let mut places = Vec::new();
        secret_fields(fields, "", &mut places);
        if places.len() > SECRETS_MAX {
            let message = format!("the sample has more than {SECRETS_MAX} secret fields");
            self.problems.add(None, "", message, Some("leave out what the plugin need not know"));
        }
    }
}

impl<'a> At<'a> {
    fn as_table(&self) -> Option<(Vec<String>, &'a ConfigTable)> {
        match self.node {
            ConfigNode::Table(table) => Some((self.path.clone(), table)),
            _ => None,
        }
    }

    fn items(&self) -> Vec<Self> {
        let ConfigNode::List(items) = self.node else { return Vec::new() };
        let item = |(index, node): (usize, &'a ConfigNode)| Self {
            path: [self.path.as_slice(), &[index.to_string()]].concat(),
            node,
        };
        items.iter().enumerate().map(item).collect()
    }
}

impl Clone for At<'_> {
    fn clone(&self) -> Self {
        Self { path: self.path.clone(), node: self.node }
    }
}

/// What kind of value it is, for people.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Null,
    Text,
    Flag,
    Number,
    List,
    Table,
}

impl Shape {
    fn of(node: &ConfigNode) -> Self {
        match node {
            ConfigNode::Text(_) => Self::Text,
            ConfigNode::List(_) => Self::List,
            ConfigNode::Table(_) => Self::Table,
            ConfigNode::Other(Value::Bool(_)) => Self::Flag,
            ConfigNode::Other(Value::Number(_)) => Self::Number,
            ConfigNode::Other(_) => Self::Null,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "nothing",
            Self::Text => "a text",
            Self::Flag => "true or false",
            Self::Number => "a number",
            Self::List => "a list",
            Self::Table => "a table",
        })
    }
}

fn is_empty_text(node: &ConfigNode) -> bool {
    matches!(node, ConfigNode::Text(leaf) if leaf.text.is_empty())
}

/// Returns a number without a fraction as a whole one: that is how some languages write it.
fn number(node: &ConfigNode) -> Option<Number> {
    let ConfigNode::Other(Value::Number(number)) = node else { return None };
    let whole =
        number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() <= WHOLE_MAX as f64);
    Some(whole.map_or_else(|| number.clone(), |float| Number::from(float as i64)))
}

fn is_too_large(number: &Number) -> bool {
    let unsigned = number.as_u64().is_some_and(|number| number > WHOLE_MAX);
    unsigned || number.as_i64().is_some_and(|number| number.unsigned_abs() > WHOLE_MAX)
}

fn plain(node: &ConfigNode) -> Option<Value> {
    match node {
        ConfigNode::Other(Value::Number(_)) => number(node).map(Value::Number),
        ConfigNode::Other(value) => Some(value.clone()),
        _ => None,
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
