//! Hosted agent platforms, which make the connection themselves. All of them fill in `{{…}}` in texts, so no secret may
//! add one.
//!
//! `retell`: an entry of `mcps` [retell-sdk 6.2.13, 2026-10-26]. The query is separate and unencoded. `timeout_ms` is
//! that of the connection. Tools are selected one by one on the agent.
//!
//! `elevenlabs`: the `config` of a server [elevenlabs 2.78.0, 2026-11-12]. The URL has to be https, and the timeout
//! whole seconds from 5 to 300. Tools are approved by a hash of their definition. A header that is exactly one variable
//! has a special form.
//!
//! `vapi`: a tool of type `mcp` with its `server` [@vapi-ai/server-sdk 2.0.1, 2026-10-12]. The timeout is from 1 to 300
//! seconds. Every tool of the server is offered to the model.

use guillemet_plugin::variables::{self, BRACES, LIQUID_TAGS};
use guillemet_plugin::{Value, http, json, present};

use crate::server::{Consumer, Server};

/// How Retell reads the config.
pub const RETELL: Consumer = Consumer { expansions: &[BRACES], query_apart: true, url_warning: None };

/// How ElevenLabs reads the config.
pub const ELEVENLABS: Consumer = Consumer { expansions: &[BRACES], query_apart: false, url_warning: None };

/// How Vapi reads the config: as Liquid.
pub const VAPI: Consumer = Consumer { expansions: &[BRACES, LIQUID_TAGS], query_apart: false, url_warning: None };

/// Writes an entry of `mcps`.
pub fn retell(server: &Server) -> Value {
    server.without_transport("Retell has no such field");
    server.without_tools("Retell's tools are picked on the agent");
    present(json!({
        "name": server.name,
        "url": server.url,
        "headers": server.headers,
        "query_params": (!server.query.is_empty()).then_some(&server.query),
        "timeout_ms": server.timeout.milliseconds(),
    }))
}

/// Writes the `config` of `POST /v1/convai/mcp-servers`.
pub fn elevenlabs(server: &Server) -> Value {
    server.needs_https("ElevenLabs");
    server.without_tools("ElevenLabs approves tools by their hash, after it has seen them");
    let mut headers = server.headers.clone();
    if let Some(Value::Object(headers)) = &mut headers {
        for value in headers.values_mut() {
            if let Some(name) = value.as_str().and_then(variables::whole) {
                *value = json!({ "variable_name": name });
            }
        }
    }
    present(json!({
        "name": server.name,
        "url": server.url,
        "transport": if server.sse { "SSE" } else { "STREAMABLE_HTTP" },
        "request_headers": headers,
        "response_timeout_secs": server.timeout.seconds_within(5000..=300_000, "ElevenLabs"),
    }))
}

/// Writes an entry of a model's `tools`.
pub fn vapi(server: &Server) -> Value {
    server.without_tools("Vapi offers every tool of the server");
    json!({
        "type": "mcp",
        "server": present(json!({
            "url": server.url,
            "headers": server.headers,
            "timeoutSeconds": server.timeout.within(1000..=300_000, "Vapi").map(http::seconds),
        })),
        "metadata": { "protocol": if server.sse { "sse" } else { "shttp" } },
    })
}
