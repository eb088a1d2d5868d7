//! Reads the fields off a sample, and refuses what a plugin could not have.

use std::fmt;

use serde_json::{Number, Value};

use super::{Field, Kind, Place, WHOLE_MAX, secret_fields};
use crate::cli::Failure;
use crate::cli::adopt::config::{ConfigNode, ConfigTable};
use crate::cli::adopt::sample::Sample;
use crate::cli::adopt::source::Problems;
use guillemet_base::display::is_unprintable;
use guillemet_plan::description::TARGETS_FIELD;

/// The most fields of a sample.
const FIELDS_MAX: usize = 200;
/// The most secret fields of a plugin in C.
const SECRETS_MAX: usize = 32;
/// The most bytes of an example in the schema.
const EXAMPLE_MAX: usize = 200;

/// Returns the fields of a sample.
///
/// # Errors
/// With everything that a plugin could not have, each with its line.
pub fn fields(sample: &Sample) -> Result<Vec<Field>, Failure> {
    let mut reader = Reader { sample, problems: sample.problems(), count: 0 };
    let fields = reader.table(&[(Vec::new(), &sample.config)]);
    reader.check_secrets(&fields);
    reader.problems.check(&sample.unusable())?;
    if fields.is_empty() {
        return Err(Failure::new(format!("{}: it has no field", sample.unusable())));
    }
    Ok(fields)
}

/// A value of the sample at its path.
struct At<'a> {
    path: Vec<String>,
    node: &'a ConfigNode,
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
                    values.push(At { path: [path.as_slice(), std::slice::from_ref(name)].concat(), node });
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

pub fn is_empty_text(node: &ConfigNode) -> bool {
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

/// Returns a value that is neither a text, a list nor a table.
pub fn plain(node: &ConfigNode) -> Option<Value> {
    match node {
        ConfigNode::Other(Value::Number(_)) => number(node).map(Value::Number),
        ConfigNode::Other(value) => Some(value.clone()),
        _ => None,
    }
}
