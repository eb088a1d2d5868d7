//! SECURITY.md names the product's promises, and the sources cite them by these names: the code that keeps a promise,
//! and the tests that hold the code to it. A citation is the word "promise" with a name behind it, or "promises" with
//! several names, as in "Blind, Once and Whole".

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Folders with files that are not ours.
const SKIPPED: [&str; 2] = ["target", "node_modules"];

/// Returns the names of the promises: the headings of the section "Promises" in SECURITY.md.
fn promises() -> BTreeSet<String> {
    let security = fs::read_to_string(Path::new(ROOT).join("SECURITY.md")).unwrap();
    let (_, section) = security.split_once("\n## Promises\n").expect("SECURITY.md has a section Promises");
    let section = section.split("\n## ").next().unwrap();
    section.lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_owned).collect()
}

/// Returns the Rust and Markdown files of the repository, as paths below its root.
fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::from(ROOT)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let name = entry.file_name().into_string().unwrap_or_default();
            if kind.is_dir() && !name.starts_with('.') && !SKIPPED.contains(&name.as_str()) {
                folders.push(path);
            } else if kind.is_file() && (name.ends_with(".rs") || name.ends_with(".md")) {
                files.push(path.strip_prefix(ROOT).unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

/// Returns the text with its lines joined and the marks of comments taken out, so that a citation may go on in the
/// next line.
fn joined(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.trim_start();
        ["//!", "///", "//"].iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line).trim()
    });
    lines.collect::<Vec<_>>().join(" ")
}

/// Returns the first 40 characters, for a message.
fn excerpt(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Returns the name of a promise that the text begins with, and what follows it.
fn name<'t>(text: &'t str, promises: &BTreeSet<String>) -> Option<(String, &'t str)> {
    promises.iter().find_map(|name| {
        let rest = text.strip_prefix(name.as_str())?;
        (!rest.starts_with(char::is_alphanumeric)).then(|| (name.clone(), rest))
    })
}

/// Returns what a text cites.
///
/// # Errors
///
/// A citation by number, and a name that is not in SECURITY.md.
fn citations(text: &str, promises: &BTreeSet<String>) -> Result<BTreeSet<String>, String> {
    let text = joined(text);
    let mut cited = BTreeSet::new();
    for word in ["promise", "Promise", "invariant", "Invariant"] {
        for (at, _) in text.match_indices(word) {
            if text[..at].ends_with(char::is_alphanumeric) {
                continue;
            }
            let behind = &text[at + word.len()..];
            let several = behind.starts_with('s');
            let behind = behind.strip_prefix('s').unwrap_or(behind);
            let Some(mut behind) = behind.strip_prefix(' ') else { continue };
            if behind.starts_with(|c: char| c.is_ascii_digit()) {
                return Err(format!("cites by number: {}", excerpt(&text[at..])));
            }
            // An invariant may have any name; ARCHITECTURE.md has more of them than there are promises.
            if !word.ends_with("romise") || !behind.starts_with(char::is_uppercase) {
                continue;
            }
            loop {
                let Some((name, rest)) = name(behind, promises) else {
                    return Err(format!("cites what SECURITY.md does not promise: {}", excerpt(&text[at..])));
                };
                cited.insert(name);
                let next = rest.strip_prefix(", ").or_else(|| rest.strip_prefix(" and "));
                match next {
                    Some(next) if several && next.starts_with(char::is_uppercase) => behind = next,
                    _ => break,
                }
            }
        }
    }
    Ok(cited)
}

/// Returns what the files that `is_included` accepts cite, and what is wrong with their citations.
fn cited_in(is_included: impl Fn(&Path) -> bool) -> (BTreeSet<String>, Vec<String>) {
    let promises = promises();
    let (mut cited, mut wrong) = (BTreeSet::new(), Vec::new());
    for file in sources().into_iter().filter(|file| is_included(file)) {
        let text = fs::read_to_string(Path::new(ROOT).join(&file)).unwrap();
        match citations(&text, &promises) {
            Ok(found) => cited.extend(found),
            Err(error) => wrong.push(format!("{}: {error}", file.display())),
        }
    }
    (cited, wrong)
}

#[test]
fn every_cited_promise_is_in_security_md() {
    let (cited, wrong) = cited_in(|_| true);
    assert!(!cited.is_empty(), "nothing cites a promise");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_promise_is_cited_by_the_code_that_keeps_it_and_by_a_test() {
    let is_rust = |file: &Path| file.extension().is_some_and(|extension| extension == "rs");
    let (by_code, _) = cited_in(|file| is_rust(file) && (file.starts_with("src") || file.starts_with("crates")));
    let (by_tests, _) = cited_in(|file| is_rust(file) && file.starts_with("tests"));
    assert_eq!(promises(), by_code, "SECURITY.md and the code");
    assert_eq!(promises(), by_tests, "SECURITY.md and the tests");
}

#[test]
fn a_citation_is_a_name_or_several() {
    let promises = BTreeSet::from(["At once", "Blind", "Once", "Zero knowledge"].map(str::to_owned));
    // The words are put together here because this file is read too.
    let cited = |word: &str, rest: &str| citations(&format!("//! a ({word}{rest}"), &promises);
    let names = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(cited("promise", " Blind)."), names(&["Blind"]));
    assert_eq!(cited("Promise", " Zero\n    /// knowledge: it"), names(&["Zero knowledge"]));
    assert_eq!(cited("promises", " Blind, At once and Once)"), names(&["At once", "Blind", "Once"]));
    assert_eq!(cited("promise", " Blind, and A Name"), names(&["Blind"]));
    assert_eq!(cited("promises", " a descriptor"), names(&[]));
    assert_eq!(cited("compromise", " Everything"), names(&[]));
    for (word, rest) in [("promise", " 3"), ("promises", "\n//! 5 and 8"), ("invariant", " 2")] {
        assert!(cited(word, rest).unwrap_err().starts_with("cites by number"), "{word}{rest}");
    }
    for rest in [" Blinded", " Blind, Once and Nothing"] {
        assert!(cited("promises", rest).unwrap_err().starts_with("cites what"), "{rest}");
    }
}
