//! What stands in the way of deleting a secret.

use std::time::{Duration, Instant};

use super::{Catalog, Content, Names, Template};
use crate::names::SecretName;
use crate::template::lexer::{Reference, names_in_text};

/// How long a file that vanished still counts: an editor or git may be replacing it.
const VANISHED: Duration = Duration::from_secs(2);

/// How long a file that vanished at `since` still counts; `None` when it does not any more.
pub fn waits(since: Instant, now: Instant) -> Option<Duration> {
    VANISHED.checked_sub(now.saturating_duration_since(since)).filter(|wait| !wait.is_zero())
}

/// Why something stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A template names the secret.
    Referenced,
    /// A template that vanished just now did.
    Vanished(Duration),
    /// A file that cannot be read did when it last could.
    LastKnown,
    /// The name stands in a text that cannot be taken apart.
    InBrokenText,
    /// It is not known what is in there.
    Unknown,
}

impl Reason {
    /// For programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Referenced => "referenced",
            Self::Vanished(_) => "vanished",
            Self::LastKnown => "last_known",
            Self::InBrokenText => "in_broken_text",
            Self::Unknown => "unknown",
        }
    }
}

/// One thing in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// The template, or the folder that cannot be read.
    pub template: String,
    /// Line, from 1, where it is known.
    pub line: Option<u32>,
    /// Column in characters, from 1.
    pub column: Option<u32>,
    /// The name, as it is spelled there.
    pub name: Option<String>,
    /// Why.
    pub reason: Reason,
}

impl Blocker {
    /// What it is and how to lift it, told of the secret that is called `present` now.
    pub fn message(&self, present: &SecretName) -> String {
        let template = &self.template;
        match self.reason {
            Reason::Referenced => {
                match self.name.as_ref().filter(|name| !present.as_str().eq_ignore_ascii_case(name)) {
                    Some(former) => {
                        format!(
                            "this template names it as `{former}`, a former name; take the reference out, or write `{present}`"
                        )
                    }
                    None => "this template names it; take the reference out".into(),
                }
            }
            Reason::Vanished(_) => format!("`{template}` vanished just now and may come back; try again in a moment"),
            Reason::LastKnown => {
                format!(
                    "`{template}` cannot be read now and named it when it last could; make it readable, or remove it"
                )
            }
            Reason::InBrokenText => {
                format!(
                    "the name stands in `{template}`, which is broken; `guillemet template check {template}` shows why"
                )
            }
            Reason::Unknown => {
                format!("`{template}` cannot be read, so nobody knows what it names; make it readable, or remove it")
            }
        }
    }

    /// When to try again, where waiting is enough.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.reason {
            Reason::Vanished(wait) => Some(wait),
            _ => None,
        }
    }
}

impl Catalog {
    /// Everything in the way of deleting a secret that has or had one of these names. To be asked right
    /// after a `rescan`.
    pub fn blockers(&self, names: &[&SecretName], now: Instant) -> Vec<Blocker> {
        let mut blockers = Vec::new();
        for template in self.files.values() {
            of_file(template, names, &mut blockers);
        }
        for vanished in &self.vanished {
            let Some(wait) = waits(vanished.since, now) else { continue };
            let mut gone = Vec::new();
            of_file(&vanished.template, names, &mut gone);
            blockers.extend(gone.into_iter().map(|blocker| Blocker { reason: Reason::Vanished(wait), ..blocker }));
        }
        blockers.extend(self.unreadable.iter().map(|(folder, _)| Blocker {
            template: folder.to_string_lossy().into_owned(),
            line: None,
            column: None,
            name: None,
            reason: Reason::Unknown,
        }));
        blockers
    }
}

fn of_file(template: &Template, names: &[&SecretName], into: &mut Vec<Blocker>) {
    let at = |line, column, name: &SecretName, reason| Blocker {
        template: template.id.clone(),
        line: Some(line),
        column: Some(column),
        name: Some(name.to_string()),
        reason,
    };
    let named = |reference: &&Reference| names.iter().any(|name| **name == reference.name);
    match &template.content {
        Content::Lexed(lexed) => into.extend(
            lexed
                .references
                .iter()
                .filter(named)
                .map(|reference| at(reference.line, reference.column, &reference.name, Reason::Referenced)),
        ),
        Content::Broken { names: Names::References(references), .. } => into.extend(
            references
                .iter()
                .filter(named)
                .map(|reference| at(reference.line, reference.column, &reference.name, Reason::LastKnown)),
        ),
        Content::Broken { names: Names::Text(text), .. } => {
            for name in names {
                for (line, column) in names_in_text(text, name) {
                    into.push(at(line, column, name, Reason::InBrokenText));
                }
            }
        }
        Content::Broken { names: Names::Unknown, .. } => into.push(Blocker {
            template: template.id.clone(),
            line: None,
            column: None,
            name: None,
            reason: Reason::Unknown,
        }),
    }
}
