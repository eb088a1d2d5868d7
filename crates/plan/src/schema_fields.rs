//! Finds the parts of a schema that describe a field.
//!
//! Follows what describes a field (`properties`, `items`, `$ref` inside the schema, the branches of `oneOf` and the
//! like); does not evaluate conditions.

use serde_json::Value;

/// The deepest nesting of references and branches that is followed.
const DEPTH_MAX: usize = 12;
/// The most schemas that may describe one field.
const CANDIDATES_MAX: usize = 200;
/// The keywords that describe the parts of a value.
const DESCRIBING: [&str; 5] = ["properties", "patternProperties", "additionalProperties", "items", "prefixItems"];
/// The keywords with schemas of which a value has to match all, any or one.
const BRANCHES: [&str; 3] = ["allOf", "anyOf", "oneOf"];

static ANYTHING: Value = Value::Bool(true);

/// Returns what is wrong with a field that may contain a secret: the schema does not know it, or does not allow text
/// there.
pub fn field_problem(schema: &Value, field: &str) -> Option<String> {
    let mut at = vec![schema];
    for segment in field.split('.') {
        if segment == "**" {
            return None;
        }
        at = at.iter().flat_map(|node| subschemas(schema, node, segment)).take(CANDIDATES_MAX).collect();
        if at.is_empty() {
            return Some(format!(
                "it does not describe the secret field `{field}`: describe the field, or remove it from `secret-fields`"
            ));
        }
    }
    let text = at.iter().flat_map(|node| branches(schema, node)).any(admits_text);
    (!text).then(|| format!("it does not allow text in the secret field `{field}`, but a secret is text"))
}

/// Reports whether a schema names this field at its top level, which means that it describes or requires it. A schema
/// that allows any field does not name it.
pub fn has_field(schema: &Value, name: &str) -> bool {
    branches(schema, schema).into_iter().any(|node| {
        let required = node["required"].as_array().into_iter().flatten();
        node["properties"].get(name).is_some() || required.into_iter().any(|field| field == name)
    })
}

/// Returns the schemas that describe a part of a value: a member by name, or any member (`*`).
pub fn subschemas<'a>(root: &'a Value, node: &'a Value, segment: &str) -> Vec<&'a Value> {
    let mut schemas: Vec<&Value> = Vec::new();
    for node in branches(root, node) {
        let named = |key: &str| node[key].as_object().into_iter().flatten();
        if segment == "*" {
            schemas.extend(named("properties").map(|(_, schema)| schema));
            schemas.extend(node["prefixItems"].as_array().into_iter().flatten());
            schemas.extend(node.get("items"));
        } else {
            schemas.extend(node["properties"].get(segment));
            if segment.bytes().all(|b| b.is_ascii_digit()) {
                schemas.extend(node.get("items"));
            }
        }
        if segment == "*" || node["properties"].get(segment).is_none() {
            schemas.extend(named("patternProperties").map(|(_, schema)| schema));
            schemas.extend(node.get("additionalProperties"));
        }
        let describes = DESCRIBING.iter().chain(&BRANCHES).any(|key| node.get(*key).is_some());
        if !describes && node.get("$ref").is_none() && admits_parts(node) {
            schemas.push(&ANYTHING);
        }
    }
    schemas.retain(|schema| **schema != Value::Bool(false));
    schemas
}

/// Returns a schema together with those that it refers to, and its branches.
pub fn branches<'a>(root: &'a Value, node: &'a Value) -> Vec<&'a Value> {
    fn walk<'a>(root: &'a Value, node: &'a Value, depth: usize, nodes: &mut Vec<&'a Value>) {
        if depth > DEPTH_MAX || nodes.len() > CANDIDATES_MAX {
            return;
        }
        nodes.push(node);
        let reference = node["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        if let Some(target) = reference.and_then(|pointer| root.pointer(pointer)) {
            walk(root, target, depth + 1, nodes);
        }
        for branch in BRANCHES.iter().flat_map(|key| node[*key].as_array().into_iter().flatten()) {
            walk(root, branch, depth + 1, nodes);
        }
    }
    let mut nodes = Vec::new();
    walk(root, node, 0, &mut nodes);
    nodes
}

fn has_type(node: &Value, types: &[&str]) -> bool {
    match node.get("type") {
        None => true,
        Some(Value::String(kind)) => types.contains(&kind.as_str()),
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind.as_str().is_some_and(|kind| types.contains(&kind))),
        Some(_) => false,
    }
}

/// Reports whether text is allowed, by what the schema itself says of its type.
fn admits_text(node: &Value) -> bool {
    // A schema that only refers or branches does not say anything itself.
    let silent = node.get("type").is_none()
        && (node.get("$ref").is_some() || BRANCHES.iter().any(|key| node.get(*key).is_some()));
    !silent && has_type(node, &["string"])
}

fn admits_parts(node: &Value) -> bool {
    has_type(node, &["object", "array"])
}
