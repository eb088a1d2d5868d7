//! `vapi`: an API request tool [@vapi-ai/server-sdk 2.0.1, 2026-10-12; docs.vapi.ai/tools/api-request].
//!
//! Headers are a JSON Schema whose properties have a `value`. `body` is the schema of what the model fills in, and
//! `parameters` are fields that the model never sees and that take precedence. All texts are Liquid, filled in from the
//! call and not from what the model passes. A name has at most 40 characters, and a timeout is from 1 to 300 seconds.

use guillemet_plugin::{Map, Value, http, json, present};

use crate::action::Action;

const WHO: &str = "Vapi";

/// Writes the tool for Vapi.
pub fn write(action: &Action) -> Value {
    if action.name.as_deref().is_some_and(|name| name.len() > 40) {
        action.config.problem("name", "can have at most 40 characters for Vapi");
    }
    action.cannot_sign("Vapi signs with its own credential, which a tool references by id and cannot contain");
    let split = action.parameters.split(action.body.as_ref(), WHO);
    action.request.texts().for_each(|text| action.parameters.warn(text, WHO));
    let mut fixed = Vec::new();
    if let Some(body) = &action.body {
        for (field, node) in &split.fixed {
            body.each(node, &|text| action.parameters.warn(text, WHO));
            fixed.push(json!({ "key": field, "value": body.written(node) }));
        }
    }
    present(json!({
        "type": "apiRequest",
        "name": action.name.as_deref(),
        "description": action.description.as_deref(),
        "method": action.method,
        "url": action.url_with_query(),
        "headers": headers(action),
        "body": split.schema(),
        "parameters": (!fixed.is_empty()).then_some(fixed),
        "timeoutSeconds": action.timeout.within(1000..=300_000, WHO).map(http::seconds),
    }))
}

fn headers(action: &Action) -> Option<Value> {
    let Some(Value::Object(headers)) = action.request.headers.clone().into_json() else { return None };
    let header = |(name, value): (String, Value)| (name, json!({ "type": "string", "value": value }));
    let properties: Map<String, Value> = headers.into_iter().map(header).collect();
    Some(json!({ "type": "object", "properties": properties }))
}
