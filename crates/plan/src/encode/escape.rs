//! The encoder whose rules a plugin brings along: what goes before and after a text, what each character becomes, and
//! which characters are refused. The host applies them, so the plugin sees no value.
//!
//! The library for plugins in Rust has the same file (a link), for cases without a host.

use serde::{Deserialize, Serialize};

use super::{Clear, Refusal, refuse};

/// The most replacements, and the most refusals, of one table.
pub const TABLE_MAX: usize = 256;
/// The most bytes of each text in a table.
pub const TABLE_TEXT_MAX: usize = 64;

/// How a text is written for a format that has no encoder of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EscapeTable {
    /// The text before it, such as a quote; may be empty.
    pub opening: String,
    /// The text after it. If it is empty, the text ends with its line.
    pub closing: String,
    /// What is written in place of a character.
    pub replacements: Vec<(char, String)>,
    /// Characters that the format cannot hold, each set with the reason. A character that is replaced is not refused.
    pub refused: Vec<(CharacterSet, String)>,
}

impl EscapeTable {
    /// Checks that the table is within its bounds, unambiguous, and ends the text where it should.
    ///
    /// # Errors
    /// Fails with a clause about the plugin's call if it has too many rules or too long texts, replaces a character
    /// twice, or lets a text run into what follows it: by holding a line break without a closing text, or the first
    /// character of the closing text as it is.
    pub fn check(&self) -> Result<(), String> {
        if self.replacements.len() > TABLE_MAX || self.refused.len() > TABLE_MAX {
            return Err(format!("with more than {TABLE_MAX} rules"));
        }
        let texts = self.replacements.iter().map(|(_, text)| text).chain([&self.opening, &self.closing]);
        if texts.clone().any(|text| text.len() > TABLE_TEXT_MAX) {
            return Err(format!("with a text of more than {TABLE_TEXT_MAX} bytes"));
        }
        for (index, (character, text)) in self.replacements.iter().enumerate() {
            if self.replacements[..index].iter().any(|(other, _)| other == character) {
                return Err(format!("with two replacements of {}", shown(*character)));
            }
            if text.is_empty() {
                return Err(format!("with an empty replacement of {}: that would drop it", shown(*character)));
            }
        }
        let ends: Vec<char> = match self.closing.chars().next() {
            Some(first) => vec![first],
            None => vec!['\n', '\r'],
        };
        match ends.into_iter().find(|end| !self.is_held(*end)) {
            None => Ok(()),
            Some(end) => Err(format!("without a replacement or refusal of {}, which ends the text", shown(end))),
        }
    }

    /// Reports whether the character is not written as it is.
    fn is_held(&self, character: char) -> bool {
        self.replacements.iter().any(|(other, _)| *other == character) || self.refusal(character).is_some()
    }

    fn refusal(&self, character: char) -> Option<&str> {
        self.refused.iter().find(|(set, _)| set.contains(character)).map(|(_, reason)| reason.as_str())
    }

    /// Appends a text between the opening and the closing text.
    ///
    /// # Errors
    /// Fails with the table's reason if the text holds a refused character.
    pub fn write(&self, text: &str, out: &mut Clear) -> Result<(), Refusal> {
        out.extend_from_slice(self.opening.as_bytes());
        self.write_content(text, out)?;
        out.extend_from_slice(self.closing.as_bytes());
        Ok(())
    }

    /// Appends a text without the opening and the closing text.
    pub fn write_content(&self, text: &str, out: &mut Clear) -> Result<(), Refusal> {
        for c in text.chars() {
            match self.replacements.iter().find(|(character, _)| *character == c) {
                Some((_, replacement)) => out.extend_from_slice(replacement.as_bytes()),
                None => match self.refusal(c) {
                    Some(reason) => return refuse(reason),
                    None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                },
            }
        }
        Ok(())
    }
}

/// Returns a character as a message shows it.
fn shown(character: char) -> String {
    match character {
        '\n' => "a line break".into(),
        '\r' => "a carriage return".into(),
        c if c.is_control() => format!("U+{:04X}", u32::from(c)),
        c => format!("`{c}`"),
    }
}

/// A set of characters, written like `A-Za-z0-9_-`: `x-y` is a range, and a `-` at the beginning or the end is itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CharacterSet(pub String);

impl CharacterSet {
    /// Reports whether the set has this character.
    pub fn contains(&self, character: char) -> bool {
        self.ranges().any(|(first, last)| (first..=last).contains(&character))
    }

    /// Reports whether every range begins before it ends, and the set is not empty.
    pub fn is_valid(&self) -> bool {
        !self.0.is_empty() && self.ranges().all(|(first, last)| first <= last)
    }

    /// Returns the first and the last character of each range; the same one twice for a single character.
    fn ranges(&self) -> impl Iterator<Item = (char, char)> {
        let mut rest = self.0.chars();
        std::iter::from_fn(move || {
            let first = rest.next()?;
            let mut ahead = rest.clone();
            match (ahead.next(), ahead.next()) {
                (Some('-'), Some(last)) => {
                    rest = ahead;
                    Some((first, last))
                }
                _ => Some((first, first)),
            }
        })
    }
}
