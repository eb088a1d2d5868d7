//! Every kind of field.

use guillemet_plugin::http;
use guillemet_plugin::{Document, Feature, Fields, Map, Target, Text, Value, encode, json, json_document, present};

struct Plugin;

guillemet_plugin::export!(Plugin);

impl Feature for Plugin {
    const FEATURE: &'static str = "fields";
    const TITLE: &'static str = "Fields";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SCHEMA: &'static str = include_str!("../schema.json");
    const SECRET_FIELDS: &'static [&'static str] = &["headers.*", "auth.token"];
    const TARGETS: &'static [Target] =
        &[Target { id: "json", title: "JSON", media_type: "application/json", file_name: "a.json" }];

    fn plan(config: &Fields, _: &str) -> Document {
        if let Some(why) = config.text("fail") {
            panic!("{}", why.get());
        }
        let url = config.text("url");
        url.iter().for_each(http::check_url);
        let auth = config.table("auth");
        let token = auth.as_ref().and_then(|auth| auth.required("token")).map(Text::credential);
        let header = |(name, value): (&str, Text)| (name.to_owned(), Value::from(encode::header_value(&value)));
        let headers: Map<String, Value> = config.entries("headers").into_iter().map(header).collect();
        let route = |route: Fields| {
            json!({
                "name": route.required("name").as_deref(),
                "weight": route.need("weight").number("weight", 0..=100),
            })
        };
        let routes: Vec<Value> = config.tables("routes").into_iter().map(route).collect();
        json_document(present(json!({
            "mode": config.choice("mode", &["fast", "slow"]),
            "loud": config.flag("loud"),
            "retries": config.number("retries", 0..=10),
            "url": url.as_deref(),
            "headers": headers,
            "token": token.as_deref(),
            "routes": Some(routes).filter(|routes| !routes.is_empty()),
        })))
    }
}
