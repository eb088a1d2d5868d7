//! The time that an author waits: from `plugin new` to cases that hold, in each language, if its tools are installed
//! and have run before. `tests/authors/tools` installs them. A language whose tools are missing is left out.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::home::PROGRAM;
use super::report::Report;

/// A language, and how it is measured.
struct Language {
    flag: &'static str,
    /// The name for people.
    name: &'static str,
    /// What it needs from `target/authors`, and the name of that in a project.
    needs: Option<(&'static str, &'static str)>,
    /// Whether what cargo has compiled for another project is used again.
    shared: bool,
}

const LANGUAGES: [Language; 5] = [
    Language { flag: "rust", name: "Rust", needs: None, shared: false },
    Language { flag: "rust", name: "Rust, dependencies compiled before", needs: None, shared: true },
    Language { flag: "c", name: "C", needs: Some(("venv", ".venv")), shared: true },
    Language { flag: "js", name: "JavaScript", needs: Some(("node_modules", "node_modules")), shared: true },
    Language { flag: "python", name: "Python", needs: Some(("venv", ".venv")), shared: true },
];

/// The times of one run from nothing to cases that hold.
struct Way {
    build: Duration,
    test: Duration,
    all: Duration,
    size: u64,
}

/// Measures this for each language.
pub fn authors(report: &mut Report, quick: bool) {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/authors");
    for language in LANGUAGES {
        let name = language.name;
        if language.needs.is_some_and(|(tool, _)| !tools.join(tool).exists()) {
            println!("a plugin in {name}: left out; tests/authors/tools installs what it needs");
            continue;
        }
        // One run in advance, so that everything that is compiled only once has been compiled.
        way(&tools, &language);
        let mut ways: Vec<Way> = (0..if quick { 1 } else { 5 }).map(|_| way(&tools, &language)).collect();
        ways.sort_by_key(|way| way.all);
        let middle = &ways[ways.len() / 2];
        report.time(&format!("a plugin in {name}, from `plugin new` to cases that hold"), middle.all);
        report.time(&format!("a plugin in {name}: of that `plugin build`"), middle.build);
        report.time(&format!("a plugin in {name}: of that `plugin test`"), middle.test);
        report.bytes(&format!("a plugin in {name}: its component"), middle.size);
    }
}

fn way(tools: &Path, language: &Language) -> Way {
    let above = tempfile::tempdir().expect("a folder");
    let project = above.path().join("hook");
    let cargo = if language.shared { tools.join("cargo") } else { project.join("target") };
    // A new cache, so that compiled plugins of an earlier run are not used.
    let cache = above.path().join("cache");
    let run = |dir: &Path, arguments: &[&str]| run([&cargo, &tools.join("zig"), &cache], dir, arguments);
    let begin = Instant::now();
    run(above.path(), &["plugin", "new", "hook", "--lang", language.flag]);
    if let Some((tool, name)) = language.needs {
        symlink(tools.join(tool), project.join(name)).expect("a link");
    }
    let built = Instant::now();
    run(&project, &["plugin", "build"]);
    let tested = Instant::now();
    run(&project, &["plugin", "test"]);
    let end = Instant::now();
    let size = std::fs::metadata(project.join("hook.wasm")).expect("a component").len();
    Way { build: tested - built, test: end - tested, all: end - begin, size }
}

fn run([cargo, zig, cache]: [&Path; 3], dir: &Path, arguments: &[&str]) {
    let mut command = Command::new(PROGRAM);
    command.env("CARGO_TARGET_DIR", cargo).env("ZIG_GLOBAL_CACHE_DIR", zig).env("XDG_CACHE_HOME", cache);
    let output = command.args(arguments).current_dir(dir).stdin(Stdio::null()).output().expect("guillemet runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
