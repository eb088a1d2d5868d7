//! Shows what the package of a plugin says. All of it is a stranger's text: nothing here makes a decision by it, and no
//! text of it can end its line or drive a terminal.

use serde::Serialize;

use super::super::output;
use guillemet_base::display::sanitize_line;
use guillemet_plan::contract;
use guillemet_plugin::package::{self, Package};

/// The most lines of a changelog that are shown.
const CHANGELOG_LINES: usize = 40;
/// The most characters of a line of a changelog that are shown.
const LINE_MAX: usize = 200;
/// The most files of cases that are named.
const FILES_NAMED: usize = 10;

/// What a package says, without the text of the cases.
#[derive(Serialize)]
pub struct PackageFacts {
    author: Option<String>,
    license: Option<String>,
    homepage: Option<String>,
    changelog: Option<String>,
    contract: String,
    cases: Vec<String>,
}

impl PackageFacts {
    pub fn new(package: &Package) -> Self {
        let Package { author, license, homepage, changelog, contract, cases } = package.clone();
        Self { author, license, homepage, changelog, contract, cases: cases.into_keys().collect() }
    }

    /// Returns each fact that is there, as a name and a line.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let texts = [("Author", &self.author), ("License", &self.license), ("Homepage", &self.homepage)];
        let mut rows: Vec<(&str, String)> =
            texts.into_iter().filter_map(|(name, text)| Some((name, sanitize_line(text.as_ref()?)))).collect();
        rows.push(("Contract", needed_contract(&self.contract)));
        let mut named = self.cases.iter().take(FILES_NAMED).cloned().collect::<Vec<_>>().join(", ");
        if self.cases.len() > FILES_NAMED {
            named.push_str(", …");
        }
        rows.push(match self.cases.len() {
            0 => ("Cases", "none".to_owned()),
            1 => ("Cases", format!("one file: {named}")),
            number => ("Cases", format!("{number} files: {named}")),
        });
        rows
    }

    /// Returns the lines of the changelog that are shown.
    pub fn changelog(&self) -> Vec<String> {
        self.changelog.as_deref().map(changelog_lines).unwrap_or_default()
    }
}

/// Returns a version of the contract, and whether this program has it.
pub fn needed_contract(version: &str) -> String {
    let shown = sanitize_line(version);
    if contract::has(version) {
        format!("{shown}, which this Guillemet has")
    } else {
        format!(
            "{shown}; this Guillemet has {}, so the plugin works only if it uses nothing newer",
            contract::version()
        )
    }
}

/// Returns the lines of a changelog that are shown, indented so that none looks like a line of ours.
pub fn changelog_lines(changelog: &str) -> Vec<String> {
    let count = changelog.trim_end().lines().count();
    let shown = |line: &str| {
        let line: String = line.replace('\t', " ").chars().take(LINE_MAX).collect();
        format!("    {}", sanitize_line(&line))
    };
    let mut lines: Vec<String> = changelog.trim_end().lines().take(CHANGELOG_LINES).map(shown).collect();
    if count > CHANGELOG_LINES {
        lines.push(format!("    … {} more lines", count - CHANGELOG_LINES));
    }
    lines
}

/// Prints what the package of a component says, if it has one, as notes.
pub fn print(component: &[u8]) {
    let facts = match package::read(component) {
        Ok(Some(package)) => PackageFacts::new(&package),
        Ok(None) => return,
        Err(error) => return output::note(&format!("warning: its package cannot be read: {error}")),
    };
    output::note("Its package says this, which nobody has verified:");
    for (name, text) in facts.rows() {
        output::note(&format!("{name:<14} {text}"));
    }
    let changelog = facts.changelog();
    if !changelog.is_empty() {
        output::note("Changelog");
        changelog.iter().for_each(|line| output::note(line));
    }
}
