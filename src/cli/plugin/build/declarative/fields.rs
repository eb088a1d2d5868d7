//! The fields of a config, as plugin.toml declares them: what the component reads, the schema, and where a secret may
//! be.

use serde_json::{Map, Value, json};

use super::definition::{Field, Kind};
use super::section::Section;
use guillemet_base::display::is_unprintable;
use guillemet_plan::description::ID_MAX;

/// The deepest nesting of fields.
const DEPTH_MAX: usize = 8;

/// The kinds of fields, as plugin.toml names them.
const KINDS: [&str; 10] = ["text", "url", "number", "bool", "choice", "list", "map", "any", "table", "tables"];

/// A field with its part of the schema.
pub struct Declared {
    /// What the component reads.
    pub field: Field,
    schema: Value,
}

/// Reads the table `fields`.
pub fn read_all(root: &Section) -> Vec<Declared> {
    let fields = read(root, 1);
    if let Some(field) = fields.iter().find(|field| field.field.name == "targets") {
        let help = "Guillemet itself reads this field of a template; choose another name";
        root.problem(&format!("fields.{}", field.field.name), "is reserved", Some(help));
    }
    fields
}

fn read(section: &Section, depth: usize) -> Vec<Declared> {
    let entries = section.entries("fields");
    if entries.is_empty() {
        section.problem("fields", "has to declare a field at least", Some("[fields.url]\n          required = true"));
    }
    if depth > DEPTH_MAX {
        section.problem("fields", format!("is nested deeper than {DEPTH_MAX} levels"), None);
        return Vec::new();
    }
    entries.into_iter().map(|(name, entry)| one(section, name, &entry, depth)).collect()
}

fn one(above: &Section, name: &str, entry: &Section, depth: usize) -> Declared {
    if name.is_empty() || name.len() > ID_MAX || name.contains(is_unprintable) {
        let message = format!("a name of a field is 1 to {ID_MAX} printable characters");
        above.problem(&format!("fields.{name}"), message, None);
    }
    let word = entry.text("type").unwrap_or("text");
    let (kind, mut schema) = kind(entry, word, depth);
    let (required, secret) = (entry.flag("required"), entry.flag("secret"));
    if secret && !matches!(kind, Kind::Text | Kind::Url | Kind::List | Kind::Map | Kind::Any) {
        let help = "a secret can be in a text, url, list, map or any; in a table, mark its fields";
        entry.problem("secret", format!("a field of the type `{word}` cannot hold a secret"), Some(help));
    }
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    let is_named = secret || matches!(kind, Kind::Table(_) | Kind::Tables(_));
    if is_named && !name.bytes().all(is_letter) {
        let help = "use letters, digits, `_` and `-`";
        above.problem(&format!("fields.{name}"), "cannot be part of the path of a secret", Some(help));
    }
    for key in ["title", "description"] {
        if let Some(text) = entry.text(key) {
            schema[key] = text.into();
        }
    }
    if let Some(example) = entry.any("example") {
        check(entry, "example", example, &kind);
        schema["examples"] = json!([example]);
    }
    let default = entry.any("default");
    if let Some(default) = default {
        check(entry, "default", default, &kind);
        schema["default"] = default.clone();
        if required || secret {
            entry.problem("default", "is for a field that is neither required nor secret", None);
        }
    }
    let field = Field { name: name.to_owned(), kind, required, secret, default: default.cloned() };
    Declared { field, schema }
}

fn kind(entry: &Section, word: &str, depth: usize) -> (Kind, Value) {
    match word {
        "url" => (Kind::Url, json!({ "type": "string", "minLength": 1 })),
        "number" => {
            let minimum = entry.number("minimum").unwrap_or(0);
            let maximum = entry.number("maximum").unwrap_or(u64::from(u32::MAX));
            if minimum > maximum {
                entry.problem("minimum", "is larger than `maximum`", None);
            }
            (Kind::Number { minimum, maximum }, json!({ "type": "integer", "minimum": minimum, "maximum": maximum }))
        }
        "bool" => (Kind::Bool, json!({ "type": "boolean" })),
        "choice" => {
            let choices: Vec<String> = entry.words("choices").into_iter().map(str::to_owned).collect();
            if choices.is_empty() || choices.iter().any(String::is_empty) {
                entry.problem("choices", "must be a list of the words that are allowed", None);
            }
            let schema = json!({ "enum": choices });
            (Kind::Choice(choices), schema)
        }
        "list" => (Kind::List, json!({ "type": "array", "items": { "type": "string", "minLength": 1 } })),
        "map" => (Kind::Map, json!({ "type": "object", "additionalProperties": { "type": "string", "minLength": 1 } })),
        "any" => (Kind::Any, json!({})),
        "table" => {
            let fields = read(entry, depth + 1);
            let schema = object(&fields);
            (Kind::Table(fields.into_iter().map(|field| field.field).collect()), schema)
        }
        "tables" => {
            let fields = read(entry, depth + 1);
            let schema = json!({ "type": "array", "items": object(&fields) });
            (Kind::Tables(fields.into_iter().map(|field| field.field).collect()), schema)
        }
        _ => {
            if word != "text" {
                let kinds = KINDS.map(|kind| format!("`{kind}`")).join(", ");
                entry.problem("type", format!("must be one of {kinds}"), None);
            }
            (Kind::Text, json!({ "type": "string", "minLength": 1 }))
        }
    }
}

/// Checks that a value that plugin.toml gives is one that the field can have.
fn check(entry: &Section, key: &str, value: &Value, kind: &Kind) {
    let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let fits = match kind {
        Kind::Text | Kind::Url => text(value),
        Kind::Number { minimum, maximum } => {
            value.as_u64().is_some_and(|number| (*minimum..=*maximum).contains(&number))
        }
        Kind::Bool => value.is_boolean(),
        Kind::Choice(words) => value.as_str().is_some_and(|word| words.iter().any(|known| known == word)),
        Kind::List => value.as_array().is_some_and(|list| list.iter().all(text)),
        Kind::Map => value.as_object().is_some_and(|map| map.values().all(text)),
        Kind::Any => true,
        Kind::Table(_) | Kind::Tables(_) => false,
    };
    if !fits {
        let help = matches!(kind, Kind::Table(_) | Kind::Tables(_)).then_some("give it to the fields of the table");
        entry.problem(key, "is not a value that the field can have", help);
    }
}

fn object(fields: &[Declared]) -> Value {
    let properties: Map<String, Value> =
        fields.iter().map(|field| (field.field.name.clone(), field.schema.clone())).collect();
    let required: Vec<&str> =
        fields.iter().filter(|field| field.field.required).map(|field| field.field.name.as_str()).collect();
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// Returns the JSON Schema of a config.
pub fn schema(root: &Section, title: &str, fields: &[Declared]) -> String {
    let mut schema = Map::new();
    schema.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".into(), title.into());
    if let Some(description) = root.text("description") {
        schema.insert("description".into(), description.into());
    }
    if let Value::Object(object) = object(fields) {
        schema.extend(object);
    }
    format!("{:#}\n", Value::Object(schema))
}

/// Returns the paths at which a secret may be.
pub fn secret_paths(fields: &[Declared]) -> Vec<String> {
    let mut paths = Vec::new();
    let fields: Vec<&Field> = fields.iter().map(|field| &field.field).collect();
    collect(&fields, "", &mut paths);
    paths
}

fn collect(fields: &[&Field], above: &str, paths: &mut Vec<String>) {
    for field in fields {
        let path = format!("{above}{}", field.name);
        match &field.kind {
            Kind::Table(fields) => collect(&fields.iter().collect::<Vec<_>>(), &format!("{path}."), paths),
            Kind::Tables(fields) => collect(&fields.iter().collect::<Vec<_>>(), &format!("{path}.*."), paths),
            Kind::List | Kind::Map if field.secret => paths.push(format!("{path}.*")),
            Kind::Any if field.secret => paths.push(format!("{path}.**")),
            _ if field.secret => paths.push(path),
            _ => {}
        }
    }
}
