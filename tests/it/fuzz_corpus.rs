//! Runs the corpus of the fuzz targets through the same invariants, with every test run.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/src/lib.rs"]
mod invariants;

/// Prints the name of the corpus file when it breaks an invariant, beside the panic's own output.
struct Told<'a>(&'a Path);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("broken by {}", self.0.display());
        }
    }
}

fn replay(target: &str, holds: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "the corpus of {target} is not there");
    for path in files {
        let told = Told(&path);
        holds(&fs::read(told.0).unwrap());
    }
}

#[test]
fn lexer() {
    replay("lexer", invariants::lexer::holds);
}

#[test]
fn planner_answer() {
    replay("planner_answer", invariants::planner_answer::holds);
}

#[test]
fn plugin_package() {
    replay("plugin_package", invariants::plugin_package::holds);
}

#[test]
fn journal() {
    replay("journal", invariants::journal::holds);
}

#[test]
fn vault_record() {
    replay("vault_record", invariants::vault_record::holds);
}

#[test]
fn http_body() {
    replay("http_body", invariants::http_body::holds);
}

#[test]
fn encoders() {
    replay("encoders", invariants::encoders::holds);
}
