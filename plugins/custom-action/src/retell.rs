//! `retell`: a custom function [retell-sdk 6.2.13, 2026-10-26;
//! docs.retellai.com/build/single-multi-prompt/custom-function].
//!
//! Retell sends what the agent passes at the root of the body, and nothing else. The query is separate and unencoded. A
//! timeout is from 1 second to 10 minutes. Retell signs only with its own API key.

use guillemet_plugin::{Value, json, present};

use crate::action::Action;

const WHO: &str = "Retell";

/// Writes the tool for Retell.
pub fn write(action: &Action) -> Value {
    action.cannot_sign("Retell signs with its own API key only");
    let split = action.parameters.split(action.body.as_ref(), WHO);
    for (field, _) in &split.fixed {
        action.config.problem(
            &format!("body.{field}"),
            "is not supported: Retell sends what the agent passes, and no fixed fields; use `headers` or \
             `query_params`",
        );
    }
    action.request.texts().for_each(|text| action.parameters.warn(text, WHO));
    let schema = split.schema();
    present(json!({
        "type": "custom",
        "name": action.name.as_deref(),
        "description": action.description.as_deref(),
        "method": action.method,
        "url": action.url(),
        "headers": action.request.headers.clone().into_json(),
        "query_params": action.query(),
        "args_at_root": schema.is_some().then_some(true),
        "parameters": schema,
        "timeout_ms": action.timeout.within(1000..=600_000, WHO),
    }))
}
