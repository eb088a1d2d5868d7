//! A plugin as a third party might write one: alerts for a pager. It has a mistake that its schema and its cases do not
//! show: a `level` of 3 or more has no name.

use guillemet_plugin::{Document, Feature, Fields, Target, encode, json, json_document, present};

struct Pager;

guillemet_plugin::export!(Pager);

const LEVELS: [&str; 3] = ["info", "warning", "critical"];

impl Feature for Pager {
    const FEATURE: &'static str = "pager";
    const TITLE: &'static str = "Pager";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SCHEMA: &'static str = include_str!("../schema.json");
    const SECRET_FIELDS: &'static [&'static str] = &["url", "token", "labels.*"];
    const TARGETS: &'static [Target] = &[
        Target { id: "json", title: "HTTP", media_type: "application/json", file_name: "pager.json" },
        Target { id: "env", title: "Environment", media_type: "text/plain", file_name: "pager.env" },
    ];

    fn plan(config: &Fields, target: &str) -> Document {
        let url = config.required("url").map(|url| encode::url(&url)).unwrap_or_default();
        let token = config.required("token").map(|token| encode::header_value(&token)).unwrap_or_default();
        let level = config.number("level", 0..=9).and_then(|level| usize::try_from(level).ok());
        let labels = config.entries("labels");
        if target == "env" {
            for (_, value) in &labels {
                if encode::has_secret(value) {
                    value.problem("cannot be a secret: an environment has no labels");
                } else {
                    value.warning("is left out: an environment has no labels");
                }
            }
            return Document::Text(format!(
                "PAGER_URL={}\nPAGER_TOKEN={}\n",
                encode::dotenv(&url),
                encode::dotenv(&token)
            ));
        }
        let labels: guillemet_plugin::Map<_, _> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), json!(&**value))).collect();
        json_document(present(json!({
            "url": url,
            "headers": { "X-Routing-Key": token },
            "severity": level.map(|level| LEVELS[level]),
            "labels": Some(labels).filter(|labels| !labels.is_empty()),
        })))
    }
}
