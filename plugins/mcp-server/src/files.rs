//! Clients that read a file: `.mcp.json` of Claude Code and Cursor, `mcp.json` of Visual Studio Code.
//!
//! As documented in 2026-07 [code.claude.com/docs/en/mcp, cursor.com/docs/context/mcp,
//! code.visualstudio.com/docs/copilot/reference/mcp-configuration]. A server needs its `type`: without one, a client
//! takes it for a program to start. Only Claude Code supports `timeout` (milliseconds, ignored below 1000). None of
//! these clients reads a list of allowed tools. All of them expand `${…}`.

use guillemet_plugin::variables::DOLLAR;
use guillemet_plugin::{Value, json, present};

use crate::server::{Consumer, Server};

/// How these clients read the config.
pub const MCP_CLIENT: Consumer = Consumer { expansions: &[DOLLAR], query_apart: false, url_warning: None };

const TOOLS: &str = "these clients do not read a list of tools; choose them in the client";

/// Writes `.mcp.json`: `mcpServers` by name.
pub fn mcp_json(server: &Server) -> Value {
    server.without_tools(TOOLS);
    let mut entry = entry(server);
    entry["timeout"] = json!(server.timeout.milliseconds());
    json!({ "mcpServers": { &*server.name: present(entry) } })
}

/// Writes `mcp.json`: `servers` by name.
pub fn vscode(server: &Server) -> Value {
    server.without_tools(TOOLS);
    server.timeout.without("Visual Studio Code has no such field");
    json!({ "servers": { &*server.name: present(entry(server)) } })
}

fn entry(server: &Server) -> Value {
    json!({ "type": if server.sse { "sse" } else { "http" }, "url": server.url, "headers": server.headers })
}
