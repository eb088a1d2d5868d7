//! The crates depend on each other as ARCHITECTURE.md says, and on no third party that they must not have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Every crate with the crates of ours that it may use, from the bottom up. A crate may leave out what it does not
/// need.
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

/// The modules of the program, each with the crates of ours that it names besides `base`. A row `module::*` is for the
/// modules below that have no row of their own, and are allowed the same.
///
/// A command talks to the daemon through `api`. What `init`, `vault`, `daemon`, `planner`, `account serve`, `account
/// admin` and `demo` reach beyond that, and `adopt`, `template` and the tools for authors without a vault, is here.
const MODULES: [(&str, &[&str]); 48] = [
    ("lib", &[]),
    ("main", &[]),
    // The child process begins here.
    ("cli", &["planner"]),
    ("cli::console", &["api"]),
    ("cli::no_daemon", &["api"]),
    ("cli::output", &[]),
    ("cli::paths", &[]),
    ("cli::reload", &["api"]),
    ("cli::render", &[]),
    ("cli::render::*", &[]),
    ("cli::secret", &["api"]),
    ("cli::secret::*", &["api"]),
    ("cli::status", &["api"]),
    ("cli::temporary", &[]),
    ("cli::terminal", &[]),
    ("cli::usage", &["api"]),
    // Shows the line of a template that a problem is about, from the user's own file.
    ("cli::client", &["api", "template"]),
    // Reads values as the vault does: which bytes of a file are the value, and how many it can have.
    ("cli::prompt", &["secret"]),
    // A code is checked before it is sent, and a person compares its words.
    ("cli::account", &["api", "account"]),
    // What a command without a daemon knows of the configuration, and shows as the daemon does.
    ("cli::offline", &["daemon", "plugin"]),
    ("cli::template", &["api", "plugin"]),
    ("cli::template::*", &["plugin", "plan", "template"]),
    ("cli::plugin", &[]),
    ("cli::plugin::*", &["builtin", "plugin", "plan", "template"]),
    ("cli::plugin::add", &["api", "plugin"]),
    ("cli::plugin::candidate", &["api", "plugin"]),
    ("cli::plugin::change", &["api"]),
    // Gives each build to the daemon.
    ("cli::plugin::dev::stand_in", &["api"]),
    // Uses the connections of the account's client.
    ("cli::plugin::download", &["account", "plugin"]),
    ("cli::plugin::listed", &["api", "plugin"]),
    ("cli::plugin::outdated", &["api", "plugin"]),
    ("cli::plugin::sync", &["api"]),
    ("cli::plugin::rollback", &["api"]),
    ("cli::plugin::list", &["api"]),
    ("cli::adopt", &["api", "plugin", "plan", "template"]),
    ("cli::adopt::store", &["api", "template"]),
    // Reads the file into memory that wipes itself.
    ("cli::adopt::file", &["secret", "template"]),
    ("cli::adopt::proposal", &["template"]),
    // The pure part: the file's text in; the template, the secrets and what stays in the file out.
    ("cli::adopt::*", &["plan", "template"]),
    // And the longest value that a secret can have.
    ("cli::adopt::credentials", &["secret", "plan", "template"]),
    ("cli::daemon", &["daemon", "vault"]),
    ("cli::vault", &["vault"]),
    // The ways to unlock a vault, for the two above.
    ("cli::unlock", &["vault"]),
    // `account serve` and `account admin`.
    ("cli::account_server", &["account-server", "account", "http", "wire"]),
    ("cli::demo", &["api", "daemon", "vault"]),
    ("cli::demo::account", &["api", "daemon", "vault"]),
    ("cli::demo::parts", &[]),
    ("cli::demo::templates", &[]),
];

/// What the pure part of `adopt` cannot name, so that it reaches no file, process or connection.
const IMPURE: [&str; 7] = ["env::", "fs::", "io::", "os::", "process::", "Stream", "Home"];

/// Returns the code of a file without its comments and unit tests.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

/// Returns the modules of the program, each with its code.
fn modules() -> BTreeMap<String, String> {
    let root = Path::new(ROOT).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    files.retain(|file| !file.file_stem().unwrap().to_string_lossy().ends_with("tests"));
    let name = |file: &Path| {
        let path = file.strip_prefix(&root).unwrap().with_extension("").to_string_lossy().replace('/', "::");
        path.strip_suffix("::mod").map_or(path.clone(), str::to_owned)
    };
    files.iter().map(|file| (name(file), code(file))).collect()
}

/// Returns the row of [`MODULES`] that is about a module.
fn row(module: &str) -> Option<&'static str> {
    let names = MODULES.iter().map(|(name, _)| *name);
    let above = names.clone().filter(|name| name.strip_suffix('*').is_some_and(|above| module.starts_with(above)));
    names.clone().find(|name| *name == module).or_else(|| above.max_by_key(|name| name.len()))
}

/// Returns the crates of ours that a text names, without `base`.
fn crates_named(text: &str) -> BTreeSet<&'static str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let names = ARROWS.iter().map(|(name, _)| *name).filter(|name| !matches!(*name, "" | "base"));
    let is_named = |name: &&str| {
        let word = package(name).replace('-', "_");
        text.match_indices(&word).any(|(at, _)| !text[at + word.len()..].starts_with(is_word))
    };
    names.filter(is_named).collect()
}

#[test]
fn modules_of_the_program_use_the_crates_that_they_may_use() {
    assert_eq!(crates_named("use guillemet_account_server::x; guillemet_plan::y"), ["account-server", "plan"].into());
    let mut used: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (module, code) in modules() {
        let row = row(&module).unwrap_or_else(|| panic!("MODULES has no row for {module}"));
        used.entry(row).or_default().extend(crates_named(&code));
    }
    for (row, allowed) in MODULES {
        let used = used.get(row).unwrap_or_else(|| panic!("there is no module {row}"));
        assert_eq!(*used, allowed.iter().copied().collect(), "{row}: what it uses, and its row in MODULES");
    }
}

#[test]
fn the_pure_part_of_adopt_reaches_nothing() {
    let modules = modules();
    let is_pure = |module: &str| module == "cli::adopt::credentials" || row(module) == Some("cli::adopt::*");
    let pure: Vec<_> = modules.iter().filter(|(module, _)| is_pure(module)).collect();
    assert!(pure.len() > 15, "{pure:?}");
    for (module, code) in pure {
        let begins = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let is_there = |name: &&&str| code.match_indices(**name).any(|(at, _)| begins(at));
        let found: Vec<_> = IMPURE.iter().filter(is_there).collect();
        assert!(found.is_empty(), "{module} names {found:?}");
        let of_adopt: Vec<_> = named(code, "cli::adopt");
        let commands = named(code, "cli").into_iter().filter(|name| !matches!(*name, "Failure" | "adopt"));
        let impure = of_adopt.into_iter().filter(|name| matches!(*name, "file" | "proposal" | "store"));
        let found: Vec<_> = commands.chain(impure).collect();
        assert!(found.is_empty(), "{module} names {found:?} of the command line");
    }
}

/// The parts of other crates that parse documents or what strangers wrote, and that only commands and the checker use.
const PARSERS: [(&str, &[&str]); 2] = [
    ("guillemet_plan", &["document"]),
    ("guillemet_plugin", &["canary", "cases", "index", "offline", "package", "schema"]),
];

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

/// clippy ignores a path in `clippy.toml` that leads nowhere, so a renamed function would be allowed again.
#[test]
fn the_methods_that_clippy_refuses_exist() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("clippy.toml")).unwrap();
    let paths: Vec<&str> =
        text.split('"').filter(|part| part.starts_with("guillemet_") && part.contains("::")).collect();
    assert!(paths.len() > 5, "{paths:?}");
    for path in paths {
        let (krate, rest) = path.split_once("::").unwrap();
        let name = rest.rsplit("::").next().unwrap();
        let folder = krate.trim_start_matches("guillemet_").replace('_', "-");
        let mut files = Vec::new();
        sources(&Path::new(ROOT).join("crates").join(folder).join("src"), &mut files);
        let defines = |file: &PathBuf| std::fs::read_to_string(file).unwrap().contains(&format!("fn {name}("));
        assert!(files.iter().any(defines), "clippy.toml names {path}, which does not exist");
    }
}
