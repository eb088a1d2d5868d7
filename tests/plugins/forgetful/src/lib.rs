//! A plugin whose documents keep the contract, except that some of its targets forget an encoder. Its config is
//! `{"token": SECRET}`.

wit_bindgen::generate!({ path: "../../../wit", world: "feature" });

use exports::guillemet::feature::plugin::{Description, Document, Guest, Planned, Problem, Target};
use guillemet::feature::encode;

struct Plugin;

/// The id, media type and file name of each target.
const TARGETS: [(&str, &str, &str); 18] = [
    ("json", "application/json", "a.json"),
    ("xml", "application/xml", "a.xml"),
    ("env", "text/plain", "a.env"),
    ("json-url", "application/json", "a.json"),
    ("json-header", "application/json", "a.json"),
    ("text-json", "application/json", "a.json"),
    ("xml-with-another", "application/xml", "a.xml"),
    ("xml-comment", "application/xml", "a.xml"),
    ("env-with-another", "text/plain", "a.env"),
    ("env-quoted-twice", "text/plain", "a.env"),
    ("curl", "text/plain", "a.conf"),
    ("curl-quoted-twice", "text/plain", "a.conf"),
    ("token-with-xml", "text/plain", "a.conf"),
    ("yaml-with-kamailio", "application/yaml", "a.yaml"),
    ("yaml-with-curl", "text/plain", "a.yml"),
    ("two-formats", "text/plain", "a.conf"),
    ("table", "text/plain", "a.conf"),
    ("table-without-escape", "text/plain", "a.conf"),
];

impl Guest for Plugin {
    fn describe() -> Description {
        let target = |(id, media_type, file_name): (&str, &str, &str)| Target {
            id: id.into(),
            title: id.into(),
            media_type: media_type.into(),
            file_name: file_name.into(),
        };
        Description {
            feature: "forgetful".into(),
            title: "Forgetful".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            schema: r#"{"type":"object","properties":{"token":{"type":"string"}}}"#.into(),
            secret_fields: vec!["token".into()],
            targets: TARGETS.map(target).to_vec(),
        }
    }

    fn plan(config: String, target: String) -> Result<Planned, Vec<Problem>> {
        // In `{"token":"…"}`, the text between the third and the fourth quote.
        let token = config.split('"').nth(3).unwrap_or_default();
        let document = match target.as_str() {
            "json" => Document::Json(format!(
                r#"{{"url": "{}", "headers": {{"X-Token": "{}"}}, "token": "{}"}}"#,
                encode::url(&format!("https://h.example/{}?k=1", encode::url_path_segment(token))),
                encode::header_value(&format!("Bearer {token}")),
                token
            )),
            "xml" => {
                let in_text = encode::xml(&format!("<{token}>"));
                Document::Text(format!("<a><b v=\"{}\"/>{in_text}</a>\n", encode::xml(token)))
            }
            "env" => Document::Text(format!("# \nA={}\nB='2'\n", encode::dotenv(&format!("x {token}")))),
            "json-url" => Document::Json(format!(r#"{{"url": "https://h.example/?k={token}&l=1"}}"#)),
            "json-header" => Document::Json(format!(r#"{{"headers": {{"X-Token": "{token}"}}}}"#)),
            "text-json" => Document::Text(format!(r#"{{"a": "{}"}}"#, encode::asterisk_value(token))),
            "xml-with-another" => Document::Text(format!("<a v=\"{}\"/>", encode::asterisk_value(token))),
            "xml-comment" => Document::Text(format!("<a><!-- {} --></a>", encode::xml(token))),
            "env-with-another" => Document::Text(format!("A={}\n", encode::xml(token))),
            "env-quoted-twice" => Document::Text(format!("A=\"{}\"\n", encode::dotenv(token))),
            "curl" => Document::Text(format!("user = {}\n", encode::curl_config(token))),
            "curl-quoted-twice" => Document::Text(format!("user = \"{}\"\n", encode::curl_config(token))),
            "token-with-xml" => Document::Text(format!("token: {}\n", encode::xml(&encode::url_query(token)))),
            "yaml-with-kamailio" => Document::Text(format!("token: {}\n", encode::kamailio_string(token))),
            "yaml-with-curl" => Document::Text(format!("token: {}\n", encode::curl_config(token))),
            "two-formats" => {
                let (user, header) = (encode::curl_config(token), encode::xml(token));
                Document::Text(format!("user = {user}\nheader = \"X-Token: {header}\"\n"))
            }
            "table" => Document::Text(format!("token {}\n", encode::escape(token, &table(&['"', '\\'])))),
            "table-without-escape" => Document::Text(format!("token {}\n", encode::escape(token, &table(&['"'])))),
            _ => unreachable!("the host asks for known targets"),
        };
        Ok(Planned { document, warnings: Vec::new() })
    }
}

/// A table for text in double quotes, with a `\` before each of these.
fn table(escaped: &[char]) -> encode::Escaping {
    let replacement = |character: &char| encode::Replacement { character: *character, text: format!("\\{character}") };
    encode::Escaping {
        opening: "\"".into(),
        closing: "\"".into(),
        replacements: escaped.iter().map(replacement).collect(),
        refused: Vec::new(),
    }
}

export!(Plugin);
