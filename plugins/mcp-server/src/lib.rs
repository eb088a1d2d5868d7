//! Remote MCP servers, for the clients and agents that connect to them.
//!
//! `files` writes files that clients read, `frameworks` the arguments of agent frameworks, and `platforms` the objects
//! of hosted agents. Each module names the documentation it follows and when it was read. `server` reads the config,
//! once for all targets.

mod files;
mod frameworks;
mod platforms;
mod server;

use guillemet_plugin::{Document, Feature, Fields, Target, json_document};
use server::Server;

struct McpServer;

guillemet_plugin::export!(McpServer);

const JSON: &str = "application/json";

impl Feature for McpServer {
    const FEATURE: &'static str = "mcp-server";
    const TITLE: &'static str = "MCP server";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SCHEMA: &'static str = include_str!("../schema.json");
    const SECRET_FIELDS: &'static [&'static str] = &["url", "headers.*", "query_params.*"];
    const TARGETS: &'static [Target] = &[
        Target { id: "mcp-json", title: "Claude, Cursor", media_type: JSON, file_name: ".mcp.json" },
        Target { id: "vscode", title: "Visual Studio Code", media_type: JSON, file_name: "mcp.json" },
        Target { id: "livekit", title: "LiveKit Agents", media_type: JSON, file_name: "livekit-mcp.json" },
        Target { id: "openai", title: "OpenAI Responses and Realtime", media_type: JSON, file_name: "openai-mcp.json" },
        Target { id: "retell", title: "Retell", media_type: JSON, file_name: "retell-mcp.json" },
        Target { id: "elevenlabs", title: "ElevenLabs Agents", media_type: JSON, file_name: "elevenlabs-mcp.json" },
        Target { id: "vapi", title: "Vapi", media_type: JSON, file_name: "vapi-mcp.json" },
    ];

    fn plan(config: &Fields, target: &str) -> Document {
        json_document(match target {
            "vscode" => files::vscode(&Server::read(config, &files::MCP_CLIENT)),
            "livekit" => frameworks::livekit(&Server::read(config, &frameworks::LIVEKIT)),
            "openai" => frameworks::openai(&Server::read(config, &frameworks::OPENAI)),
            "retell" => platforms::retell(&Server::read(config, &platforms::RETELL)),
            "elevenlabs" => platforms::elevenlabs(&Server::read(config, &platforms::ELEVENLABS)),
            "vapi" => platforms::vapi(&Server::read(config, &platforms::VAPI)),
            _ => files::mcp_json(&Server::read(config, &files::MCP_CLIENT)),
        })
    }
}
