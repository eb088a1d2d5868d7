//! The encoder whose rules a plugin brings along: what goes before and after a text, what each character becomes, and
//! which characters are refused. The host applies them, so the plugin sees no value.

use serde::{Deserialize, Serialize};

use super::{Args, Clear, Op, Refusal, refuse, utf8};

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

/// Why a table is of no use, as a clause about the plugin's call.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TableError(String);

impl EscapeTable {
    /// Checks that the table is within its bounds, unambiguous, and ends the text where it should.
    ///
    /// # Errors
    /// Fails with `TableError` if it has too many rules or too long texts, replaces a character twice, or lets a text
    /// run into what follows it: by holding a line break without a closing text, or the first character of the closing
    /// text as it is.
    pub fn check(&self) -> Result<(), TableError> {
        let fail = |clause: String| Err(TableError(clause));
        if self.replacements.len() > TABLE_MAX || self.refused.len() > TABLE_MAX {
            return fail(format!("with more than {TABLE_MAX} rules"));
        }
        let texts = self.replacements.iter().map(|(_, text)| text).chain([&self.opening, &self.closing]);
        if texts.clone().any(|text| text.len() > TABLE_TEXT_MAX) {
            return fail(format!("with a text of more than {TABLE_TEXT_MAX} bytes"));
        }
        for (index, (character, text)) in self.replacements.iter().enumerate() {
            if self.replacements[..index].iter().any(|(other, _)| other == character) {
                return fail(format!("with two replacements of {}", shown(*character)));
            }
            if text.is_empty() {
                return fail(format!("with an empty replacement of {}: that would drop it", shown(*character)));
            }
        }
        let ends: Vec<char> = match self.closing.chars().next() {
            Some(first) => vec![first],
            None => vec!['\n', '\r'],
        };
        match ends.into_iter().find(|end| !self.is_held(*end)) {
            None => Ok(()),
            Some(end) => fail(format!("without a replacement or refusal of {}, which ends the text", shown(end))),
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
    fn write(&self, text: &str, out: &mut Clear) -> Result<(), Refusal> {
        out.extend_from_slice(self.opening.as_bytes());
        self.write_content(text, out)?;
        out.extend_from_slice(self.closing.as_bytes());
        Ok(())
    }

    /// Appends a text without the opening and the closing text.
    pub(super) fn write_content(&self, text: &str, out: &mut Clear) -> Result<(), Refusal> {
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

    /// Reads a text back that begins at the opening text: undoes the replacements up to the closing text, or up to the
    /// end of the line if there is none. Returns the text, and how many bytes of `written` it took; `None` if it does
    /// not begin or end.
    pub fn read(&self, written: &str) -> Option<(String, usize)> {
        let mut at = written.strip_prefix(self.opening.as_str()).map(|_| self.opening.len())?;
        let mut text = String::new();
        loop {
            let rest = &written[at..];
            // The longest one, as a reader takes it: `\\` before `\`.
            let replaced = self.replacements.iter().filter(|(_, by)| rest.starts_with(by.as_str()));
            if let Some((character, by)) = replaced.max_by_key(|(_, by)| by.len()) {
                text.push(*character);
                at += by.len();
            } else if self.closing.is_empty() && (rest.is_empty() || rest.starts_with(['\n', '\r'])) {
                return Some((text, at));
            } else if !self.closing.is_empty() && rest.starts_with(self.closing.as_str()) {
                return Some((text, at + self.closing.len()));
            } else {
                let c = rest.chars().next()?;
                text.push(c);
                at += c.len_utf8();
            }
        }
    }
}

/// Appends the text as the table of the operation says.
pub fn escape(op: &Op, args: &Args<'_>, out: &mut Clear) -> Result<(), Refusal> {
    let Op::Escape(table) = op else { return Ok(()) };
    table.write(utf8(&args.eval(0)?)?, out)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(opening: &str, closing: &str, replacements: &[(char, &str)], refused: &[&str]) -> EscapeTable {
        EscapeTable {
            opening: opening.into(),
            closing: closing.into(),
            replacements: replacements.iter().map(|(c, text)| (*c, (*text).into())).collect(),
            refused: refused.iter().map(|set| (CharacterSet((*set).into()), "it cannot".into())).collect(),
        }
    }

    fn written(table: &EscapeTable, text: &str) -> Result<String, String> {
        let mut out = Clear::new();
        table.write(text, &mut out).map_err(|refusal| refusal.reason)?;
        Ok(String::from_utf8(out.to_vec()).unwrap())
    }

    #[test]
    fn a_set_has_ranges_and_a_dash_at_its_ends_is_itself() {
        let set = |text: &str| CharacterSet(text.into());
        let of = |text: &str| ('\0'..='\u{7f}').filter(|c| set(text).contains(*c)).collect::<String>();
        assert_eq!(of("a-c_"), "_abc");
        assert_eq!(of("-ac"), "-ac");
        assert_eq!(of("ac-"), "-ac");
        assert_eq!(of("a--c"), of("c"));
        assert_eq!(of("+--x"), "+,-x");
        assert!(set("\0-\u{1f}").contains('\n') && set("é-ö").contains('í'));
        assert!(set("a-z").is_valid() && !set("z-a").is_valid() && !set("").is_valid());
    }

    #[test]
    fn a_table_that_lets_a_text_run_on_is_refused() {
        let clause = |table: EscapeTable| table.check().unwrap_err().0;
        assert_eq!(table("\"", "\"", &[('"', "\\\""), ('\\', "\\\\")], &["\0"]).check(), Ok(()));
        assert_eq!(table("", "", &[], &["\n\r"]).check(), Ok(()));
        assert_eq!(
            clause(table("\"", "\"", &[], &[])),
            "without a replacement or refusal of `\"`, which ends the text"
        );
        assert_eq!(
            clause(table("", "", &[('\n', "\\n")], &[])),
            "without a replacement or refusal of a carriage return, which ends the text"
        );
        assert_eq!(clause(table("", "", &[('a', "b"), ('a', "c")], &["\n\r"])), "with two replacements of `a`");
        assert_eq!(
            clause(table("", "", &[('\u{1}', "")], &["\n\r"])),
            "with an empty replacement of U+0001: that would drop it"
        );
        assert!(clause(table(&"x".repeat(65), "", &[], &["\n\r"])).contains("more than 64 bytes"));
        let mut many = table("", "", &[], &["\n\r"]);
        many.replacements = (0..257).map(|n| (char::from_u32(0x1000 + n).unwrap(), "x".into())).collect();
        assert!(clause(many).contains("more than 256 rules"));
    }

    #[test]
    fn a_refused_character_is_refused_with_the_reason_of_the_table() {
        let table = table("'", "'", &[('a', "b"), ('x', "X")], &["'", "x-z"]);
        assert_eq!(written(&table, "ax!"), Ok("'bX!'".into()));
        assert_eq!(written(&table, "ay"), Err("it cannot".into()));
    }

    #[test]
    fn a_forgotten_escape_shows_when_the_text_is_read_back() {
        let forgets_backslash = table("\"", "\"", &[('"', "\\\"")], &[]);
        assert_eq!(forgets_backslash.check(), Ok(()));
        let wrong = written(&forgets_backslash, "a\\").unwrap();
        assert_eq!(forgets_backslash.read(&wrong), None);
        assert_eq!(forgets_backslash.read(&format!("{wrong}, \"b\"")), Some(("a\", ".into(), 7)));
    }

    proptest! {
        #[test]
        fn what_a_sound_table_writes_is_read_back(text in "[ -~é\n\"\\\\$]{0,20}", behind in "[ -~\n]{0,5}") {
            let table = table("\"", "\"", &[('"', "\\\""), ('\\', "\\\\"), ('\n', "\\n"), ('$', "$$")], &["\r"]);
            let written = written(&table, &text).unwrap();
            prop_assert_eq!(table.read(&format!("{written}{behind}")), Some((text, written.len())));
        }
    }
}
