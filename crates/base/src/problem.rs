//! A problem of a file, with its place.
//!
//! Knows nothing of who finds it or who reads it.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::display::sanitize;

/// The most problems or warnings in one answer.
pub const PROBLEMS_MAX: usize = 100;

/// The most characters of a field's path in a message.
const PATH_MAX: usize = 200;
/// The most characters of a message or of its advice.
const MESSAGE_MAX: usize = 500;

/// An error or a warning about a template or the configuration, with its place in the file.
///
/// Quotes no more of the file than a name or a field, and never a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The field of the config it is about (`headers.Authorization`); empty if it is about no particular field.
    #[serde(default)]
    pub path: String,
    /// The line in the file, counted from 1; `None` if it is not known.
    pub line: Option<u32>,
    /// The column in that line, in characters and counted from 1; `None` if it is not known.
    pub column: Option<u32>,
    /// What is wrong, as a sentence for people.
    pub message: String,
    /// What to do about it; `None` if there is nothing to suggest.
    pub help: Option<String>,
}

impl Problem {
    /// Formats the problem of a file in one line. It begins with the path of the file, if the problem has a line.
    pub fn located(&self, file: &Path) -> String {
        if self.line.is_some() { format!("{}:{self}", file.display()) } else { self.to_string() }
    }
}

/// Formats the problem in one line that begins with its place, without the advice.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = [self.line, self.column];
        for number in numbers.into_iter().flatten() {
            write!(f, "{number}:")?;
        }
        if numbers != [None, None] {
            f.write_str(" ")?;
        }
        if !self.path.is_empty() {
            write!(f, "`{}` ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Makes untrusted problems safe to show, and returns at most `PROBLEMS_MAX` of them.
pub fn sanitize_problems(problems: Vec<Problem>) -> Vec<Problem> {
    let sanitized = problems.into_iter().take(PROBLEMS_MAX).map(|problem| Problem {
        path: sanitize(&problem.path, PATH_MAX),
        message: sanitize(&problem.message, MESSAGE_MAX),
        help: problem.help.map(|help| sanitize(&help, MESSAGE_MAX)),
        ..problem
    });
    sanitized.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_begins_with_its_place() {
        let path = Path::new("/etc/guillemet.toml");
        let mut problem = Problem { message: "must be a number".into(), ..Problem::default() };
        assert_eq!(problem.located(path), "must be a number");
        problem.path = "usage.events".into();
        assert_eq!(problem.located(path), "`usage.events` must be a number");
        problem.line = Some(3);
        assert_eq!(problem.located(path), "/etc/guillemet.toml:3: `usage.events` must be a number");
        problem.column = Some(10);
        assert_eq!(problem.located(path), "/etc/guillemet.toml:3:10: `usage.events` must be a number");
    }
}
