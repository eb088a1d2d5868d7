//! Makes configs of a schema's examples: one for each field that may contain a secret, with a secret there.

use serde_json::{Map, Value, json};

use guillemet_plan::schema_fields::branches;

/// The deepest nesting of a config that is made.
const DEPTH_MAX: usize = 8;
/// The secret in an example, in the notation of cases.
pub const SECRET: &str = "«canary»";
/// The name for a member whose name can be chosen freely.
const MEMBER: &str = "X-Example";

/// A config with one secret, or with none.
#[derive(Debug, PartialEq)]
pub struct Example {
    /// The pattern of the secret's field, as the plugin lists it; empty if there is no secret.
    pub field: String,
    /// The config, which contains what the schema requires.
    pub config: Map<String, Value>,
}

/// Makes a config for each secret field: the required members, those with an example, and the secret. For a plugin that
/// takes no secrets, makes one config without a secret.
pub fn examples(schema: &Value, secret_fields: &[String]) -> Vec<Example> {
    if secret_fields.is_empty() {
        let config = make(schema, schema, None, DEPTH_MAX);
        let config = config.as_object().cloned();
        return config.map(|config| Example { field: String::new(), config }).into_iter().collect();
    }
    let config = |field: &String| {
        let path: Vec<&str> = field.split('.').collect();
        let value = make(schema, schema, Some(&path), DEPTH_MAX);
        value.as_object().cloned().map(|config| Example { field: field.clone(), config })
    };
    secret_fields.iter().filter_map(config).collect()
}

/// Makes a value as a schema describes it, with a secret at the end of the path.
fn make(root: &Value, node: &Value, path: Option<&[&str]>, depth: usize) -> Value {
    if depth == 0 {
        return Value::Null;
    }
    let candidates = shape(root, node, path.and_then(|path| path.first().copied()), depth);
    let first = |key: &str| candidates.iter().find_map(|node| node.get(key));
    match path {
        Some([]) => return SECRET.into(),
        // Anywhere beneath: a table of one member, unless an example has a place for the secret.
        Some(["**"]) => {
            let mut value = suggested_value(&candidates).unwrap_or_default();
            return if place_secret(&mut value) { value } else { json!({ MEMBER: SECRET }) };
        }
        _ => {}
    }
    let Some((segment, rest)) = path.and_then(|path| path.split_first()) else {
        return suggested_value(&candidates).unwrap_or_else(|| of_type(root, &candidates, depth));
    };
    let list = first("items").filter(|_| first("properties").is_none() && first("additionalProperties").is_none());
    if let Some(items) = list {
        return json!([make(root, items, Some(rest), depth - 1)]);
    }
    let mut object = match suggested_value(&candidates) {
        Some(Value::Object(object)) => object,
        _ => members(root, &candidates, depth),
    };
    let name = match (*segment, object.keys().next()) {
        ("*", Some(name)) => name.clone(),
        ("*", None) => MEMBER.to_owned(),
        (name, _) => name.to_owned(),
    };
    let property = candidates.iter().find_map(|node| node["properties"].get(&name));
    let child = property.or_else(|| first("additionalProperties"));
    object.insert(name, make(root, child.unwrap_or(&Value::Bool(true)), Some(rest), depth - 1));
    Value::Object(object)
}

/// Returns a schema with those that it refers to, and one branch of each choice: the first that knows the member, or
/// else the first.
fn shape<'a>(root: &'a Value, node: &'a Value, member: Option<&str>, depth: usize) -> Vec<&'a Value> {
    let mut chosen = vec![node];
    if depth == 0 {
        return chosen;
    }
    let mut add = |node| chosen.extend(shape(root, node, member, depth - 1));
    let pointer = node["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| root.pointer(pointer)).into_iter().for_each(&mut add);
    node["allOf"].as_array().into_iter().flatten().for_each(&mut add);
    let has_member = |branch: &&Value| {
        branches(root, branch).iter().any(|node| member.is_some_and(|name| node["properties"].get(name).is_some()))
    };
    for choice in ["anyOf", "oneOf"].iter().filter_map(|key| node[*key].as_array()) {
        choice.iter().find(has_member).or(choice.first()).into_iter().for_each(&mut add);
    }
    chosen
}

/// Returns the value that a schema itself contains: an example, the default, the constant or the first of an
/// enumeration.
fn suggested_value(candidates: &[&Value]) -> Option<Value> {
    let of = |node: &&Value| {
        let listed = |key: &str| node[key].as_array().and_then(|values| values.first());
        listed("examples")
            .or_else(|| node.get("default"))
            .or_else(|| node.get("const"))
            .or_else(|| listed("enum"))
            .cloned()
    };
    candidates.iter().find_map(of)
}

fn of_type(root: &Value, candidates: &[&Value], depth: usize) -> Value {
    let first = |key: &str| candidates.iter().find_map(|node| node.get(key));
    let kind = match first("type") {
        Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str),
        kind => kind.and_then(Value::as_str),
    };
    match kind {
        Some("object") => Value::Object(members(root, candidates, depth)),
        Some("array") => match first("items").filter(|_| first("minItems").is_some()) {
            Some(items) => json!([make(root, items, None, depth - 1)]),
            None => json!([]),
        },
        Some("integer" | "number") => first("minimum").cloned().unwrap_or_else(|| json!(1)),
        Some("boolean") => json!(false),
        Some("null") => Value::Null,
        _ if first("properties").is_some() => Value::Object(members(root, candidates, depth)),
        _ => match first("format").and_then(Value::as_str) {
            Some("uri" | "url") => json!("https://example.com/"),
            Some("email") => json!("someone@example.com"),
            Some("hostname") => json!("example.com"),
            _ => json!("text"),
        },
    }
}

/// Returns the members that are required, and those that have an example.
fn members(root: &Value, candidates: &[&Value], depth: usize) -> Map<String, Value> {
    let mut object = Map::new();
    for node in candidates {
        let required: Vec<&str> = node["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, schema) in node["properties"].as_object().into_iter().flatten() {
            let is_included = required.contains(&name.as_str()) || schema.get("examples").is_some();
            if is_included && !object.contains_key(name) {
                object.insert(name.clone(), make(root, schema, None, depth - 1));
            }
        }
    }
    object
}

/// Replaces the first text in a value by the secret; returns whether there was one.
fn place_secret(value: &mut Value) -> bool {
    match value {
        Value::String(text) => {
            *text = SECRET.into();
            true
        }
        Value::Array(items) => items.iter_mut().any(place_secret),
        Value::Object(members) => members.values_mut().any(place_secret),
        _ => false,
    }
}
