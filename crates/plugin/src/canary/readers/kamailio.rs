//! Reads the strings of a configuration of Kamailio, as its src/core/cfg.lex does (5.6 and later).
//!
//! A string in double quotes has escapes, one in single quotes has none. Everything else is structure, token by token:
//! what follows a string that ended too early is a change of the structure. Strings in double quotes beside each other
//! are one string. `#!subst` is not applied.

use super::{Leaf, error_at};

pub fn read(text: &str) -> Result<Vec<Leaf>, String> {
    if let Some(at) = text.find('\0') {
        return Err(error_at(text, at, "NUL ends a string of Kamailio"));
    }
    let mut leaves: Vec<Leaf> = Vec::new();
    let mut at = 0;
    // Whether only blanks have followed a string in double quotes.
    let mut continues = false;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let error = |problem: &str| error_at(text, at, problem);
        if matches!(c, ' ' | '\t' | '\r' | '\n') {
            at += 1;
            continue;
        }
        if c == '"' || c == '\'' {
            let read = if c == '"' { unquote(&rest[1..]) } else { until_tick(&rest[1..]) };
            let (value, len) = read.ok_or_else(|| error("a string is not closed"))?;
            match leaves.last_mut().filter(|_| continues && c == '"') {
                Some(string) => string.text.push_str(&value),
                None => leaves.push(Leaf::value(&["a string"], value)),
            }
            at += 1 + len;
            continues = c == '"';
            continue;
        }
        continues = false;
        let (what, len) = if rest.starts_with("#!") || rest.starts_with("!!") {
            ("a directive", line_len(rest))
        } else if c == '#' || rest.starts_with("//") {
            ("a comment", line_len(rest))
        } else if rest.starts_with("/*") {
            ("a comment", comment_len(rest).ok_or_else(|| error("a comment is not closed"))?)
        } else if c.is_alphanumeric() || c == '_' {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            ("a word outside of strings", rest.find(|c: char| !is_word(c)).unwrap_or(rest.len()))
        } else {
            ("text outside of strings", c.len_utf8())
        };
        leaves.push(Leaf::structure(what, &rest[..len]));
        at += len;
    }
    Ok(leaves)
}

fn line_len(text: &str) -> usize {
    text.find('\n').unwrap_or(text.len())
}

/// Returns the length of a comment `/* … */`, which can contain others.
fn comment_len(text: &str) -> Option<usize> {
    let (mut depth, mut at) = (0, 0);
    loop {
        let open = text[at..].find("/*").map(|found| at + found);
        let close = at + text[at..].find("*/")?;
        match open.filter(|open| *open < close) {
            Some(open) => (depth, at) = (depth + 1, open + 2),
            None if depth == 1 => return Some(close + 2),
            None => (depth, at) = (depth - 1, close + 2),
        }
    }
}

/// Reads a string after its opening `'`. Returns it with the length up to and including the closing one.
fn until_tick(text: &str) -> Option<(String, usize)> {
    let end = text.find('\'')?;
    Some((text[..end].to_owned(), end + 1))
}

/// Reads a string after its opening `"`. Returns it with the length up to and including the closing one.
fn unquote(text: &str) -> Option<(String, usize)> {
    let mut out = Vec::new();
    let mut at = 0;
    loop {
        let rest = &text.as_bytes()[at..];
        at += match rest {
            [b'"', ..] => return Some((String::from_utf8_lossy(&out).into_owned(), at + 1)),
            [b'\\', escaped, behind @ ..] => 2 + unescape(*escaped, behind, &mut out),
            [b, ..] => {
                out.push(*b);
                1
            }
            [] => return None,
        };
    }
}

/// Appends what an escape stands for. Returns how many of the bytes behind its first two belong to it.
fn unescape(escaped: u8, behind: &[u8], out: &mut Vec<u8>) -> usize {
    let number = |digits: &[u8], radix| {
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        u32::from_str_radix(digits, radix).map_or(0, |number| (number & 0xff) as u8)
    };
    match escaped {
        b'"' | b'\\' => out.push(escaped),
        b'n' => out.push(b'\n'),
        b'r' => out.push(b'\r'),
        b'a' => out.push(7),
        b't' => out.push(b'\t'),
        b'\n' => {}
        b'x' if behind.first().is_some_and(u8::is_ascii_hexdigit) => {
            let len = behind.iter().take(2).take_while(|b| b.is_ascii_hexdigit()).count();
            out.push(number(&behind[..len], 16));
            return len;
        }
        b'0'..=b'7' if behind.first().is_some_and(|b| matches!(b, b'0'..=b'7')) => {
            let len = behind.iter().take(2).take_while(|b| matches!(b, b'0'..=b'7')).count();
            let digits = [&[escaped], &behind[..len]].concat();
            out.push(number(&digits, 8));
            return len;
        }
        _ => out.extend_from_slice(&[b'\\', escaped]),
    }
    0
}
