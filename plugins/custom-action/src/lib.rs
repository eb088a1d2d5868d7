//! Custom actions: one HTTP request that an agent makes as a tool.
//!
//! `json` is the request as a client is to make it. Its text may hold `{{variable}}`, which the agent
//! platform fills in when it calls: such text goes through untouched, and no secret may bring in one.

mod auth;
mod variables;

use guillemet_plugin::http::{self, Headers, is_token};
use guillemet_plugin::{
    Document, Feature, Fields, Map, Notes, Target, Text, Value, encode, json, json_document, present,
};
use variables::filled;

struct CustomAction;

guillemet_plugin::export!(CustomAction);

impl Feature for CustomAction {
    const FEATURE: &'static str = "custom-action";
    const TITLE: &'static str = "Custom action";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SCHEMA: &'static str = include_str!("../schema.json");
    const SECRET_FIELDS: &'static [&'static str] = &[
        "url",
        "headers.*",
        "query_params.*",
        "body.**",
        "auth.token",
        "auth.username",
        "auth.password",
        "auth.value",
        "auth.key",
    ];
    const TARGETS: &'static [Target] =
        &[Target { id: "json", title: "HTTP request", media_type: "application/json", file_name: "action.json" }];

    fn plan(config: &Fields, _target: &str) -> Document {
        let tool =
            |name: &str| name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        let name = config.required("name").map(|n| n.check(tool, "must be 1 to 64 letters, digits, `-` or `_`"));
        let description = config.text("description");
        if config.value("method").is_none() {
            config.problem("method", "is required");
        }
        let method = config.choice("method", &["GET", "POST", "PUT", "PATCH", "DELETE"]);
        let mut request = Request::read(config);
        let body = config.value("body");
        let body = match body {
            Some(Value::Object(_) | Value::Array(_)) if method == Some("GET") => {
                config.problem("body", "cannot go with GET: use `query_params`, or another method");
                None
            }
            Some(tree @ (Value::Object(_) | Value::Array(_))) => {
                Some(tree_of(tree, config.path("body"), config.notes()))
            }
            Some(_) => {
                config.problem("body", "must be a table or a list: it is sent as JSON");
                None
            }
            None => None,
        };
        if body.is_some() && !request.headers.has("Content-Type") {
            request.headers.add(config.notes(), "body", "Content-Type", "application/json".into());
        }
        let signing = config.table("auth").and_then(|auth| auth::apply(&auth, &mut request));
        let parameters = config.value("parameters");
        if parameters.is_some_and(|schema| schema.get("type").and_then(Value::as_str) != Some("object")) {
            config.problem("parameters", "must be a JSON Schema whose `type` is \"object\"");
        }
        json_document(present(json!({
            "name": name.as_deref(),
            "description": description.as_deref(),
            "method": method,
            "url": request.url,
            "headers": request.headers.into_json(),
            "query": (!request.query.is_empty()).then_some(request.query),
            "body": body,
            "parameters": parameters,
            "timeout_ms": config.number("timeout_ms", 1..=600_000),
            "signing": signing,
        })))
    }
}

/// What the config and its `auth` add to.
struct Request {
    url: Option<String>,
    headers: Headers,
    query: Map<String, Value>,
}

impl Request {
    fn read(config: &Fields) -> Self {
        let mut request = Self { url: url(config), headers: Headers::default(), query: Map::new() };
        for (name, value) in config.entries("headers") {
            request.headers.add(config.notes(), value.path(), name, encode::header_value(&filled(&value)));
        }
        for (name, value) in config.entries("query_params") {
            request.add_query(name, &value);
        }
        request
    }

    /// Query values stay apart and unencoded: the client encodes them, once their variables are known.
    fn add_query(&mut self, name: &str, value: &Text) {
        if encode::has_secret(value) {
            warn_of_query(value);
        }
        if self.query.insert(name.into(), filled(value).into()).is_some() {
            value.problem(format!("the query parameter `{name}` is given twice"));
        }
    }
}

/// The URL: a secret as a whole, or one that may hold percent-encoded secrets.
fn url(config: &Fields) -> Option<String> {
    let url = config.required("url")?;
    if encode::whole_secret(&url) {
        return Some(encode::url(&filled(&url)));
    }
    // A variable stands for text that the client will encode.
    http::check_url(&url);
    if http::secret_in_query(&url) {
        warn_of_query(&url);
    }
    variables::check(&url);
    Some(if encode::has_secret(&url) { encode::url(&url) } else { url.get().into() })
}

fn warn_of_query(text: &Text) {
    text.warning("puts a secret into the query of the URL, which servers and proxies log; prefer a header");
}

/// A tree whose texts may hold secrets.
fn tree_of(value: &Value, path: String, notes: &Notes) -> Value {
    let below = |name: &str| format!("{path}.{name}");
    match value {
        Value::String(text) if text.is_empty() => value.clone(),
        Value::String(_) => Text::read(value, path, notes).map_or(Value::Null, |text| filled(&text).into()),
        Value::Array(list) => {
            list.iter().enumerate().map(|(index, value)| tree_of(value, below(&index.to_string()), notes)).collect()
        }
        Value::Object(object) => {
            object.iter().map(|(key, value)| (key.clone(), tree_of(value, below(key), notes))).collect()
        }
        other => other.clone(),
    }
}
