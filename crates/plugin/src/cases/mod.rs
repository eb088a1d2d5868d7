//! The cases of a plugin: each is a config with the document, warnings or problems that it has to lead to. They run
//! through the component itself, in a planner, and the result is checked against the contract as in the daemon.
//!
//! A file `cases/*.toml` contains `[[case]]` tables:
//! ```toml
//! [[case]]
//! name = "a bearer token"
//! target = "vscode"                       # the default target if left out
//! config = { url = "https://example.com", headers = { Authorization = "Bearer «token»" } }
//! document = '{"headers": {"Authorization": "«header-value(Bearer «token»)»"}}'
//! warnings = ["url: not encrypted"]       # `field: part of the text`, all of them, in order
//! problems = []                           # instead of a document, in any order
//!
//! [[case]]
//! name = "a token with a quote"
//! config = { url = "https://example.com", headers = { Authorization = "Bearer «token»" } }
//! secrets = { token = 'a"b' }             # values to fill the document with
//! rendered = '{"headers": {"Authorization": "Bearer a\"b"}}'
//! read = { "headers.Authorization" = 'Bearer a"b' }
//! refused = []                            # instead of both, as `problems`
//! ```
//! In the config, `«name»` is a secret. In the document, `«name»` is that secret unencoded, and
//! `«operation(argument; …)»` is what `encode` makes of its arguments; the reasons of `forbid`, `forbid-sequence` and
//! `at-most` are left out. JSON documents are compared as trees, including the order of their members.
//! `": part of the text"` matches one or more problems of any field.
//!
//! For authors and tests; the daemon reads no cases. Knows no value.

mod bless;
mod file;
mod filled;
mod judge;
mod run;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

pub use self::judge::{DiffLine, Difference, compare, lines};
pub use self::run::{CaseResult, run};
use guillemet_plan::protocol::Description;

/// A config, and what it has to lead to.
#[derive(Debug, Clone, Default)]
pub struct Case {
    /// The name, which says what the case shows.
    pub name: String,
    /// The line of the file at which it begins, counted from 1.
    pub line: usize,
    /// The id of the target; `None` for the default target.
    pub target: Option<String>,
    /// The config, with `«name»` in place of each secret.
    pub config: Map<String, Value>,
    /// The expected document; `None` if problems are expected.
    pub document: Option<String>,
    /// The expected warnings, in order, each as `field: part of the text`.
    pub warnings: Vec<String>,
    /// The expected problems, in any order, each as `field: part of the text`.
    pub problems: Vec<String>,
    /// The values to fill the document with, by the names of the secrets; empty if it is not filled.
    pub secrets: BTreeMap<String, String>,
    /// The expected document with these values; `None` if it is not compared.
    pub rendered: Option<String>,
    /// The values that are read back from it, by their paths.
    pub read: Vec<(String, String)>,
    /// The expected refusals of these values, in any order, each as `field: part of the text`.
    pub refused: Vec<String>,
}

/// A file of cases.
#[derive(Debug)]
pub struct CaseFile {
    /// The path that the file was read from.
    pub path: PathBuf,
    /// The cases of the file, in order.
    pub cases: Vec<Case>,
    text: String,
}

/// The error of case files that cannot be run: everything that is wrong with them, one line each.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UnreadableCases(String);

/// Reads the `*.toml` files of a folder, in the order of their names.
///
/// # Errors
/// Fails with [`UnreadableCases`] if the folder or a file cannot be read, or if there is no case.
pub fn read(folder: &Path) -> Result<Vec<CaseFile>, UnreadableCases> {
    let unreadable = |error| UnreadableCases(format!("{} cannot be read: {error}", folder.display()));
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    let files = collect(paths.into_iter().map(file::read))?;
    if files.iter().all(|file| file.cases.is_empty()) {
        return Err(UnreadableCases(format!(
            "there are no cases in {}; add a `*.toml` file with `[[case]]` tables that have a `name` and a `config`",
            folder.display()
        )));
    }
    Ok(files)
}

/// Reads files of cases that are not in a folder, by their names.
///
/// # Errors
/// Fails with [`UnreadableCases`] if one of them is not a file of cases.
pub fn parse(files: &BTreeMap<String, String>) -> Result<Vec<CaseFile>, UnreadableCases> {
    collect(files.iter().map(|(name, text)| file::parse(PathBuf::from(name), text.clone())))
}

fn collect(read: impl Iterator<Item = Result<CaseFile, Vec<String>>>) -> Result<Vec<CaseFile>, UnreadableCases> {
    let (mut files, mut errors) = (Vec::new(), Vec::new());
    for file in read {
        match file {
            Ok(file) => files.push(file),
            Err(mut problems) => errors.append(&mut problems),
        }
    }
    if errors.is_empty() { Ok(files) } else { Err(UnreadableCases(errors.join("\n"))) }
}

impl Case {
    /// Returns the id of the target that the case is for.
    pub fn target<'a>(&'a self, description: &'a Description) -> &'a str {
        self.target.as_deref().unwrap_or_else(|| description.targets.first().map_or("", |target| &target.id))
    }
}

impl CaseFile {
    /// Returns the text of the file.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Writes the results of some of its cases, given by their index, into the file. Keeps comments, order and
    /// everything else. Returns the names of the cases that were written.
    ///
    /// # Errors
    /// Fails if the file cannot be written or was changed since it was read; it stays unchanged in that case.
    pub fn bless(&self, found: &[(usize, &CaseResult)]) -> std::io::Result<Vec<String>> {
        bless::bless(self, found)
    }
}

/// Returns what the cases do not cover, one line each: targets for which no case has a document, and fields that cases
/// use but the schema does not know.
pub fn gaps(description: &Description, files: &[CaseFile]) -> Vec<String> {
    let has_document = |case: &&Case| case.document.is_some() || case.rendered.is_some() || !case.read.is_empty();
    let with_document = || files.iter().flat_map(|file| &file.cases).filter(has_document);
    let untried = description.targets.iter().map(|target| target.id.as_str());
    let untried = untried.filter(|id| with_document().all(|case| case.target(description) != *id));
    let mut gaps: Vec<String> =
        untried.map(|id| format!("no case has a document for the target `{id}`; add one")).collect();
    let schema: Value = serde_json::from_str(&description.schema).unwrap_or_default();
    for field in with_document().flat_map(|case| case.config.keys()) {
        let gap = format!("a case uses the field `{field}`, which is not in the schema; describe it there");
        if schema["properties"].get(field).is_none() && !gaps.contains(&gap) {
            gaps.push(gap);
        }
    }
    gaps
}
