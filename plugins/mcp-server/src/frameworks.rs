//! Agent frameworks, where a program makes the connection: the arguments that it passes.
//!
//! `livekit`: keyword arguments of `MCPServerHTTP` [livekit-agents 1.8.9, 2026-10-24]. Without `transport_type` it
//! guesses from the path, and guesses server-sent events for most. `timeout` is that of a connection,
//! `client_session_timeout_seconds` that of a call, both in seconds. Its `repr`, which ends up in logs, prints the URL.
//!
//! `openai`: a tool of type `mcp` of the Responses and Realtime APIs [openai 3.57.0, 2026-11-20]. It has no timeout,
//! and detects the transport itself.

use guillemet_plugin::{Value, http, json, present};

use crate::server::{Consumer, Server};

/// How LiveKit's framework reads the config.
pub const LIVEKIT: Consumer = Consumer {
    expansions: &[],
    query_apart: false,
    url_warning: Some("is printed with the URL by the `repr` of `MCPServerHTTP`, and so by logs; prefer a header"),
};

/// How OpenAI's API reads the config.
pub const OPENAI: Consumer = Consumer { expansions: &[], query_apart: false, url_warning: None };

/// Writes the arguments of `MCPServerHTTP(**…)`.
pub fn livekit(server: &Server) -> Value {
    let timeout = server.timeout.milliseconds().map(http::seconds);
    present(json!({
        "url": server.url,
        "transport_type": if server.sse { "sse" } else { "streamable_http" },
        "headers": server.headers,
        "timeout": timeout,
        "client_session_timeout_seconds": timeout,
        "allowed_tools": server.tools(),
    }))
}

/// Writes an entry of `tools`.
pub fn openai(server: &Server) -> Value {
    server.timeout.without("OpenAI's tools have no such field");
    server.without_transport("OpenAI detects whether a server supports it");
    present(json!({
        "type": "mcp",
        "server_label": server.name,
        "server_url": server.url,
        "headers": server.headers,
        "allowed_tools": server.tools(),
    }))
}
