//! Parts of the machine that a test needs, and what becomes of it where one is missing.
//!
//! The test harness knows no test that skips itself. So such a test says here what is missing and ends: a line goes to
//! standard error, and to the file that `GUILLEMET_SKIPPED` names, from which `tests/run` prints and counts them at
//! its end. With `CI=true` it fails instead, but for the parts that `tests/parts.md` lists.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, Stdio};

/// Whether a part is there. Where it is not, the test that asks is reported as skipped, with what to do about it.
///
/// # Panics
/// With `CI=true`, where it is missing and `tests/parts.md` does not list it.
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

/// Whether a part is a row of the table of parts that not every machine can have.
fn is_listed(part: &str) -> bool {
    include_str!("../parts.md").lines().any(|row| row.starts_with(&format!("| {part} |")))
}

/// The same of something that depends on the kernel or the file system, and cannot be installed: it is reported with
/// `CI=true` as well, and fails nothing.
#[must_use]
pub fn supports(is_there: bool, part: &str, remedy: &str) -> bool {
    if !is_there {
        report(&line(part, remedy));
    }
    is_there
}

/// Whether a program is there, of this package of Debian.
///
/// # Panics
/// As `has`.
#[must_use]
#[track_caller]
pub fn has_program(program: &str, package: &str) -> bool {
    let mut command = Command::new(program);
    let found = command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    has(found.is_ok(), program, &format!("`sudo apt-get install --no-install-recommends {package}`"))
}

/// Whether the tests run as root.
///
/// # Panics
/// As `has`.
#[must_use]
#[track_caller]
pub fn is_root(to: &str) -> bool {
    has(rustix::process::geteuid().is_root(), &format!("root, to {to}"), "run the tests as root")
}

fn line(part: &str, remedy: &str) -> String {
    format!("{}: needs {part}: {remedy}", test())
}

/// The name of the running test, with the program it is in.
fn test() -> String {
    // The harness names the thread of a test after it. The only one that is chosen it may run in its main thread.
    let thread = std::thread::current();
    let named = thread.name().filter(|name| *name != "main").map(str::to_owned);
    let chosen = || std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let program = std::env::current_exe().ok().and_then(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    let program = program.unwrap_or_default();
    // Cargo adds a hash.
    let program = program.rsplit_once('-').map_or(program.as_str(), |(name, _)| name);
    format!("{program}::{}", named.or_else(chosen).unwrap_or_default())
}

fn report(line: &str) {
    eprintln!("skipped: {line}");
    let Some(file) = std::env::var_os("GUILLEMET_SKIPPED") else { return };
    let mut file = OpenOptions::new().append(true).create(true).open(file).expect("the file of what is skipped");
    // At once: other tests write to it as well.
    file.write_all(format!("{line}\n").as_bytes()).expect("the file of what is skipped");
}
