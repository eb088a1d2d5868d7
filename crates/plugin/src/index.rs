//! An index of plugins: a JSON file that anyone can host, with the versions that there are and their digests.
//!
//! For the command line, which compares it with what is in force. An index is a stranger's text: it adds nothing, and
//! whoever shows a text of it makes its control characters visible.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::compare::{VersionOrder, order};
use crate::location::{DIGEST_RULE, URL_RULE, digest, https_url};
use guillemet_plan::description::{id_rule, is_id};

/// The most bytes of an index.
pub const INDEX_MAX: usize = 4 << 20;
/// The most entries.
const ENTRIES_MAX: usize = 2000;
/// The most characters of a version.
const VERSION_MAX: usize = 64;
/// The most bytes of a changelog.
const CHANGELOG_MAX: usize = 16 << 10;
/// The most problems that are told.
const PROBLEMS_MAX: usize = 20;

/// A version of a plugin, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// The feature.
    pub feature: String,
    /// The plugin's version.
    pub version: String,
    /// The https URL of the pack.
    pub url: String,
    /// The SHA-256 of the pack, in hexadecimal.
    pub sha256: String,
    /// The version of the contract that it was built for.
    pub contract: String,
    /// What is new in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changelog: Option<String>,
    /// What else is in the entry, which is kept.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// The versions of plugins that there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PluginIndex {
    /// The entries. Several may be for one feature, each with another version.
    pub plugins: Vec<IndexEntry>,
    /// What else is in the index, which is kept.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// The error of a text that is no index: everything that is wrong with it, one line each.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct IndexError(String);

impl PluginIndex {
    /// Reads an index. Keeps keys that it does not know, which a later version may have added.
    ///
    /// # Errors
    /// [`IndexError`] with everything that is wrong. It quotes nothing of the text.
    pub fn parse(text: &[u8]) -> Result<Self, IndexError> {
        #[derive(Deserialize)]
        struct Entries {
            plugins: Vec<Value>,
            #[serde(flatten)]
            more: Map<String, Value>,
        }
        if text.len() > INDEX_MAX {
            return Err(IndexError(format!("it is larger than {} MiB", INDEX_MAX >> 20)));
        }
        let entries = serde_json::from_slice::<Entries>(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            IndexError(format!("it is not an index of plugins: see line {line}, column {column} of its JSON"))
        })?;
        if entries.plugins.len() > ENTRIES_MAX {
            return Err(IndexError(format!("it has more than {ENTRIES_MAX} entries")));
        }
        let (mut plugins, mut problems) = (Vec::new(), Vec::new());
        for (at, entry) in entries.plugins.into_iter().enumerate() {
            match serde_json::from_value::<IndexEntry>(entry) {
                Ok(mut entry) => {
                    problems.extend(entry.problems().into_iter().map(|problem| format!("`plugins[{at}].{problem}")));
                    entry.sha256.make_ascii_lowercase();
                    plugins.push(entry);
                }
                Err(_) => {
                    let keys = "`feature`, `version`, `url`, `sha256` and `contract`, each a string";
                    problems.push(format!("`plugins[{at}]` must have {keys}"));
                }
            }
        }
        if problems.is_empty() {
            return Ok(Self { plugins, more: entries.more });
        }
        let more = problems.len().saturating_sub(PROBLEMS_MAX);
        problems.truncate(PROBLEMS_MAX);
        problems.extend((more > 0).then(|| format!("and {more} more")));
        Err(IndexError(problems.join("\n")))
    }

    /// Adds an entry, in place of one for the same feature and version. Entries are ordered by feature and version.
    ///
    /// # Errors
    /// [`IndexError`] if the entry is one that [`PluginIndex::parse`] refuses.
    pub fn put(&mut self, entry: IndexEntry) -> Result<(), IndexError> {
        let problems = entry.problems();
        if !problems.is_empty() {
            let problems: Vec<String> = problems.into_iter().map(|problem| format!("`{problem}")).collect();
            return Err(IndexError(problems.join("\n")));
        }
        let is_same = |other: &IndexEntry| (&other.feature, &other.version) == (&entry.feature, &entry.version);
        self.plugins.retain(|other| !is_same(other));
        self.plugins.push(entry);
        self.plugins.sort_by(|a, b| {
            let by_version = match order(&a.version, &b.version) {
                VersionOrder::Newer => std::cmp::Ordering::Less,
                VersionOrder::Older => std::cmp::Ordering::Greater,
                _ => a.version.cmp(&b.version),
            };
            a.feature.cmp(&b.feature).then(by_version)
        });
        Ok(())
    }

    /// Returns the newest entry for a feature. Of entries whose versions have no order, returns the last.
    pub fn newest(&self, feature: &str) -> Option<&IndexEntry> {
        let own = self.plugins.iter().filter(|entry| entry.feature == feature);
        own.reduce(|best, entry| match order(&best.version, &entry.version) {
            VersionOrder::Older => best,
            _ => entry,
        })
    }
}

impl IndexEntry {
    /// Returns what is wrong, each beginning with the key and the quote behind it.
    fn problems(&self) -> Vec<String> {
        let is_word = |text: &str| {
            (1..=VERSION_MAX).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-+_".contains(&b))
        };
        let word_rule = format!("must be 1 to {VERSION_MAX} letters, digits, `.`, `-`, `+` or `_`");
        let mut problems = Vec::new();
        if !is_id(&self.feature) {
            problems.push(format!("feature`: {}", id_rule("feature")));
        }
        if !is_word(&self.version) {
            problems.push(format!("version` {word_rule}"));
        }
        if https_url(&self.url).is_none() {
            problems.push(format!("url` {URL_RULE}"));
        }
        if digest(&self.sha256).is_none() {
            problems.push(format!("sha256` {DIGEST_RULE}"));
        }
        if !is_word(&self.contract) {
            problems.push(format!("contract` {word_rule}"));
        }
        if self.changelog.as_ref().is_some_and(|text| text.len() > CHANGELOG_MAX) {
            problems.push(format!("changelog` must have at most {} KiB", CHANGELOG_MAX >> 10));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(feature: &str, version: &str) -> IndexEntry {
        IndexEntry {
            feature: feature.into(),
            version: version.into(),
            url: "https://a.example/x.wasm".into(),
            sha256: "ab".repeat(32),
            contract: "1.1.0".into(),
            changelog: None,
            more: Map::new(),
        }
    }

    #[test]
    fn an_entry_takes_the_place_of_the_one_with_its_version_and_the_newest_is_found() {
        let mut index = PluginIndex::default();
        for (feature, version) in [("b", "1.10.0"), ("b", "1.9.0"), ("a", "1.0.0"), ("b", "1.9.0")] {
            index.put(entry(feature, version)).unwrap();
        }
        let versions: Vec<_> = index.plugins.iter().map(|entry| entry.version.as_str()).collect();
        assert_eq!(versions, ["1.0.0", "1.9.0", "1.10.0"]);
        assert_eq!(index.newest("b").unwrap().version, "1.10.0");
        index.plugins.reverse();
        assert_eq!(index.newest("b").unwrap().version, "1.10.0");
        assert_eq!(index.newest("c"), None);
        let text = serde_json::to_vec(&index).unwrap();
        assert_eq!(PluginIndex::parse(&text).unwrap(), index);
        assert!(index.put(entry("A", "1")).unwrap_err().to_string().starts_with("`feature`: the feature must"));
    }

    #[test]
    fn everything_that_is_wrong_is_told_and_nothing_is_quoted() {
        let text = br#"{"plugins": [{"feature": "canary!", "version": "canary 1", "url": "http://canary.example/",
            "sha256": "canary", "contract": ""}, {"feature": "canary"}, 3]}"#;
        let message = PluginIndex::parse(text).unwrap_err().to_string();
        for words in [
            "`plugins[0].feature`: ",
            "`plugins[0].version` must",
            "`plugins[0].url` must be an https URL",
            "`plugins[0].sha256` must",
            "`plugins[0].contract` must",
            "`plugins[1]` must have",
            "`plugins[2]` must have",
        ] {
            assert!(message.contains(words), "{words}: {message}");
        }
        assert!(!message.contains("canary"), "{message}");
        for (text, words) in [
            (b"canary".to_vec(), "line 1, column 1"),
            (vec![b' '; INDEX_MAX + 1], "larger than 4 MiB"),
            (format!("{{\"plugins\": [{}3]}}", "3,".repeat(ENTRIES_MAX)).into_bytes(), "more than 2000 entries"),
            (format!("{{\"plugins\": [{}3]}}", "3,".repeat(100)).into_bytes(), "and 81 more"),
        ] {
            let message = PluginIndex::parse(&text).unwrap_err().to_string();
            assert!(message.contains(words), "{words}: {message}");
        }
    }
}
