//! Projects of plugin authors, in temporary folders, with the real tools of each language. `tests/run` installs the
//! tools into `target/authors`, so that no project has to download its own.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use super::daemon::PROGRAM;
use guillemet_testing::missing;

/// The folder of plugins that use every function of their author library.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/authors");

/// The schema and the cases of these plugins, with their places in a project.
const SCHEMA: (&str, &str) = ("schema.json", "schema.json");
const FIELDS: (&str, &str) = ("fields.toml", "cases/fields.toml");

/// Returns the folder of the tools and of what they compile, shared by all tests.
pub fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/authors")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Rust,
    C,
    JavaScript,
    Python,
    Toml,
}

impl Language {
    fn flag(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::JavaScript => "js",
            Self::Python => "python",
            Self::Toml => "toml",
        }
    }

    /// Returns the path in `tools` that exists when the language's tools are installed.
    fn tool(self) -> Option<&'static str> {
        match self {
            Self::Rust | Self::Toml => None,
            Self::C => Some("venv/bin/python3"),
            Self::JavaScript => Some("node_modules/componentize-qjs"),
            Self::Python => Some("venv/bin/componentize-py"),
        }
    }
}

impl Language {
    /// Reports whether the language's tools are installed. If not, the test is reported as skipped.
    pub fn has_tools(self) -> bool {
        let is_there = self.tool().is_none_or(|tool| tools().join(tool).exists());
        let part = format!("what {} plugins are made with", self.flag());
        missing::has(is_there, &part, "`tests/authors/tools` installs it")
    }
}

/// The exit status of a command, and its standard output followed by its standard error.
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
    /// Makes a project with `plugin new` and links the tools of its language. Returns `None` without the tools; the
    /// test is then reported as skipped.
    pub fn new(language: Language, name: &str) -> Option<Self> {
        Self::from(language, name, None)
    }

    /// Makes a project with `plugin new`, from a sample if there is one: a file name and its text. Otherwise as
    /// [`new`](Self::new).
    pub fn from(language: Language, name: &str, sample: Option<(&str, &str)>) -> Option<Self> {
        if !language.has_tools() {
            return None;
        }
        let project = match sample {
            None => Self::bare(language, name),
            Some((file, text)) => {
                let project = Self { above: tempfile::tempdir().unwrap(), name: name.to_owned(), language };
                std::fs::write(project.above.path().join(file), text).unwrap();
                let arguments = ["plugin", "new", name, "--lang", language.flag(), "--from", file];
                let made = project.guillemet_above(&arguments);
                assert!(made.status.success(), "{}", made.text);
                project
            }
        };
        match language {
            Language::Rust | Language::Toml => {}
            Language::JavaScript => symlink(tools().join("node_modules"), project.path("node_modules")).unwrap(),
            Language::C | Language::Python => symlink(tools().join("venv"), project.path(".venv")).unwrap(),
        }
        Some(project)
    }

    /// Makes a project with `plugin new`, without tools.
    pub fn bare(language: Language, name: &str) -> Self {
        let project = Self { above: tempfile::tempdir().unwrap(), name: name.to_owned(), language };
        let made = project.guillemet_above(&["plugin", "new", name, "--lang", language.flag()]);
        assert!(made.status.success() && made.text.contains(&format!("cd {name}\n")), "{}", made.text);
        project
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.above.path().join(&self.name).join(name)
    }

    /// Runs the program in the project's folder.
    pub fn guillemet(&self, arguments: &[&str]) -> Ran {
        self.run(PROGRAM, arguments)
    }

    /// Runs the program in the folder that contains the project's folder.
    pub fn guillemet_above(&self, arguments: &[&str]) -> Ran {
        ran(command(PROGRAM, arguments).current_dir(self.above.path()))
    }

    /// Runs the program with only these scripts in PATH, and no home.
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

    /// Runs any program in the project's folder.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Ran {
        ran(&mut self.command(program, arguments))
    }

    /// Returns a command in the project's folder that is not started yet.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = command(program, arguments);
        command.current_dir(self.path(""));
        command
    }

    /// Replaces a text that occurs exactly once in a file.
    pub fn change(&self, file: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(file)).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{from} in {file}");
        std::fs::write(self.path(file), text.replace(from, to)).unwrap();
    }

    /// Replaces the plugin and its cases by a plugin that uses every function of the author library.
    pub fn use_all_of_the_library(&self) {
        let files = match self.language {
            Language::Rust => vec![("lib.rs", "src/lib.rs"), SCHEMA, FIELDS],
            Language::C => vec![("plugin.c", "plugin.c"), SCHEMA, FIELDS],
            Language::JavaScript => vec![("plugin.js", "plugin.js"), SCHEMA, FIELDS],
            Language::Python => vec![("plugin.py", "plugin.py"), SCHEMA, FIELDS],
            Language::Toml => {
                vec![("toml/plugin.toml", "plugin.toml"), ("toml/cases/everything.toml", "cases/everything.toml")]
            }
        };
        std::fs::remove_dir_all(self.path("cases")).unwrap();
        std::fs::create_dir(self.path("cases")).unwrap();
        for (from, to) in files {
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

/// Returns the variables for caches that projects share, so that everything is compiled and downloaded once.
pub fn environment() -> Vec<(&'static str, PathBuf)> {
    vec![
        ("CARGO_TARGET_DIR", tools().join("cargo")),
        ("ZIG_GLOBAL_CACHE_DIR", tools().join("zig")),
        ("NO_COLOR", "1".into()),
        // Neither the cache nor the daemon of the user who runs the tests is used. An empty variable counts as unset.
        ("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR").into()),
        ("GUILLEMET_SOCKET", "".into()),
    ]
}

fn ran(command: &mut Command) -> Ran {
    let ended = command.output().unwrap();
    let text = String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr);
    Ran { status: ended.status, text }
}
