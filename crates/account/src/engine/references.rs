//! The references of a device's templates, as all other devices get them. A delete is checked against them.
//!
//! Knows of a template only its id.

use serde::{Deserialize, Serialize};

use guillemet_base::names::SecretName;
use guillemet_wire::DeviceId;

/// The references of one device, as they are published to the account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct References {
    /// The device that has these templates.
    pub device: DeviceId,
    /// The number of the newest head that the device knew when it published this.
    pub seen: u64,
    /// The places that name a secret.
    pub references: Vec<DeviceReference>,
    /// The words of files that cannot be parsed. Any name that occurs in one counts as referenced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<Words>,
    /// Files and folders that cannot be read. Each blocks every delete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// A place in a template that names a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceReference {
    /// The id of the template.
    pub template: String,
    /// The line in the template's file, counted from 1.
    pub line: u32,
    /// The column in characters, counted from 1.
    pub column: u32,
    /// The name, as the template spells it.
    pub name: String,
}

/// A file that cannot be parsed, as the words in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// The id of the template.
    pub template: String,
    /// The longest runs of characters that a name can have, in lower case, without duplicates, sorted.
    pub words: Vec<String>,
}

impl Words {
    /// Extracts the words of a text.
    pub fn of(template: &str, text: &str) -> Self {
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let mut words: Vec<String> =
            text.split(|c| !is_of_name(c)).filter(|word| !word.is_empty()).map(str::to_ascii_lowercase).collect();
        words.sort_unstable();
        words.dedup();
        Self { template: template.to_owned(), words }
    }

    /// Returns whether a name occurs in the text. A part of a word counts too, as it does in the text itself.
    pub fn may_contain(&self, name: &SecretName) -> bool {
        let key = name.key();
        self.words.iter().any(|word| word.contains(&key))
    }
}

impl References {
    /// Returns whether a name is referenced, or may be referenced by a text that cannot be parsed.
    pub fn may_reference(&self, name: &SecretName) -> bool {
        self.references.iter().any(|reference| reference.matches(name))
            || self.texts.iter().any(|text| text.may_contain(name))
    }

    /// Returns whether a name is really meant: it is referenced, or is a whole word of a text that cannot be parsed.
    pub fn references(&self, name: &SecretName) -> bool {
        let key = name.key();
        self.references.iter().any(|reference| reference.matches(name))
            || self.texts.iter().any(|text| text.words.binary_search(&key).is_ok())
    }

    /// Returns whether two devices, or one at two times, have the same references; ignores `device` and `seen`.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.references, &self.texts, &self.unknown) == (&other.references, &other.texts, &other.unknown)
    }
}

impl DeviceReference {
    /// Returns whether this place names a secret of that name. Ignores case.
    pub fn matches(&self, name: &SecretName) -> bool {
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
            assert_eq!(words.may_contain(&name), holds, "{name}");
            assert_eq!(!guillemet_template::lexer::names_in_text(text, &[&name]).is_empty(), holds, "{name}");
        }
        let references = References { texts: vec![words], ..References::default() };
        assert!(references.references(&"calcom-prod.2".parse().unwrap()));
        assert!(!references.references(&"calcom-prod".parse().unwrap()));
    }
}
