//! Rendered configs of MCP clients, used by the clients: rmcp and the Python client connect to a real MCP server, which
//! answers only clients that send the value in a header and in the query.
//!
//! Every value arrives exactly, or is refused for the reason that makes it impossible.

use std::path::Path;

use crate::support::consumers::{Rotating, judge, python, run_script};
use crate::support::daemon::PROGRAM;
use crate::support::passwords::{SEED, passwords};
use guillemet_testing::mcp::{self, McpServer};
use serde_json::{Value, json};

/// The targets with their template: one with headers and a query, and one whose whole URL is a secret.
const TARGETS: [(&str, &str); 8] = [
    ("mcp-json", "parts"),
    ("vscode", "parts"),
    ("livekit", "parts"),
    ("openai", "parts"),
    ("retell", "parts"),
    ("vapi", "parts"),
    ("mcp-json", "whole"),
    ("elevenlabs", "whole"),
];

/// Returns the reasons a value cannot be used in a target's config.
fn necessary(target: &str, value: &str) -> Vec<&'static str> {
    let mut reasons = Vec::new();
    if value.starts_with(' ') || value.ends_with(' ') {
        reasons.push("cannot start or end with a space");
    }
    let expands: &[(&str, &str)] = match target {
        "mcp-json" | "vscode" => &[("${", "would expand `${…}`")],
        "retell" | "elevenlabs" => &[("{{", "would expand `{{…}}`")],
        "vapi" => &[("{{", "would expand `{{…}}`"), ("{%", "would run `{%…%}`")],
        _ => &[],
    };
    // If a value has several, the encoders find the inner one first. Each place is refused for one.
    if let Some((_, reason)) = expands.iter().find(|(opening, _)| value.contains(opening)) {
        return vec![reason];
    }
    reasons
}

/// Starts a server that requires a different value for each number.
fn start(mcp: &Path, values: &[String]) -> McpServer {
    let demanded = |value: &String| {
        json!({
            "headers": {"Authorization": format!("Bearer {value}"), "X-Key": value},
            "query": {"k": value, "zone": "a&b c"},
        })
    };
    McpServer::start(mcp, &values.iter().map(demanded).collect::<Value>().to_string())
}

/// Runs the client with these configs. Returns the answer to each call.
fn call(mcp: &Path, configs: &[&[u8]]) -> Vec<Value> {
    let output = mcp::call(mcp, &configs.concat());
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_value_reaches_the_server_as_it_is() {
    let (Some(mcp), Some(python)) = (mcp::program(PROGRAM), python()) else { return };
    let values = passwords();
    let server = start(&mcp, &values);
    let parts = format!(
        "name: crm\nurl: {}/<< secret 'number' | url >>\nheaders:\n  Authorization: Bearer << secret 'password' >>\n  \
         X-Key: << secret 'password' >>\nquery_params:\n  k: << secret 'password' >>\n  zone: a&b c\n",
        server.url()
    );
    let whole = "name: crm\nurl: << secret 'url' >>\nheaders:\n  Authorization: Bearer << secret 'password' >>\n  \
                 X-Key: << secret 'password' >>\n";
    let rotating = Rotating::start(&[("mcp-server/parts.yaml", &parts), ("mcp-server/whole.yaml", whole)]);
    rotating.guillemet.add("url", "https://none.example/yet");

    let mut rendered: Vec<(usize, &str, Vec<u8>)> = Vec::new();
    for (number, value) in values.iter().enumerate() {
        rotating.rotate(number, value);
        let encoded = percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
        let url = json!({"value": format!("{}/{number}?k={encoded}&zone=a%26b%20c", server.url())});
        assert_eq!(rotating.guillemet.ask("PATCH", "/v1/secrets/url", &[], url.to_string().as_bytes()).status, 200);
        for (target, template) in TARGETS {
            let document = rotating.render(&format!("mcp-server/{template}"), target);
            if let Some(document) = judge(document, &necessary(target, value), number, value, target) {
                rendered.push((number, target, document));
            }
        }
    }
    assert!(rendered.len() > values.len() * TARGETS.len() * 3 / 4, "only {} were rendered", rendered.len());

    // The Python client connects with every target, and calls a tool with the clients' file.
    let entry = |(_, target, document): &(usize, &str, Vec<u8>)| {
        let call = *target == "mcp-json";
        json!({"target": target, "document": String::from_utf8_lossy(document), "call": call})
    };
    let answers = run_script(&python, "mcp_client.py", &rendered.iter().map(entry).collect());
    assert_eq!(answers.as_array().unwrap().len(), rendered.len());
    for ((number, target, _), answer) in rendered.iter().zip(answers.as_array().unwrap()) {
        let place = format!("seed {SEED:#x}, value {number} {:?}, target {target}", values[*number]);
        let expected = if *target == "mcp-json" { "tomorrow 09:30, tomorrow 14:00" } else { "rmcp" };
        assert_eq!(answer, expected, "{place}");
    }

    // rmcp connects with the file that it reads.
    let files: Vec<&(usize, &str, Vec<u8>)> = rendered.iter().filter(|(_, target, _)| *target == "mcp-json").collect();
    let answers = call(&mcp, &files.iter().map(|(.., document)| document.as_slice()).collect::<Vec<_>>());
    assert_eq!(answers.len(), files.len());
    for ((number, ..), answer) in files.iter().zip(answers) {
        let value = &values[*number];
        assert_eq!(answer["tools"][0], "check_availability", "seed {SEED:#x}, value {number} {value:?}: {answer}");
    }

    // Proves that the server refuses the value of another number.
    let (number, _, document) = files[0];
    let other = format!("/mcp/{}", number + 1);
    let spoiled = String::from_utf8_lossy(document).replace(&format!("/mcp/{number}"), &other);
    assert!(call(&mcp, &[spoiled.as_bytes()])[0]["error"].is_string(), "the server took another value");
    let spoiled = json!([{"target": "mcp-json", "document": spoiled, "call": false}]);
    let answers = run_script(&python, "mcp_client.py", &spoiled);
    assert!(answers[0]["error"].is_string(), "the server took another value: {answers}");
}
