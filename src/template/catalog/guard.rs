//! What stands in the way of deleting a secret.

use std::time::{Duration, Instant};

use super::stray::{Stray, Unsearched};
use super::{Catalog, Content, Gone, Names, Template};
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
    /// The name stands in a file that is no template.
    InStray,
    /// It is not known what is in there.
    Unknown,
    /// Nor in a file that is no template.
    Unsearched(Unsearched),
}

impl Reason {
    /// For programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Referenced => "referenced",
            Self::Vanished(_) => "vanished",
            Self::LastKnown => "last_known",
            Self::InBrokenText => "in_broken_text",
            Self::InStray => "in_stray",
            Self::Unknown | Self::Unsearched(_) => "unknown",
        }
    }
}

/// One thing in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// The template, the file that is none by its path inside the templates' folder, or the folder that cannot be read.
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
            Reason::InStray => {
                format!(
                    "the name stands in `{template}`, which is not a template; take it out of the file, or move the file out of the templates' folder"
                )
            }
            Reason::Unsearched(why) => {
                format!(
                    "`{template}` is not a template, and cannot be searched for the name: {why}; move it out of the templates' folder"
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
        for stray in self.strays.values() {
            of_stray(stray, names, &mut blockers);
        }
        for vanished in &self.vanished {
            let Some(wait) = waits(vanished.since, now) else { continue };
            let mut gone = Vec::new();
            match &vanished.what {
                Gone::Template(template) => of_file(template, names, &mut gone),
                Gone::Stray(stray) => of_stray(stray, names, &mut gone),
            }
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
            let found = names_in_text(text, names);
            into.extend(found.into_iter().map(|(name, line, column)| at(line, column, name, Reason::InBrokenText)));
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

/// The first place of each name is enough: the file has to go as a whole.
fn of_stray(stray: &Stray, names: &[&SecretName], into: &mut Vec<Blocker>) {
    let blocker = |reason| Blocker { template: stray.path.clone(), line: None, column: None, name: None, reason };
    match stray.text() {
        Ok(text) => {
            let mut found = names_in_text(text, names);
            found.dedup_by(|later, earlier| later.0 == earlier.0);
            into.extend(found.into_iter().map(|(name, line, column)| Blocker {
                line: Some(line),
                column: Some(column),
                name: Some(name.to_string()),
                ..blocker(Reason::InStray)
            }));
        }
        Err(why) => into.push(blocker(Reason::Unsearched(why))),
    }
}
