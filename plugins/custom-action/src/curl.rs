//! `curl`: a file for `curl --config`, so that `curl -K FILE` makes the request [curl.se/docs/manpage.html, 2026-07].
//!
//! curl does not fill in `{{…}}` and knows no agent. Without `globoff` it would read braces and brackets of the URL as
//! patterns. The body is JSON inside a quoted value.

use guillemet_plugin::variables::BRACES;
use guillemet_plugin::{Text, Value, encode, http};

use crate::action::Action;
use crate::body::{Node, RequestBody};

/// Writes the file for curl.
pub fn write(action: &Action) -> String {
    action.cannot_sign("curl cannot sign a request");
    if action.parameters.schema().is_some() {
        action.config.warning("parameters", "is left out: curl has no agent that passes them");
    }
    warn_of_variables(action);
    let mut file = String::from("# Makes one request: curl --config FILE\n");
    for text in [&action.name, &action.description].into_iter().flatten() {
        for line in text.lines() {
            file.push_str(&format!("# {}\n", line.replace(char::is_control, " ")));
        }
    }
    let mut line = |option: &str, value: &str| file.push_str(&format!("{option} = {}\n", encode::curl_config(value)));
    if let Some(url) = action.url_with_query() {
        line("url", &url);
    }
    line("request", action.method.unwrap_or_default());
    if let Some(Value::Object(headers)) = action.headers_with_type().into_json() {
        for (name, value) in headers {
            line("header", &format!("{name}: {}", value.as_str().unwrap_or_default()));
        }
    }
    if let Some(body) = &action.body {
        line("data-raw", &json(body, &body.root()));
    }
    if let Some(timeout) = action.timeout.milliseconds() {
        line("max-time", &http::seconds(timeout).to_string());
    }
    file.push_str("globoff\n");
    file
}

/// Writes JSON text. A secret in it is escaped when its value is filled in.
fn json(body: &RequestBody, node: &Node) -> String {
    if let Some(text) = body.text(node) {
        return format!("\"{}\"", encode::json_string(&text));
    }
    match node.value {
        Value::Array(list) => {
            let items: Vec<String> = node.items(list).iter().map(|item| json(body, item)).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(object) => {
            let member = |(name, member): &(&str, Node)| format!("{}:{}", Value::from(*name), json(body, member));
            let members: Vec<String> = node.members(object).iter().map(member).collect();
            format!("{{{}}}", members.join(","))
        }
        other => other.to_string(),
    }
}

/// Warns about each `{{…}}`, which curl would send as it is.
fn warn_of_variables(action: &Action) {
    let warn = |text: &Text| {
        if BRACES.is_in(text) {
            text.warning("contains `{{…}}`, which curl sends unchanged");
        }
    };
    action.request.texts().for_each(warn);
    if let Some(body) = &action.body {
        body.each(&body.root(), &warn);
    }
}
