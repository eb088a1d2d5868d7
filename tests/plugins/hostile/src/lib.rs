//! A plugin whose target says how it behaves: `ok` as the contract asks, each other one breaks one rule.
//!
//! It knows no JSON: the config is looked at as text, and every JSON document it writes is a string.

wit_bindgen::generate!({ path: "../../../wit", world: "feature" });

use exports::guillemet::feature::plugin::{Description, Document, Guest, Planned, Problem, Target};
use guillemet::feature::encode;

struct Plugin;

/// What each target does. `ok` and `text` keep the contract.
const TARGETS: [&str; 26] = [
    "ok",
    "text",
    "encoded",
    "upper",
    "warn",
    "problems",
    "refuse",
    "loop",
    "panic",
    "memory",
    "recurse",
    "forge",
    "forge-encode",
    "drop",
    "double",
    "key",
    "bare",
    "huge",
    "deep",
    "garbage-json",
    "duplicate-key",
    "wrapped-url",
    "url",
    "nest",
    "slots",
    "digest",
];

impl Guest for Plugin {
    fn describe() -> Description {
        let target = |id: &str| Target {
            id: id.into(),
            title: format!("Does \u{1b}[1m{id}"),
            media_type: if id == "text" { "text/plain" } else { "application/json" }.into(),
            file_name: "hostile.json".into(),
        };
        Description {
            feature: "hostile".into(),
            title: "Hostile".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            schema: r#"{"type":"object"}"#.into(),
            secret_fields: ["token", "url", "headers.*", "tools.*", "body.**"].map(String::from).to_vec(),
            targets: TARGETS.map(target).to_vec(),
        }
    }

    fn plan(config: String, target: String) -> Result<Planned, Vec<Problem>> {
        let slots = slots(&config);
        let first = || slots.first().copied().unwrap_or("none");
        let json = |text: String| Ok(Planned { document: Document::Json(text), warnings: Vec::new() });
        let text = |text: String| Ok(Planned { document: Document::Text(text), warnings: Vec::new() });
        let list = |items: &[&str]| {
            format!("[{}]", items.iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(","))
        };
        match target.as_str() {
            // The config itself is a JSON document that holds every slot once.
            "ok" => json(config),
            "text" => text(slots.iter().map(|slot| format!("v = {}\n", encode::asterisk_value(slot))).collect()),
            "encoded" => json(list(
                &slots
                    .iter()
                    .map(|slot| encode::header_value(&format!("Bearer {slot}")))
                    .collect::<Vec<_>>()
                    .iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>(),
            )),
            "upper" => json(config.replace('Z', "z")),
            "warn" => {
                let warning = Problem { path: "token".into(), message: "beware\u{7}".into(), help: None };
                Ok(Planned { document: Document::Json(config), warnings: vec![warning] })
            }
            "problems" => {
                let problem = |path: &str| Problem { path: path.into(), message: "wrong".into(), help: None };
                Err(vec![problem("headers"), problem("token"), problem("name"), problem("name.missing"), problem("")])
            }
            "refuse" => Err(Vec::new()),
            "loop" => loop {
                std::hint::black_box(());
            },
            "panic" => panic!("as it was told to"),
            "memory" => {
                let mut hoard: Vec<Vec<u8>> = Vec::new();
                loop {
                    hoard.push(std::hint::black_box(vec![1; 1 << 20]));
                }
            }
            "recurse" => json(recurse(&config, 0).to_string()),
            "forge" => json(format!("[{config},\"Z{}\"]", "1".repeat(39))),
            "forge-encode" => json(encode::base64(&format!("Z{}", "1".repeat(39)))),
            "drop" => json("{}".into()),
            "double" => json(format!("[{config},{config}]")),
            "key" => json(format!("{{\"{}\":1}}", first())),
            "bare" => text(config),
            "huge" => json(format!("\"{}\"", "x".repeat(5 << 20))),
            "deep" => json(format!("{}{}", "[".repeat(100), "]".repeat(100))),
            "garbage-json" => json("{\"a\":".into()),
            "duplicate-key" => json("{\"a\":1,\"a\":2}".into()),
            "wrapped-url" => json(list(&[&format!("<{}>", encode::url(first()))])),
            "url" => json(list(&[&encode::url(&format!("https://example.org/{}", first()))])),
            "nest" => json(list(&[&(0..40).fold(first().to_owned(), |inner, _| encode::base64(&inner))])),
            "slots" => json(list(&[&(0..20_000).map(|_| encode::base64(first())).collect::<String>()])),
            "digest" => json(encode::sip_digest_ha1("u", "r", first(), "ROT13")),
            _ => json("null".into()),
        }
    }
}

/// The slots of a text, in order.
fn slots(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('Z') {
        let slot = &rest[at..(at + 40).min(rest.len())];
        if slot.len() == 40 && slot[1..].bytes().all(|b| b.is_ascii_digit()) {
            found.push(slot);
            rest = &rest[at + 40..];
        } else {
            rest = &rest[at + 1..];
        }
    }
    found
}

#[allow(unconditional_recursion)]
fn recurse(text: &str, depth: usize) -> usize {
    let frame = std::hint::black_box([depth; 64]);
    recurse(std::hint::black_box(text), depth + 1) + frame[depth % 64]
}

export!(Plugin);
