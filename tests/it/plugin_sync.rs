//! The same plugins on every machine: `[plugins]` in `guillemet.toml`, `plugin sync`, and `plugin outdated` with an index
//! that anyone can host. With the real binary, real daemons and a real server with TLS.

use std::fs;
use std::process::{Command, Output};

use crate::plugin_share::{digest, done, pack, refused, told};
use crate::support::component::{hostile_in, pager, pager_next};
use crate::support::daemon::{Guillemet, PROGRAM};
use crate::support::web::{Page, Web};
use serde_json::{Value, json};

const LABELS: &str = "url = 'https://pager.example'\ntoken = '<< secret \"pager-key\" >>'\n[labels]\n\
                      team = '<< secret \"pager-team\" >>'\n";

fn daemon() -> Guillemet {
    let guillemet = Guillemet::start();
    guillemet.add("pager-key", "canary-value");
    guillemet.add("pager-team", "canary-team");
    guillemet.write("pager/labels.toml", LABELS);
    guillemet
}

/// Adds tables to the configuration, in place of those that this added before, and waits until it is in force.
fn configure(guillemet: &Guillemet, tables: &str) {
    const MARK: &str = "\n# Plugins\n";
    let file = guillemet.path("guillemet.toml");
    let text = fs::read_to_string(&file).unwrap();
    let before = text.split(MARK).next().unwrap();
    fs::write(&file, format!("{before}{MARK}{tables}")).unwrap();
    done(&guillemet.command(&["reload"]), &[]);
}

fn plugin(guillemet: &Guillemet, feature: &str) -> Value {
    let plugins = guillemet.get("/v1/plugins").json();
    let all = plugins["items"].as_array().unwrap();
    all.iter().find(|plugin| plugin["feature"] == *feature).cloned().unwrap_or_default()
}

fn in_force(guillemet: &Guillemet, feature: &str) -> String {
    plugin(guillemet, feature)["digest"].as_str().unwrap_or_default().to_owned()
}

fn warnings(guillemet: &Guillemet) -> String {
    guillemet.get("/v1/status").json()["warnings"].to_string()
}

fn by(web: &Web, guillemet: &Guillemet, arguments: &[&str]) -> Output {
    guillemet.command_by(&web.trusted(), arguments, b"")
}

#[test]
fn every_machine_with_the_same_file_gets_the_same_plugin() {
    let web = Web::start();
    let url = web.put("/pager.wasm", Page::Body(pack().to_vec()));
    let listed = format!("[plugins.pager]\nurl = \"{url}\"\nsha256 = \"{}\"\n", digest(pack()));
    let (one, two) = (daemon(), daemon());
    // One of them has another plugin already.
    fs::write(one.path("old.wasm"), pager()).unwrap();
    done(&one.command(&["plugin", "add", one.path("old.wasm").to_str().unwrap(), "--yes"]), &[]);
    let other =
        format!("plugin `pager`: SHA-256 {} is in force, but guillemet.toml lists {}", digest(pager()), digest(pack()));
    let missing = "plugin `pager`: guillemet.toml lists it, but it was not added; run `guillemet plugin sync`";
    for (guillemet, words) in [(&one, other.as_str()), (&two, missing)] {
        configure(guillemet, &listed);
        assert!(warnings(guillemet).contains(words), "{}", warnings(guillemet));
        done(&guillemet.command(&["plugin", "list"]), &[words]);
    }
    assert!(web.requests().is_empty(), "the daemon fetches nothing");
    refused(
        &by(&web, &two, &["plugin", "sync"]),
        &[
            "Feature        pager\n",
            "Author         Ada",
            "1 of 1 listed plugins are not in force:\npager: this needs confirmation",
        ],
    );
    assert_eq!(in_force(&two, "pager"), "");
    for guillemet in [&one, &two] {
        done(
            &by(&web, guillemet, &["plugin", "sync", "--yes"]),
            &["added pager\n", "every plugin that guillemet.toml lists is in force"],
        );
        assert_eq!(in_force(guillemet, "pager"), digest(pack()));
        assert!(guillemet.get("/v1/render/pager/labels").text().contains("canary-value"));
        assert_eq!(guillemet.get("/v1/status").json()["warnings"], json!([]));
    }
    // Nothing is fetched again where nothing differs.
    let asked = web.requests().len();
    done(&by(&web, &one, &["plugin", "sync"]), &["every plugin that guillemet.toml lists is in force"]);
    assert_eq!(web.requests().len(), asked);
    assert!(!told(&one.command(&["plugin", "list"])).contains("guillemet.toml"));
    done(&Guillemet::start().command(&["plugin", "sync"]), &["guillemet.toml lists no plugins"]);
}

#[test]
fn what_cannot_be_synced_is_told_at_once_and_the_rest_is_added() {
    let (web, guillemet) = (Web::start(), daemon());
    let folder = guillemet.path("plugins-src");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("pager.wasm"), pager()).unwrap();
    fs::write(folder.join("mcp.wasm"), hostile_in("feature-taken")).unwrap();
    let absent = web.put("/absent", Page::Absent);
    let zero = "0".repeat(64);
    let tables = |pager: &str| {
        format!(
            "[plugins.pager]\nfile = \"plugins-src/pager.wasm\"\nsha256 = \"{pager}\"\n\
             [plugins.other]\nfile = \"plugins-src/pager.wasm\"\nsha256 = \"{}\"\n\
             [plugins.gone]\nurl = \"{absent}\"\nsha256 = \"{zero}\"\n",
            digest(super::support::component::pager())
        )
    };
    configure(&guillemet, &tables(&zero));
    let file = folder.join("pager.wasm").display().to_string();
    refused(
        &by(&web, &guillemet, &["plugin", "sync", "--yes"]),
        &[
            "3 of 3 listed plugins are not in force:\n",
            "\ngone: https://127.0.0.1:",
            "the server answers 404 Not Found",
            &format!("\nother: {file} is a plugin for `pager`"),
            &format!("\npager: {file} has the SHA-256 {}, not {zero}", digest(pager())),
        ],
    );
    assert_eq!(in_force(&guillemet, "pager"), "");
    configure(&guillemet, &tables(&digest(pager())));
    let output = by(&web, &guillemet, &["plugin", "sync", "--yes"]);
    refused(&output, &["added pager\n", "2 of 3 listed plugins are not in force:\n", "\ngone: ", "\nother: "]);
    assert_eq!(in_force(&guillemet, "pager"), digest(pager()));

    // What would break is refused as by `plugin add`. A built-in plugin is named by its table.
    let (next, taken) = (pager_next("drop-field"), hostile_in("feature-taken"));
    fs::write(folder.join("pager.wasm"), &next).unwrap();
    let listed = format!(
        "[plugins.pager]\nfile = \"plugins-src/pager.wasm\"\nsha256 = \"{}\"\n\
         [plugins.mcp-server]\nfile = \"plugins-src/mcp.wasm\"\nsha256 = \"{}\"\n",
        digest(&next),
        digest(&taken)
    );
    configure(&guillemet, &listed);
    let words =
        ["2 of 2 listed", "\npager: this breaks what works now", "pager/labels:4:", "\nmcp-server: this breaks"];
    refused(&guillemet.command(&["plugin", "sync", "--yes"]), &words);
    assert_eq!(in_force(&guillemet, "pager"), digest(pager()));
    done(&guillemet.command(&["plugin", "sync", "--yes", "--break"]), &["added pager\n", "added mcp-server\n"]);
    assert_eq!((in_force(&guillemet, "pager"), in_force(&guillemet, "mcp-server")), (digest(&next), digest(&taken)));
    // A configuration that cannot be used changes nothing.
    let file = guillemet.path("guillemet.toml");
    fs::write(&file, fs::read_to_string(&file).unwrap() + "[plugins.x]\nurl = 1\n").unwrap();
    refused(
        &guillemet.command(&["plugin", "sync", "--yes"]),
        &["`plugins.x.url` must be a string", "`plugins.x.sha256` is"],
    );
}

/// Returns an index with these entries as text.
fn index(entries: &[(&str, &str, &str, &str)]) -> Vec<u8> {
    let entry = |(feature, version, url, digest): &(&str, &str, &str, &str)| json!({"feature": feature, "version": version, "url": url, "sha256": digest, "contract": "1.1.0"});
    json!({"plugins": entries.iter().map(entry).collect::<Vec<_>>()}).to_string().into_bytes()
}

#[test]
fn an_index_tells_what_is_outdated_and_the_line_that_adds_it() {
    let (web, guillemet) = (Web::start(), daemon());
    let next = pager_next("");
    let url = web.put("/next.wasm", Page::Body(next.clone()));
    refused(&guillemet.command(&["plugin", "outdated"]), &["there is no index", "[plugin_index]"]);
    let place = format!("{}/index.json", web.url);
    configure(&guillemet, &format!("[plugin_index]\nurl = \"{place}\"\n"));
    fs::write(guillemet.path("p.wasm"), pack()).unwrap();
    done(&guillemet.command(&["plugin", "add", guillemet.path("p.wasm").to_str().unwrap(), "--yes"]), &[]);

    let (pack, zero) = (digest(pack()), "0".repeat(64));
    let outdated = |entries: &[(&str, &str, &str, &str)]| {
        web.put("/index.json", Page::Body(index(entries)));
        by(&web, &guillemet, &["plugin", "outdated"])
    };
    done(&outdated(&[]), &["pager\t1.2.0\t-\tnot in the index\n"]);
    done(&outdated(&[("pager", "1.2.0", &url, &pack)]), &["pager\t1.2.0\t1.2.0\tcurrent\n"]);
    done(&outdated(&[("pager", "1.1.0", &url, &zero)]), &["pager\t1.2.0\t1.1.0\tthe index has an older one\n"]);
    let same = outdated(&[("pager", "1.2.0", &url, &zero)]);
    refused(&same, &["the index has other content of this version\n", "one plugin differs"]);
    refused(&outdated(&[("pager", "next", &url, &zero)]), &["the index has another version\n"]);
    let all =
        [("pager", "1.2.0", &*url, &*pack), ("pager", "1.3.0", &url, &digest(&next)), ("x", "1.0.0", &url, &zero)];
    let output = outdated(&all);
    refused(
        &output,
        &[
            "pager\t1.2.0\t1.3.0\tthe index has a newer one\n",
            "\npager 1.3.0\nContract       1.1.0, which this Guillemet has\n",
        ],
    );
    // A built-in plugin that the index does not know is left out.
    assert!(!told(&output).contains("mcp-server"), "{}", told(&output));

    // The line that is printed adds it.
    let text = told(&output);
    let line = text.lines().find_map(|line| line.strip_prefix("Add it with    guillemet ")).unwrap();
    let command = format!("{PROGRAM} {line} --yes");
    let trusted = web.trusted();
    let added = Command::new(&trusted[0]).args(&trusted[1..]).args(["sh", "-c", &command]).output().unwrap();
    done(&added, &["added pager"]);
    assert_eq!(in_force(&guillemet, "pager"), digest(&next));
    done(&by(&web, &guillemet, &["plugin", "outdated"]), &["pager\t1.3.0\t1.3.0\tcurrent\n"]);
}

#[test]
fn a_hostile_index_is_refused_and_reaches_no_shell() {
    let (web, guillemet) = (Web::start(), daemon());
    fs::write(guillemet.path("p.wasm"), pack()).unwrap();
    done(&guillemet.command(&["plugin", "add", guillemet.path("p.wasm").to_str().unwrap(), "--yes"]), &[]);
    let file = guillemet.path("index.json");
    let outdated = |text: &[u8]| {
        fs::write(&file, text).unwrap();
        guillemet.command(&["plugin", "outdated", "--index", file.to_str().unwrap()])
    };
    let zero = "0".repeat(64);
    for (text, words) in [
        (b"canary".to_vec(), "it is not an index of plugins: see line 1"),
        (vec![b' '; (4 << 20) + 1], "cannot be read"),
        (index(&[("pager", "9.0.0", "http://a.example/x", &zero)]), "`plugins[0].url` must be an https URL"),
        (index(&[("pager", "9.0.0", "https://a.example/ x", &zero)]), "`plugins[0].url` must be an https URL"),
        (index(&[("pager", "9\u{1b}[2J", "https://a.example/x", &zero)]), "`plugins[0].version` must be"),
        (index(&[("../pager", "9.0.0", "https://a.example/x", &zero)]), "`plugins[0].feature`: the feature must be"),
        (index(&[("pager", "9.0.0", "https://a.example/x", "zero")]), "`plugins[0].sha256` must be a SHA-256"),
        (index(&vec![("pager", "9.0.0", "", ""); 2001]), "more than 2000 entries"),
    ] {
        let output = outdated(&text);
        refused(&output, &[words]);
        assert!(!told(&output).contains("canary"), "{}", told(&output));
    }
    let marker = guillemet.path("run-by-a-shell");
    let url = format!("https://127.0.0.1:1/';touch${{IFS}}{};'$(touch${{IFS}}{0})", marker.display());
    let mut entry: Value = serde_json::from_slice(&index(&[("pager", "9.0.0", &url, &zero)])).unwrap();
    entry["plugins"][0]["changelog"] = "a\u{1b}[2J\nAdd it with    evil\n".into();
    let output = outdated(entry.to_string().as_bytes());
    let text = told(&output);
    refused(&output, &["\n    a\u{fffd}[2J\n    Add it with    evil\n"]);
    assert!(!text.contains('\u{1b}'), "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix("Add it with    guillemet ")).unwrap();
    let ran = Command::new("sh").args(["-c", &format!("{PROGRAM} {line} --yes")]).output().unwrap();
    refused(&ran, &["cannot be downloaded"]);
    assert!(!marker.exists(), "{line}");
    // Over the network, too, there is a bound.
    let endless = web.put("/endless", Page::Endless);
    refused(&by(&web, &guillemet, &["plugin", "outdated", "--index", &endless]), &["it is larger than 4 MiB"]);
}

#[test]
fn packing_writes_the_entry_of_an_index_and_keeps_the_others() {
    let guillemet = daemon();
    let project = guillemet.path("project");
    fs::create_dir_all(project.join("cases")).unwrap();
    let file = guillemet.path("index.json");
    let pack = |url: &str| {
        let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plugins/pager/cases");
        for name in ["json.toml", "env.toml"] {
            fs::copy(format!("{cases}/{name}"), project.join("cases").join(name)).unwrap();
        }
        fs::write(project.join("pager.wasm"), pager()).unwrap();
        let arguments = ["plugin", "pack", project.to_str().unwrap(), "--index", file.to_str().unwrap(), "--url", url];
        guillemet.command(&arguments)
    };
    refused(&pack("http://a.example/p.wasm"), &["`url` must be an https URL"]);
    assert!(!project.join("dist").exists() && !file.exists());
    done(&pack("https://a.example/p.wasm"), &["Index          "]);
    let mut written: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let packed = digest(&fs::read(project.join("dist/pager-1.2.0.wasm")).unwrap());
    let entry = json!({"feature": "pager", "version": "1.2.0", "url": "https://a.example/p.wasm", "sha256": packed, "contract": "1.1.0"});
    assert_eq!(written, json!({"plugins": [entry]}));
    // Other entries stay, and whatever else somebody wrote.
    written["title"] = "Ours".into();
    let older = json!({"feature": "pager", "version": "1.1.0", "url": "https://a.example/o.wasm", "sha256": "0".repeat(64), "contract": "1.0.0", "note": 1});
    written["plugins"].as_array_mut().unwrap().push(older.clone());
    fs::write(&file, written.to_string()).unwrap();
    done(&pack("https://b.example/p.wasm"), &[]);
    let again: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!((&again["title"], &again["plugins"][0]), (&"Ours".into(), &older));
    assert_eq!(
        (&again["plugins"][1]["url"], again["plugins"].as_array().unwrap().len()),
        (&"https://b.example/p.wasm".into(), 2)
    );
    // A file that is no index is not replaced.
    fs::write(&file, "notes").unwrap();
    refused(&pack("https://a.example/p.wasm"), &["index.json cannot be used: it is not an index of plugins"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "notes");
}
