//! `plugin check` as an author uses it: the real binary on real components, sound ones and others. It needs neither
//! daemon nor vault, so there is none.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::component::{componentize, hostile, hostile_in, module, pager};
use crate::support::wasm::{self, appended, leb, vector};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_guillemet");
/// A path at which nobody can make a folder, not even root.
const NO_HOME: &str = concat!(env!("CARGO_BIN_EXE_guillemet"), "/no-home");

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("no JSON: {}{}", self.out, self.err))
    }

    /// Returns the messages of the problems with this subject.
    fn problems(&self, about: &str) -> Vec<String> {
        let problems = self.json()["problems"].as_array().cloned().unwrap();
        let own = problems.iter().filter(|problem| problem["about"] == about);
        own.map(|problem| problem["message"].as_str().unwrap().to_owned()).collect()
    }
}

/// Makes a folder with a component.
fn folder(component: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("it.wasm"), component).unwrap();
    dir
}

fn check(dir: &Path, arguments: &[&str]) -> Ran {
    let output = Command::new(PROGRAM)
        .args(["plugin", "check", "it.wasm"])
        .args(arguments)
        .current_dir(dir)
        .env_clear()
        .env("HOME", NO_HOME)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn checked(component: &[u8]) -> Ran {
    check(folder(component).path(), &["--json"])
}

#[test]
fn a_sound_plugin_is_told_with_what_it_takes() {
    let dir = folder(pager());
    let ran = check(dir.path(), &[]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    // On a busy machine, a note says what takes so long.
    assert!(ran.err.lines().all(|line| line.starts_with("compiling ")), "{}", ran.err);
    for line in [
        "imports\n  guillemet:feature/encode@1.1.0: ",
        "description\n  feature        pager\n  title          Pager\n  version        1.2.0\n",
        "  target         json (HTTP): application/json, pager.json\n",
        "  target         env (Environment): text/plain, pager.env\n",
        "  secret fields  url, token, labels.*\n",
        "schema\n  describes every secret field; valid\n",
        "canaries\n  ok       a secret in `url` (target `json`)\n",
        "  ok       a secret in `token` (target `env`)\n",
        "cost\n  compile   ",
        " of 64.0 MiB",
    ] {
        assert!(ran.out.contains(line), "{line}\n{}", ran.out);
    }
    let ran = check(dir.path(), &["--json"]);
    let said = ran.json();
    assert_eq!((ran.code, said["description"]["feature"].as_str()), (Some(0), Some("pager")));
    assert!(said["imports"][0]["functions"].as_array().unwrap().contains(&"panic".into()), "{said}");
    let number = |value: &Value| value.as_u64().unwrap();
    let (cost, limits) = (&said["plan"], &said["limits"]);
    assert!(number(&cost["micros"]) > 0 && number(&cost["micros"]) < number(&limits["call_micros"]), "{said}");
    assert!(number(&cost["memory"]) >= 1 << 16 && number(&cost["memory"]) < number(&limits["memory"]), "{said}");
    assert!(number(&said["compile_micros"]) > 0 && number(&said["describe"]["memory"]) >= 1 << 16, "{said}");
}

/// The limits that docs/plugins.md gives to authors are those in force.
#[test]
fn the_limits_are_those_that_are_documented() {
    let dir = folder(pager());
    let limits = check(dir.path(), &["--json"]).json()["limits"].clone();
    let docs = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/plugins.md")).unwrap();
    let number = |name: &str| limits[name].as_u64().unwrap();
    let call =
        format!("| one call | {} s, {} MiB of memory,", number("call_micros") / 1_000_000, number("memory") >> 20);
    assert!(docs.contains(&call), "{call}");
    let (base, each) = ("being loaded, which is compiling for the most part | 10 s, and 6 s more for each MiB", 6e6);
    let expected = 10e6 + each * pager().len() as f64 / f64::from(1 << 20);
    assert!(docs.contains(base) && (number("load_micros") as f64 - expected).abs() < 1e3, "{limits}");
}

#[test]
fn the_cases_beside_it_are_what_is_tried() {
    let dir = folder(pager());
    let cases = dir.path().join("cases");
    fs::create_dir(&cases).unwrap();
    for name in ["json.toml", "env.toml"] {
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/pager/cases").join(name), cases.join(name))
            .unwrap();
    }
    let ran = check(dir.path(), &[]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("  ok       an alert (target `json`)\n"), "{}", ran.out);
    // A case that the schema refuses, one that makes the plugin panic, and no case for the other target.
    fs::remove_file(cases.join("env.toml")).unwrap();
    let config = "config = { url = \"https://a.example\", token = \"«t»\"";
    let more = format!(
        "[[case]]\nname = \"b\"\n{config}, level = 10 }}\ndocument = \"{{}}\"\n[[case]]\nname = \"c\"\n{config}, level = 9 }}\ndocument = \"{{}}\"\n"
    );
    fs::write(cases.join("more.toml"), more).unwrap();
    let ran = check(dir.path(), &["--json"]);
    assert_eq!(ran.code, Some(1));
    let schema = ran.problems("schema");
    assert!(schema.len() == 1 && schema[0].contains("the case \"b\": `/level`: "), "{schema:?}");
    let canaries = ran.problems("canaries");
    assert_eq!(canaries.len(), 3, "{canaries:?}");
    assert!(canaries[0].starts_with("b: there is no document (level: must be"), "{canaries:?}");
    assert!(canaries[1].starts_with("c (target `json`): it panicked: index out of bounds"), "{canaries:?}");
    assert!(canaries[2].starts_with("the target `env` could not be tested"), "{canaries:?}");
}

#[test]
fn a_plugin_that_forgot_an_encoder_is_told() {
    let ran = checked(&componentize(&module("forgetful")));
    assert_eq!(ran.code, Some(1));
    let told = ran.problems("canaries");
    for (words, target) in [
        ("does not stay one value", "`env-quoted-twice`"),
        ("`asterisk-value` is not an encoder for an XML document", "`xml-with-another`"),
        ("line 1: text follows the closing quote", "`curl-quoted-twice`"),
        ("with `xml` into a document that is not valid XML", "`token-with-xml`"),
        ("`kamailio-string` is not an encoder for a YAML document", "`yaml-with-kamailio`"),
    ] {
        assert!(told.iter().any(|told| told.contains(words) && told.contains(target)), "{target}: {told:?}");
    }
    assert!(!told.iter().any(|told| told.contains("(target `xml`)") || told.contains("`curl`)")), "{told:?}");
    // Nothing tells the format of a document with a table of its plugin alone.
    let canaries = ran.json()["canaries"].as_array().cloned().unwrap();
    let status = |target: &str| canaries.iter().find(|tried| tried["target"] == target).unwrap()["status"].clone();
    assert_eq!((status("table"), status("curl")), ("unread".into(), "ok".into()));
    assert_eq!(status("table-without-escape"), "failed");
}

#[test]
fn what_it_imports_is_told_each_with_what_to_do() {
    let import = |component: &[u8], name: &str| {
        let import = [&[0][..], &leb(name.len() as u32), name.as_bytes(), &[3, 1]].concat();
        appended(component, wasm::IMPORT, &vector(&[&import]))
    };
    let component = import(&import(hostile(), "wasi:io/poll@0.2.0"), "environment");
    let dir = folder(&component);
    let ran = check(dir.path(), &[]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.out.contains(
            "  wrong: it imports `wasi:io/poll@0.2.0`, which is not available to plugins\n    help: \
         build it without WASI: in Rust for wasm32-unknown-unknown"
        ),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains(
            "  wrong: it imports `environment`, which is not available to plugins\n    help: remove the code that \
             needs it"
        ),
        "{}",
        ran.out
    );
    assert!(ran.err.contains("it.wasm has 2 errors; fix them before you add the plugin"), "{}", ran.err);
}

#[test]
fn every_rule_that_its_description_breaks_is_told_at_once() {
    for (mode, words) in [
        ("feature-path", &["the feature must be 1 to 64 of"][..]),
        ("equal-targets", &["the target `ok` is listed twice"]),
        ("file-name", &["`file-name` of the target `ok` is not a plain file name"]),
        ("secret-fields", &["`secret-fields` contains \"**.a\""]),
    ] {
        let told = checked(&hostile_in(mode)).problems("description");
        assert!(
            told.len() == words.len() && told.iter().zip(words).all(|(told, words)| told.contains(words)),
            "{mode}: {told:?}"
        );
    }
    // Its own schema has no properties, and is wrong about them.
    let told = checked(&hostile_in("schema-lies")).problems("schema");
    assert!(told.iter().any(|told| told.contains("\"type\": \"object\"")), "{told:?}");
    assert!(told.iter().any(|told| told.contains("are not loaded")), "{told:?}");
    assert!(checked(&hostile_in("schema-list")).problems("schema")[0].contains("not a JSON object"));
    let reserved = checked(&hostile_in("schema-targets"));
    assert!(reserved.problems("schema")[0].contains("a top-level field `targets`"), "{}", reserved.out);
    assert_eq!(reserved.code, Some(1));
    let panicked = checked(&hostile_in("describe-panic"));
    let told = panicked.problems("component");
    assert!(
        panicked.code == Some(1) && told.len() == 1 && told[0].starts_with("it stopped without a message"),
        "{told:?}"
    );
}

#[test]
fn what_is_no_component_is_told_as_that() {
    for (bytes, words) in [
        (&b"not wasm"[..], "it is not a WebAssembly component"),
        (&module("hostile"), "it is not a WebAssembly component of this contract"),
        (&b"\0asm\x0d\0\x01\0"[..], "it does not export `guillemet:feature/plugin@1.1.0`, so it is not a plugin"),
    ] {
        let ran = checked(bytes);
        let told = [ran.problems("component"), ran.problems("imports")].concat();
        assert!(ran.code == Some(1) && told.len() == 1 && told[0].contains(words), "{told:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let ran = check(dir.path(), &[]);
    assert!(ran.code == Some(1) && ran.err.contains("it.wasm cannot be read: No such file"), "{}", ran.err);
}
