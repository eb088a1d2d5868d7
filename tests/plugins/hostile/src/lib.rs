//! A plugin whose target selects its behavior: `ok` and `text` keep the contract, and each other target breaks one
//! rule. A few bytes that the tests overwrite (`mode`) select what it does before it gets a target.
//!
//! It knows no JSON: it searches the config as text, and writes every JSON document as a string.

mod mode;

wit_bindgen::generate!({ path: "../../../wit", world: "feature" });

use exports::guillemet::feature::plugin::{Description, Document, Guest, Planned, Problem, Target};
use guillemet::feature::encode;

struct Plugin;

/// The behavior of each target. `ok` and `text` keep the contract.
const TARGETS: [&str; 45] = [
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
    "swell",
    "slots",
    "digest",
    "abyss",
    "abort",
    "divide",
    "wild-read",
    "wild-call",
    "grow",
    "million",
    "forbid-nothing",
    "url-in-text",
    "texts",
    "not-utf8",
    "beyond-memory",
    "encode-not-utf8",
    "encode-beyond-memory",
    "last-words",
    "last-words-huge",
    "last-words-unsaid",
    "last-words-refused",
];

impl Guest for Plugin {
    fn describe() -> Description {
        mode::describing();
        let target = |id: &str| Target {
            id: id.into(),
            title: format!("Does \u{1b}[1m{id}"),
            media_type: if id == "text" { "text/plain" } else { "application/json" }.into(),
            file_name: "hostile.json".into(),
        };
        let mut description = Description {
            feature: "hostile".into(),
            title: "Hostile".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            schema: r#"{"type":"object"}"#.into(),
            secret_fields: ["token", "url", "headers.*", "tools.*", "body.**"].map(String::from).to_vec(),
            targets: TARGETS.map(target).to_vec(),
        };
        let targets = &mut description.targets;
        match mode::mode() {
            "describe-loop" => endless(),
            "describe-panic" => panic!("as it was told to"),
            "describe-memory" => hoard(),
            "describe-recurse" => description.title = recurse("", 0).to_string(),
            "describe-huge" => description.title = "x".repeat(40 << 20),
            "describe-many" => *targets = vec![targets[0].clone(); 100_000],
            "describe-not-utf8" => description.title = not_utf8(),
            "describe-beyond" => description.title = beyond_memory(),
            "describe-texts" => {
                description.title = HOSTILE_TEXT.into();
                description.version = HOSTILE_TEXT.into();
                targets[0].title = HOSTILE_TEXT.into();
            }
            "feature-path" => description.feature = "../../vault".into(),
            "feature-taken" => description.feature = "mcp-server".into(),
            "media-type" => targets[0].media_type = "text/plain\r\nset-cookie: a=b".into(),
            "file-name" => targets[0].file_name = "../.bashrc".into(),
            "no-targets" => targets.clear(),
            "equal-targets" => targets[1].id = "ok".into(),
            "target-id" => targets[0].id = "\u{1b}[2J".into(),
            "secret-fields" => description.secret_fields.push("**.a".into()),
            "schema-not-json" => description.schema = "{".into(),
            "schema-list" => description.schema = "[]".into(),
            "schema-huge" => description.schema = format!("{{\"title\":\"{}\"}}", "x".repeat(300 << 10)),
            "schema-deep" => description.schema = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000)),
            "schema-targets" => {
                description.schema = r#"{"type":"object","properties":{"targets":{"type":"array"}}}"#.into();
            }
            "schema-texts" => description.schema = format!("{{\"title\":\"\\u001b[2J{HOSTILE_C1}\"}}"),
            // Says that `token` may hold nothing, and refers the reader to another place.
            "schema-lies" => {
                description.schema =
                    r#"{"$ref":"http://127.0.0.1:9/schema","type":"array","not":{},"properties":{"token":false}}"#
                        .into();
            }
            _ => {}
        }
        description
    }

    fn plan(config: String, target: String) -> Result<Planned, Vec<Problem>> {
        let planned = Self::planned(config, &target);
        drop(target);
        mode::answered();
        planned
    }
}

impl Plugin {
    fn planned(config: String, target: &str) -> Result<Planned, Vec<Problem>> {
        let slots = slots(&config);
        let first = || slots.first().copied().unwrap_or("none");
        let json = |text: String| Ok(Planned { document: Document::Json(text), warnings: Vec::new() });
        let text = |text: String| Ok(Planned { document: Document::Text(text), warnings: Vec::new() });
        let list = |items: &[&str]| {
            format!("[{}]", items.iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(","))
        };
        match target {
            // The config itself is a JSON document that contains every slot once.
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
                let help = Some(format!("run{HOSTILE_TEXT}"));
                let warning = Problem { path: "token".into(), message: "beware\u{7}".into(), help };
                Ok(Planned { document: Document::Json(config), warnings: vec![warning] })
            }
            "problems" => {
                let problem = |path: &str| Problem { path: path.into(), message: "wrong".into(), help: None };
                Err(vec![problem("headers"), problem("token"), problem("name"), problem("name.missing"), problem("")])
            }
            "refuse" => Err(Vec::new()),
            "loop" => endless(),
            "panic" => panic!("as it was told to"),
            "memory" => hoard(),
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
            // Each call doubles the escapes of the one before.
            "swell" => json(list(&[&(0..15).fold(first().to_owned(), |inner, _| encode::json_string(&inner))])),
            "slots" => json(list(&[&(0..20_000).map(|_| encode::base64(first())).collect::<String>()])),
            "abyss" => json("[".repeat(3 << 20)),
            "abort" => core::arch::wasm32::unreachable(),
            "divide" => json(divide(std::hint::black_box(1), std::hint::black_box(0)).to_string()),
            "wild-read" => {
                json(unsafe { std::hint::black_box(0xffff_fff0_usize as *const u8).read_volatile() }.to_string())
            }
            "wild-call" => {
                let nowhere: fn() = unsafe { std::mem::transmute(std::hint::black_box(0x00ff_ffff_usize)) };
                nowhere();
                json("null".into())
            }
            "grow" => json(core::arch::wasm32::memory_grow(0, 30_000).to_string()),
            "million" => {
                (0..1_000_000).for_each(|_| drop(encode::base64(first())));
                json(config)
            }
            "forbid-nothing" => json(encode::forbid(first(), "", "for no reason")),
            "url-in-text" => text(slots.iter().map(|slot| format!("{}\n", encode::url(slot))).collect()),
            "texts" => Err(vec![Problem {
                path: format!("token{HOSTILE_TEXT}"),
                message: format!("wrong{HOSTILE_TEXT}"),
                help: Some(format!("right{HOSTILE_TEXT}")),
            }]),
            "not-utf8" => json(not_utf8()),
            "beyond-memory" => json(beyond_memory()),
            "encode-not-utf8" => json(encode::base64(&not_utf8())),
            "encode-beyond-memory" => json(encode::base64(&beyond_memory())),
            "last-words" => {
                encode::panic("the first ones");
                encode::panic(&format!("no route for {} and {}{HOSTILE_TEXT}", first(), first().to_lowercase()));
                core::arch::wasm32::unreachable()
            }
            "last-words-huge" => {
                encode::panic(&"x".repeat(8 << 20));
                core::arch::wasm32::unreachable()
            }
            "last-words-unsaid" => {
                encode::panic("it went on all the same");
                json(config)
            }
            "last-words-refused" => {
                encode::panic("thrown");
                Err(Vec::new())
            }
            "digest" => json(encode::sip_digest_ha1("u", "r", first(), "ROT13")),
            _ => json("null".into()),
        }
    }
}

/// Returns the slots of a text, in order.
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

/// Text that could clear a terminal, forge a line, or change the direction of what is shown.
const HOSTILE_TEXT: &str =
    "\u{1b}[2J\u{1b}]0;owned\u{7}\r\nerror: forged\u{9b}31m\u{202e}\u{2066}\u{61c}\u{200f}\u{0}\u{7f}";
/// Control characters that JSON allows unescaped.
const HOSTILE_C1: &str = "\u{9b}2J\u{7f}\u{202e}";

fn endless() -> ! {
    loop {
        std::hint::black_box(());
    }
}

fn hoard() -> ! {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(std::hint::black_box(vec![1; 1 << 20]));
    }
}

/// Returns a `String` that is not UTF-8. What crosses to the host is still a pointer and a length.
fn not_utf8() -> String {
    unsafe { String::from_utf8_unchecked(vec![b'"', 0xff, 0xfe, 0xc0, 0x80, b'"']) }
}

/// Returns a `String` that ends far outside this plugin's memory.
fn beyond_memory() -> String {
    unsafe { String::from_raw_parts(16 as *mut u8, 0x7fff_ff00, 0x7fff_ff00) }
}

/// Divides without the check that Rust inserts.
#[inline(never)]
fn divide(a: i32, b: i32) -> i32 {
    if b == 0 {
        unsafe { std::hint::unreachable_unchecked() }
    }
    a / b
}

#[allow(unconditional_recursion)]
fn recurse(text: &str, depth: usize) -> usize {
    let frame = std::hint::black_box([depth; 64]);
    recurse(std::hint::black_box(text), depth + 1) + frame[depth % 64]
}

export!(Plugin);
