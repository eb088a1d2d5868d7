//! Programs that use rendered configs, and a daemon whose secret changes its value repeatedly.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::daemon::Guillemet;
use super::passwords::SEED;
use guillemet_testing::missing;

/// Reports whether a program is installed and works. If not, the test is reported as skipped.
pub fn has(program: &Path, install: &str) -> bool {
    let works = Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success());
    missing::has(works, &program.display().to_string(), install)
}

/// Returns the Python whose packages `tests/run` installs.
pub fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/consumers/venv/bin/python");
    has(&python, "`sudo apt-get install python3-venv`, then `make test` (Python 3.10 or newer)").then_some(python)
}

/// Runs a script of `tests/consumers`, which reads one line of JSON and writes one.
pub fn run_script(interpreter: &Path, script: &str, input: &Value) -> Value {
    let mut child = Command::new(interpreter)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/consumers").join(script))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // If writing fails, the script has failed, and its standard error says why.
    let _ = child.stdin.take().unwrap().write_all(format!("{input}\n").as_bytes());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script} failed");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{script}: {error}"))
}

/// Returns each way to write a text as a value that at least one reader knows: bare, in single quotes, in double
/// quotes, and others.
pub fn quotings(text: &str) -> Vec<String> {
    let escaped = |quote: char| text.replace('\\', "\\\\").replace(quote, &format!("\\{quote}"));
    vec![
        text.to_owned(),
        format!("'{text}'"),
        format!("\"{text}\""),
        format!("`{text}`"),
        format!("'{}'", escaped('\'')),
        format!("\"{}\"", escaped('"')),
        format!("\"{}\"", escaped('"').replace('$', "\\$").replace('`', "\\`")),
        format!("'{}'", text.replace('\'', "\\'")),
        format!("'{}'", text.replace('\'', "'\\''")),
        format!("\"{}\"", text.replace('"', "\\\"")),
        format!("\"{}\"", text.replace('$', "\\$")),
        format!("\"{}\"", text.replace('\n', "\\n")),
        format!("'{}'", text.replace('$', "\\$")),
        text.replace('$', "\\$"),
        text.replace('#', "\\#"),
    ]
}

/// A daemon with templates that use one secret, `password`, whose value changes. A second secret, `number`, says which
/// value it is.
pub struct Rotating {
    pub guillemet: Guillemet,
}

impl Rotating {
    pub fn start(templates: &[(&str, &str)]) -> Self {
        let mut guillemet = Guillemet::init();
        guillemet.log_level = "warn";
        for (name, text) in templates {
            guillemet.write(name, text);
        }
        guillemet.run();
        guillemet.add("password", "none yet");
        guillemet.add("number", "none yet");
        Self { guillemet }
    }

    /// Gives the secret the value with this number.
    pub fn rotate(&self, number: usize, value: &str) {
        for (name, value) in [("number", number.to_string()), ("password", value.to_owned())] {
            let body = json!({ "value": value }).to_string();
            let answer = self.guillemet.ask("PATCH", &format!("/v1/secrets/{name}"), &[], body.as_bytes());
            assert_eq!(answer.status, 200, "seed {SEED:#x}, value {number}: {}", answer.text());
        }
    }

    /// Returns the rendered config, or the fields that cannot hold the value.
    pub fn render(&self, template: &str, target: &str) -> Result<Vec<u8>, Vec<Refusal>> {
        let answer = self.guillemet.get(&format!("/v1/render/{template}?target={target}"));
        if answer.status == 200 {
            return Ok(answer.body);
        }
        assert_eq!(answer.status, 422, "{target}: {}", answer.text());
        assert!(answer.errors("reason").iter().all(|reason| reason == "unfit"), "{target}: {}", answer.text());
        let refusal = |(field, reason)| Refusal { field, reason };
        Err(answer.errors("field").into_iter().zip(answer.errors("message")).map(refusal).collect())
    }
}

/// The reason a field cannot hold a value.
#[derive(Debug)]
pub struct Refusal {
    pub field: String,
    pub reason: String,
}

/// Compares the result with the expectation: a config if `necessary` is empty, and otherwise exactly these refusals,
/// each named by a part of its reason. Returns the config.
pub fn judge(
    rendered: Result<Vec<u8>, Vec<Refusal>>,
    necessary: &[&str],
    number: usize,
    value: &str,
    target: &str,
) -> Option<Vec<u8>> {
    let place = format!("seed {SEED:#x}, value {number} {value:?}, target {target}");
    match rendered {
        Ok(document) => {
            assert!(necessary.is_empty(), "{place}: was rendered, and is {necessary:?}");
            Some(document)
        }
        Err(refusals) => {
            let mut reasons: Vec<String> = refusals.into_iter().map(|refusal| refusal.reason).collect();
            reasons.sort();
            reasons.dedup();
            let told = |part: &&str| reasons.iter().any(|reason| reason.contains(*part));
            assert!(
                reasons.len() == necessary.len() && necessary.iter().all(told),
                "{place}: refused for {reasons:?}, where {necessary:?} are reasons"
            );
            None
        }
    }
}
