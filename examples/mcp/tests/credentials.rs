//! The server accepts a request only with the credentials that it was told to demand.

use std::path::Path;
use std::process::Command;

use guillemet_testing::mcp::{self, McpServer};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_mcp-example");

/// Returns whether a call with this config succeeded, and the line that the client printed.
fn call(config: &Value) -> (bool, Value) {
    let output = mcp::call(Path::new(PROGRAM), config.to_string().as_bytes());
    (output.status.success(), serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn only_a_config_with_the_credentials_gets_an_answer() {
    let demanded = json!({"headers": {"x-key": "a b"}, "query": {"k": "x&y"}});
    let mut server = McpServer::start(Path::new(PROGRAM), &demanded.to_string());
    let config = |query: &str, key: &str| json!({"mcpServers": {"calendar": {"url": format!("{}?k={query}", server.url()), "headers": {"x-key": key}}}});
    let (succeeded, answer) = call(&config("x%26y", "a b"));
    assert!(succeeded && answer.to_string().contains("tomorrow 09:30"), "{answer}");
    for (query, key) in [("x%26y", "a"), ("x&y", "a b")] {
        let (succeeded, answer) = call(&config(query, key));
        assert!(!succeeded && answer["error"].is_string(), "{query} {key}: {answer}");
    }
    assert!(server.end().success(), "it ends with its standard input");
}

#[test]
fn without_a_command_it_shows_its_usage() {
    let output = Command::new(PROGRAM).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("mcp serve | mcp call"));
}
