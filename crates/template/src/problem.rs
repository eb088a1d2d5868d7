//! A problem of a template, with its place.
//!
//! Knows nothing of who finds it or who reads it.

use guillemet_base::display::sanitize;
pub use guillemet_base::problem::Problem;

/// The most problems or warnings in one answer.
pub const PROBLEMS_MAX: usize = 100;

/// The most characters of a field's path in a message.
const PATH_MAX: usize = 200;
/// The most characters of a message or of its advice.
const MESSAGE_MAX: usize = 500;

/// Makes untrusted problems safe to show, and returns at most `PROBLEMS_MAX` of them.
pub fn sanitize_problems(problems: Vec<Problem>) -> Vec<Problem> {
    let tidied = problems.into_iter().take(PROBLEMS_MAX).map(|problem| Problem {
        path: sanitize(&problem.path, PATH_MAX),
        message: sanitize(&problem.message, MESSAGE_MAX),
        help: problem.help.map(|help| sanitize(&help, MESSAGE_MAX)),
        ..problem
    });
    tidied.collect()
}
