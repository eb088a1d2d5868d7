//! What is rendered as a dotenv file, read by python-dotenv and by Node.
//!
//! Both read every value as it is, or it is refused. That a refusal is necessary is tried: whichever way such a
//! value is quoted, one of the two reads something else.

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::consumers::{Rotating, has, python, run_script};
use support::passwords::{SEED, passwords};

const NODE: &str = "node";

/// The line behind one that is tried: Node looks for a closing quote beyond the end of its line.
const NEXT: &str = "a'b\"c`d";
const NEXT_LINE: &str = "NEXT=a'b\"c`d\n";

/// The credentials with the value alone, and with text before and behind it.
const TEMPLATE: &str = r#"api_key = "<< secret 'password' >>"
client_id = "id-<< secret 'password' >>"
secret_key = "<< secret 'password' >> #end"
"#;
const FIELDS: [&str; 3] = ["api_key", "client_id", "secret_key"];
const NAMES: [&str; 3] = ["CAL_API_KEY", "CAL_CLIENT_ID", "CAL_SECRET_KEY"];

fn texts(value: &str) -> [String; 3] {
    [value.to_owned(), format!("id-{value}"), format!("{value} #end")]
}

/// Each way to write a text behind `K=`, as far as one of the two readers knows it.
fn quotings(text: &str) -> Vec<String> {
    let escaped = |quote: char| text.replace('\\', "\\\\").replace(quote, &format!("\\{quote}"));
    vec![
        text.to_owned(),
        format!("'{text}'"),
        format!("\"{text}\""),
        format!("`{text}`"),
        format!("'{}'", escaped('\'')),
        format!("\"{}\"", escaped('"')),
        format!("'{}'", text.replace('\'', "\\'")),
        format!("\"{}\"", text.replace('"', "\\\"")),
        format!("\"{}\"", text.replace('$', "\\$")),
        format!("'{}'", text.replace('$', "\\$")),
        text.replace('$', "\\$"),
        text.replace('#', "\\#"),
    ]
}

/// What both readers make of each file.
fn read(python: &Path, files: &[String]) -> Vec<(Value, Value)> {
    let files = json!(files);
    let of_python = run_script(python, "read_dotenv.py", &files);
    let of_node = run_script(Path::new(NODE), "read_dotenv.mjs", &files);
    let list = |value: Value| value.as_array().unwrap().clone();
    list(of_python).into_iter().zip(list(of_node)).collect()
}

#[test]
fn both_readers_read_every_value_as_it_is() {
    let Some(python) = python() else { return };
    if !has(Path::new(NODE), "`sudo apt-get install nodejs` (20.12 or newer)") {
        return;
    }
    let values = passwords();
    let rotating = Rotating::start(&[("cal-com/desk.toml", TEMPLATE)]);
    let (mut written, mut refused) = (Vec::new(), Vec::new());
    for (number, value) in values.iter().enumerate() {
        rotating.rotate(number, value);
        match rotating.render("cal-com/desk", "env") {
            Ok(file) => written.push((number, String::from_utf8(file).unwrap())),
            Err(refusals) => refused.push((number, refusals)),
        }
    }
    assert!(written.len() > values.len() / 2, "only {} were rendered", written.len());

    let files: Vec<String> = written.iter().map(|(_, file)| file.clone()).collect();
    for ((number, file), (python, node)) in written.iter().zip(read(&python, &files)) {
        let expected: Value =
            NAMES.into_iter().zip(texts(&values[*number])).map(|(k, v)| (k.to_owned(), json!(v))).collect();
        for (reader, found) in [("python-dotenv", python), ("Node", node)] {
            assert_eq!(found, expected, "{reader}, seed {SEED:#x}, value {number}:\n{file}");
        }
    }

    // What was refused: the texts of those fields, and every way to write them.
    let refused: Vec<(usize, String, String)> = refused
        .into_iter()
        .flat_map(|(number, refusals)| refusals.into_iter().map(move |refusal| (number, refusal)))
        .map(|(number, refusal)| {
            let field = FIELDS.iter().position(|field| *field == refusal.field).expect("one of the fields");
            (number, texts(&values[number])[field].clone(), refusal.reason)
        })
        .collect();
    assert!(!refused.is_empty(), "nothing was refused: these values cannot be the ones meant");
    let candidates: Vec<Vec<String>> = refused.iter().map(|(_, text, _)| quotings(text)).collect();
    let files: Vec<String> = candidates.iter().flatten().map(|quoted| format!("K={quoted}\n{NEXT_LINE}")).collect();
    let mut found = read(&python, &files).into_iter();
    for ((number, text, reason), candidates) in refused.iter().zip(&candidates) {
        let place = format!("seed {SEED:#x}, value {number}, {text:?}: {reason}");
        let found: Vec<(Value, Value)> = found.by_ref().take(candidates.len()).collect();
        // Refused whether or not it is closed: an expansion that begins is nothing to rely on.
        if text.contains("${") {
            assert!(reason.contains("`${`, which python-dotenv expands"), "{place}: the reason is another");
            continue;
        }
        let expected = json!({ "K": text, "NEXT": NEXT });
        for (quoted, (python, node)) in candidates.iter().zip(found) {
            assert!(python != expected || node != expected, "{place}: both read {quoted}");
        }
        assert!(reason.contains("both read back as this value"), "{place}: the reason is another");
    }
}

/// The program's own switch, for some of them: it starts a process for each.
#[test]
fn node_starts_with_the_file() {
    if !has(Path::new(NODE), "`sudo apt-get install nodejs` (20.6 or newer)") {
        return;
    }
    let rotating = Rotating::start(&[("cal-com/desk.toml", "api_key = \"<< secret 'password' >>\"\n")]);
    let file = rotating.guillemet.path("desk.env");
    for (number, value) in passwords().iter().enumerate().step_by(12) {
        rotating.rotate(number, value);
        let Ok(text) = rotating.render("cal-com/desk", "env") else { continue };
        std::fs::write(&file, text).unwrap();
        let output = Command::new(NODE)
            .arg(format!("--env-file={}", file.display()))
            .args(["--eval", "process.stdout.write(process.env.CAL_API_KEY)"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), *value, "seed {SEED:#x}, value {number}");
    }
}
