//! `elevenlabs`: a webhook tool [elevenlabs 2.78.0, 2026-11-12; elevenlabs.io/docs/eleven-agents].
//!
//! A field of the query or the body has one source: `constant_value`, `dynamic_variable`, or a `description` for the
//! model, which then fills it in. In the URL, `{name}` is a parameter of the path. A timeout is in whole seconds from 5
//! to 300. A variable has a plain name and is a whole value.

use guillemet_plugin::variables::{self, BRACES, Piece};
use guillemet_plugin::{Map, Text, Value, encode, json, present};

use crate::action::Action;
use crate::body::{Node, RequestBody};

const WHO: &str = "ElevenLabs";

/// Fields with their sources, in the form in which ElevenLabs describes an object.
#[derive(Default)]
struct ObjectSchema {
    properties: Map<String, Value>,
    required: Vec<String>,
}

impl ObjectSchema {
    fn add(&mut self, name: &str, field: Value, required: bool) {
        self.properties.insert(name.into(), field);
        if required {
            self.required.push(name.into());
        }
    }

    fn into_body(self) -> Value {
        json!({ "type": "object", "required": self.required, "properties": self.properties })
    }
}

/// Writes the tool: the `tool_config` of `POST /v1/convai/tools`.
pub fn write(action: &Action) -> Value {
    if action.description.is_none() && action.config.value("description").is_none() {
        action.config.problem("description", "is required for ElevenLabs: it tells the agent when to call the action");
    }
    action.cannot_sign("ElevenLabs does not sign tool requests");
    let mut path = Map::new();
    let url = url(action, &mut path);
    let mut query = ObjectSchema::default();
    for (name, text) in &action.request.query {
        query.add(name, leaf(action, text), true);
    }
    let sends_body = !matches!(action.method, Some("GET" | "DELETE"));
    if action.body.is_some() && !sends_body {
        action.config.problem("body", "cannot be used with DELETE for ElevenLabs: use `query_params`");
    }
    let mut body = action.body.as_ref().map(|body| object(action, body, body.fields(WHO)));
    for (name, schema) in action.parameters.rest() {
        let object = if sends_body { body.get_or_insert_default() } else { &mut query };
        object.add(name, described(action, name, schema), action.parameters.is_required(name));
    }
    let query =
        (!query.properties.is_empty()).then(|| json!({ "properties": query.properties, "required": query.required }));
    present(json!({
        "type": "webhook",
        "name": action.name.as_deref(),
        "description": action.description.as_deref(),
        "response_timeout_secs": action.timeout.seconds_within(5000..=300_000, WHO),
        "api_schema": present(json!({
            "url": url,
            "method": action.method,
            "request_headers": headers(action),
            "path_params_schema": (!path.is_empty()).then_some(path),
            "query_params_schema": query,
            "request_body_schema": body.map(ObjectSchema::into_body),
        })),
    }))
}

/// Returns the URL, with `{name}` for each `{{name}}`.
fn url(action: &Action, path: &mut Map<String, Value>) -> Option<String> {
    let text = action.request.url_text()?;
    if encode::whole_secret(text) {
        let kept = encode::forbid(text, "{}", "ElevenLabs would treat `{…}` in it as a parameter");
        return Some(encode::url(&kept));
    }
    let mut url = String::new();
    for piece in variables::pieces(text) {
        match piece {
            Piece::Text(literal) => {
                if literal.contains(['{', '}']) {
                    text.problem("contains a brace, which ElevenLabs would treat as a parameter: write `{{name}}`");
                }
                url.push_str(literal);
            }
            Piece::Variable(name) => {
                check_name(text, name);
                url.push_str(&format!("{{{name}}}"));
                path.insert(name.into(), source(action, name));
            }
        }
    }
    Some(if encode::has_secret(&url) { encode::url(&url) } else { url })
}

/// Returns the headers. A header that is exactly one variable has a special form.
fn headers(action: &Action) -> Option<Value> {
    action.request.header_texts.iter().for_each(warn_of_mixture);
    let mut headers = action.request.headers.clone().into_json()?;
    for value in headers.as_object_mut()?.values_mut() {
        if let Some(name) = value.as_str().and_then(variables::whole) {
            *value = json!({ "variable_name": name });
        }
    }
    Some(headers)
}

/// Returns the source of a variable: the agent, or the conversation.
fn source(action: &Action, name: &str) -> Value {
    match action.parameters.place(&format!("{{{{{name}}}}}")) {
        Some((name, schema)) => described(action, name, schema),
        None => json!({ "type": "string", "dynamic_variable": name }),
    }
}

/// Returns a text as a field.
fn leaf(action: &Action, text: &Text) -> Value {
    if let Some(name) = variables::whole(text) {
        check_name(text, name);
        return source(action, name);
    }
    warn_of_mixture(text);
    json!({ "type": "string", "constant_value": variables::kept(text, action.expansions) })
}

fn warn_of_mixture(text: &Text) {
    if BRACES.is_in(text) && variables::whole(text).is_none() {
        text.warning("mixes text and `{{…}}`: ElevenLabs only fills in a variable that is the whole value");
    }
}

fn check_name(text: &Text, name: &str) {
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        text.problem("has a variable with an unsupported name: ElevenLabs supports letters, digits and `_`");
    }
}

/// Returns the fields of a body.
fn object(action: &Action, body: &RequestBody, members: Vec<(&str, Node)>) -> ObjectSchema {
    let mut object = ObjectSchema::default();
    for (name, node) in &members {
        object.add(name, field(action, body, node), true);
    }
    object
}

fn field(action: &Action, body: &RequestBody, node: &Node) -> Value {
    if let Some(text) = body.text(node) {
        return leaf(action, &text);
    }
    match node.value {
        Value::Object(members) => object(action, body, node.members(members)).into_body(),
        Value::Array(_) => {
            let constant = body.mapped(node, &|text| {
                if BRACES.is_in(text) {
                    text.warning("contains `{{…}}` in a list, which ElevenLabs sends unchanged");
                }
                variables::kept(text, action.expansions).into()
            });
            json!({ "type": "array", "constant_value": constant })
        }
        Value::Null => {
            action.config.notes().problem(&node.path, "has no value: ElevenLabs cannot send null", None);
            Value::Null
        }
        other => json!({ "type": type_of(other), "constant_value": other }),
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        _ => "string",
    }
}

/// Returns a parameter in the form in which ElevenLabs describes one. Leaves out keywords of JSON Schema that it does
/// not support.
fn described(action: &Action, name: &str, schema: &Value) -> Value {
    let known = ["type", "description", "enum", "properties", "required", "items"];
    let left_out: Vec<&str> = schema
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str())
        .filter(|key| !known.contains(key))
        .collect();
    if !left_out.is_empty() {
        let message = format!("`{}` is left out: ElevenLabs does not support it", left_out.join("`, `"));
        action.config.notes().warning(&format!("parameters.properties.{name}"), message, None);
    }
    let below = |(name, schema): (&String, &Value)| (name.clone(), described(action, name, schema));
    let properties = schema["properties"].as_object();
    present(json!({
        "type": schema["type"],
        "description": schema["description"].as_str().unwrap_or(name),
        "enum": schema["enum"],
        "required": schema["required"],
        "properties": properties.map(|properties| properties.iter().map(below).collect::<Map<_, _>>()),
        "items": schema.get("items").map(|items| described(action, name, items)),
    }))
}
