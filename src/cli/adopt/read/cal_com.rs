//! Reads the credentials of Cal.com: a dotenv file, or the JSON that an HTTP client uses.

use serde_json::{Map, Value};

use super::document::{ParsedDocument, text_of};
use super::dotenv::{self, Variable};
use super::{http, url};
use crate::cli::adopt::config::{ConfigLeaf, ConfigNode, ConfigTable, Reading};
use crate::cli::adopt::detect;
use crate::cli::adopt::equivalence::Facts;
use crate::cli::adopt::source::{Problems, SourceFile};
use crate::cli::adopt::tokens::{Quoting, Tokens};
use guillemet_template::Format;

/// The known variables and the fields of the config they become. A rendered dotenv file has no place for those after
/// the first four.
const VARIABLES: [(&str, &str); 7] = [
    ("CAL_API_KEY", "api_key"),
    ("CAL_CLIENT_ID", "client_id"),
    ("CAL_SECRET_KEY", "secret_key"),
    ("CAL_WEBHOOK_SECRET", "webhook_secret"),
    ("CAL_BASE_URL", "base_url"),
    ("CAL_EVENT_TYPE_ID", "event_type_id"),
    ("CAL_TIMEZONE", "timezone"),
];
/// The endpoints whose API versions a config can hold.
const ENDPOINTS: [&str; 4] = ["slots", "bookings", "event-types", "me"];

/// Reads a dotenv file, or JSON if the text begins with `{`.
pub fn read(source: &SourceFile, problems: &mut Problems<'_>) -> Option<Reading> {
    if source.text.trim_start().starts_with('{') { json(source, problems) } else { env(source, problems) }
}

fn field_of(variable: &Variable) -> Option<&'static str> {
    VARIABLES.iter().find(|(name, _)| *name == variable.name).map(|(_, field)| *field)
}

fn env(source: &SourceFile, problems: &mut Problems<'_>) -> Option<Reading> {
    let variables = dotenv::read(&source.text, problems);
    let mut tokens = Tokens::default();
    let mut config = ConfigTable::new();
    let mut facts = Facts::default();
    let mut others = Vec::new();
    for variable in &variables {
        let Some(field) = field_of(variable) else {
            others.push(variable.name.as_str());
            continue;
        };
        let Some(value) = variable.value.as_ref().filter(|value| !value.is_empty()) else { continue };
        if value.contains("${") {
            let help = "write its value there, or remove the variable from the file";
            let message = "refers to other variables, which a template cannot see";
            problems.add(Some(variable.range.start), &variable.name, message, Some(help));
            continue;
        }
        facts.text(&variable.name, value);
        match (field, value.parse::<u64>()) {
            ("event_type_id", Ok(number)) => config.push((field.into(), ConfigNode::Other(number.into()))),
            ("event_type_id", Err(_)) => {
                problems.add(Some(variable.range.start), &variable.name, "is not a whole number", None);
            }
            _ => {
                let token = tokens.add(None, variable.range.clone(), value, Quoting::Single);
                config.push((field.into(), ConfigLeaf::new(value, Some(tokens.spot(token))).into()));
            }
        }
    }
    if !variables.iter().any(|variable| variable.name == "CAL_API_KEY") {
        let help = format!("use one of: {}", VARIABLES.map(|(name, _)| name).join(", "));
        problems.add(None, "", "has no CAL_API_KEY", Some(&help));
    }
    let notes = match others.as_slice() {
        [] => Vec::new(),
        others => vec![format!("other variables, which are not adopted: {}", others.join(", "))],
    };
    Some(Reading {
        config,
        target: "dotenv",
        facts,
        read: Box::new(read_env),
        tokens,
        notes,
        host: None,
        format: Format::Toml,
    })
}

fn read_env(text: &str) -> Result<Facts, String> {
    let source =
        SourceFile { label: String::new(), text: zeroize::Zeroizing::new(text.to_owned()), file: None, mark: 0 };
    let mut problems = Problems::new(&source);
    let mut facts = Facts::default();
    for variable in dotenv::read(text, &mut problems) {
        facts.text(&variable.name, variable.value.as_ref().map_or("", |value| value.as_str()));
    }
    if problems.is_empty() { Ok(facts) } else { Err("it is not a dotenv file".into()) }
}

fn json(source: &SourceFile, problems: &mut Problems<'_>) -> Option<Reading> {
    let document = ParsedDocument::read(&source.text, problems)?;
    let mut tokens = Tokens::default();
    let mut config = ConfigTable::new();
    let headers = document.root.get("headers").and_then(Value::as_object);
    for (name, value) in headers.into_iter().flatten() {
        let path = format!("headers.{name}");
        if name.eq_ignore_ascii_case("authorization")
            && let Some(text) = text_of(&document, &path, value, problems)
        {
            let key = text.strip_prefix("Bearer ").filter(|key| !key.is_empty() && !detect::is_reference(key));
            let Some(key) = key else {
                let help = "Cal.com expects `Bearer` and the key";
                problems.add(document.at(&path), &path, "is not a Cal.com key", Some(help));
                continue;
            };
            let range = text.len() - key.len()..text.len();
            let spot = document.spot(&path, text, &mut tokens).map(|spot| spot.part(&range));
            config.push(("api_key".into(), ConfigLeaf::new(key, spot).into()));
        }
    }
    if config.is_empty() {
        problems.add(document.at("headers"), "headers", "has no Authorization with a key", None);
    }
    for field in ["base_url", "timezone", "client_id", "secret_key", "webhook_secret"] {
        if let Some(text) = document.root.get(field).and_then(|value| text_of(&document, field, value, problems)) {
            config.push((field.into(), document.leaf(field, text, &mut tokens).into()));
        }
    }
    if let Some(id @ Value::Number(_)) = document.root.get("event_type_id") {
        config.push(("event_type_id".into(), ConfigNode::Other(id.clone())));
    }
    let versions = document.root.get("api_versions").and_then(Value::as_object).into_iter().flatten();
    let versions = versions.filter(|(endpoint, value)| ENDPOINTS.contains(&endpoint.as_str()) && value.is_string());
    let versions: ConfigTable =
        versions.map(|(name, value)| (name.clone(), document.node(name, value, &mut tokens))).collect();
    if !versions.is_empty() {
        config.push(("api_versions".into(), ConfigNode::Table(versions)));
    }
    let facts = json_facts(&document.root);
    let host = document.root.get("base_url").and_then(Value::as_str).and_then(url::host);
    Some(Reading {
        config,
        target: "json",
        facts,
        read: Box::new(read_json),
        tokens,
        notes: Vec::new(),
        host,
        format: document.template_format(),
    })
}

fn json_facts(document: &Map<String, Value>) -> Facts {
    let mut facts = Facts::default();
    for (field, value) in document {
        match (field.as_str(), value) {
            ("headers", Value::Object(headers)) => {
                for (name, value) in headers {
                    match value {
                        Value::String(text) => http::header_fact(&mut facts, "headers", name, text),
                        other => facts.tree(&format!("headers.{name}"), other),
                    }
                }
            }
            ("base_url", Value::String(url)) => facts.text("base_url", url.trim_end_matches('/')),
            _ => facts.tree(field, value),
        }
    }
    facts
}

fn read_json(text: &str) -> Result<Facts, String> {
    let document: Value =
        serde_json::from_str(text).map_err(|error| format!("it is not JSON ({:?})", error.classify()))?;
    document.as_object().map(json_facts).ok_or_else(|| "it is not an object".into())
}
