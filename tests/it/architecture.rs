//! The crates depend on each other as ARCHITECTURE.md says, and on no third party that they must not have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Every crate with the crates of ours that it may use, from the bottom up. A crate may leave out what it does not need.
const ARROWS: [(&str, &[&str]); 17] = [
    ("base", &[]),
    ("builtin", &[]),
    ("mcp-example", &[]),
    ("testing", &[]),
    ("api", &["base"]),
    ("secret", &["base"]),
    ("template", &["base"]),
    ("plan", &["template", "base"]),
    ("planner", &["plan", "template", "base"]),
    ("plugin", &["builtin", "plan", "template", "secret", "base"]),
    ("vault", &["secret", "base"]),
    ("wire", &["base"]),
    ("account", &["wire", "secret", "template", "base"]),
    ("http", &[]),
    ("account-server", &["wire", "http", "base"]),
    ("daemon", &["api", "http", "account", "wire", "vault", "plugin", "plan", "template", "secret", "base"]),
    // The program itself.
    (
        "",
        &[
            "daemon",
            "api",
            "account-server",
            "http",
            "account",
            "wire",
            "vault",
            "plugin",
            "planner",
            "plan",
            "template",
            "secret",
            "builtin",
            "base",
        ],
    ),
];

/// Third parties that a crate must not have, with anything in their names.
const WITHOUT: [(&str, &[&str]); 6] = [
    ("api", &["sqlite", "wasmtime", "rustls", "minijinja"]),
    ("account-server", &["wasmtime", "minijinja"]),
    ("planner", &["sqlite", "rustls", "tokio-postgres"]),
    ("vault", &["wasmtime", "minijinja", "hyper", "rustls"]),
    ("account", &["wasmtime", "minijinja", "sqlite", "postgres"]),
    ("template", &["wasmtime", "minijinja", "hyper", "rustls", "sqlite"]),
];

fn package(name: &str) -> String {
    if name.is_empty() { "guillemet".to_owned() } else { format!("guillemet-{name}") }
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(ROOT).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Our crates, each with the crates of ours that it uses outside of tests.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = cargo(&["metadata", "--no-deps", "--locked", "--offline", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let ours = |name: &str| name == "guillemet" || name.starts_with("guillemet-");
    let uses = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let dependencies = dependencies.filter(|dependency| dependency["kind"].is_null());
        let names = dependencies.map(|dependency| dependency["name"].as_str().unwrap().to_owned());
        names.filter(|name| ours(name)).collect()
    };
    packages.map(|package| (package["name"].as_str().unwrap().to_owned(), uses(package))).collect()
}

#[test]
fn crates_depend_downwards_only() {
    let allowed: BTreeMap<String, BTreeSet<String>> =
        ARROWS.iter().map(|(name, uses)| (package(name), uses.iter().map(|name| package(name)).collect())).collect();
    let found = arrows();
    assert_eq!(found.keys().collect::<Vec<_>>(), allowed.keys().collect::<Vec<_>>(), "ARROWS lists every crate");
    for (name, uses) in &found {
        let wrong: Vec<_> = uses.difference(&allowed[name]).collect();
        assert!(wrong.is_empty(), "{name} must not use {wrong:?}");
    }
    // The table itself points downwards: no crate may use one that comes after it.
    for (index, (name, uses)) in ARROWS.iter().enumerate() {
        let below = |used: &str| ARROWS[..index].iter().any(|(other, _)| *other == used);
        assert!(uses.iter().all(|used| below(used)), "the row of {name} points upwards");
    }
}

#[test]
fn crates_have_no_third_party_that_they_must_not_have() {
    for (name, without) in WITHOUT {
        let tree = cargo(&["tree", "--locked", "--offline", "-e", "normal", "--prefix", "none", "-p", &package(name)]);
        let crates: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(crates.contains(package("base").as_str()), "{name}: {tree}");
        let found: Vec<_> = crates.iter().filter(|found| without.iter().any(|part| found.contains(part))).collect();
        assert!(found.is_empty(), "{name} has {found:?}");
    }
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--no-deps", "--offline", "--format-version", "1"])).unwrap();
    let with = |third: &str| -> Vec<&str> {
        let packages = metadata["packages"].as_array().unwrap().iter();
        let uses = |package: &&Value| {
            let mut dependencies = package["dependencies"].as_array().unwrap().iter();
            dependencies.any(|dependency| dependency["name"] == third && dependency["kind"].is_null())
        };
        packages.filter(uses).map(|package| package["name"].as_str().unwrap()).collect()
    };
    assert_eq!(with("wasmtime"), ["guillemet-planner"], "one crate runs WebAssembly");
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The parts of other crates that parse documents, and that only commands without a daemon use.
const PARSERS: [(&str, &[&str]); 2] =
    [("guillemet_plan", &["document"]), ("guillemet_plugin", &["canary", "cases", "offline", "schema"])];

/// Returns what follows each mention of a crate in a path: the next name, or all names in a group of braces.
fn named<'a>(text: &'a str, krate: &str) -> Vec<&'a str> {
    let mut all = Vec::new();
    for (at, path) in text.match_indices(&format!("{krate}::")) {
        let rest = &text[at + path.len()..];
        let names = match rest.strip_prefix('{') {
            Some(group) => group.split(';').next().unwrap_or_default(),
            None => rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default(),
        };
        all.extend(names.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|name| !name.is_empty()));
    }
    all
}

/// The process with keys parses no config tree (promise Isolated).
#[test]
fn the_daemon_names_no_parser_of_documents() {
    assert_eq!(named("use guillemet_plan::{document, plan::Plan};", "guillemet_plan"), ["document", "plan", "Plan"]);
    let mut files = Vec::new();
    sources(&Path::new(ROOT).join("crates/daemon/src"), &mut files);
    assert!(files.len() > 50);
    for file in files.iter().filter(|file| !file.to_string_lossy().contains("tests")) {
        let text = std::fs::read_to_string(file).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for (krate, parsers) in PARSERS {
            let found: Vec<_> = named(text, krate).into_iter().filter(|name| parsers.contains(name)).collect();
            assert!(found.is_empty(), "{} names {found:?} of {krate}", file.display());
        }
    }
}

/// ARCHITECTURE.md has a section for each crate, with one paragraph on its invariant and one on its API boundary.
#[test]
fn every_crate_has_its_section() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("ARCHITECTURE.md")).unwrap();
    for (name, _) in ARROWS {
        let heading =
            if name.is_empty() { "\n### guillemet, the program\n".to_owned() } else { format!("\n### {name}\n") };
        let (_, section) = text.split_once(&heading).unwrap_or_else(|| panic!("ARCHITECTURE.md lacks{heading}"));
        let section = section.split("\n#").next().unwrap();
        for paragraph in ["\n**Invariant.** ", "\n**API boundary.** "] {
            assert_eq!(section.matches(paragraph).count(), 1, "{paragraph}in the section{heading}");
        }
    }
}
