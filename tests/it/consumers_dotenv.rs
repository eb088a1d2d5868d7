//! Rendered dotenv files, read by their consumers: python-dotenv, Node, systemd and shells, and for bare values also
//! docker and kubectl.
//!
//! They read every value exactly, or the value is refused. The test also checks that a refusal is necessary: however
//! such a value is quoted, at least one reader reads something else, and so does the reader that the refusal names for
//! each kind of quotes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::consumers::{Rotating, has, python, quotings, run_script};
use crate::support::passwords::{SEED, passwords};
use guillemet_testing::missing;
use guillemet_testing::random::Random;
use serde_json::{Value, json};

const NODE: &str = "node";

/// The line after the tested one. Node looks for a closing quote beyond the end of its line.
const NEXT: &str = "a'b\"c`d";
const NEXT_LINE: &str = "NEXT=a'b\"c`d\n";

/// The credentials: the value alone, and with text before and after it.
const TEMPLATE: &str = r#"api_key = "<< secret 'password' >>"
client_id = "id-<< secret 'password' >>"
secret_key = "<< secret 'password' >> #end"
"#;
const FIELDS: [&str; 3] = ["api_key", "client_id", "secret_key"];
const NAMES: [&str; 3] = ["CAL_API_KEY", "CAL_CLIENT_ID", "CAL_SECRET_KEY"];

fn texts(value: &str) -> [String; 3] {
    [value.to_owned(), format!("id-{value}"), format!("{value} #end")]
}

/// Returns the passwords of other tests, and values that are not a line of printable ASCII.
fn values() -> Vec<String> {
    const MORE: [&str; 16] = [
        "-----BEGIN-----\nabc+/=\n-----END-----",
        "it's\ntwo lines",
        "\n",
        "\t",
        "a\\\nb",
        "it's a\\\nb",
        "a\r\nb",
        "a\rb",
        "\u{1b}]0;x\u{7}",
        "\u{7f}\u{1}\u{1f}",
        "é€🔑ß→",
        "it's é€🔑",
        "\u{feff}a",
        "\u{85}\u{a0}a\u{2028}",
        "a\u{fdd0}",
        "\u{1fffe}'",
    ];
    const SHARP: [char; 20] = [
        'a', ' ', '\'', '"', '\\', '$', '`', '#', '\n', '\t', 'n', 'é', '\u{1b}', '\u{feff}', '{', '(', '=', '!',
        '\u{88}', '\u{202e}',
    ];
    let mut random = Random::new(SEED);
    let mut values = passwords();
    values.extend(MORE.map(str::to_owned));
    values.extend((0..80).map(|_| {
        (0..1 + random.below(12)).map(|_| SHARP[random.below(SHARP.len() as u64) as usize]).collect::<String>()
    }));
    values
}

/// The readers whose parser can read many files at once.
struct Readers {
    python: PathBuf,
    systemd: bool,
}

const SHELLS: [&str; 2] = ["sh", "bash"];

impl Readers {
    /// Finds the installed readers. Returns `None` if one that has to be there is missing.
    fn find() -> Option<Self> {
        let python = python()?;
        if !has(Path::new(NODE), "`sudo apt-get install nodejs` (20.12 or newer)") {
            return None;
        }
        let mut script = Command::new(&python);
        script.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/consumers/read_systemd.py"));
        // Without input it ends early, but not with status 3.
        let systemd = script.stdin(Stdio::null()).stderr(Stdio::null()).status().unwrap().code() != Some(3);
        let systemd = missing::has(systemd, "systemd's private library", "`sudo apt-get install systemd`");
        Some(Self { python, systemd })
    }

    /// Returns what each reader reads from each file, by the reader's name in refusals.
    fn read(&self, files: &[String]) -> Vec<(&'static str, Vec<Value>)> {
        let files = json!(files);
        let list = |value: Value| value.as_array().unwrap().clone();
        let mut read = vec![
            ("python-dotenv", list(run_script(&self.python, "read_dotenv.py", &files))),
            ("Node's --env-file", list(run_script(Path::new(NODE), "read_dotenv.mjs", &files))),
        ];
        if self.systemd {
            read.push(("systemd", list(run_script(&self.python, "read_systemd.py", &files))));
        }
        read
    }

    /// Returns the environment of a program after `set -a; . FILE`.
    fn sourced(&self, shell: &str, names: &[&str], files: &[String]) -> Vec<Value> {
        let asked = json!({"shell": shell, "names": names, "files": files});
        run_script(&self.python, "read_shell.py", &asked).as_array().unwrap().clone()
    }
}

#[test]
fn every_reader_reads_every_value_as_it_is() {
    let Some(readers) = Readers::find() else { return };
    let values = values();
    let rotating = Rotating::start(&[("cal-com/desk.toml", TEMPLATE)]);
    let (mut written, mut refused) = (Vec::new(), Vec::new());
    for (number, value) in values.iter().enumerate() {
        rotating.rotate(number, value);
        match rotating.render("cal-com/desk", "dotenv") {
            Ok(file) => written.push((number, String::from_utf8(file).unwrap())),
            Err(refusals) => refused.push((number, refusals)),
        }
    }
    assert!(written.len() > values.len() / 2, "only {} of {} were rendered", written.len(), values.len());

    let files: Vec<String> = written.iter().map(|(_, file)| file.clone()).collect();
    let mut read = readers.read(&files);
    read.extend(SHELLS.map(|shell| (shell, readers.sourced(shell, &NAMES, &files))));
    for (reader, found) in read {
        for ((number, file), found) in written.iter().zip(found) {
            let expected: Value =
                NAMES.into_iter().zip(texts(&values[*number])).map(|(k, v)| (k.to_owned(), json!(v))).collect();
            assert_eq!(found, expected, "{reader}, seed {SEED:#x}, value {number}:\n{file}");
        }
    }

    // The refused values: the text of each field, and every way to write it.
    let refused: Vec<(usize, String, String)> = refused
        .into_iter()
        .flat_map(|(number, refusals)| refusals.into_iter().map(move |refusal| (number, refusal)))
        .map(|(number, refusal)| {
            let field = FIELDS.iter().position(|field| *field == refusal.field).expect("one of the fields");
            (number, texts(&values[number])[field].clone(), refusal.reason)
        })
        .collect();
    assert!(!refused.is_empty(), "nothing was refused: these values cannot be the ones meant");
    let is_open = |text: &str| text.contains("${");
    let mut tried = Vec::new();
    for (number, text, reason) in refused {
        let place = format!("seed {SEED:#x}, value {number}, {text:?}: {reason}");
        // It is refused whether or not it is closed, because readers differ about an expansion that begins.
        if is_open(&text) {
            assert!(reason.contains("`${`, which python-dotenv expands"), "{place}: the reason is another");
        } else {
            tried.extend(quotings(&text).into_iter().enumerate().map(|(way, form)| Tried {
                form,
                way,
                text: text.clone(),
                reason: reason.clone(),
                place: place.clone(),
            }));
        }
    }
    let files: Vec<String> = tried.iter().map(|tried| format!("K={}\n{NEXT_LINE}", tried.form)).collect();
    let read = readers.read(&files);
    let mut for_shells = Vec::new();
    for (index, tried) in tried.iter().enumerate() {
        let expected = json!({ "K": tried.text, "NEXT": NEXT });
        for (reader, found) in &read {
            if tried.blames(reader) {
                assert_ne!(found[index], expected, "{reader} reads {}: {}", tried.form, tried.place);
            }
        }
        if tried.blames("a shell") || read.iter().all(|(_, found)| found[index] == expected) {
            for_shells.push(tried);
        }
    }
    // Nothing follows it, because the quotes of the next line would be open.
    let files: Vec<String> = for_shells.iter().map(|tried| format!("K={}\n", tried.form)).collect();
    let found = readers.sourced("sh", &["K"], &files);
    for (tried, found) in for_shells.iter().zip(found) {
        // The meaning of a `$` that no name follows is not specified, so no shell is relied on.
        let may_be_read = tried.form.starts_with('"') && tried.text.contains('$');
        assert!(found["K"] != tried.text.as_str() || may_be_read, "all read {}: {}", tried.form, tried.place);
    }
}

/// A way to write a text that was refused.
struct Tried {
    form: String,
    /// Its index in `quotings`.
    way: usize,
    text: String,
    reason: String,
    place: String,
}

impl Tried {
    /// Reports whether the refusal says that this reader reads this form as something else.
    fn blames(&self, reader: &str) -> bool {
        let (single, double) = match self.reason.split_once("in single quotes, ") {
            Some((_, quotes)) => quotes.split_once("; in double quotes, ").expect("both"),
            None => (self.reason.as_str(), self.reason.as_str()),
        };
        match self.way {
            1 => single.contains(reader),
            2 => double.contains(reader),
            _ => false,
        }
    }
}

/// If all readers agree on a value, it has no quotes, so docker and kubectl, which know none, read it too.
#[test]
fn docker_and_kubectl_read_what_is_bare() {
    let Some(readers) = Readers::find() else { return };
    let rotating = Rotating::start(&[("cal-com/desk.toml", "api_key = \"<< secret 'password' >>\"\n")]);
    let plain: Vec<char> = ('a'..='z').chain('A'..='Z').chain('0'..='9').chain("_./+=:@%,-".chars()).collect();
    let mut random = Random::new(SEED);
    let mut values: Vec<String> = ["cal_live_0123", "-", "https://h.example:80/a"].map(str::to_owned).to_vec();
    values.extend(
        (0..60).map(|_| (0..1 + random.below(40)).map(|_| plain[random.below(plain.len() as u64) as usize]).collect()),
    );
    let (mut file, mut expected) = (String::new(), serde_json::Map::new());
    for (number, value) in values.iter().enumerate() {
        rotating.rotate(number, value);
        let rendered = String::from_utf8(rotating.render("cal-com/desk", "dotenv").unwrap()).unwrap();
        let written = rendered.strip_prefix("CAL_API_KEY=").unwrap();
        // zsh would look for a command.
        if value.starts_with('=') || value.contains(":=") {
            assert_eq!(written, format!("'{value}'\n"));
            continue;
        }
        assert_eq!(written, format!("{value}\n"), "it is written as it is");
        file.push_str(&format!("K{number}={written}"));
        expected.insert(format!("K{number}"), json!(value));
    }
    assert!(expected.len() > 50, "most are bare: {expected:?}");
    let expected = Value::Object(expected);
    let files = [file.clone()];
    let names: Vec<&str> = expected.as_object().unwrap().keys().map(String::as_str).collect();
    for (reader, found) in readers.read(&files) {
        assert_eq!(found[0], expected, "{reader}");
    }
    for shell in SHELLS {
        assert_eq!(readers.sourced(shell, &names, &files)[0], expected, "{shell}");
    }
    for (reader, version, install) in [
        ("docker", "--version", "https://docs.docker.com/engine/install"),
        ("kubectl", "version", "https://kubernetes.io/docs/tasks/tools"),
    ] {
        let known = Command::new(reader).args([version]).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
        if !missing::has(known, reader, install) {
            continue;
        }
        let found = run_script(&readers.python, "read_docker.py", &json!({"reader": reader, "file": file}));
        assert_eq!(found, expected, "{reader}");
        // They read quotes as a part of the value, as their documentation says.
        let found = run_script(&readers.python, "read_docker.py", &json!({"reader": reader, "file": "K='a b'\n"}));
        assert_eq!(found["K"], "'a b'", "{reader}");
    }
}

/// Node's own option, for some values only, because it starts a process for each.
#[test]
fn node_starts_with_the_file() {
    if !has(Path::new(NODE), "`sudo apt-get install nodejs` (20.6 or newer)") {
        return;
    }
    let rotating = Rotating::start(&[("cal-com/desk.toml", "api_key = \"<< secret 'password' >>\"\n")]);
    let file = rotating.guillemet.path("desk.env");
    for (number, value) in passwords().iter().enumerate().step_by(12) {
        rotating.rotate(number, value);
        let Ok(text) = rotating.render("cal-com/desk", "dotenv") else { continue };
        std::fs::write(&file, text).unwrap();
        let output = Command::new(NODE)
            .arg(format!("--env-file={}", file.display()))
            .args(["--eval", "process.stdout.write(process.env.CAL_API_KEY)"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), *value, "seed {SEED:#x}, value {number}");
    }
}
