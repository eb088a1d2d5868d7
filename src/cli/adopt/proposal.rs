//! What `adopt` would do, and how that is shown.
//!
//! Invariant: what is shown holds no value; `findings`, `reading` and `rendered` do, and have no way to be printed.

use zeroize::Zeroizing;

use super::config::Reading;
use super::find::{Finding, Findings};
use super::meaning::Comparison;
use super::source::Source;
use crate::cli::output;
use crate::template::Format;
use guillemet_base::names::SecretName;
use guillemet_base::sys::memory::Clear;

/// Everything that a yes will do.
pub struct Proposal {
    /// The kind of integration.
    pub feature: String,
    /// Of the template, without its feature.
    pub name: String,
    /// The target that writes what was read.
    pub target: &'static str,
    /// The file.
    pub source: Source,
    /// What was made of it.
    pub reading: Reading,
    /// Its credentials, with their names.
    pub findings: Findings,
    /// The template's text.
    pub template: String,
    /// How that is written.
    pub format: Format,
    /// What the template gives with the file's values.
    pub rendered: Clear,
    /// How the rendered config differs from the file.
    pub compared: Comparison,
    /// Worth knowing, beside what is shown.
    pub notes: Vec<String>,
}

impl Proposal {
    /// The template's id.
    pub fn id(&self) -> String {
        format!("{}/{}", self.feature, self.name)
    }

    /// Shows it: what was found, the template, the difference.
    pub fn show(&self) {
        let row = |finding: &Finding| {
            let state = if finding.is_there { "is there" } else { "new" };
            let length = finding.value.chars().count().to_string();
            vec![finding.field.clone(), finding.name.to_string(), state.to_owned(), length, finding.why.to_owned()]
        };
        let rows = self.findings.values().flatten().map(row).collect();
        output::table(&["Field", "Secret", "State", "Length", "Why"], rows);
        output::line(&format!("\ntemplates/{}.{}", self.id(), self.format.extension()));
        for line in self.template.lines() {
            output::line(&format!("  {line}"));
        }
        output::line(&format!("\n{} and what {} renders for {}", self.source.shown, self.id(), self.target));
        self.compared.print();
        output::line("");
        self.compared.told().iter().chain(&self.notes).for_each(|note| output::note(note));
    }

    /// The values, each once, with whether they are there already.
    pub fn secrets(&self) -> Vec<(&SecretName, &Zeroizing<String>, bool)> {
        let mut secrets: Vec<(&SecretName, &Zeroizing<String>, bool)> = Vec::new();
        for finding in self.findings.values().flatten() {
            if !secrets.iter().any(|(name, ..)| **name == finding.name) {
                secrets.push((&finding.name, &finding.value, finding.is_there));
            }
        }
        secrets
    }
}
