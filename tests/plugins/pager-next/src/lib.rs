//! Other versions of the plugin `pager`. A few bytes that the tests overwrite select which one this is; without, it
//! is the same as `pager`, and newer.

use guillemet_plugin::bindings::exports::guillemet::feature::plugin::{Description, Document, Guest, Planned, Problem};
use guillemet_plugin::{Feature, Fields, Target, encode, json, json_document, present};

struct Next;

#[cfg(target_arch = "wasm32")]
guillemet_plugin::bindings::export_component!(Next with_types_in guillemet_plugin::bindings);

/// The tests overwrite the part behind the colon with a mode.
#[used]
static MODE: [u8; 32] = *b"pager-mode:                     ";

fn mode() -> &'static str {
    let bytes: &'static [u8; 32] = std::hint::black_box(&MODE);
    std::str::from_utf8(&bytes[11..]).unwrap_or_default().trim_end()
}

impl Guest for Next {
    fn describe() -> Description {
        let mut description = <Pager as Guest>::describe();
        if mode() != "add-target" {
            description.targets.retain(|target| target.id != "http");
        }
        match mode() {
            "older" => description.version = "1.1.9".into(),
            "drop-field" => description.secret_fields.retain(|field| field != "labels.*"),
            "drop-target" => description.targets.retain(|target| target.id == "json"),
            "reorder" => description.targets.reverse(),
            _ => {}
        }
        description
    }

    fn plan(config: String, target: String) -> Result<Planned, Vec<Problem>> {
        <Pager as Guest>::plan(config, target)
    }
}

struct Pager;

const JSON: Target = Target { id: "json", title: "HTTP", media_type: "application/json", file_name: "pager.json" };
const ENV: Target = Target { id: "env", title: "Environment", media_type: "text/plain", file_name: "pager.env" };
const HTTP: Target = Target { id: "http", ..JSON };

/// The level that some documents are written in another way for.
const URGENT: u64 = 2;

impl Feature for Pager {
    const FEATURE: &'static str = "pager";
    const TITLE: &'static str = "Pager";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SCHEMA: &'static str = include_str!("../../pager/schema.json");
    const SECRET_FIELDS: &'static [&'static str] = &["url", "token", "labels.*"];
    const TARGETS: &'static [Target] = &[JSON, ENV, HTTP];

    fn plan(config: &Fields, target: &str) -> Document {
        let url = config.required("url").map(|url| encode::url(&url)).unwrap_or_default();
        let token = config.required("token").map(|token| encode::header_value(&token)).unwrap_or_default();
        let level = config.number("level", 0..=9);
        let labels = config.entries("labels");
        if target == "env" {
            let secret = labels.iter().filter(|(_, value)| encode::has_secret(value));
            secret.for_each(|(_, value)| value.problem("cannot be a secret: an environment has no labels"));
        }
        let labels: guillemet_plugin::Map<_, _> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), json!(&**value))).collect();
        let is_urgent = level == Some(URGENT);
        match (target, mode()) {
            // Right for every case, and for every example of the schema.
            ("env", "wrong-branch") if is_urgent => Document::Text(format!(
                "PAGER_URL={}\nPAGER_TOKEN='{}'\n",
                encode::dotenv(&url),
                encode::dotenv(&token)
            )),
            // The encoder of another format.
            ("env", "wrong-encoder") => {
                Document::Text(format!("PAGER_URL={}\nPAGER_TOKEN={}\n", encode::xml(&url), encode::xml(&token)))
            }
            ("env", _) => {
                Document::Text(format!("PAGER_URL={}\nPAGER_TOKEN={}\n", encode::dotenv(&url), encode::dotenv(&token)))
            }
            (_, mode) => json_document(present(json!({
                "url": url,
                "headers": { "X-Routing-Key": token },
                "priority": (mode == "document").then_some("high"),
                "level": level,
                "labels": Some(labels).filter(|labels| !labels.is_empty()),
            }))),
        }
    }
}
