//! Reads a SIP trunk of LiveKit: the request that creates it, outbound or inbound [livekit/protocol, 2026-07].
//!
//! In the JSON form of protocol buffers a field has two names, such as `auth_password` and `authPassword`.

use serde_json::{Map, Value};

use super::document::{ParsedDocument, text_of};
use crate::cli::adopt::config::{ConfigLeaf, ConfigNode, ConfigTable, Reading};
use crate::cli::adopt::equivalence::Facts;
use crate::cli::adopt::source::{Problems, SourceFile};
use crate::cli::adopt::tokens::Tokens;

/// Reads a trunk. If the file does not name it, it gets the name `name`.
pub fn read(source: &SourceFile, name: &str, problems: &mut Problems<'_>) -> Option<Reading> {
    let document = ParsedDocument::read(&source.text, problems)?;
    let (path, trunk) = match document.root.get("trunk") {
        Some(Value::Object(trunk)) => ("trunk", trunk),
        _ => {
            let help = "the trunk must be in `trunk`, in the format of `lk sip outbound create`";
            problems.add(document.at("trunk"), "", "is not a LiveKit trunk", Some(help));
            return None;
        }
    };
    let mut tokens = Tokens::default();
    let mut config = ConfigTable::new();
    let mut host = None;
    // `name` identifies the trunk, so one without a name gets the template's.
    if !trunk.contains_key("name") {
        config.push(("name".into(), ConfigNode::Text(ConfigLeaf::new(name, None))));
    }
    let outbound = trunk.contains_key("address");
    if !outbound {
        config.push(("direction".into(), "inbound".into()));
    }
    for (key, value) in trunk {
        let field_path = format!("{path}.{key}");
        let mut text = |name: &str, problems: &mut Problems<'_>| {
            if let Some(text) = text_of(&document, &field_path, value, problems) {
                let leaf = document.leaf(&field_path, text, &mut tokens);
                let leaf = if name == "password" { leaf.credential(name, super::PASSWORD) } else { leaf };
                config.push((name.into(), leaf.into()));
            }
        };
        match snake(key).as_str() {
            "name" => text("name", problems),
            "address" => {
                text("termination_uri", problems);
                host = value.as_str().map(|address| address.split(':').next().unwrap_or_default().to_owned());
            }
            "auth_username" if *value != "" => text("username", problems),
            "auth_password" if *value != "" => text("password", problems),
            "transport" => match transport(value) {
                "SIP_TRANSPORT_AUTO" => {}
                word => config.push((
                    "transport".into(),
                    ConfigNode::from(word.trim_start_matches("SIP_TRANSPORT_").to_ascii_lowercase().as_str()),
                )),
            },
            "numbers" if *value != Value::Array(Vec::new()) => {
                config.push(("numbers".into(), document.node(&field_path, value, &mut tokens)));
            }
            "allowed_addresses" if !outbound && *value != Value::Array(Vec::new()) => {
                config.push(("allowed_ips".into(), document.node(&field_path, value, &mut tokens)));
            }
            // The config has no such field. It is compared, and reported as left out.
            _ => {}
        }
    }
    Some(Reading {
        config,
        target: "livekit",
        facts: facts(trunk),
        read: Box::new(read_document),
        tokens,
        notes: Vec::new(),
        host,
        format: document.template_format(),
    })
}

/// Returns a field's name in snake case: `auth_password` for `authPassword`.
fn snake(key: &str) -> String {
    let mut out = String::new();
    for c in key.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// Returns the name of a transport, which the file may give as a number.
fn transport(value: &Value) -> &'static str {
    const NAMES: [&str; 4] = ["SIP_TRANSPORT_AUTO", "SIP_TRANSPORT_UDP", "SIP_TRANSPORT_TCP", "SIP_TRANSPORT_TLS"];
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    let found = number.and_then(|number| NAMES.get(number)).or_else(|| NAMES.iter().find(|name| *value == **name));
    found.copied().unwrap_or("SIP_TRANSPORT_AUTO")
}

/// Returns the meaning of a trunk for LiveKit, in which an empty field is the same as none.
fn facts(trunk: &Map<String, Value>) -> Facts {
    let mut facts = Facts::default();
    let empty = |value: &Value| {
        matches!(value, Value::Null | Value::Bool(false))
            || *value == ""
            || *value == Value::Array(Vec::new())
            || *value == Value::Object(Map::new())
    };
    for (key, value) in trunk.iter().filter(|(_, value)| !empty(value)) {
        match snake(key).as_str() {
            "transport" => facts.text("transport", transport(value)),
            key => facts.tree(key, value),
        }
    }
    if !trunk.contains_key("transport") && trunk.contains_key("address") {
        facts.text("transport", "SIP_TRANSPORT_AUTO");
    }
    facts
}

fn read_document(text: &str) -> Result<Facts, String> {
    let document: Value =
        serde_json::from_str(text).map_err(|error| format!("it is not JSON ({:?})", error.classify()))?;
    document.get("trunk").and_then(Value::as_object).map(facts).ok_or_else(|| "it has no `trunk`".into())
}
