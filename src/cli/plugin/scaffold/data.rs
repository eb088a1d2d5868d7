//! Writes the schema, the cases and the example template of a plugin that is made from a sample.

use serde_json::{Map, Value, json};

use super::fields::{Field, Kind, Sketch};

/// The most problems of a case. A host takes the first hundred.
const PROBLEMS_MAX: usize = 50;

/// Writes `schema.json`.
pub fn schema(title: &str, sketch: &Sketch) -> String {
    let mut schema = Map::new();
    schema.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".into(), title.into());
    schema.extend(table(&sketch.fields));
    format!("{:#}\n", Value::Object(schema))
}

fn table(fields: &[Field]) -> Map<String, Value> {
    let required: Vec<_> = fields.iter().filter(|field| field.is_required).map(|field| &*field.name).collect();
    let properties: Map<_, _> = fields.iter().map(|field| (field.name.clone(), field_schema(&field.kind))).collect();
    let mut schema = Map::new();
    schema.insert("type".into(), "object".into());
    schema.insert("additionalProperties".into(), false.into());
    schema.insert("properties".into(), properties.into());
    if !required.is_empty() {
        schema.insert("required".into(), required.into());
    }
    schema
}

fn field_schema(kind: &Kind) -> Value {
    let text = |is_secret: bool| match is_secret {
        true => json!({ "type": "string", "minLength": 1, "description": "A secret" }),
        false => json!({ "type": "string", "minLength": 1 }),
    };
    let (mut schema, example) = match kind {
        Kind::Text { secret, example } => {
            (text(secret.is_some()), example.clone().filter(|_| secret.is_none()).map(Value::from))
        }
        Kind::Texts { secret, example } => {
            let example = (secret.is_none() && !example.is_empty()).then(|| example.clone().into());
            (json!({ "type": "array", "items": text(secret.is_some()) }), example)
        }
        Kind::Flag { example } => (json!({ "type": "boolean" }), Some((*example).into())),
        Kind::Whole { example } => (json!({ "type": "integer", "minimum": 0 }), Some(example.clone().into())),
        Kind::Number { example } => (json!({ "type": "number" }), Some(example.clone().into())),
        Kind::Values { is_flags, example } => {
            let items = if *is_flags { "boolean" } else { "number" };
            (json!({ "type": "array", "items": { "type": items } }), Some(example.clone().into()))
        }
        Kind::Table(fields) => (table(fields).into(), None),
        Kind::Tables(fields) => (json!({ "type": "array", "items": Value::Object(table(fields)) }), None),
    };
    if let Some(example) = example {
        schema["examples"] = json!([example]);
    }
    schema
}

/// Writes the cases: the sample, and a config with nothing that is required.
pub fn cases(sketch: &Sketch) -> Vec<(String, String)> {
    const UNKNOWN: &str = "not-a-field";
    let mut right = json!({
        "name": "the sample",
        "document": format!("{:#}\n", sketch.document()),
        "config": sketch.config,
    });
    let warnings: Vec<_> = sketch.in_the_clear().iter().map(|path| format!("{path}: in the clear")).collect();
    if !warnings.is_empty() {
        right["warnings"] = warnings.into();
    }
    let required = sketch.fields.iter().filter(|field| field.is_required);
    let mut problems: Vec<String> = required.map(|field| format!("{}: is required", field.name)).collect();
    let mut config = json!({});
    if problems.len() > PROBLEMS_MAX {
        problems.clear();
        config = sketch.config.clone();
    }
    config[UNKNOWN] = true.into();
    problems.push(format!("{UNKNOWN}: unknown field"));
    let wrong = json!({ "name": "what is missing, and what there is not", "problems": problems, "config": config });
    let head = "#:schema case.schema.json\n\n# What the config has to become: `«name»` is a secret.\n\n";
    let refused = "#:schema case.schema.json\n\n# What is refused: all of it at once, each with its field.\n\n";
    vec![
        ("cases/json.toml".into(), format!("{head}{}", case(&right))),
        ("cases/refusals.toml".into(), format!("{refused}{}", case(&wrong))),
    ]
}

fn case(case: &Value) -> String {
    // A tree of JSON without a null is one of TOML.
    toml_edit::ser::to_string_pretty(&json!({ "case": [case] })).unwrap_or_default()
}

/// Writes `template.toml`.
pub fn template(sketch: &Sketch) -> String {
    format!("#:schema schema.json\n# An example: `guillemet plugin dev` shows what becomes of it.\n{}", sketch.template)
}
