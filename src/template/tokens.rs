//! The tokens inside a tag, as the template engine reads them, and positions in a text.

/// A token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// A name or keyword.
    Name(&'a str),
    /// A string, without its quotes and with its escapes.
    Text {
        /// What stands between the quotes.
        content: &'a str,
        /// Whether there is an escape in it.
        escaped: bool,
    },
    /// A number.
    Number,
    /// Any other sign.
    Operator(&'a str),
}

/// A tag read to its end, or not.
#[derive(Debug, PartialEq, Eq)]
pub enum Tag<'a> {
    /// Closed.
    Closed {
        /// Its tokens with their places.
        tokens: Vec<(usize, Token<'a>)>,
        /// Where its content ends: before the closing `-`, if there is one.
        content_end: usize,
        /// Whether it closes with `-`.
        closing_dash: bool,
        /// Behind its closer.
        end: usize,
    },
    /// Something in it is not of the language.
    Foreign {
        /// Where.
        at: usize,
        /// What.
        message: String,
    },
    /// Not closed, or another tag opens in it before it is.
    Unclosed,
}

/// The signs of the language.
const SIGNS: &str = "+-*/%().,[]{}:|=!<>~";

/// Reads tags.
pub struct Tokens;

impl Tokens {
    /// Reads a tag whose content begins at `from`, up to its closer.
    pub fn read<'a>(text: &'a str, from: usize, closer: &str) -> Tag<'a> {
        let bytes = text.as_bytes();
        let mut tokens = Vec::new();
        let mut at = from;
        let foreign = |at: usize, message: String| Tag::Foreign { at, message };
        while at < bytes.len() {
            let rest = &text[at..];
            if rest.starts_with(closer) {
                return Tag::Closed { tokens, content_end: at, closing_dash: false, end: at + closer.len() };
            }
            if rest.strip_prefix('-').is_some_and(|rest| rest.starts_with(closer)) {
                return Tag::Closed { tokens, content_end: at, closing_dash: true, end: at + 1 + closer.len() };
            }
            if ["<<", "<%", "<#"].iter().any(|opener| rest.starts_with(opener)) {
                return Tag::Unclosed;
            }
            let b = bytes[at];
            let len = match b {
                b' ' | b'\t' | b'\r' | b'\n' => {
                    at += 1;
                    continue;
                }
                b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                    let len = count(&bytes[at..], |b| b.is_ascii_alphanumeric() || b == b'_');
                    tokens.push((at, Token::Name(&rest[..len])));
                    len
                }
                b'0'..=b'9' => {
                    tokens.push((at, Token::Number));
                    // A dot is part of it only before a digit: `items.0.name` is three tokens for us.
                    count(&bytes[at..], |b| b.is_ascii_alphanumeric() || b == b'_')
                }
                b'"' | b'\'' => match string(&bytes[at..]) {
                    Some((len, escaped)) => {
                        tokens.push((at, Token::Text { content: &rest[1..len - 1], escaped }));
                        len
                    }
                    None => return foreign(at, "a string is not closed".into()),
                },
                _ if b.is_ascii() && SIGNS.contains(char::from(b)) => {
                    tokens.push((at, Token::Operator(&rest[..1])));
                    1
                }
                _ => {
                    let c = rest.chars().next().unwrap_or_default();
                    return foreign(at, format!("`{}` is not part of the template language", c.escape_debug()));
                }
            };
            at += len;
        }
        Tag::Unclosed
    }
}

fn count(bytes: &[u8], taken: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|b| taken(**b)).count()
}

/// The length of a string with its quotes, and whether there is an escape in it.
fn string(bytes: &[u8]) -> Option<(usize, bool)> {
    let quote = bytes[0];
    let (mut at, mut escaped) = (1, false);
    loop {
        match *bytes.get(at)? {
            b'\\' => {
                escaped = true;
                at += 2;
            }
            b if b == quote => return Some((at + 1, escaped)),
            _ => at += 1,
        }
    }
}

/// Turns byte offsets into lines and columns. Cheap when the offsets rise.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    column: u32,
}

impl<'a> Cursor<'a> {
    /// At the beginning of a text.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, line: 1, column: 1 }
    }

    /// Line and column (in characters) of an offset, from 1.
    pub fn position(&mut self, at: usize) -> (u32, u32) {
        if at < self.at {
            *self = Self::new(self.text);
        }
        let between = self.text.get(self.at..at).unwrap_or_default();
        for c in between.chars() {
            if c == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.at = at;
        (self.line, self.column)
    }
}
