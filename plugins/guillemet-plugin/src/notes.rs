//! The messages of a plan: problems, which make it fail, and warnings.

use std::cell::RefCell;

use crate::{Document, Planned, Problem};

/// Collects problems and warnings while a config is read.
#[derive(Default)]
pub struct Notes {
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

impl Notes {
    /// Notes a problem, which makes the plan fail, with the field `path` (`headers.Authorization`).
    pub fn problem(&self, path: &str, message: impl Into<String>, help: Option<String>) {
        note(&self.problems, path, message.into(), help);
    }

    /// Notes a warning, which does not make the plan fail.
    pub fn warning(&self, path: &str, message: impl Into<String>, help: Option<String>) {
        note(&self.warnings, path, message.into(), help);
    }

    /// Reports whether a problem was noted.
    pub fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    /// Returns the document if there were no problems, or else all problems.
    pub(crate) fn into_result(self, document: Option<Document>) -> Result<Planned, Vec<Problem>> {
        match document {
            Some(document) if self.problems.borrow().is_empty() => {
                Ok(Planned { document, warnings: self.warnings.into_inner() })
            }
            _ => Err(self.problems.into_inner()),
        }
    }
}

/// Notes a message once, because a field that is read for two places of a document is checked twice.
fn note(notes: &RefCell<Vec<Problem>>, path: &str, message: String, help: Option<String>) {
    let mut notes = notes.borrow_mut();
    if !notes.iter().any(|known| known.path == path && known.message == message) {
        notes.push(Problem { path: path.into(), message, help });
    }
}
