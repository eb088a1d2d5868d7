//! The server accepts a request only with the credentials that it was told to demand.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_mcp-example");

/// Runs `mcp-example call`. Returns whether it succeeded, and the line that it printed.
fn call(config: &Value) -> (bool, Value) {
    let mut client = Command::new(PROGRAM)
        .arg("call")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    write!(client.stdin.take().unwrap(), "{config}").unwrap();
    let output = client.wait_with_output().unwrap();
    (output.status.success(), serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn only_a_config_with_the_credentials_gets_an_answer() {
    let mut server = Command::new(PROGRAM).arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let demanded = json!({"headers": {"x-key": "a b"}, "query": {"k": "x&y"}});
    let mut stdin = server.stdin.take().unwrap();
    writeln!(stdin, "{demanded}").unwrap();
    let mut url = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let config = |query: &str, key: &str| json!({"mcpServers": {"calendar": {"url": format!("{}?k={query}", url.trim()), "headers": {"x-key": key}}}});
    let (succeeded, answer) = call(&config("x%26y", "a b"));
    assert!(succeeded && answer.to_string().contains("tomorrow 09:30"), "{answer}");
    for (query, key) in [("x%26y", "a"), ("x&y", "a b")] {
        let (succeeded, answer) = call(&config(query, key));
        assert!(!succeeded && answer["error"].is_string(), "{query} {key}: {answer}");
    }
    drop(stdin);
    assert!(server.wait().unwrap().success(), "it ends with its standard input");
}

#[test]
fn without_a_command_it_shows_its_usage() {
    let output = Command::new(PROGRAM).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("mcp serve | mcp call"));
}
