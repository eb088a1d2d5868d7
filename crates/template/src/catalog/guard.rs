//! Finds what prevents the deletion of a secret (promise Guarded).

use std::time::{Duration, Instant};

use super::stray::{Stray, Unsearched};
use super::{Catalog, Names, Template, TemplateContent, VanishedEntry};
use crate::lexer::{Reference, names_in_text};
use guillemet_base::names::SecretName;

/// How long a vanished file still counts: an editor or git may be replacing it.
const VANISHED: Duration = Duration::from_secs(2);

/// Returns how much longer a file that vanished at `since` counts; `None` if it no longer does.
pub fn remaining_grace(since: Instant, now: Instant) -> Option<Duration> {
    VANISHED.checked_sub(now.saturating_duration_since(since)).filter(|wait| !wait.is_zero())
}

/// The reason why something prevents a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockReason {
    /// A template references the secret.
    Referenced,
    /// A file that has just vanished named the secret, or may have. Holds the time for which it still counts.
    Vanished(Duration),
    /// A file that cannot be read referenced the secret when it last could be.
    LastKnown,
    /// The name occurs in a template that cannot be lexed.
    InBrokenText,
    /// The name occurs in a file that is not a template.
    InStray,
    /// The template or folder cannot be read, so its references are unknown.
    Unknown,
    /// A file that is not a template cannot be searched.
    Unsearched(Unsearched),
}

impl BlockReason {
    /// Returns the reason's code in the API.
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

/// One thing that prevents a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// The id of the template, the path inside the templates' folder of a file that is not one, or the path of the
    /// folder that cannot be read.
    pub template: String,
    /// The line of the reference, counted from 1; `None` if it is not known.
    pub line: Option<u32>,
    /// The column in characters, counted from 1; `None` if it is not known.
    pub column: Option<u32>,
    /// The secret's name in the file's own spelling; `None` if it is not known.
    pub name: Option<String>,
    /// The reason why it prevents the deletion.
    pub reason: BlockReason,
}

impl Blocker {
    /// Explains the reason and the remedy. `present` is the secret's current name.
    pub fn message(&self, present: &SecretName) -> String {
        let template = &self.template;
        match self.reason {
            BlockReason::Referenced => {
                match self.name.as_ref().filter(|name| !present.as_str().eq_ignore_ascii_case(name)) {
                    Some(former) => {
                        format!(
                            "this template references it by its former name `{former}`; remove the reference, or \
                             change it to `{present}`"
                        )
                    }
                    None => "this template references it; remove the reference".into(),
                }
            }
            BlockReason::Vanished(_) => {
                format!("`{template}` just disappeared and may come back; try again in a moment")
            }
            BlockReason::LastKnown => {
                format!(
                    "`{template}` cannot be read now, and referenced it when it was last read; make it readable, or \
                     remove it"
                )
            }
            BlockReason::InBrokenText => {
                format!(
                    "the name appears in `{template}`, which has errors; run `guillemet template check {template}` to \
                     see them"
                )
            }
            BlockReason::InStray => {
                format!(
                    "the name appears in `{template}`, which is not a template; remove the name, or move the file out \
                     of the templates folder"
                )
            }
            BlockReason::Unsearched(reason) => {
                format!(
                    "`{template}` is not a template and cannot be searched for the name: {reason}; move it out of the \
                     templates folder"
                )
            }
            BlockReason::Unknown => {
                format!("`{template}` cannot be read, so its references are unknown; make it readable, or remove it")
            }
        }
    }

    /// Returns how long to wait before trying again; `None` if waiting is not enough.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.reason {
            BlockReason::Vanished(wait) => Some(wait),
            _ => None,
        }
    }
}

impl Catalog {
    /// Returns everything that prevents the deletion of a secret which has or had one of these names. Call it right
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
            let Some(wait) = remaining_grace(vanished.since, now) else { continue };
            let mut found = Vec::new();
            match &vanished.file {
                VanishedEntry::Template(template) => of_file(template, names, &mut found),
                VanishedEntry::Stray(stray) => of_stray(stray, names, &mut found),
            }
            blockers
                .extend(found.into_iter().map(|blocker| Blocker { reason: BlockReason::Vanished(wait), ..blocker }));
        }
        blockers.extend(self.unreadable.iter().map(|(folder, _)| Blocker {
            template: folder.to_string_lossy().into_owned(),
            line: None,
            column: None,
            name: None,
            reason: BlockReason::Unknown,
        }));
        blockers
    }
}

fn of_file(template: &Template, names: &[&SecretName], blockers: &mut Vec<Blocker>) {
    let at = |line, column, name: &SecretName, reason| Blocker {
        template: template.id.clone(),
        line: Some(line),
        column: Some(column),
        name: Some(name.to_string()),
        reason,
    };
    let is_named = |reference: &&Reference| names.iter().any(|name| **name == reference.name);
    match &template.content {
        TemplateContent::Lexed(lexed) => blockers.extend(
            lexed
                .references
                .iter()
                .filter(is_named)
                .map(|reference| at(reference.line, reference.column, &reference.name, BlockReason::Referenced)),
        ),
        TemplateContent::Broken { names: Names::References(references), .. } => blockers.extend(
            references
                .iter()
                .filter(is_named)
                .map(|reference| at(reference.line, reference.column, &reference.name, BlockReason::LastKnown)),
        ),
        TemplateContent::Broken { names: Names::Text(text), .. } => {
            let found = names_in_text(text, names);
            blockers.extend(
                found.into_iter().map(|(name, line, column)| at(line, column, name, BlockReason::InBrokenText)),
            );
        }
        TemplateContent::Broken { names: Names::Unknown, .. } => blockers.push(Blocker {
            template: template.id.clone(),
            line: None,
            column: None,
            name: None,
            reason: BlockReason::Unknown,
        }),
    }
}

/// Reports only the first occurrence of each name: the file has to go as a whole.
fn of_stray(stray: &Stray, names: &[&SecretName], blockers: &mut Vec<Blocker>) {
    let blocker = |reason| Blocker { template: stray.path.clone(), line: None, column: None, name: None, reason };
    match stray.text() {
        Ok(text) => {
            let mut found = names_in_text(text, names);
            found.dedup_by(|later, earlier| later.0 == earlier.0);
            blockers.extend(found.into_iter().map(|(name, line, column)| Blocker {
                line: Some(line),
                column: Some(column),
                name: Some(name.to_string()),
                ..blocker(BlockReason::InStray)
            }));
        }
        Err(reason) => blockers.push(blocker(BlockReason::Unsearched(reason))),
    }
}
