//! Sharing a plugin: `plugin pack`, what its receiver sees and checks, and `plugin add` from a URL. With the real binary,
//! a real daemon and a real server with TLS.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::support::component::pager;
use crate::support::daemon::{Guillemet, PROGRAM};
use crate::support::wasm::{appended, section};
use crate::support::web::{Page, Web};
use guillemet_plugin::package::{self, Package};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A path at which nobody can make a folder, not even root.
const NO_HOME: &str = concat!(env!("CARGO_BIN_EXE_guillemet"), "/no-home");
const TEMPLATE: &str = "url = 'https://pager.example'\ntoken = '<< secret \"pager-key\" >>'\n";

pub fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
pub fn done(output: &Output, words: &[&str]) {
    let text = told(output);
    assert!(output.status.success(), "{text}");
    words.iter().for_each(|words| assert!(text.contains(words), "{words}\n{text}"));
}

#[track_caller]
pub fn refused(output: &Output, words: &[&str]) {
    let text = told(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    words.iter().for_each(|words| assert!(text.contains(words), "{words}\n{text}"));
}

pub fn digest(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

/// Runs a command that needs no home.
fn run(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).current_dir(dir).env_clear().env("HOME", NO_HOME);
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR")).output().unwrap()
}

/// Makes the folder of a project whose component has been built.
fn project() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("cases")).unwrap();
    for name in ["json.toml", "env.toml"] {
        let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/pager/cases").join(name);
        fs::copy(case, dir.path().join("cases").join(name)).unwrap();
    }
    let manifest = "[package]\nname = 'pager'\nauthors = ['Ada <ada@pager.example>']\nlicense = 'MIT'\n";
    fs::write(dir.path().join("Cargo.toml"), manifest).unwrap();
    let changes = "# Changes\n\n## Unreleased\n\n- not yet\n\n## 1.2.0\n\n- labels\n\n## 1.1.0\n\n- first\n";
    fs::write(dir.path().join("CHANGELOG.md"), changes).unwrap();
    // Built after its sources were written.
    fs::write(dir.path().join("pager.wasm"), pager()).unwrap();
    dir
}

/// Returns the pack of the plugin `pager`.
pub fn pack() -> &'static [u8] {
    static PACK: OnceLock<Vec<u8>> = OnceLock::new();
    PACK.get_or_init(|| {
        let dir = project();
        done(&run(dir.path(), &["plugin", "pack"]), &[]);
        fs::read(dir.path().join("dist/pager-1.2.0.wasm")).unwrap()
    })
}

/// Returns the component `pager` with a package that says these things, as its author could not write it by `pack`.
fn packed(package: &Value) -> Vec<u8> {
    with_section(package.to_string().as_bytes())
}

fn with_section(content: &[u8]) -> Vec<u8> {
    let name = package::SECTION.as_bytes();
    appended(pager(), 0, &[&[name.len() as u8], name, content].concat())
}

fn daemon() -> Guillemet {
    let guillemet = Guillemet::start();
    guillemet.add("pager-key", "canary-value");
    guillemet.write("pager/calls.toml", TEMPLATE);
    guillemet
}

fn in_force(guillemet: &Guillemet, feature: &str) -> Option<String> {
    let plugins = guillemet.get("/v1/plugins").json();
    let plugin = plugins["items"].as_array().unwrap().iter().find(|plugin| plugin["feature"] == *feature).cloned();
    plugin.map(|plugin| plugin["digest"].as_str().unwrap().to_owned())
}

/// Writes a pack beside nothing else, and adds it.
fn add(guillemet: &Guillemet, pack: &[u8], arguments: &[&str]) -> Output {
    let folder = guillemet.path("received");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("it.wasm"), pack).unwrap();
    let file = folder.join("it.wasm");
    guillemet.command(&[&["plugin", "add", file.to_str().unwrap()], arguments].concat())
}

#[test]
fn a_pack_is_a_component_and_the_same_each_time() {
    let (one, two) = (project(), project());
    let output = run(one.path(), &["plugin", "pack"]);
    let bytes = fs::read(one.path().join("dist/pager-1.2.0.wasm")).unwrap();
    let digest = digest(&bytes);
    done(&output, &["packed dist/pager-1.2.0.wasm: ", "Contract       1.1.0\n", &format!("SHA-256        {digest}\n")]);
    // From elsewhere, to elsewhere, by another path.
    let elsewhere = tempfile::tempdir().unwrap();
    let dir = two.path().to_str().unwrap();
    done(&run(elsewhere.path(), &["plugin", "pack", dir, "--output", "new/p.wasm"]), &[&digest]);
    assert!(fs::read(elsewhere.path().join("new/p.wasm")).unwrap() == bytes);
    assert!(bytes.starts_with(pager()), "the component itself is what was built");
    guillemet_builtin::wasm::check(&bytes).unwrap();
    let package = package::read(&bytes).unwrap().unwrap();
    let cases: Vec<&str> = package.cases.keys().map(String::as_str).collect();
    assert_eq!(cases, ["env.toml", "json.toml"]);
    assert_eq!(package.changelog.as_deref(), Some("## 1.2.0\n\n- labels"));
    // The project goes on as before, and its folder has still one component.
    done(&run(one.path(), &["plugin", "test"]), &["all 3 cases pass"]);
    // The pack alone has everything that its receiver needs.
    let received = tempfile::tempdir().unwrap();
    fs::write(received.path().join("p.wasm"), &bytes).unwrap();
    let words = [
        "package\n  author         Ada <ada@pager.example>\n  license        MIT\n",
        "  contract       1.1.0, which this Guillemet has\n  cases          2 files: env.toml, json.toml\n",
        "  changelog\n      ## 1.2.0\n      \n      - labels\n",
        "  ok       an alert (target `json`)\n",
        "  ok       an environment (target `env`)\n",
        // And not what the author chose alone.
        "  ok       a secret in `token` (target `env`)\n",
    ];
    done(&run(received.path(), &["plugin", "check", "p.wasm"]), &words);
}

#[test]
fn what_fails_is_not_packed() {
    let dir = project();
    let is_absent = || assert!(!dir.path().join("dist").exists());
    let case = dir.path().join("cases/json.toml");
    let text = fs::read_to_string(&case).unwrap();
    fs::write(&case, text.replace("\"warning\"", "\"critical\"")).unwrap();
    refused(&run(dir.path(), &["plugin", "pack"]), &["failed  an alert (line 3)", "- ", "so nothing was packed"]);
    is_absent();
    fs::write(&case, &text).unwrap();
    fs::rename(dir.path().join("cases/env.toml"), dir.path().join("env.toml.away")).unwrap();
    refused(&run(dir.path(), &["plugin", "pack"]), &["no case has a document for the target `env`"]);
    is_absent();
    fs::rename(dir.path().join("env.toml.away"), dir.path().join("cases/env.toml")).unwrap();
    refused(
        &run(dir.path(), &["plugin", "pack", "--author", "Ada\u{1b}[2J", "--license", &"x".repeat(300)]),
        &["`license` must have 1 to 200 characters", "`author` contains control characters"],
    );
    fs::write(dir.path().join("long.md"), "x".repeat(20_000)).unwrap();
    refused(&run(dir.path(), &["plugin", "pack", "--changelog", "long.md"]), &["larger than 16 KiB"]);
    refused(&run(dir.path(), &["plugin", "pack", "--output", "pager.wasm"]), &["one component only"]);
    assert!(fs::read(dir.path().join("pager.wasm")).unwrap() == pager());
    is_absent();
    // A source that is newer than the component.
    fs::write(dir.path().join("lib.rs"), "").unwrap();
    refused(&run(dir.path(), &["plugin", "pack"]), &["pager.wasm is older than lib.rs"]);
    is_absent();
}

#[test]
fn the_receiver_sees_who_wrote_it_and_runs_its_cases() {
    let guillemet = daemon();
    let output = add(&guillemet, pack(), &[]);
    refused(
        &output,
        &[
            "Its package says this, which nobody has verified:\nAuthor         Ada <ada@pager.example>\nLicense        MIT\n",
            "Contract       1.1.0, which this Guillemet has\nCases          2 files: env.toml, json.toml\n",
            "Changelog\n    ## 1.2.0\n    \n    - labels\n",
            "nothing was changed. Pass --yes",
        ],
    );
    assert_eq!(in_force(&guillemet, "pager"), None);
    done(&add(&guillemet, pack(), &["--yes"]), &["added pager\n"]);
    assert_eq!(in_force(&guillemet, "pager"), Some(digest(pack())));
    assert!(guillemet.get("/v1/render/pager/calls").text().contains("canary-value"));

    // Cases that the component does not keep are an error, beside whatever folder of cases is there.
    let case = "[[case]]\nname = 'an alert\nSHA-256'\nconfig = { url = 'https://a.example', token = '«t»' }\n\
                document = '{}'\n"
        .replace("'an alert\nSHA-256'", "\"an alert\\nSHA-256\"");
    let wrong = Package { cases: [("a.toml".to_owned(), case)].into(), contract: "1.1.0".into(), ..Package::default() };
    let wrong = package::write(pager(), &wrong).unwrap();
    let cases = guillemet.path("received/cases");
    fs::create_dir(&cases).unwrap();
    fs::write(cases.join("own.toml"), "no case").unwrap();
    let words = ["an alert\u{fffd}SHA-256 (line 1): ", "https://a.example", "does not do what its author tested"];
    let checked = run(&guillemet.path("received"), &["plugin", "check", "it.wasm"]);
    done(&checked, &["author         Ada"]);
    refused(&add(&guillemet, &wrong, &["--yes"]), &[&words[..1], &["this breaks what works now"]].concat());
    assert_eq!(in_force(&guillemet, "pager"), Some(digest(pack())));
    let checked = run(&guillemet.path("received"), &["plugin", "check", "it.wasm"]);
    refused(&checked, &words);
    assert!(!told(&checked).contains("own.toml"), "{}", told(&checked));
    // Without cases in the component, the folder counts.
    refused(&add(&guillemet, pager(), &["--yes"]), &["own.toml:1: "]);
}

/// What a package says is a stranger's text, and too much of it is refused before it is read.
#[test]
fn a_hostile_package_forges_no_line_and_is_refused() {
    let guillemet = daemon();
    let forged = format!("Ada\u{1b}[2J\u{202e}\nSHA-256        {}", "0".repeat(64));
    let changelog = format!("- one\r\n{}\n- \u{9b}2J two\n", "added pager");
    let pack = packed(&serde_json::json!({
        "format": 1,
        "author": forged,
        "homepage": "https://a.example/\u{200b}",
        "changelog": changelog + &"- line\n".repeat(100),
        "contract": "9.0.0\nX",
        "cases": {},
    }));
    let output = add(&guillemet, &pack, &[]);
    let text = told(&output);
    for words in [
        "Author         Ada\u{fffd}[2J\u{fffd}\u{fffd}SHA-256        000",
        "Homepage       https://a.example/\u{fffd}\n",
        "Contract       9.0.0\u{fffd}X; this Guillemet has 1.1.0",
        "\n    added pager\n    - \u{fffd}2J two\n",
        "\n    … 63 more lines\n",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    let is_forged = |line: &str| line.starts_with("SHA-256        000") || line == "added pager" || line == "X";
    assert!(!text.lines().any(is_forged) && !text.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\r']), "{text}");
    let checked = told(&run(&guillemet.path("received"), &["plugin", "check", "it.wasm"]));
    assert!(
        checked.contains("author         Ada\u{fffd}[2J") && !checked.contains(['\u{1b}', '\u{202e}']),
        "{checked}"
    );

    let case_name = serde_json::json!({"format": 1, "contract": "1.1.0", "cases": {"../../x.toml": ""}});
    for (pack, words) in [
        (with_section(&vec![b' '; 3 << 20]), "the section `guillemet:package` is larger than 2 MiB"),
        (
            with_section(&[&b"{\"format\": 1, \"cases\": "[..], &[b'['; 1 << 20]].concat()),
            "is not a package: see line 1",
        ),
        (with_section(b"\xff\xfe"), "is not a package: see line 1, column 1"),
        (packed(&serde_json::json!({"format": 7})), "has the format 7, which this Guillemet does not know"),
        (packed(&case_name), "the name of a file of cases must be"),
        (
            packed(&serde_json::json!({"format": 1, "contract": "1", "cases": {"a.toml": "x = [\n'canary"}})),
            "a.toml:2: ",
        ),
        ([with_section(b"{}"), section(0, b"\x11guillemet:package{}")].concat(), "more than one section"),
    ] {
        let checked = {
            let output = add(&guillemet, &pack, &["--yes"]);
            refused(&output, &[words, "nothing was changed"]);
            run(&guillemet.path("received"), &["plugin", "check", "it.wasm"])
        };
        refused(&checked, &["package\n", words]);
        assert_eq!(in_force(&guillemet, "pager"), None);
    }
    assert_eq!(guillemet.get("/v1/status").status, 200);
}

#[test]
fn a_file_with_another_digest_than_expected_is_not_added() {
    let guillemet = daemon();
    let (right, wrong) = (digest(pack()), "ab".repeat(32));
    let output = add(&guillemet, pack(), &["--yes", "--sha256", &wrong]);
    refused(&output, &[&format!("has the SHA-256 {right}, not {wrong} as expected; nothing was changed")]);
    assert!(!told(&output).contains("Feature"), "it was not even looked at: {}", told(&output));
    assert_eq!(in_force(&guillemet, "pager"), None);
    let short = add(&guillemet, pack(), &["--yes", "--sha256", "abc"]);
    assert!(short.status.code() == Some(2) && told(&short).contains("64 hexadecimal digits"), "{}", told(&short));
    done(&add(&guillemet, pack(), &["--yes", "--sha256", &right.to_uppercase()]), &["added pager"]);
}

#[test]
fn a_plugin_comes_from_https_and_only_with_its_digest() {
    let (guillemet, web) = (daemon(), Web::start());
    let url = web.put("/pager.wasm?v=1", Page::Body(pack().to_vec()));
    let (right, wrong) = (digest(pack()), "cd".repeat(32));
    let add = |url: &str, more: &[&str]| {
        guillemet.command_by(&web.trusted(), &[&["plugin", "add", url, "--yes"], more].concat(), b"")
    };
    refused(&add(&url, &[]), &["a URL needs the digest", "--sha256 HEX"]);
    assert!(web.requests().is_empty());
    refused(&add(&url, &["--sha256", &wrong]), &[&right, &wrong, "nothing was changed"]);
    // With the certificate of another server among those that are trusted, and with none.
    let none = ["env".to_owned(), "SSL_CERT_FILE=/dev/null".to_owned(), "SSL_CERT_DIR=/nowhere".to_owned()];
    for (trusted, words) in
        [(&Web::start().trusted()[..], "its certificate is not trusted: "), (&none, "has no certificate authorities")]
    {
        let output = guillemet.command_by(trusted, &["plugin", "add", &url, "--yes", "--sha256", &right], b"");
        refused(&output, &["cannot be downloaded: ", words, "nothing was changed"]);
    }
    assert_eq!(in_force(&guillemet, "pager"), None);
    done(&add(&url, &["--sha256", &right]), &["Author         Ada", "added pager"]);
    assert_eq!(in_force(&guillemet, "pager"), Some(right));
    for head in web.requests() {
        assert!(head.starts_with("GET /pager.wasm?v=1 HTTP/1.1\r\n"), "{head}");
        let names: Vec<_> =
            head.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
        assert_eq!(names, ["host", "user-agent", "accept"], "{head}");
    }
}

#[test]
fn a_download_has_bounds_and_leaves_https_never() {
    let (guillemet, web) = (daemon(), Web::start());
    let right = digest(pack());
    let add = |url: &str, more: &[&str]| {
        let arguments = [&["plugin", "add", url, "--yes", "--sha256", &right], more].concat();
        guillemet.command_by(&web.trusted(), &arguments, b"")
    };
    let pack = web.put("/pack", Page::Body(pack().to_vec()));
    let redirect = |path: &str, to: &str| web.put(path, Page::Redirect(to.to_owned()));
    let plain = pack.replace("https", "http");
    for (url, words) in [
        (plain.clone(), "the address must be an https URL"),
        ("file:///etc/passwd".into(), "the address must be an https URL"),
        (pack.replace("https://", "https://ada:canary@"), "the address must be an https URL"),
        (redirect("/http", &plain), "but a redirect must be an https URL"),
        (redirect("/user", &pack.replace("https://", "https://ada@")), "but a redirect must be an https URL"),
        (redirect("/file", "file:///etc/passwd"), "but a redirect must be an https URL"),
        (redirect("/loop", "/loop"), "redirects more than 5 times"),
        (web.put("/absent", Page::Absent), "the server answers 404 Not Found"),
        (web.put("/large", Page::Body(vec![0; (32 << 20) + 1])), "it is larger than 32 MiB"),
        (web.put("/endless", Page::Endless), "it is larger than 32 MiB"),
        ("https://127.0.0.1:1/x".into(), "cannot be downloaded: "),
    ] {
        refused(&add(&url, &[]), &[words]);
    }
    let silent = web.put("/silent", Page::Silent);
    refused(&add(&silent, &["--timeout", "1"]), &["cannot be downloaded within 1 s; pass a longer --timeout"]);
    assert_eq!(in_force(&guillemet, "pager"), None);
    // To another path, and from there by its whole address.
    redirect("/a", "/b");
    redirect("/b", &pack);
    done(&add(&format!("{}/a", web.url), &[]), &["added pager"]);
}
