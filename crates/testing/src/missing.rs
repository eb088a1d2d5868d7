//! Parts of the machine that a test needs, and what happens to the test if one is missing.
//!
//! The test harness does not know tests that skip themselves. Such a test reports here what is missing and ends. A line
//! goes to standard error and to the file that `GUILLEMET_SKIPPED` names, from which `tests/run` prints and counts the
//! skipped tests at its end. With `CI=true` the test fails instead, except for parts that `tests/parts.md` lists.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, Stdio};

/// Returns `is_there`. If the part is missing, reports the calling test as skipped, with the remedy.
///
/// # Panics
/// With `CI=true`, if the part is missing and `tests/parts.md` does not list it.
#[must_use]
#[track_caller]
pub fn has(is_there: bool, part: &str, remedy: &str) -> bool {
    if !is_there {
        let line = line(part, remedy);
        assert!(std::env::var("CI").as_deref() != Ok("true") || is_listed(part), "{line}");
        report(&line);
    }
    is_there
}

/// Reports whether a part is listed in the table of parts that not every machine can have.
fn is_listed(part: &str) -> bool {
    include_str!("../../../tests/parts.md").lines().any(|row| row.starts_with(&format!("| {part} |")))
}

/// Does the same as [`has`] for something that depends on the kernel or the file system and cannot be installed. It
/// never fails the test, not even with `CI=true`.
#[must_use]
pub fn supports(is_there: bool, part: &str, remedy: &str) -> bool {
    if !is_there {
        report(&line(part, remedy));
    }
    is_there
}

/// Reports whether a program of a Debian package is installed.
///
/// # Panics
/// As [`has`].
#[must_use]
#[track_caller]
pub fn has_program(program: &str, package: &str) -> bool {
    let mut command = Command::new(program);
    let found = command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    has(found.is_ok(), program, &format!("`sudo apt-get install --no-install-recommends {package}`"))
}

/// Reports whether the tests run as root.
///
/// # Panics
/// As [`has`].
#[must_use]
#[track_caller]
pub fn is_root(to: &str) -> bool {
    has(rustix::process::geteuid().is_root(), &format!("root, to {to}"), "run the tests as root")
}

fn line(part: &str, remedy: &str) -> String {
    format!("{}: needs {part}: {remedy}", test())
}

/// Returns the name of the running test, with its test program.
fn test() -> String {
    // The harness names a test's thread after the test. A single selected test may run in the main thread, and then the
    // command line has the name.
    let thread = std::thread::current();
    let named = thread.name().filter(|name| *name != "main").map(str::to_owned);
    let chosen = || std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let program = std::env::current_exe().ok().and_then(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    let program = program.unwrap_or_default();
    // Cargo adds a hash to the program's name.
    let program = program.rsplit_once('-').map_or(program.as_str(), |(name, _)| name);
    format!("{program}::{}", named.or_else(chosen).unwrap_or_default())
}

fn report(line: &str) {
    eprintln!("skipped: {line}");
    let Some(file) = std::env::var_os("GUILLEMET_SKIPPED") else { return };
    let mut file = OpenOptions::new().append(true).create(true).open(file).expect("the file of what is skipped");
    // One write for the whole line, because other tests write to the file too.
    file.write_all(format!("{line}\n").as_bytes()).expect("the file of what is skipped");
}
