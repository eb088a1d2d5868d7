//! Reads a custom action: a curl command line, or the JSON or YAML of an action in the format of the `json` target.
//!
//! OpenAPI documents are read by a module of their own.

use serde_json::{Map, Value as Json};
use zeroize::Zeroizing;

use super::document::{ParsedDocument, text_of};
use super::request::{ActionRequest, JsonBody, RequestHeader, RequestText, node};
use super::url::{self, UrlChoice};
use super::{curl, openapi};
use crate::cli::adopt::config::{ConfigNode, ConfigTable, Reading};
use crate::cli::adopt::equivalence::Facts;
use crate::cli::adopt::source::{Problems, SourceFile};
use crate::cli::adopt::tokens::Tokens;
use guillemet_template::Format;

/// The user's choices about a file that contains more than one action.
pub struct ActionChoices<'a> {
    /// The template's name, which the tool gets if the file does not name it.
    pub name: &'a str,
    /// The operation of an OpenAPI document to read: its id, or its method and path.
    pub operation: Option<&'a str>,
    /// The user's choice about the URL.
    pub url: UrlChoice,
}

/// Reads a custom action in any of these forms.
pub fn read(source: &SourceFile, selection: &ActionChoices<'_>, problems: &mut Problems<'_>) -> Option<Reading> {
    if is_command(&source.text) {
        let (request, tokens) = curl::read(source, problems)?;
        let format = if request.body.is_some() { Format::Json } else { Format::Toml };
        // The command has no name for the tool. It gets the template's name, which must not count as a difference.
        let mut reading = reading(request, tokens, format, selection, true, problems);
        reading.notes.push("the target curl renders it as a file for `curl -K`".into());
        return Some(reading);
    }
    let Some(document) = ParsedDocument::read(&source.text, problems) else {
        if !source.text.trim_start().starts_with('{') {
            problems.add(Some(0), "", "does not start with curl, so it was read as YAML", None);
        }
        return None;
    };
    if document.root.contains_key("openapi") || document.root.contains_key("swagger") {
        return openapi::read(&document, selection, problems);
    }
    let mut tokens = Tokens::default();
    let request = action(&document, &mut tokens, problems)?;
    Some(reading(request, tokens, document.template_format(), selection, false, problems))
}

/// Reports whether the text begins with curl, and so is a command and not a document.
fn is_command(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = lines.next().unwrap_or_default();
    let word = first.strip_prefix("$ ").unwrap_or(first).split_whitespace().next().unwrap_or_default();
    word == "curl" || word.ends_with("/curl")
}

/// Returns a request as a reading. `unnamed` says that the original has no name for the tool.
pub fn reading(
    request: ActionRequest,
    tokens: Tokens,
    format: Format,
    selection: &ActionChoices<'_>,
    unnamed: bool,
    problems: &mut Problems<'_>,
) -> Reading {
    let taken = request.take_url_apart(selection.url);
    let whole = taken.whole;
    let (facts, host) = (request.facts(whole), url::host(&request.url.text));
    let config = request.config(&tool_name(selection.name), taken, problems);
    Reading {
        config,
        target: "json",
        facts,
        read: Box::new(move |text| read_document(text, unnamed, whole)),
        tokens,
        notes: Vec::new(),
        host,
        format,
    }
}

/// Returns a name that the config accepts: at most 64 characters, with `_` for each one that is not allowed.
pub fn tool_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
    name.chars().map(plain).take(64).collect()
}

fn action(document: &ParsedDocument<'_>, tokens: &mut Tokens, problems: &mut Problems<'_>) -> Option<ActionRequest> {
    if !document.root.contains_key("url") {
        let help = "a custom action has a `url` and a `method`; adopt also reads curl commands and OpenAPI documents";
        problems.add(None, "", "is not a custom action", Some(help));
        return None;
    }
    let mut request = ActionRequest::default();
    for (field, value) in &document.root {
        let mut text = |problems: &mut Problems<'_>| {
            let text = text_of(document, field, value, problems)?;
            Some(RequestText {
                text: Zeroizing::new(text.to_owned()),
                spot: document.spot(field, text, tokens),
                at: document.at(field),
            })
        };
        match field.as_str() {
            "method" => {
                if let Some(method) = text(problems) {
                    request.method = (*method.text).clone();
                }
            }
            "url" => {
                if let Some(url) = text(problems) {
                    request.url = url;
                }
            }
            "headers" => {
                let headers = texts(document, field, value, tokens, problems).into_iter();
                request.headers = headers.map(|(name, value)| RequestHeader { name, value }).collect();
            }
            "query" => request.query = texts(document, field, value, tokens, problems),
            "body" if value.is_object() || value.is_array() => {
                request.body = Some(JsonBody { tree: value.clone(), node: document.node(field, value, tokens) });
            }
            "timeout_ms" if value.as_u64().is_some_and(|ms| (1..=600_000).contains(&ms)) => {
                request.timeout_ms = value.as_u64();
            }
            "name" | "description" if value.is_string() => {
                request.facts.push((field.clone(), value.clone()));
                request.fields.push((field.clone(), document.node(field, value, tokens)));
            }
            "parameters" if value.is_object() => {
                request.facts.push((field.clone(), value.clone()));
                request.fields.push((field.clone(), document.node(field, value, tokens)));
            }
            "signing" => {
                request.facts.push((field.clone(), value.clone()));
                if let Some(signing) = value.as_object() {
                    request.fields.push(("auth".into(), ConfigNode::Table(signing_of(document, signing, tokens))));
                }
            }
            // The config has no such field. It is compared, and reported as left out.
            _ => request.facts.push((field.clone(), value.clone())),
        }
    }
    Some(request)
}

/// Returns a table of texts with their places in the file.
fn texts(
    document: &ParsedDocument<'_>,
    path: &str,
    value: &Json,
    tokens: &mut Tokens,
    problems: &mut Problems<'_>,
) -> Vec<(String, RequestText)> {
    let Some(table) = value.as_object() else {
        problems.add(document.at(path), path, "is not a table of strings", None);
        return Vec::new();
    };
    let mut texts = Vec::new();
    for (name, value) in table {
        let path = format!("{path}.{name}");
        if let Some(text) = text_of(document, &path, value, problems) {
            let spot = document.spot(&path, text, tokens);
            let value = RequestText { text: Zeroizing::new(text.to_owned()), spot, at: document.at(&path) };
            texts.push((name.clone(), value));
        }
    }
    texts
}

/// Returns the config's `auth` for the document's `signing`. Both have the same fields.
fn signing_of(document: &ParsedDocument<'_>, signing: &Map<String, Json>, tokens: &mut Tokens) -> ConfigTable {
    let mut auth = ConfigTable::new();
    for (name, value) in signing {
        let path = format!("signing.{name}");
        let node = match (name.as_str(), value) {
            ("key", Json::String(key)) => {
                ConfigNode::Text(document.leaf(&path, key, tokens).credential("signing-key", "it signs the request"))
            }
            _ => document.node(&path, value, tokens),
        };
        auth.push((name.clone(), node));
    }
    auth
}

/// Reads a rendered document of the target `json`.
fn read_document(text: &str, unnamed: bool, whole: bool) -> Result<Facts, String> {
    let document: Json =
        serde_json::from_str(text).map_err(|error| format!("it is not JSON ({:?})", error.classify()))?;
    let Some(document) = document.as_object() else { return Err("it is not an object".into()) };
    let mut request = ActionRequest::default();
    let texts = |value: &Json| {
        let entries = value.as_object().into_iter().flatten();
        entries
            .filter_map(|(name, value)| Some((name.clone(), RequestText::plain(value.as_str()?))))
            .collect::<Vec<_>>()
    };
    for (field, value) in document {
        match (field.as_str(), value) {
            ("method", Json::String(method)) => request.method = method.clone(),
            ("url", Json::String(url)) => request.url = RequestText::plain(url),
            ("headers", value) => {
                request.headers = texts(value).into_iter().map(|(name, value)| RequestHeader { name, value }).collect();
            }
            ("query", value) => request.query = texts(value),
            ("body", value) => request.body = Some(JsonBody { tree: value.clone(), node: node(&Json::Null) }),
            ("timeout_ms", value) => request.timeout_ms = value.as_u64(),
            ("name", _) if unnamed => {}
            _ => request.facts.push((field.clone(), value.clone())),
        }
    }
    Ok(request.facts(whole))
}
