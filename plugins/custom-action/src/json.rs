//! `json`: the request as a client is to make it.
//!
//! The query stands apart and unencoded: the client encodes it once its variables are known. `signing`
//! tells a signer what to do; `schema.json` describes it under `auth`.

use guillemet_plugin::{Value, json, present};

use crate::action::Action;

/// Writes the request.
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
