//! @title@: the URL that a platform sends its events to, and the token that it sends with them.
//!
//! `json` is the body of a request that registers the webhook, and `env` is what a service reads when it starts.

use guillemet_plugin::http;
use guillemet_plugin::{Document, Feature, Fields, Target, Text, encode, json, json_document, present};

struct Plugin;

guillemet_plugin::export!(Plugin);

impl Feature for Plugin {
    const FEATURE: &'static str = "@name@";
    const TITLE: &'static str = "@title@";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SCHEMA: &'static str = include_str!("../schema.json");
    const SECRET_FIELDS: &'static [&'static str] = &["url", "token"];
    const TARGETS: &'static [Target] = &[
        Target { id: "json", title: "JSON", media_type: "application/json", file_name: "@name@.json" },
        Target { id: "env", title: "dotenv", media_type: "text/plain; charset=utf-8", file_name: "@name@.env" },
    ];

    fn plan(config: &Fields, target: &str) -> Document {
        let url = config.required("url").map(url);
        let token = config.required("token").map(Text::credential);
        let events: Vec<String> = config.texts("events").into_iter().map(event).collect();
        if target == "env" {
            let lines = [
                ("WEBHOOK_URL", url),
                ("WEBHOOK_TOKEN", token.map(|token| token.get().to_owned())),
                ("WEBHOOK_EVENTS", (!events.is_empty()).then(|| events.join(","))),
            ];
            let line = |(name, value): (&str, Option<String>)| Some(format!("{name}={}\n", encode::dotenv(&value?)));
            return Document::Text(lines.into_iter().filter_map(line).collect());
        }
        json_document(present(json!({
            "method": "POST",
            "url": url,
            "headers": { "Authorization": token.map(|token| encode::header_value(&format!("Bearer {}", &*token))) },
            "events": (!events.is_empty()).then_some(events),
        })))
    }
}

/// Returns the URL. One with a secret is checked when its value is filled in, any other here.
fn url(url: Text) -> String {
    http::check_url(&url);
    if encode::has_secret(&url) { encode::url(&url) } else { url.get().to_owned() }
}

fn event(event: Text) -> String {
    let fits = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'.');
    event.check(fits, "must be lower-case letters and dots, such as `call.ended`").get().to_owned()
}
