//! Splits the content of a tag into tokens as the template engine does, and turns offsets into lines and columns.

/// A token of the template language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// A name or keyword.
    Name(&'a str),
    /// A string literal, without its quotes.
    Text {
        /// The characters between the quotes, with escapes still in place.
        content: &'a str,
        /// Whether the content contains an escape.
        escaped: bool,
    },
    /// A number, whose value does not matter here.
    Number,
    /// Any other sign of the language, one character long.
    Operator(&'a str),
}

/// The outcome of reading one tag.
#[derive(Debug, PartialEq, Eq)]
pub enum Tag<'a> {
    /// The tag is closed.
    Closed {
        /// The tokens, each with its offset in the text in bytes.
        tokens: Vec<(usize, Token<'a>)>,
        /// The offset where the content ends, before the closing `-` if there is one.
        content_end: usize,
        /// Whether it closes with `-`.
        closing_dash: bool,
        /// The offset just after the closing delimiter.
        end: usize,
    },
    /// The tag contains something that is not part of the language.
    Foreign {
        /// The offset of that character or string, in bytes.
        at: usize,
        /// What is wrong there, as a phrase for people.
        message: String,
    },
    /// The tag is not closed, or another one opens before it is.
    Unclosed,
}

/// The operators and punctuation of the language.
const SIGNS: &str = "+-*/%().,[]{}:|=!<>~";

/// The reader of tags.
pub struct TagReader;

impl TagReader {
    /// Reads a tag whose content begins at `from`, up to `closer`.
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
                    // A dot is not part of it: `items.0.name` is several tokens here.
                    count(&bytes[at..], |b| b.is_ascii_alphanumeric() || b == b'_')
                }
                b'"' | b'\'' => match string(&bytes[at..]) {
                    Some((len, escaped)) => {
                        tokens.push((at, Token::Text { content: &rest[1..len - 1], escaped }));
                        len
                    }
                    None => return foreign(at, "a string is not closed: a quote is missing".into()),
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

fn count(bytes: &[u8], matches: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|b| matches(**b)).count()
}

/// Returns the length of a string with its quotes, and whether it contains an escape; `None` if it is not closed.
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

/// Turns byte offsets into lines and columns. Cheap while the offsets rise; a smaller one starts over.
#[derive(Clone, Debug)]
pub struct PositionCursor<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    column: u32,
}

impl<'a> PositionCursor<'a> {
    /// Starts at the beginning of a text.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, line: 1, column: 1 }
    }

    /// Returns the line and the column (in characters) of a byte offset, both counted from 1.
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
