//! A proposal of `adopt`: what it would do, and how that is shown.
//!
//! Invariant: nothing that is shown contains a value. `findings`, `reading` and `rendered` contain values, and have no
//! way to be printed.

use zeroize::Zeroizing;

use super::config::Reading;
use super::credentials::{Finding, FindingsByField};
use super::equivalence::Comparison;
use super::source::SourceFile;
use crate::cli::output;
use guillemet_base::names::SecretName;
use guillemet_base::sys::memory::Clear;
use guillemet_template::Format;

/// Everything that is done when the user says yes.
pub struct AdoptProposal {
    /// The feature of the template, such as `mcp-server`.
    pub feature: String,
    /// The template's name, without its feature.
    pub name: String,
    /// The target whose format the file has.
    pub target: &'static str,
    /// The file with the plain values.
    pub source: SourceFile,
    /// The result of reading the file.
    pub reading: Reading,
    /// The credentials of the file, with the names of their secrets.
    pub findings: FindingsByField,
    /// The text of the new template, with placeholders.
    pub template: String,
    /// The format of the template.
    pub format: Format,
    /// The config that the template renders to with the file's values.
    pub rendered: Clear,
    /// The comparison of the rendered config with the file.
    pub comparison: Comparison,
    /// Further notes for the user.
    pub notes: Vec<String>,
}

impl AdoptProposal {
    /// Returns the id of the new template, `feature/name`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.feature, self.name)
    }

    /// Prints the proposal: the findings, the template and the comparison.
    pub fn show(&self) {
        let row = |finding: &Finding| {
            let state = if finding.exists { "exists" } else { "new" };
            let length = finding.value.chars().count().to_string();
            vec![finding.field.clone(), finding.name.to_string(), state.to_owned(), length, finding.reason.to_owned()]
        };
        let rows = self.findings.values().flatten().map(row).collect();
        output::table(&["Field", "Secret", "State", "Length", "Why"], rows);
        output::line(&format!("\ntemplates/{}.{}", self.id(), self.format.extension()));
        for line in self.template.lines() {
            output::line(&format!("  {line}"));
        }
        output::line(&format!("\n{}, compared with {} rendered for {}", self.source.label, self.id(), self.target));
        for (sign, line) in self.comparison.lines() {
            output::diff(sign, &line);
        }
        output::line("");
        self.comparison.describe().iter().chain(&self.notes).for_each(|note| output::note(note));
    }

    /// Returns each secret once, with its value and whether it exists already.
    pub fn secrets(&self) -> Vec<(&SecretName, &Zeroizing<String>, bool)> {
        let mut secrets: Vec<(&SecretName, &Zeroizing<String>, bool)> = Vec::new();
        for finding in self.findings.values().flatten() {
            if !secrets.iter().any(|(name, ..)| **name == finding.name) {
                secrets.push((&finding.name, &finding.value, finding.exists));
            }
        }
        secrets
    }
}
