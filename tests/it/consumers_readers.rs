//! The readers of canaries, beside the programs whose formats they read: what a reader calls a value is what the program
//! reads. A reader may be stricter than its program.
//!
//! The documents hold hostile values in every kind of quotes, and as the encoders write them. baresip's reader is
//! compared in tests/it/consumers_sip.rs, where accounts log in. **Asterisk does not run**: a reader of the tests, written
//! from its source too, takes its place.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::consumers::{has, python, quotings, run_script};
use crate::support::passwords::{SEED, passwords};
use crate::support::sip::asterisk;
use crate::support::sip::kamailio::Kamailio;
use guillemet_plan::encode::{self, ENCODERS, EncoderOptions};
use guillemet_plugin::canary::readers::ReadableFormat::{
    self, Asterisk, Curl, DockerEnv, Ini, Kamailio as KamailioScript, Netrc, Shell, SystemdEnv, Toml, Yaml,
};
use guillemet_testing::missing;
use serde_json::{Map, Value, json};

/// Values that hold more than printable ASCII, or are words and numbers to some format.
const MORE: [&str; 40] = [
    "a\nb",
    "\n",
    "\r",
    "a\r\nb",
    "\t",
    "a\tb",
    "\u{1}",
    "\u{7f}",
    "\u{80}",
    "\u{85}",
    "\u{88}",
    "\u{a0}",
    "\u{a0}a\u{a0}",
    "\u{2028}",
    "\u{2029}a",
    "\u{feff}a",
    "a\u{feff}",
    "\u{fffe}",
    "\u{ffff}",
    "\u{fdd0}",
    "\u{1fffe}",
    "é€🔑ß→",
    "😀",
    "true",
    "Yes",
    "no",
    "on",
    "null",
    "~",
    "123",
    "1e3",
    "0x1f",
    "0o17",
    "017",
    "1:30",
    "2001-01-01",
    "=",
    "- a",
    "a: b",
    "#a",
];

fn values() -> Vec<String> {
    passwords().into_iter().step_by(3).chain(MORE.map(str::to_owned)).collect()
}

/// Returns every way to write a value: each kind of quotes, and what the format's encoder writes if there is one.
fn written(encoder: &str, value: &str) -> (Vec<String>, Option<String>) {
    let definition = ENCODERS.iter().find(|definition| definition.name == encoder);
    let op = definition.map(|definition| definition.op(EncoderOptions::default()));
    let encoded = op.and_then(|op| encode::literal(&op, &[value]).ok());
    let mut ways = quotings(value);
    // With escapes for everything that is not printable.
    ways.push(json!(value).to_string());
    ways.extend(encoded.clone());
    (ways, encoded)
}

/// A document with a value in it.
struct Tried {
    text: String,
    /// The leaves that the format's reader calls values, by path.
    values: Map<String, Value>,
}

/// Makes a document of each way to write each value, and keeps those that the format's reader reads. Checks that it reads
/// what the encoder writes as the value at `path`.
fn documents(format: ReadableFormat, encoder: &str, path: &str, document: impl Fn(&str) -> String) -> Vec<Tried> {
    let mut documents = Vec::new();
    for value in values() {
        let (ways, encoded) = written(encoder, &value);
        for way in ways {
            let text = document(&way);
            let is_encoded = Some(&way) == encoded.as_ref();
            match format.leaves(&text) {
                Ok(leaves) => {
                    let found = leaves.iter().filter(|leaf| leaf.structure.is_none());
                    let values: Map<_, _> = found.map(|leaf| (leaf.path.join("/"), json!(leaf.text))).collect();
                    let place = format!("seed {SEED:#x}, {value:?}: {text:?}");
                    assert!(!is_encoded || values.get(path) == Some(&json!(value)), "{place}: {values:?}");
                    documents.push(Tried { text, values });
                }
                Err(error) => assert!(!is_encoded, "seed {SEED:#x}, {value:?}: {error}\n{text:?}"),
            }
        }
    }
    documents
}

/// Keeps some of the documents, for a program that is started for each.
fn some(documents: Vec<Tried>) -> Vec<Tried> {
    documents.into_iter().step_by(4).collect()
}

fn texts(documents: &[Tried]) -> Vec<&str> {
    documents.iter().map(|tried| tried.text.as_str()).collect()
}

/// Asserts that a program reads the values of each document as the reader does, and that most documents have one.
fn assert_read(program: &str, documents: &[Tried], path: &str, read: &[Value]) {
    assert_eq!(documents.len(), read.len());
    let (mut with_value, mut wrong) = (0, Vec::new());
    for (tried, read) in documents.iter().zip(read) {
        let differs = |(path, text): &(&String, &Value)| read.get(*path) != Some(*text);
        let of = |(path, text)| format!("{:?}: {path} is {text}, and {:?}", tried.text, read.get(path));
        wrong.extend(tried.values.iter().filter(differs).map(of));
        with_value += usize::from(tried.values.contains_key(path));
    }
    assert!(wrong.is_empty(), "{program}, seed {SEED:#x}, {} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(with_value > 100, "{program}: only {with_value} documents have a value: these cannot be the ones meant");
}

fn list(value: Value) -> Vec<Value> {
    value.as_array().expect("a list").clone()
}

fn read_by_python(python: &Path, format: &str, documents: &[Tried]) -> Vec<Value> {
    list(run_script(python, "read_values.py", &json!({"format": format, "files": texts(documents)})))
}

#[test]
fn yaml_and_toml_are_read_as_python_reads_them() {
    let Some(python) = python() else { return };
    let documents =
        self::documents(Yaml, "yaml-string", "key", |way| format!("key: {way}\nlist: [{way}, x]\nnext: y\n"));
    assert_read("PyYAML", &documents, "key", &read_by_python(&python, "yaml", &documents));
    let documents = self::documents(Toml, "toml-string", "key", |way| {
        format!("key = {way}\n[table]\nlist = [{way}]\nnext = 'y'\n")
    });
    assert_read("tomllib", &documents, "key", &read_by_python(&python, "toml", &documents));
}

#[test]
fn ini_is_read_as_configparser_and_npm_read_it() {
    let Some(python) = python() else { return };
    let documents = self::documents(Ini, "ini-value", "s/key", |way| format!("[s]\nkey = {way}\nnext = y\n"));
    assert_read("configparser", &documents, "s/key", &read_by_python(&python, "ini", &documents));
    if !has(Path::new("node"), "`sudo apt-get install nodejs`") || !has(Path::new("npm"), "`sudo apt-get install npm`")
    {
        return;
    }
    let read = list(run_script(Path::new("node"), "read_ini.mjs", &json!(texts(&documents))));
    assert_read("npm's ini", &documents, "s/key", &read);
}

#[test]
fn netrc_is_read_as_python_and_curl_read_it() {
    let Some(python) = python() else { return };
    let document = |way: &str| format!("machine 127.0.0.1\n  login u\n  password {way}\n");
    let documents = self::documents(Netrc, "netrc-token", "127.0.0.1/password", document);
    let path = "127.0.0.1/password";
    assert_read("Python's netrc", &documents, path, &read_by_python(&python, "netrc", &documents));
    if !missing::has_program("curl", "curl") {
        return;
    }
    let documents = some(documents);
    let read = list(run_script(&python, "read_curl.py", &json!({"kind": "netrc", "files": texts(&documents)})));
    for (tried, read) in documents.iter().zip(read) {
        if let Some(password) = tried.values.get(path) {
            assert_eq!(read, *password, "curl, seed {SEED:#x}, {:?}", tried.text);
        }
    }
}

#[test]
fn curl_configs_are_read_as_curl_reads_them() {
    let Some(python) = python() else { return };
    if !missing::has_program("curl", "curl") {
        return;
    }
    let path = "data-raw";
    let documents = self::documents(Curl, "curl-config", path, |way| format!("url = {{url}}\ndata-raw = {way}\n"));
    let documents = some(documents.into_iter().filter(|tried| tried.values.len() == 2).collect());
    let read = list(run_script(&python, "read_curl.py", &json!({"kind": "config", "files": texts(&documents)})));
    let is_option = |text: &str| text.contains("data-raw = --") || text.contains("data-raw = -");
    let mut compared = 0;
    for (tried, read) in documents.iter().zip(read) {
        // curl warns about a value that looks like an option, and takes it.
        assert!(read == tried.values[path] || is_option(&tried.text), "curl, seed {SEED:#x}, {:?}: {read}", tried.text);
        compared += usize::from(read == tried.values[path]);
    }
    assert!(compared > 100, "only {compared} were sent");
}

#[test]
fn environments_are_read_as_systemd_and_docker_read_them() {
    let Some(python) = python() else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/consumers/read_systemd.py");
    let mut systemd = Command::new(&python);
    systemd.arg(script).stdin(Stdio::null()).stderr(Stdio::null());
    let systemd = systemd.status().unwrap().code() != Some(3);
    if missing::has(systemd, "systemd's private library", "`sudo apt-get install systemd`") {
        let documents = self::documents(SystemdEnv, "systemd-env", "key", |way| format!("key={way}\nnext=y\n"));
        let read = list(run_script(&python, "read_systemd.py", &json!(texts(&documents))));
        assert_read("systemd", &documents, "key", &read);
    }
    // Each line is a variable: one file for all.
    let mut file = String::new();
    for value in values().iter().filter(|value| !value.contains(['\n', '\r'])) {
        file.push_str(&format!("K{}={value}\n", file.len()));
    }
    let leaves = DockerEnv.leaves(&file).unwrap();
    let expected: Value = leaves.into_iter().map(|leaf| (leaf.path.concat(), json!(leaf.text))).collect();
    assert!(expected.as_object().unwrap().len() > 100, "{expected}");
    for (reader, version) in [("docker", "--version"), ("kubectl", "version")] {
        let known = Command::new(reader).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
        if missing::has(known, reader, "see tests/it/consumers_dotenv.rs") {
            let read = run_script(&python, "read_docker.py", &json!({"reader": reader, "file": file}));
            assert_eq!(read, expected, "{reader}");
        }
    }
}

#[test]
fn shell_scripts_are_read_as_shells_read_them() {
    let Some(python) = python() else { return };
    let documents = self::documents(Shell, "shell-word", "key", |way| format!("key={way}\n"));
    // What is live is not compared: it is not run here either.
    let is_quiet = |tried: &Tried| {
        let leaves = Shell.leaves(&tried.text).unwrap();
        let mut live = leaves.iter().filter_map(|leaf| leaf.structure);
        tried.values.len() == 1 && live.all(|what| ["a word", "the name of a variable", "a line break"].contains(&what))
    };
    let documents: Vec<Tried> = documents.into_iter().filter(is_quiet).collect();
    for shell in ["dash", "bash"] {
        if !missing::has(
            Command::new(shell).args(["-c", ":"]).status().is_ok(),
            shell,
            "`sudo apt-get install dash bash`",
        ) {
            continue;
        }
        let asked = json!({"shell": shell, "names": ["key"], "files": texts(&documents)});
        assert_read(shell, &documents, "key", &list(run_script(&python, "read_shell.py", &asked)));
    }
}

#[test]
fn strings_of_kamailio_are_read_as_kamailio_reads_them() {
    let Some(mut kamailio) = Kamailio::new() else { return };
    let documents = self::documents(KamailioScript, "kamailio-string", "a string", |way| format!("$var(v) = {way};"));
    // A statement that is anything else than one string would be the end of the whole configuration.
    let is_one_string = |tried: &&Tried| {
        let leaves = KamailioScript.leaves(&tried.text).unwrap();
        let around: Vec<&str> =
            leaves.iter().filter(|leaf| leaf.structure.is_some()).map(|leaf| leaf.text.as_str()).collect();
        around == ["$", "var", "(", "v", ")", "=", ";"] && leaves.len() == 8
    };
    let mut expected = Vec::new();
    for tried in documents.iter().filter(is_one_string) {
        let number = expected.len();
        let print = format!("xlog(\"L_ERR\", \"value {number}: $(var(v){{s.encode.hexa}}).\\n\");");
        kamailio.begins_with(&format!("    {}\n    {print}\n", tried.text));
        expected.push(tried.values["a string"].as_str().unwrap());
    }
    assert!(expected.len() > 100, "{}", expected.len());
    let mut running = kamailio.run();
    for (number, text) in expected.iter().enumerate() {
        let read = |line: &str| {
            let (_, hex) = line.split_once(&format!("value {number}: "))?;
            Some(hex.split('.').next()?.to_owned())
        };
        let logged = running.log.iter().find_map(|line| read(line));
        let read = logged.unwrap_or_else(|| running.until("the value is printed", read));
        assert_eq!(read, data_encoding::HEXLOWER.encode(text.as_bytes()), "seed {SEED:#x}, {text:?}");
    }
}

#[test]
fn asterisk_configs_are_read_as_the_other_reader_reads_them() {
    let documents = self::documents(Asterisk, "asterisk-value", "s/key", |way| format!("[s]\nkey = {way}\nnext = y\n"));
    let one =
        |tried: &&Tried| tried.values.len() == 2 && !Asterisk.leaves(&tried.text).unwrap().iter().any(is_directive);
    let mut compared = 0;
    for tried in documents.iter().filter(one) {
        let sections = asterisk::read(&tried.text);
        assert_eq!(sections.len(), 1, "{:?}", tried.text);
        assert_eq!(sections[0].get("key"), tried.values["s/key"].as_str().unwrap(), "{:?}", tried.text);
        compared += 1;
    }
    assert!(compared > 100, "{compared}");
}

fn is_directive(leaf: &guillemet_plugin::canary::readers::Leaf) -> bool {
    leaf.structure == Some("a directive")
}
