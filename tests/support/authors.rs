//! Projects of plugin authors, in folders of their own, with the real tools of their languages: `tests/run` puts those
//! into `target/authors`, so that a project need not download its own.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use super::daemon::PROGRAM;
use super::missing;

/// Plugins that use all of their author library.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/authors");

/// Tools and what they have compiled, for all tests.
pub fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/authors")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Rust,
    C,
    JavaScript,
    Python,
}

impl Language {
    fn flag(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::JavaScript => "js",
            Self::Python => "python",
        }
    }

    /// What has to be there in `tools`.
    fn tool(self) -> Option<&'static str> {
        match self {
            Self::Rust => None,
            Self::C => Some("venv/bin/python3"),
            Self::JavaScript => Some("node_modules/componentize-qjs"),
            Self::Python => Some("venv/bin/componentize-py"),
        }
    }
}

impl Language {
    /// Whether its tools are there; if not, the test is skipped.
    pub fn has_tools(self) -> bool {
        let is_there = self.tool().is_none_or(|tool| tools().join(tool).exists());
        let part = format!("what {} plugins are made with", self.flag());
        missing::has(is_there, &part, "`tests/authors/tools` installs it")
    }
}

/// What a command has ended with, and has printed to either.
pub struct Ran {
    pub status: ExitStatus,
    pub text: String,
}

pub struct Project {
    above: tempfile::TempDir,
    name: String,
    language: Language,
}

impl Project {
    /// As `plugin new` makes it, with the tools of its language; without those the test is skipped.
    pub fn new(language: Language, name: &str) -> Option<Self> {
        if !language.has_tools() {
            return None;
        }
        let project = Self::bare(language, name);
        match language {
            Language::Rust => {}
            Language::JavaScript => symlink(tools().join("node_modules"), project.path("node_modules")).unwrap(),
            Language::C | Language::Python => symlink(tools().join("venv"), project.path(".venv")).unwrap(),
        }
        Some(project)
    }

    /// As `plugin new` makes it.
    pub fn bare(language: Language, name: &str) -> Self {
        let project = Self { above: tempfile::tempdir().unwrap(), name: name.to_owned(), language };
        let made = project.guillemet_above(&["plugin", "new", name, "--lang", language.flag()]);
        assert!(made.status.success() && made.text.contains(&format!("cd {name}\n")), "{}", made.text);
        project
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.above.path().join(&self.name).join(name)
    }

    /// The program in the project's folder.
    pub fn guillemet(&self, arguments: &[&str]) -> Ran {
        self.run(PROGRAM, arguments)
    }

    /// The program beside the project's folder.
    pub fn guillemet_above(&self, arguments: &[&str]) -> Ran {
        ran(command(PROGRAM, arguments).current_dir(self.above.path()))
    }

    /// The program with nothing in PATH but these scripts, and no home.
    pub fn with_scripts(&self, scripts: &[(&str, &str)], arguments: &[&str]) -> Ran {
        let path = tempfile::tempdir().unwrap();
        for (name, script) in scripts {
            let file = path.path().join(name);
            std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut command = command(PROGRAM, arguments);
        ran(command
            .current_dir(self.path(""))
            .env_clear()
            .env("PATH", path.path())
            .env("HOME", format!("{PROGRAM}/no-home")))
    }

    /// Any program in the project's folder.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Ran {
        ran(&mut self.command(program, arguments))
    }

    /// The same, not started yet.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = command(program, arguments);
        command.current_dir(self.path(""));
        command
    }

    /// Replaces a text that stands in a file once.
    pub fn change(&self, file: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(file)).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{from} in {file}");
        std::fs::write(self.path(file), text.replace(from, to)).unwrap();
    }

    /// Puts a plugin in place of its own, which uses all of the author library, and its cases.
    pub fn use_all_of_the_library(&self) {
        let source = match self.language {
            Language::Rust => ("lib.rs", "src/lib.rs"),
            Language::C => ("plugin.c", "plugin.c"),
            Language::JavaScript => ("plugin.js", "plugin.js"),
            Language::Python => ("plugin.py", "plugin.py"),
        };
        std::fs::remove_dir_all(self.path("cases")).unwrap();
        std::fs::create_dir(self.path("cases")).unwrap();
        for (from, to) in [source, ("schema.json", "schema.json"), ("fields.toml", "cases/fields.toml")] {
            std::fs::copy(Path::new(SOURCES).join(from), self.path(to)).unwrap();
        }
    }
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    for (name, value) in environment() {
        command.env(name, value);
    }
    command
}

/// What is shared between projects, so that it is compiled and downloaded once.
pub fn environment() -> Vec<(&'static str, PathBuf)> {
    vec![
        ("CARGO_TARGET_DIR", tools().join("cargo")),
        ("ZIG_GLOBAL_CACHE_DIR", tools().join("zig")),
        ("NO_COLOR", "1".into()),
        // Not the cache, and not the daemon, of whoever runs the tests. An empty variable counts as none.
        ("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR").into()),
        ("GUILLEMET_SOCKET", "".into()),
    ]
}

fn ran(command: &mut Command) -> Ran {
    let ended = command.output().unwrap();
    let text = String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr);
    Ran { status: ended.status, text }
}
