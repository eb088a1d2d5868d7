//! Checks that a reader reads any file or says what is wrong with it, and never panics.

use proptest::prelude::*;

use super::url::UrlChoice;
use super::{action, cal_com, livekit, mcp, pjsip};
use crate::cli::adopt::config::{Reading, leaves};
use crate::cli::adopt::source::{Problems, SourceFile};
use crate::cli::adopt::tokens::Spot;

/// Examples of files, at least one for each reader.
const FILES: [&str; 8] = [
    r#"{"mcpServers": {"s": {"url": "https://u:p%40@h/a/b?x=1&token=s%2Fc&x=2#f", "headers": {"Authorization": "Basic dTpw", "é": "ü"}}}}"#,
    "[b](!)\ntype=endpoint\n;-- c --;[e](b) ; c\noutbound_auth=a\naors=e\n[a]\ntype=auth\nusername=u\npassword=é\\;x\n[e]\ntype=aor\ncontact=sip:h:1\\;transport=tls\n",
    r#"{"trunk": {"name": "t", "address": "h", "transport": 3, "numbers": ["+49"], "authUsername": "u", "auth_password": "é\"p"}}"#,
    "curl -sS -XPUT 'https://h/a?b=c' -u us:'pä ss' -H \"X-Key: \\\"é\" --json $'{\"a\": [\"\\u00e9\", {\"token\": \"x\"}]}' \\\n -G -d 'é=1' # c\n",
    "name: a\nmethod: POST\nurl: \"https://h/{{x}}?q=1\"\nheaders: {X-Key: 'é''s', Authorization: Bearer ü}\nbody:\n  - |\n    é\n  - token: ä # c\n",
    "openapi: 3.0.0\nservers: [{url: 'https://h'}]\npaths:\n  /a/{id}:\n    post:\n      parameters: [{name: k, in: header, schema: {default: é}}]\n      requestBody: {content: {application/json: {schema: {properties: {token: {const: ü}}}}}}\n",
    "# é\nexport CAL_API_KEY='é\\'s' # c\nCAL_SECRET_KEY=\"a\\nü\"\nOTHER=ö#x\n",
    r#"{"headers": {"Authorization": "Bearer é"}, "secret_key": "ü", "api_versions": {"me": "2024-06-14"}, "event_type_id": 1}"#,
];

/// Runs every reader on one file.
fn read_all(source: &SourceFile) -> Vec<Reading> {
    let selection = action::ActionChoices { name: "n", operation: None, url: UrlChoice::Any };
    let mut problems = Problems::new(source);
    let readings = [
        mcp::read(source, None, UrlChoice::Any, &mut problems),
        pjsip::read(source, None, &mut problems),
        livekit::read(source, "n", &mut problems),
        action::read(source, &selection, &mut problems),
        cal_com::read(source, &mut problems),
    ];
    // Formatting the problems must not panic either.
    let _ = problems.check("x");
    readings.into_iter().flatten().collect()
}

/// Puts a mark in place of every text that has a place.
fn mark_all(reading: &Reading, text: &str) -> String {
    let spots = leaves(&reading.config).into_iter().filter_map(|(_, leaf)| leaf.spot.clone());
    let marks: Vec<(Spot, String)> = spots.map(|spot| (spot, "«n»".to_owned())).collect();
    (*reading.tokens.rewrite(text, &marks)).clone()
}

#[test]
fn each_file_is_read_by_its_reader() {
    for text in FILES {
        let source = SourceFile::of(text);
        let marked = read_all(&source).iter().any(|reading| mark_all(reading, text).contains("«n»"));
        assert!(marked, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn no_text_brings_a_reader_down(
        file in 0..FILES.len(),
        at in any::<prop::sample::Index>(),
        len in 0_usize..12,
        new in "([\"'\\\\;:$`%&+=?#/<>{}\\[\\]()|«»é -]|\\PC|\n|\\$'|;--|--;|%4){0,6}",
    ) {
        let text = FILES[file];
        let chars: Vec<char> = text.chars().collect();
        let at = at.index(chars.len());
        let (before, after) = (&chars[..at], &chars[(at + len).min(chars.len())..]);
        let text: String = before.iter().copied().chain(new.chars()).chain(after.iter().copied()).collect();
        let source = SourceFile::of(&text);
        for reading in read_all(&source) {
            mark_all(&reading, &text);
            // The function reads any document or returns an error.
            let _ = (reading.read)(&text);
        }
    }
}
