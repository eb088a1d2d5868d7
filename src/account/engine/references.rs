//! What a device's templates name, as every other device is told: a delete is checked against it.
//!
//! Knows templates by their id only.

use serde::{Deserialize, Serialize};

use crate::account::wire::DeviceId;
use crate::names::SecretName;

/// The references of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct References {
    /// Whose.
    pub device: DeviceId,
    /// Up to which head the device knew the account when it said so.
    pub seen: u64,
    /// The places that name a secret.
    pub references: Vec<Named>,
    /// Files that cannot be taken apart: whatever name occurs in one counts as named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<Words>,
    /// Files and folders of which nothing is known: each stands in the way of every delete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// A place that names a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// The template's id.
    pub template: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// The name, as the template spells it.
    pub name: String,
}

/// A file that cannot be taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// The template's id.
    pub template: String,
    /// Its longest runs of characters of which names are made, in lower case, each once and in order.
    pub words: Vec<String>,
}

impl Words {
    /// The words of a text.
    pub fn of(template: &str, text: &str) -> Self {
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let mut words: Vec<String> =
            text.split(|c| !is_of_name(c)).filter(|word| !word.is_empty()).map(str::to_ascii_lowercase).collect();
        words.sort_unstable();
        words.dedup();
        Self { template: template.to_owned(), words }
    }

    /// Whether a name occurs in it: a part of a word counts, as it does in the text.
    pub fn hold(&self, name: &SecretName) -> bool {
        let key = name.key();
        self.words.iter().any(|word| word.contains(&key))
    }
}

impl References {
    /// Whether a name is named for certain, or may be in a text that cannot be taken apart.
    pub fn names(&self, name: &SecretName) -> bool {
        self.references.iter().any(|named| named.is(name)) || self.texts.iter().any(|text| text.hold(name))
    }

    /// Whether a name is meant: named for certain, or a whole word of such a text.
    pub fn means(&self, name: &SecretName) -> bool {
        let key = name.key();
        self.references.iter().any(|named| named.is(name))
            || self.texts.iter().any(|text| text.words.binary_search(&key).is_ok())
    }

    /// Whether two say the same, whenever they were said.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.references, &self.texts, &self.unknown) == (&other.references, &other.texts, &other.unknown)
    }
}

impl Named {
    /// Whether it names this.
    pub fn is(&self, name: &SecretName) -> bool {
        name.as_str().eq_ignore_ascii_case(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_broken_text_is_found_as_the_guard_finds_it() {
        let text = "key: << secret CalCom-prod.2 \nother=x_y";
        let words = Words::of("a/b", text);
        for (name, holds) in
            [("calcom-prod", true), ("calcom-prod.2", true), ("prod.2", true), ("x_y", true), ("y-z", false)]
        {
            let name: SecretName = name.parse().unwrap();
            assert_eq!(words.hold(&name), holds, "{name}");
            assert_eq!(!crate::template::lexer::names_in_text(text, &[&name]).is_empty(), holds, "{name}");
        }
        let references = References { texts: vec![words], ..References::default() };
        assert!(references.means(&"calcom-prod.2".parse().unwrap()));
        assert!(!references.means(&"calcom-prod".parse().unwrap()));
    }
}
