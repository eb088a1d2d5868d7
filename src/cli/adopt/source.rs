//! The text with the plain values, and the list of everything that is wrong with it.
//!
//! Invariant: the file's content is only in buffers that wipe themselves, and a message made here contains nothing from
//! it except names of fields.

use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::cli::Failure;
use guillemet_base::files::Fingerprint;
use guillemet_base::problem::Problem;
use guillemet_template::tokens::PositionCursor;

/// The file that is adopted, with its content.
pub struct SourceFile {
    /// The file's name in messages.
    pub label: String,
    /// The text of the file, without a byte order mark.
    pub text: Zeroizing<String>,
    /// The path of the file, and its fingerprint when it was read; `None` for standard input.
    pub file: Option<(PathBuf, Fingerprint)>,
    /// The length in bytes of the byte order mark that was removed, 0 or 3.
    pub mark: usize,
}

impl SourceFile {
    /// Makes a source of the bytes of a file, and of what is known about the file itself.
    ///
    /// # Errors
    /// When the bytes are not UTF-8.
    pub fn new(label: String, bytes: &[u8], file: Option<(PathBuf, Fingerprint)>) -> Result<Self, Failure> {
        let Ok(text) = std::str::from_utf8(bytes) else {
            let line = bytes.utf8_chunks().next().map_or(0, |chunk| chunk.valid().matches('\n').count()) + 1;
            return Err(Failure::new(format!("{label}:{line} is not UTF-8; save it as UTF-8 first")));
        };
        let plain = text.strip_prefix('\u{feff}').unwrap_or(text);
        Ok(Self { label, mark: text.len() - plain.len(), text: Zeroizing::new(plain.to_owned()), file })
    }

    /// Makes a source from a text, for tests.
    #[cfg(test)]
    pub fn of(text: &str) -> Self {
        Self { label: "file".into(), text: Zeroizing::new(text.to_owned()), file: None, mark: 0 }
    }

    /// Returns the line and the column (in characters) of a byte, both counted from 1.
    pub fn position(&self, at: usize) -> (u32, u32) {
        PositionCursor::new(&self.text).position(self.text.floor_char_boundary(at))
    }
}

/// The list of everything that is wrong with a file.
pub struct Problems<'a> {
    source: &'a SourceFile,
    list: Vec<Problem>,
}

impl<'a> Problems<'a> {
    /// Makes an empty list for a file.
    pub fn new(source: &'a SourceFile) -> Self {
        Self { source, list: Vec::new() }
    }

    /// Reports whether no problem was added.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds a problem. `at` is the byte of the file it is at, if known. `message` and `help` must contain no value.
    pub fn add(&mut self, at: Option<usize>, path: &str, message: impl Into<String>, help: Option<&str>) {
        let position = at.map(|at| self.source.position(at));
        self.list.push(Problem {
            path: path.to_owned(),
            line: position.map(|(line, _)| line),
            column: position.map(|(_, column)| column),
            message: message.into(),
            help: help.map(str::to_owned),
        });
    }

    /// Adds a problem that was found by the lexer, whose messages contain no value.
    pub fn push(&mut self, problem: Problem) {
        self.list.push(problem);
    }

    /// Returns all problems as one error, whose first words are `message`.
    ///
    /// # Errors
    /// When there is a problem.
    pub fn check(&self, message: &str) -> Result<(), Failure> {
        if self.list.is_empty() {
            return Ok(());
        }
        let mut list: Vec<&Problem> = self.list.iter().collect();
        list.sort_by_key(|problem| (problem.line.unwrap_or(u32::MAX), problem.column));
        list.dedup();
        let entries: String = list.into_iter().map(|problem| entry(&self.source.label, problem)).collect();
        Err(Failure::new(format!("{message}; nothing was changed{entries}")))
    }
}

/// Formats a problem: its place, what is wrong, what to do. The line itself is not shown, because it may contain a
/// value.
fn entry(label: &str, problem: &Problem) -> String {
    let mut location = String::new();
    if let Some(line) = problem.line {
        location = format!("{label}:{line}");
        if let Some(column) = problem.column {
            location.push_str(&format!(":{column}"));
        }
    }
    let head: Vec<&str> = [location.as_str(), &problem.path].into_iter().filter(|text| !text.is_empty()).collect();
    let colon = if head.is_empty() { "" } else { ": " };
    let help = problem.help.as_ref().map_or_else(String::new, |help| format!("\n    help: {help}"));
    format!("\n  {}{colon}{}{help}", head.join(" "), problem.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters() {
        let source = SourceFile::of("ä\nöü x");
        assert_eq!(source.position(source.text.find('x').unwrap()), (2, 4));
        assert_eq!(source.position(0), (1, 1));
    }

    #[test]
    fn all_problems_are_told_in_order_and_without_the_line() {
        let source = SourceFile::of("a: hidden\nb: hidden\n");
        let mut problems = Problems::new(&source);
        problems.add(Some(10), "b", "is wrong", Some("change it"));
        problems.add(Some(0), "a", "is wrong", None);
        problems.add(None, "", "nothing fits", None);
        let Err(Failure(text)) = problems.check("file cannot be adopted") else { panic!("nothing was said") };
        assert_eq!(
            text,
            "file cannot be adopted; nothing was changed\n  file:1:1 a: is wrong\n  file:2:1 b: is wrong\n    help: change \
             it\n  nothing fits"
        );
    }
}
