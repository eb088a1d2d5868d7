//! `json`: the request as a client should make it.
//!
//! The query is separate and unencoded: the client encodes it once it knows its variables. `signing` tells a signer
//! what to do; `schema.json` describes it under `auth`.

use guillemet_plugin::{Value, json, present};

use crate::action::Action;

/// Writes the request as JSON.
pub fn write(action: &Action) -> Value {
    present(json!({
        "name": action.name.as_deref(),
        "description": action.description.as_deref(),
        "method": action.method,
        "url": action.url(),
        "headers": action.headers_with_type().into_json(),
        "query": action.query(),
        "body": action.body.as_ref().map(|body| body.written(&body.root())),
        "parameters": action.parameters.schema(),
        "timeout_ms": action.timeout.milliseconds(),
        "signing": action.signing,
    }))
}
