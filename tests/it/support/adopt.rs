//! `adopt` with a real daemon, and helpers to check what it must not change.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::daemon::Guillemet;

pub struct Adopting {
    pub guillemet: Guillemet,
    /// The folder of the plain files, outside of the home.
    pub files: tempfile::TempDir,
}

/// The result of a run of `adopt`.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn said(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }

    /// Checks that no value was printed, neither as it is nor in JSON or Base64.
    pub fn never_says(&self, values: &[&str]) {
        let said = self.said();
        for value in values {
            let escaped = Value::from(*value).to_string();
            let forms = [
                value.to_string(),
                escaped.trim_matches('"').to_owned(),
                data_encoding::BASE64.encode(value.as_bytes()),
            ];
            for form in forms {
                assert!(!said.contains(&form), "a value was printed: {said}");
            }
        }
    }

    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.said());
        self
    }

    /// Checks that the run was refused with each of these words in its message.
    #[track_caller]
    pub fn refused(self, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(1), "{}", self.said());
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in: {}", self.said());
        }
        self
    }
}

impl Adopting {
    pub fn start() -> Self {
        Self { guillemet: Guillemet::start(), files: tempfile::tempdir().unwrap() }
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn adopt(&self, file: &Path, feature: &str, name: &str, more: &[&str]) -> Ran {
        self.adopt_with(file, feature, name, more, b"")
    }

    pub fn adopt_with(&self, file: &Path, feature: &str, name: &str, more: &[&str], input: &[u8]) -> Ran {
        let mut arguments = vec!["adopt", file.to_str().unwrap(), "--feature", feature, "--name", name];
        arguments.extend(more);
        let output = self.guillemet.command_with(&arguments, input);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Returns everything that a run could change, as text: the inventory, the templates, and the plain files.
    pub fn state(&self) -> String {
        let mut state = self.guillemet.get("/v1/secrets?limit=1000").text();
        for dir in [self.guillemet.path("templates"), self.files.path().to_owned()] {
            describe(&dir, &mut state);
        }
        state
    }

    pub fn names(&self) -> Vec<String> {
        let secrets = self.guillemet.get("/v1/secrets?limit=1000").json();
        secrets["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    }

    #[track_caller]
    pub fn render(&self, id: &str, target: &str) -> String {
        let answer = self.guillemet.get(&format!("/v1/render/{id}?target={target}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    }

    #[track_caller]
    pub fn value(&self, name: &str) -> String {
        let answer = self.guillemet.post("/v1/resolve", &serde_json::json!({"secrets": [name]}));
        answer.json()["secrets"][name].as_str().unwrap_or_else(|| panic!("{}", answer.text())).to_owned()
    }

    pub fn template(&self, file: &str) -> String {
        std::fs::read_to_string(self.guillemet.path("templates").join(file)).unwrap()
    }
}

/// Adds a description of every file below a folder: name, bytes, permissions, time of the last change.
fn describe(dir: &Path, into: &mut String) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        into.push_str(&format!("\n{} {:?} {:?}", path.display(), metadata.permissions(), metadata.modified().unwrap()));
        if metadata.is_dir() {
            describe(&path, into);
        } else {
            into.push_str(&format!("\n{}", String::from_utf8_lossy(&std::fs::read(&path).unwrap())));
        }
    }
}
