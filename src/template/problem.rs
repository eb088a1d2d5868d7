//! What is wrong with a template, with its place.
//!
//! Knows nothing of who finds it or who reads it.

use serde::{Deserialize, Serialize};

use crate::planner::text::tidy;

/// Most problems or warnings one answer carries.
pub const PROBLEMS_MAX: usize = 100;

/// Most characters of a field's path in a message.
const PATH_MAX: usize = 200;
/// Most characters of a message or a help.
const MESSAGE_MAX: usize = 500;

/// Something wrong with a template, or worth a warning, at a place a person can go to.
///
/// Holds text of the template at most as far as a name or a field; never a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The field it is about (`headers.Authorization`), empty where there is none.
    #[serde(default)]
    pub path: String,
    /// Line in the template's file, from 1; `None` where it is not known.
    pub line: Option<u32>,
    /// Column in characters, from 1.
    pub column: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// Problems of a stranger, fit to be shown, at most `PROBLEMS_MAX` of them.
pub fn tidy_problems(problems: Vec<Problem>) -> Vec<Problem> {
    let tidied = problems.into_iter().take(PROBLEMS_MAX).map(|problem| Problem {
        path: tidy(&problem.path, PATH_MAX),
        message: tidy(&problem.message, MESSAGE_MAX),
        help: problem.help.map(|help| tidy(&help, MESSAGE_MAX)),
        ..problem
    });
    tidied.collect()
}
