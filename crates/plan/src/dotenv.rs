//! Reads dotenv files as python-dotenv 1.x does (its parser.py).
//!
//! Differs in lines that cannot be read: python-dotenv skips them, this reader reports them. Does not expand `${…}`.
//! Knows nothing of its callers: values may be secrets, so they wipe themselves.

use std::ops::Range;

use zeroize::Zeroizing;

/// A variable in a dotenv file.
pub struct Variable {
    /// The name, without `export` and quotes.
    pub name: String,
    /// The value, unquoted and unescaped; `None` if the line has no `=`.
    pub value: Option<Zeroizing<String>>,
    /// The byte range of the value in the file, with its quotes.
    pub range: Range<usize>,
}

/// Reads a file. Returns its variables in order, and the byte offset of each line that cannot be read.
pub fn read(text: &str) -> Vec<Result<Variable, usize>> {
    let mut results = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let skipped = rest.len() - rest.trim_start_matches(blank).len();
        if skipped > 0 {
            at += skipped;
            continue;
        }
        if rest.starts_with('#') {
            at += rest.find(['\r', '\n']).unwrap_or(rest.len());
            continue;
        }
        match variable(text, at) {
            Some((variable, end)) => {
                results.push(Ok(variable));
                at = end;
            }
            None => {
                results.push(Err(at));
                at += rest.find('\n').map_or(rest.len(), |end| end + 1);
            }
        }
    }
    results
}

/// Reports whether a character is white space in Python, which includes U+001C to U+001F.
fn blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Reads the variable that begins at `start`. Returns it with the offset where its line ends.
fn variable(text: &str, start: usize) -> Option<(Variable, usize)> {
    let inner = |c: char| blank(c) && !matches!(c, '\r' | '\n');
    let skip = |at: usize| at + text[at..].len() - text[at..].trim_start_matches(inner).len();
    let mut at = start;
    if let Some(rest) = text[at..].strip_prefix("export")
        && rest.starts_with(inner)
    {
        at = skip(at + "export".len());
    }
    let name = if let Some(rest) = text[at..].strip_prefix('\'') {
        let end = rest.find('\'').filter(|end| *end > 0)?;
        at += end + 2;
        &rest[..end]
    } else {
        let end = text[at..].find(|c: char| matches!(c, '=' | '#') || blank(c)).unwrap_or(text.len() - at);
        at += end;
        &text[at - end..at]
    };
    if name.is_empty() {
        return None;
    }
    at = skip(at);
    let mut value = None;
    let mut range = at..at;
    if text[at..].starts_with('=') {
        at = skip(at + 1);
        let (read, end) = self::value(text, at)?;
        (value, range) = (Some(read), at..end);
        at = skip(end);
    }
    if text[at..].starts_with('#') {
        at += text[at..].find(['\r', '\n']).unwrap_or(text.len() - at);
    }
    let ends = text[at..].is_empty() || text[at..].starts_with(['\r', '\n']);
    ends.then(|| (Variable { name: name.to_owned(), value, range }, at))
}

fn value(text: &str, at: usize) -> Option<(Zeroizing<String>, usize)> {
    let rest = &text[at..];
    match rest.chars().next() {
        Some(quote @ ('\'' | '"')) => {
            let mut out = Zeroizing::new(String::with_capacity(rest.len().min(4096)));
            let mut chars = rest.char_indices().skip(1);
            loop {
                let (index, c) = chars.next()?;
                match c {
                    c if c == quote => return Some((out, at + index + 1)),
                    '\\' => {
                        let (_, escaped) = chars.next()?;
                        match unescaped(quote, escaped) {
                            Some(c) => out.push(c),
                            None => out.extend(['\\', escaped]),
                        }
                    }
                    c => out.push(c),
                }
            }
        }
        // The value ends at the end of the line, or at white space and `#`, which begin a comment.
        _ => {
            let line = &rest[..rest.find(['\r', '\n']).unwrap_or(rest.len())];
            let comment =
                line.char_indices().zip(line.chars().skip(1)).find(|((_, c), next)| blank(*c) && *next == '#');
            let line = line[..comment.map_or(line.len(), |((index, _), _)| index)].trim_end_matches(blank);
            Some((Zeroizing::new(line.to_owned()), at + line.len()))
        }
    }
}

/// Returns the character that an escape is replaced by; `None` if the escape is kept as it is.
fn unescaped(quote: char, c: char) -> Option<char> {
    match (quote, c) {
        (_, '\\' | '\'') => Some(c),
        ('\'', _) => None,
        (_, '"') => Some('"'),
        (_, 'a') => Some('\u{7}'),
        (_, 'b') => Some('\u{8}'),
        (_, 'f') => Some('\u{c}'),
        (_, 'n') => Some('\n'),
        (_, 'r') => Some('\r'),
        (_, 't') => Some('\t'),
        (_, 'v') => Some('\u{b}'),
        _ => None,
    }
}
