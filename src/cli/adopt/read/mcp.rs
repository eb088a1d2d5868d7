//! Reads the files of MCP clients: `mcpServers` (Claude, Cursor) and `servers` (Visual Studio Code).
//!
//! Keeps variables that the client itself expands (`${…}`). A server that the client starts as a program does not
//! belong to this feature.

use serde_json::{Map, Value};

use super::document::{ParsedDocument, text_of};
use super::http;
use super::url::{self, UrlChoice};
use crate::cli::adopt::config::{ConfigLeaf, ConfigNode, ConfigTable, Reading};
use crate::cli::adopt::equivalence::Facts;
use crate::cli::adopt::source::{Problems, SourceFile};
use crate::cli::adopt::tokens::Tokens;

/// Reads one server of a file. `requested` is its name, which is needed if there are several.
pub fn read(
    source: &SourceFile,
    requested: Option<&str>,
    url: UrlChoice,
    problems: &mut Problems<'_>,
) -> Option<Reading> {
    let document = ParsedDocument::read(&source.text, problems)?;
    let (key, target) = match (document.root.get("mcpServers"), document.root.get("servers")) {
        (Some(_), _) => ("mcpServers", "mcp-json"),
        (None, Some(_)) => ("servers", "vscode"),
        (None, None) => {
            let help = "it must have `mcpServers` (Claude, Cursor) or `servers` (Visual Studio Code)";
            problems.add(None, "", "it has no MCP servers", Some(help));
            return None;
        }
    };
    let Some(Value::Object(servers)) = document.root.get(key) else {
        problems.add(document.at(key), key, "is not a table of servers", None);
        return None;
    };
    let name = choose(&document, key, servers, requested, problems)?;
    let path = format!("{key}.{name}");
    let Some(Value::Object(server)) = servers.get(name) else {
        problems.add(document.at(&path), &path, "is not a table of fields", None);
        return None;
    };
    check(&document, &path, server, problems);
    let mut tokens = Tokens::default();
    let mut config: ConfigTable = vec![("name".into(), ConfigNode::Text(ConfigLeaf::new(&plain_name(name), None)))];
    let (mut host, mut whole) = (None, false);
    if let Some(text) = server.get("url").and_then(|url| text_of(&document, &format!("{path}.url"), url, problems)) {
        let spot = document.spot(&format!("{path}.url"), text, &mut tokens);
        let taken = url::take_apart(text, spot.as_ref(), url);
        (host, whole) = (url::host(text), taken.whole);
        config.push(("url".into(), taken.url.into()));
        if !taken.query.is_empty() {
            config.push(("query_params".into(), ConfigNode::Table(taken.query)));
        }
    }
    if transport(server) == Some("sse") {
        config.insert(1, ("transport".into(), "sse".into()));
    }
    if let Some(headers) = server.get("headers") {
        let headers = read_headers(&document, &format!("{path}.headers"), headers, &mut tokens, problems);
        if !headers.is_empty() {
            config.push(("headers".into(), ConfigNode::Table(headers)));
        }
    }
    // The other client has no such field, so it is shown as left out there.
    let timeout = server.get("timeout").filter(|timeout| timeout.as_u64().is_some_and(|ms| ms >= 1000));
    if let (Some(timeout), "mcp-json") = (timeout, target) {
        config.push(("timeout_ms".into(), ConfigNode::Other(timeout.clone())));
    }
    let others: Vec<&str> = servers.keys().map(String::as_str).filter(|other| *other != name).collect();
    let notes = match others.as_slice() {
        [] => Vec::new(),
        others => vec![format!("other servers, which are not adopted: {}", others.join(", "))],
    };
    Some(Reading {
        config,
        target,
        facts: facts(name, server, whole),
        read: Box::new(move |text| read_document(text, key, whole)),
        tokens,
        notes,
        host,
        format: document.template_format(),
    })
}

/// Returns the name of the server to read.
fn choose<'a>(
    document: &ParsedDocument<'_>,
    key: &str,
    servers: &'a Map<String, Value>,
    requested: Option<&str>,
    problems: &mut Problems<'_>,
) -> Option<&'a str> {
    let names: Vec<&str> = servers.keys().map(String::as_str).collect();
    let found = match requested {
        Some(requested) => names.iter().find(|name| **name == requested).copied(),
        None if names.len() == 1 => names.first().copied(),
        None => None,
    };
    if found.is_none() {
        let message = match (requested, names.len()) {
            (_, 0) => "has no server".into(),
            (Some(requested), _) => format!("has no server `{requested}`"),
            (None, count) => format!("has {count} servers, but a template describes one"),
        };
        let help = (!names.is_empty()).then(|| format!("choose one with --server: {}", names.join(", ")));
        problems.add(document.at(key), key, message, help.as_deref());
    }
    found
}

/// Returns a name that the config accepts.
fn plain_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' };
    let plain: String = name.chars().map(plain).take(64).collect();
    if plain.is_empty() { "server".into() } else { plain }
}

fn transport(server: &Map<String, Value>) -> Option<&str> {
    let word = server.get("type").or_else(|| server.get("transport"))?.as_str()?;
    Some(match word {
        "http" | "streamable-http" | "streamableHttp" => "http",
        other => other,
    })
}

/// Adds a problem for everything that the feature does not support.
fn check(document: &ParsedDocument<'_>, path: &str, server: &Map<String, Value>, problems: &mut Problems<'_>) {
    let at = |field: &str| document.at(&format!("{path}.{field}"));
    if server.contains_key("command") {
        let help = "mcp-server templates are for servers with a `url`; choose another with --server";
        problems.add(at("command"), path, "is a local program that the client starts", Some(help));
    } else if !server.contains_key("url") {
        problems.add(document.at(path), path, "has no `url`", Some("a remote server needs one"));
    }
    for field in ["type", "transport"] {
        if let Some(value) = server.get(field)
            && !matches!(transport(server), Some("http" | "sse"))
            && value != "stdio"
        {
            problems.add(at(field), &format!("{path}.{field}"), "is not http or sse", None);
        }
    }
    let texts = server.get("headers").and_then(Value::as_object).into_iter().flat_map(Map::iter);
    let texts = texts.map(|(name, value)| (format!("headers.{name}"), value));
    for (field, value) in texts.chain(server.get("url").map(|url| ("url".to_owned(), url))) {
        if value.as_str().is_some_and(|text| text.contains("${input:")) {
            let help = "put the value there, then adopt the file: a rendered config cannot prompt for it";
            problems.add(at(&field), &format!("{path}.{field}"), "is prompted for by Visual Studio Code", Some(help));
        }
    }
}

fn read_headers(
    document: &ParsedDocument<'_>,
    path: &str,
    headers: &Value,
    tokens: &mut Tokens,
    problems: &mut Problems<'_>,
) -> ConfigTable {
    let Some(headers) = headers.as_object() else {
        problems.add(document.at(path), path, "is not a table of headers", None);
        return ConfigTable::new();
    };
    let mut table = ConfigTable::new();
    for (name, value) in headers {
        let path = format!("{path}.{name}");
        if let Some(text) = text_of(document, &path, value, problems) {
            let spot = document.spot(&path, text, tokens);
            table.push((name.clone(), http::header(name, text, spot).into()));
        }
    }
    table
}

/// Returns the meaning of a server for a client. `whole` says that its URL is one secret.
fn facts(name: &str, server: &Map<String, Value>, whole: bool) -> Facts {
    let mut facts = Facts::default();
    facts.text("name", name);
    for (field, value) in server {
        match (field.as_str(), value) {
            ("url", Value::String(url)) => url::url_facts(&mut facts, "url", url, whole),
            ("headers", Value::Object(headers)) => {
                for (name, value) in headers {
                    match value {
                        Value::String(text) => http::header_fact(&mut facts, "headers", name, text),
                        other => facts.tree(&format!("headers.{name}"), other),
                    }
                }
            }
            ("type" | "transport", Value::String(_)) => facts.text("type", transport(server).unwrap_or_default()),
            (field, value) => facts.tree(field, value),
        }
    }
    facts
}

/// Reads a rendered document, which has one server.
fn read_document(text: &str, key: &str, whole: bool) -> Result<Facts, String> {
    let document: Value =
        serde_json::from_str(text).map_err(|error| format!("it is not JSON ({:?})", error.classify()))?;
    let servers = document.get(key).and_then(Value::as_object);
    match servers.and_then(|servers| servers.iter().next()) {
        Some((name, Value::Object(server))) => Ok(facts(name, server, whole)),
        _ => Err(format!("it has no server in `{key}`")),
    }
}
