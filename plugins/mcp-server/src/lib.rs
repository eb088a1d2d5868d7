//! Remote MCP servers, for the clients that read them from a file.
//!
//! `mcp-json` is the file of Claude Code and Cursor, `vscode` that of Visual Studio Code, both as
//! documented in 2026-07. A server needs its `type`: without one a client takes it for a program to
//! start. `timeout` (milliseconds, ignored below 1000) is known to Claude Code; no client of these
//! reads a list of allowed tools. Both expand `${…}` in what they read.

use guillemet_plugin::http::{self, Headers};
use guillemet_plugin::{Document, Feature, Fields, Target, Text, encode, json, json_document, present};

struct McpServer;

guillemet_plugin::export!(McpServer);

impl Feature for McpServer {
    const FEATURE: &'static str = "mcp-server";
    const TITLE: &'static str = "MCP server";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SCHEMA: &'static str = include_str!("../schema.json");
    const SECRET_FIELDS: &'static [&'static str] = &["url", "headers.*", "query_params.*"];
    const TARGETS: &'static [Target] = &[
        Target { id: "mcp-json", title: "Claude, Cursor", media_type: "application/json", file_name: ".mcp.json" },
        Target { id: "vscode", title: "Visual Studio Code", media_type: "application/json", file_name: "mcp.json" },
    ];

    fn plan(config: &Fields, target: &str) -> Document {
        let named =
            |name: &str| name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        let name = config.required("name").map(|n| n.check(named, "must be 1 to 64 letters, digits, `-` or `_`"));
        let timeout = config.number("timeout_ms", 1000..=86_400_000);
        if timeout.is_some() && target == "vscode" {
            config.warning("timeout_ms", "is left out: Visual Studio Code has no such field");
        }
        if !config.texts("tools").is_empty() {
            config.warning("tools", "is left out: these clients read no list of tools; choose them in the client");
        }
        let server = present(json!({
            "type": config.choice("transport", &["http", "sse"]).unwrap_or("http"),
            "url": url(config),
            "headers": headers(config),
            "timeout": timeout.filter(|_| target == "mcp-json"),
        }));
        let servers = if target == "vscode" { "servers" } else { "mcpServers" };
        json_document(json!({ servers: { name.as_deref().unwrap_or_default(): server } }))
    }
}

/// The URL with its query. One that is a secret as a whole is kept as it is.
fn url(config: &Fields) -> Option<String> {
    let query = config.entries("query_params");
    let url = config.required("url")?;
    if encode::whole_secret(&url) {
        if !query.is_empty() {
            config.problem("query_params", "cannot be added to a `url` that is one secret: put them into its value");
        }
        return Some(encode::url(&unexpanded(&url)));
    }
    if !url.contains("${") {
        http::check_url(&url);
    }
    let mut pairs = Vec::new();
    for (name, value) in &query {
        warn_of_query(value, encode::has_secret(value));
        if value.contains("${") {
            value.warning("is percent-encoded, so the client does not expand `${…}` in it");
        }
        pairs.push(format!("{}={}", encode::url_query(name), encode::url_query(value)));
    }
    warn_of_query(&url, http::secret_in_query(&url));
    warn_of_expansion(&url);
    let url = http::append_query(&url, &pairs.join("&"));
    Some(if encode::has_secret(&url) { encode::url(&url) } else { url })
}

fn headers(config: &Fields) -> Option<guillemet_plugin::Value> {
    let mut headers = Headers::default();
    for (name, value) in config.entries("headers") {
        headers.add(config.notes(), value.path(), name, encode::header_value(&unexpanded(&value)));
    }
    headers.into_json()
}

/// Text whose secrets must not bring in what the client would expand.
fn unexpanded(text: &Text) -> String {
    warn_of_expansion(text);
    encode::forbid_sequence(text, "${", "the MCP client would expand `${…}` in it")
}

fn warn_of_expansion(text: &Text) {
    if text.contains("${") {
        text.warning("holds `${…}`, which the MCP client expands from its own environment");
    }
}

fn warn_of_query(text: &Text, secret: bool) {
    if secret {
        text.warning("puts a secret into the query of the URL, which servers and proxies log; prefer a header");
    }
}
