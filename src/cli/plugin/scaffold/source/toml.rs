//! Writes `plugin.toml`.

use serde_json::{Value, json};

use super::super::fields::{Field, Kind, WHOLE_MAX};
use super::{Plugin, quoted};

/// The names that a document cannot begin a tag with, because templates or their language give them a meaning.
const TAKEN: [&str; 22] = [
    "secret",
    "vars",
    "env",
    "config",
    "loop",
    "true",
    "false",
    "none",
    "True",
    "False",
    "None",
    "not",
    "and",
    "or",
    "in",
    "is",
    "if",
    "else",
    "for",
    "self",
    "super",
    "recursive",
];

/// Writes the plugin.
pub fn write(plugin: &Plugin<'_>) -> String {
    let Plugin { name, title, .. } = plugin;
    let mut text = format!(
        "#:schema plugin.schema.json\n# {title}: a config becomes JSON with the same fields.\nfeature = \"{name}\"\ntitle = \
         \"{title}\"\nversion = \"0.1.0\"\n"
    );
    declare(plugin.fields, "fields", &mut text);
    let members = members(plugin.fields, None, 2, 0);
    text.push_str(&format!(
        "\n[[target]]\nid = \"json\"\ntitle = \"JSON\"\nfile_name = \"{name}.json\"\ndocument = '''\n{{\n{members}}}\n'''\n"
    ));
    text
}

/// Declares the fields of a table, whose own header is `above`.
fn declare(fields: &[Field], above: &str, text: &mut String) {
    for field in fields {
        let header = format!("{above}.{}", key(&field.name));
        let (kind, example) = match &field.kind {
            Kind::Text { example, .. } => ("text", example.clone().map(Value::from)),
            Kind::Texts { example, .. } => ("list", (!example.is_empty()).then(|| json!(example))),
            Kind::Flag { example } => ("bool", Some(json!(example))),
            Kind::Whole { example } => ("number", Some(json!(example))),
            Kind::Number { example } => ("any", Some(json!(example))),
            Kind::Values { example, .. } => ("any", Some(json!(example))),
            Kind::Table(_) => ("table", None),
            Kind::Tables(_) => ("tables", None),
        };
        text.push_str(&format!("\n[{header}]\n"));
        if kind != "text" {
            text.push_str(&format!("type = \"{kind}\"\n"));
        }
        if field.is_required {
            text.push_str("required = true\n");
        }
        if field.kind.secret().is_some() {
            text.push_str("secret = true\n");
        } else if let Some(example) = example {
            // A list of JSON without a null is one of TOML, too.
            text.push_str(&format!("example = {example}\n"));
        }
        if matches!(field.kind, Kind::Whole { .. }) {
            text.push_str(&format!("maximum = {WHOLE_MAX}\n"));
        }
        if let Kind::Table(fields) | Kind::Tables(fields) = &field.kind {
            declare(fields, &format!("{header}.fields"), text);
        }
    }
}

/// Returns the members of a JSON object for the fields of a table. `of` is the expression of the table, if it is not
/// the config; `depth` is the number of loops around it.
fn members(fields: &[Field], of: Option<&str>, indent: usize, depth: usize) -> String {
    let space = " ".repeat(indent);
    let member = |field: &Field| {
        let value = expression(of, &field.name);
        let name = Value::from(field.name.as_str());
        let filter = field.kind.secret().and_then(|place| place.encoder()).map(|name| name.replace('-', "_"));
        let filter = filter.map_or_else(String::new, |name| format!(" | {name}"));
        match &field.kind {
            Kind::Table(fields) => {
                let inner = members(fields, Some(&value), indent + 2, depth);
                let object = format!("{space}{name}: {{\n{inner}{space}}},\n");
                if field.is_required {
                    object
                } else {
                    format!("{space}<% if {value} %>\n{object}{space}<% endif %>\n")
                }
            }
            Kind::Tables(fields) => {
                let item = if depth == 0 { "item".to_owned() } else { format!("item{}", depth + 1) };
                let inner = members(fields, Some(&item), indent + 6, depth + 1);
                format!(
                    "{space}{name}: [\n{space}  <% for {item} in {value} %>\n{space}    {{\n{inner}{space}    }},\n{space}  \
                     <% endfor %>\n{space}],\n"
                )
            }
            Kind::Texts { .. } if !field.is_required => {
                format!("{space}{name}: << {value} | default([]){filter} >>,\n")
            }
            _ => format!("{space}{name}: << {value}{filter} >>,\n"),
        }
    };
    fields.iter().map(member).collect()
}

/// Returns how a document names a field of a table.
fn expression(of: Option<&str>, name: &str) -> String {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_word = begins && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !TAKEN.contains(&name);
    match of {
        None if is_word && !name.starts_with("item") => name.to_owned(),
        Some(of) if is_word => format!("{of}.{name}"),
        of => format!("{}[{}]", of.unwrap_or("config"), quoted(name)),
    }
}

fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if is_bare { name.to_owned() } else { Value::from(name).to_string() }
}
