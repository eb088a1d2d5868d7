//! Maps the texts of a config to their places in the file, and writes marks in these places.
//!
//! Knows nothing of a format except how it quotes a text.

use std::ops::Range;

use zeroize::Zeroizing;

/// The way a token is quoted in the text around it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Quoting {
    /// `"…"` as in JSON, which YAML accepts too.
    Double,
    /// Not quoted, so written as it is.
    Plain,
    /// A value of Asterisk's configuration, with `;` escaped.
    Asterisk,
    /// A value of a dotenv file or a word of a shell: `'…'`.
    Single,
}

impl Quoting {
    /// Quotes a text that contains marks in place of values.
    fn write(self, text: &str) -> Zeroizing<String> {
        Zeroizing::new(match self {
            Self::Double => serde_json::Value::from(text).to_string(),
            Self::Plain => text.to_owned(),
            Self::Asterisk => text.replace(';', "\\;"),
            Self::Single => format!("'{}'", text.replace('\'', "'\\''")),
        })
    }
}

/// A piece of the file that is read as a whole: a string, a word or a value. Its text may contain other tokens.
struct SourceToken {
    within: Option<usize>,
    range: Range<usize>,
    text: Zeroizing<String>,
    quoting: Quoting,
}

/// The tokens that the texts of the config came from.
#[derive(Default)]
pub struct Tokens(Vec<SourceToken>);

/// The place that a text of the config came from.
#[derive(Clone, PartialEq, Eq)]
pub struct Spot {
    /// The index of the token, as [`Tokens::add`] returns it.
    pub token: usize,
    /// The bytes of the token's text.
    pub at: Range<usize>,
    /// Whether the token holds another form of the text, so that a part of the text has no place of its own.
    pub encoded: bool,
}

impl Spot {
    /// Returns the place of a part of the text.
    pub fn part(&self, range: &Range<usize>) -> Self {
        let at = self.at.start + range.start..self.at.start + range.end;
        if self.encoded { self.clone() } else { Self { token: self.token, at, encoded: false } }
    }
}

impl Tokens {
    /// Adds a token at `range` of the file or of another token's text. Returns its index.
    pub fn add(&mut self, within: Option<usize>, range: Range<usize>, text: &str, quoting: Quoting) -> usize {
        self.0.push(SourceToken { within, range, text: Zeroizing::new(text.to_owned()), quoting });
        self.0.len() - 1
    }

    /// Returns the place of a token's whole text.
    pub fn spot(&self, token: usize) -> Spot {
        Spot { token, at: 0..self.0[token].text.len(), encoded: false }
    }

    /// Returns the byte of the file at which the outermost token around a spot begins.
    pub fn offset(&self, spot: &Spot) -> usize {
        let mut token = &self.0[spot.token];
        while let Some(outer) = token.within {
            token = &self.0[outer];
        }
        token.range.start
    }

    /// Returns the file's text with `marks` in place of the text at their spots. Everything else stays the same, byte
    /// for byte.
    pub fn rewrite(&self, text: &str, marks: &[(Spot, String)]) -> Zeroizing<String> {
        let mut edits: Vec<Vec<(Range<usize>, Zeroizing<String>)>> = self.0.iter().map(|_| Vec::new()).collect();
        for (spot, mark) in marks {
            let list = &mut edits[spot.token];
            match list.iter_mut().find(|(range, _)| *range == spot.at) {
                // Two values can be written as one, such as in Basic credentials.
                Some((_, existing)) if **existing != *mark => existing.push_str(&format!(":{mark}")),
                Some(_) => {}
                None => list.push((spot.at.clone(), Zeroizing::new(mark.clone()))),
            }
        }
        let mut of_file = Vec::new();
        // Tokens are added after the token around them, so the reverse order handles inner tokens first.
        for index in (0..self.0.len()).rev() {
            let token = &self.0[index];
            let token_edits = std::mem::take(&mut edits[index]);
            if token_edits.is_empty() {
                continue;
            }
            let written = (token.range.clone(), token.quoting.write(&edited(&token.text, token_edits)));
            match token.within {
                Some(outer) => edits[outer].push(written),
                None => of_file.push(written),
            }
        }
        edited(text, of_file)
    }
}

/// Returns a text with some of its ranges replaced. Skips a range that overlaps the one before.
fn edited(text: &str, mut edits: Vec<(Range<usize>, Zeroizing<String>)>) -> Zeroizing<String> {
    edits.sort_by_key(|(range, _)| range.start);
    let mut out = Zeroizing::new(String::with_capacity(2 * text.len() + 64));
    let mut from = 0;
    for (range, new) in edits.into_iter().filter(|(range, _)| range.end <= text.len()) {
        if range.start < from {
            continue;
        }
        out.push_str(&text[from..range.start]);
        out.push_str(&new);
        from = range.end;
    }
    out.push_str(&text[from..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reaches_the_file_through_what_it_stands_in() {
        let text = "curl -d '{\"a\": \"x y\", \"b\": \"z\"}' # c";
        let mut tokens = Tokens::default();
        let body = tokens.add(None, 8..32, "{\"a\": \"x y\", \"b\": \"z\"}", Quoting::Single);
        let a = tokens.add(Some(body), 6..11, "x y", Quoting::Double);
        let b = tokens.add(Some(body), 18..21, "z", Quoting::Double);
        let marks = [(tokens.spot(b), "«b»".to_owned()), (tokens.spot(a).part(&(2..3)), "«a»".to_owned())];
        let after = tokens.rewrite(text, &marks);
        assert_eq!(*after, "curl -d '{\"a\": \"x «a»\", \"b\": \"«b»\"}' # c");
        assert_eq!(tokens.offset(&tokens.spot(b)), 8);
        assert_eq!(*tokens.rewrite(text, &[]), text);
    }
}
