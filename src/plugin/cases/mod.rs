//! The cases of a plugin: a config each, and the document, problems or warnings it has to lead to. They are run
//! through the component itself, in a planner, and what comes back is held to the contract as the daemon does it.
//!
//! A file `cases/*.toml` holds `[[case]]` tables:
//! ```toml
//! [[case]]
//! name = "a bearer token"
//! target = "vscode"                       # the default target where it is left out
//! config = { url = "https://example.com", headers = { Authorization = "Bearer «token»" } }
//! document = '{"headers": {"Authorization": "«header-value(Bearer «token»)»"}}'
//! warnings = ["url: not encrypted"]       # `field: part of the text`, all of them, in order
//! problems = []                           # instead of a document, in any order
//! ```
//! In the config `«name»` is a secret. In the document it is that secret as it is, and `«operation(argument; …)»`
//! what `encode` does to its arguments; the reasons of `forbid`, `forbid-sequence` and `at-most` are left out. JSON documents are
//! compared as trees, with the order of their members. `": part of the text"` stands for one or more problems of any
//! field.
//!
//! For authors and tests; the daemon reads no case. Knows no value.

mod bless;
mod file;
mod judge;
mod run;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

pub use self::judge::{Difference, Line, judge, lines};
pub use self::run::{Found, run};
use crate::planner::protocol::Description;

/// A config, and what it has to lead to.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The line of its file at which it begins, from 1.
    pub line: usize,
    /// The default target where it is `None`.
    pub target: Option<String>,
    /// With `«name»` where a secret stands.
    pub config: Map<String, Value>,
    /// The document, unless there are to be problems.
    pub document: Option<String>,
    /// `field: part of the text`, in order.
    pub warnings: Vec<String>,
    /// The same of problems.
    pub problems: Vec<String>,
}

/// A file of cases.
#[derive(Debug)]
pub struct File {
    /// Where it lies.
    pub path: PathBuf,
    /// Its cases, in order.
    pub cases: Vec<Case>,
    text: String,
}

/// Why there are no cases to run: everything that is wrong with their files, a line each.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

/// Reads the files of a folder, in the order of their names.
///
/// # Errors
/// Where the folder or a file cannot be read, or there is no case in it.
pub fn read(folder: &Path) -> Result<Vec<File>, Unreadable> {
    let unreadable = |error| Unreadable(format!("{} cannot be read: {error}", folder.display()));
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    let (mut files, mut wrong) = (Vec::new(), Vec::new());
    for path in paths {
        match file::read(path) {
            Ok(file) => files.push(file),
            Err(mut problems) => wrong.append(&mut problems),
        }
    }
    if !wrong.is_empty() {
        return Err(Unreadable(wrong.join("\n")));
    }
    if files.iter().all(|file| file.cases.is_empty()) {
        return Err(Unreadable(format!(
            "there is no case in {}; a file `*.toml` in it holds `[[case]]` tables with a `name` and a `config`",
            folder.display()
        )));
    }
    Ok(files)
}

impl Case {
    /// The target it is for.
    pub fn target<'a>(&'a self, description: &'a Description) -> &'a str {
        self.target.as_deref().unwrap_or_else(|| description.targets.first().map_or("", |target| &target.id))
    }
}

impl File {
    /// Writes what was found for some of its cases, by their place in it, into the file: comments, order and
    /// everything else stay. Gives the names of those that changed.
    ///
    /// # Errors
    /// Where it cannot be written, or was changed since it was read; it is as it was then.
    pub fn bless(&self, found: &[(usize, &Found)]) -> std::io::Result<Vec<String>> {
        bless::bless(self, found)
    }
}

/// What the cases leave out: targets for which no case has a document, and fields that cases use and the schema does
/// not know. A line each.
pub fn gaps(description: &Description, files: &[File]) -> Vec<String> {
    let with_document = || files.iter().flat_map(|file| &file.cases).filter(|case| case.document.is_some());
    let untried = description.targets.iter().map(|target| target.id.as_str());
    let untried = untried.filter(|id| with_document().all(|case| case.target(description) != *id));
    let mut gaps: Vec<String> =
        untried.map(|id| format!("no case has a document for the target `{id}`; write one")).collect();
    let schema: Value = serde_json::from_str(&description.schema).unwrap_or_default();
    for field in with_document().flat_map(|case| case.config.keys()) {
        let gap = format!("the schema does not know the field `{field}`, which a case uses; describe it there");
        if schema["properties"].get(field).is_none() && !gaps.contains(&gap) {
            gaps.push(gap);
        }
    }
    gaps
}
