//! The text of a first template: a few fields with comments, in any format.
//!
//! The starters of the built-in features are written by hand, in `starters`. For any other feature, the starter is
//! generated from its plugin's schema. Knows nothing of files or homes.

use serde_json::{Map, Value};
use toml_edit::{DocumentMut, Item, Table};

use crate::cli::Failure;
use crate::cli::adopt::emit::{quoted_text, toml_key, yaml_key};
use guillemet_base::display::sanitize;
use guillemet_base::names::SecretName;
use guillemet_plan::protocol::Description;
use guillemet_plugin::schema::{SECRET, examples};
use guillemet_template::Format;

/// The starter of each built-in feature, in TOML. `@name@` is replaced by the template's name.
const STARTERS: [(&str, &str); 4] = [
    ("cal-com", include_str!("starters/cal-com.toml")),
    ("custom-action", include_str!("starters/custom-action.toml")),
    ("mcp-server", include_str!("starters/mcp-server.toml")),
    ("sip-trunk", include_str!("starters/sip-trunk.toml")),
];
/// The widest line of a comment, in characters, and the longest text of one.
const COMMENT_WIDTH: usize = 100;
const COMMENT_MAX: usize = 400;

/// The fields of a first template, in any format.
pub struct Starter(Vec<StarterField>);

struct StarterField {
    /// The lines above the field: each is `#` with a text, or empty.
    comment: Vec<String>,
    name: String,
    content: FieldContent,
}

enum FieldContent {
    Leaf(InlineValue),
    Table(Vec<StarterField>),
}

/// A value that is written on one line.
enum InlineValue {
    /// A string in its quotes, with placeholders.
    Text(String),
    /// A number or a boolean, as it is written.
    Plain(String),
    List(Vec<InlineValue>),
    Object(Vec<(String, InlineValue)>),
}

impl Starter {
    /// Returns the starter of a built-in feature, or `None` for any other.
    pub fn of_feature(feature: &str, name: &str) -> Option<Self> {
        let (_, text) = STARTERS.iter().find(|(other, _)| *other == feature)?;
        let document: DocumentMut = text.replace("@name@", name).parse().ok()?;
        Some(Self(table(document.as_table())))
    }

    /// Returns a starter with the required fields of a plugin's schema, those with examples, and one secret.
    ///
    /// # Errors
    /// When no config can be generated from the schema.
    pub fn of_plugin(description: &Description, name: &str) -> Result<Self, Failure> {
        let feature = &description.feature;
        let no_config = || {
            Failure::new(format!(
                "the schema of plugin `{feature}` has no example; write the template by hand: run `guillemet plugin \
                 show {feature} --schema` to see its fields"
            ))
        };
        let schema: Value = serde_json::from_str(&description.schema).map_err(|_| no_config())?;
        let secret: SecretName =
            format!("{feature}-{name}-production").parse().or_else(|_| format!("{name}-production").parse())?;
        let mut examples = examples(&schema, &description.secret_fields);
        let required = |field: &str| {
            let root = field.split('.').next();
            schema["required"].as_array().is_some_and(|names| names.iter().any(|name| name.as_str() == root))
        };
        let best = examples.iter().position(|example| required(&example.field)).unwrap_or_default();
        if examples.is_empty() {
            return Err(no_config());
        }
        let config = examples.swap_remove(best).config;
        let mut fields = described(&config, &schema, &secret);
        let title = comment(&format!(
            "{}. Run `guillemet plugin show {feature} --schema` to see every field.",
            description.title
        ));
        if let Some(first) = fields.first_mut() {
            first.comment = title.into_iter().chain(std::mem::take(&mut first.comment)).collect();
        }
        Ok(Self(fields))
    }

    /// Returns the text of the template in a format.
    pub fn text(&self, format: Format) -> String {
        let mut out = String::new();
        match format {
            Format::Toml => toml(&mut out, &self.0, ""),
            Format::Yaml => yaml(&mut out, &self.0, 0),
            Format::Json | Format::Jsonc => {
                json(&mut out, &self.0, 0, format == Format::Jsonc);
                out.push('\n');
            }
        }
        out
    }
}

/// Returns the fields of a TOML table, with the comments above them.
fn table(from: &Table) -> Vec<StarterField> {
    let field = |(name, item): (&str, &Item)| {
        let (decor, content) = match item {
            Item::Value(value) => (from.key(name)?.leaf_decor(), FieldContent::Leaf(leaf(value)?)),
            Item::Table(inner) => (inner.decor(), FieldContent::Table(table(inner))),
            _ => return None,
        };
        let comment = decor.prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
        Some(StarterField {
            comment: comment.lines().map(|line| line.trim().to_owned()).collect(),
            name: name.to_owned(),
            content,
        })
    };
    from.iter().filter_map(field).collect()
}

fn leaf(value: &toml_edit::Value) -> Option<InlineValue> {
    Some(match value {
        // The text is the template's own, so its placeholders are kept.
        toml_edit::Value::String(text) => InlineValue::Text(Value::from(text.value().as_str()).to_string()),
        toml_edit::Value::Array(items) => InlineValue::List(items.iter().filter_map(leaf).collect()),
        toml_edit::Value::InlineTable(members) => InlineValue::Object(
            members.iter().filter_map(|(name, value)| Some((name.to_owned(), leaf(value)?))).collect(),
        ),
        toml_edit::Value::Integer(number) => InlineValue::Plain(number.value().to_string()),
        toml_edit::Value::Boolean(yes) => InlineValue::Plain(yes.value().to_string()),
        _ => return None,
    })
}

/// Returns the fields of a config, with their descriptions from the schema. Leaves out nulls, because TOML has none.
fn described(config: &Map<String, Value>, schema: &Value, secret: &SecretName) -> Vec<StarterField> {
    let field = |(name, value): (&String, &Value)| {
        let property = &schema["properties"][name];
        let content = match value {
            Value::Object(members) => FieldContent::Table(described(members, property, secret)),
            value => FieldContent::Leaf(example(value, secret)?),
        };
        let mut comment = comment(property["description"].as_str().unwrap_or_default());
        if !comment.is_empty() {
            comment.insert(0, String::new());
        }
        Some(StarterField { comment, name: name.clone(), content })
    };
    config.iter().filter_map(field).collect()
}

fn example(value: &Value, secret: &SecretName) -> Option<InlineValue> {
    Some(match value {
        Value::Null => return None,
        Value::String(text) if text == SECRET => InlineValue::Text(format!("\"<< secret '{}' >>\"", secret.as_str())),
        Value::String(text) => InlineValue::Text(quoted_text(text)),
        Value::Array(items) => InlineValue::List(items.iter().filter_map(|item| example(item, secret)).collect()),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| Some((name.clone(), example(value, secret)?));
            InlineValue::Object(members.iter().filter_map(member).collect())
        }
        plain => InlineValue::Plain(plain.to_string()),
    })
}

/// Returns the text of a plugin's author as comment lines. Returns no lines if the lexer would find template syntax in
/// the text.
fn comment(text: &str) -> Vec<String> {
    let text = sanitize(text, COMMENT_MAX);
    if quoted_text(&text).contains("<% raw %>") {
        return Vec::new();
    }
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < COMMENT_WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("# {word}")),
        }
    }
    lines
}

/// Writes the lines above a field, indented, and with the format's comment mark `mark` in place of `#`.
fn above(out: &mut String, field: &StarterField, indent: &str, mark: &str) {
    for line in &field.comment {
        match line.strip_prefix('#') {
            Some(text) => out.push_str(&format!("{indent}{mark}{text}\n")),
            None => out.push('\n'),
        }
    }
}

/// Writes the plain fields first and then a section for each table, because a field after a section header would belong
/// to that section.
fn toml(out: &mut String, fields: &[StarterField], path: &str) {
    for field in fields {
        if let FieldContent::Leaf(leaf) = &field.content {
            above(out, field, "", "#");
            out.push_str(&format!("{} = {}\n", toml_key(&field.name), inline(leaf, Format::Toml)));
        }
    }
    for field in fields {
        if let FieldContent::Table(inner) = &field.content {
            let path = format!("{path}{}", toml_key(&field.name));
            above(out, field, "", "#");
            if field.comment.is_empty() {
                out.push('\n');
            }
            out.push_str(&format!("[{path}]\n"));
            toml(out, inner, &format!("{path}."));
        }
    }
}

fn yaml(out: &mut String, fields: &[StarterField], depth: usize) {
    let indent = "  ".repeat(depth);
    for field in fields {
        above(out, field, &indent, "#");
        out.push_str(&format!("{indent}{}:", yaml_key(&field.name)));
        match &field.content {
            FieldContent::Leaf(leaf) => out.push_str(&format!(" {}\n", inline(leaf, Format::Yaml))),
            FieldContent::Table(inner) if inner.is_empty() => out.push_str(" {}\n"),
            FieldContent::Table(inner) => {
                out.push('\n');
                yaml(out, inner, depth + 1);
            }
        }
    }
}

fn json(out: &mut String, fields: &[StarterField], depth: usize, comments: bool) {
    if fields.is_empty() {
        return out.push_str("{}");
    }
    let indent = "  ".repeat(depth + 1);
    out.push_str("{\n");
    for (index, field) in fields.iter().enumerate() {
        if comments {
            above(out, field, &indent, "//");
        }
        out.push_str(&format!("{indent}{}: ", quoted_text(&field.name)));
        match &field.content {
            FieldContent::Leaf(leaf) => out.push_str(&inline(leaf, Format::Json)),
            FieldContent::Table(inner) => json(out, inner, depth + 1, comments),
        }
        out.push_str(if index + 1 < fields.len() { ",\n" } else { "\n" });
    }
    out.push_str(&format!("{}}}", "  ".repeat(depth)));
}

fn inline(leaf: &InlineValue, format: Format) -> String {
    match leaf {
        InlineValue::Text(text) | InlineValue::Plain(text) => text.clone(),
        InlineValue::List(items) => {
            format!("[{}]", items.iter().map(|item| inline(item, format)).collect::<Vec<_>>().join(", "))
        }
        InlineValue::Object(members) if members.is_empty() => "{}".into(),
        InlineValue::Object(members) => {
            let member = |(name, leaf): &(String, InlineValue)| match format {
                Format::Toml => format!("{} = {}", toml_key(name), inline(leaf, format)),
                _ => format!("{}: {}", quoted_text(name), inline(leaf, format)),
            };
            format!("{{ {} }}", members.iter().map(member).collect::<Vec<_>>().join(", "))
        }
    }
}
