//! Reads a file for `EnvironmentFile=` as systemd's src/basic/env-file.c does (parse_env_file_internal).
//!
//! Stricter than systemd, which joins what follows a closing quote to the value, skips lines without `=`, closes open
//! quotes at the end of the file, and continues a comment that ends with `\` before version 254: these are errors.

use super::{Leaf, error_at};

pub fn read(text: &str) -> Result<Vec<Leaf>, String> {
    if let Some(at) = text.find('\0') {
        return Err(error_at(text, at, "NUL ends the file"));
    }
    let mut leaves = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        if is_blank(c) || is_line_break(c) {
            at += 1;
        } else if matches!(c, '#' | ';') {
            let comment = &rest[..rest.find(is_line_break).unwrap_or(rest.len())];
            if comment.ends_with('\\') {
                return Err(error_at(text, at, "systemd before 254 continues a comment that ends with `\\`"));
            }
            leaves.push(Leaf::structure("a comment", comment));
            at += comment.len();
        } else {
            let (leaf, len) = read_variable(rest).map_err(|problem| error_at(text, at, problem))?;
            leaves.push(leaf);
            at += len;
        }
    }
    Ok(leaves)
}

/// Reads a variable. Returns it with its length up to its line break.
fn read_variable(text: &str) -> Result<(Leaf, usize), &'static str> {
    let line = &text[..text.find(is_line_break).unwrap_or(text.len())];
    let (name, _) = line.split_once('=').ok_or("`=` is missing")?;
    let mut at = name.len() + 1;
    let name = name.trim_end_matches(is_blank);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.chars().all(is_name) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("the text before `=` is not a variable name");
    }
    at += text[at..].len() - text[at..].trim_start_matches(is_blank).len();
    let value = match text[at..].chars().next() {
        Some(quote @ ('\'' | '"')) => {
            let (value, len) = unquote(&text[at + 1..], quote).ok_or("a quote is not closed")?;
            at += 1 + len;
            at += text[at..].len() - text[at..].trim_start_matches(is_blank).len();
            if !text[at..].is_empty() && !text[at..].starts_with(is_line_break) {
                return Err("text follows the closing quote, which systemd joins to the value");
            }
            value
        }
        _ => {
            let (value, len) = read_bare(&text[at..])?;
            at += len;
            value
        }
    };
    if value.contains(is_noncharacter) {
        return Err("a Unicode noncharacter, for which systemd rejects the file");
    }
    Ok((Leaf::value(&[name], value), at))
}

/// Reads a text after its opening quote. Returns it with the length up to and including the closing one.
fn unquote(text: &str, quote: char) -> Option<(String, usize)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    loop {
        match chars.next()? {
            (at, c) if c == quote => return Some((out, at + 1)),
            (_, '\\') if quote == '"' => match chars.next()?.1 {
                c @ ('"' | '\\' | '`' | '$') => out.push(c),
                '\n' => {}
                c => out.extend(['\\', c]),
            },
            (_, c) => out.push(c),
        }
    }
}

/// Reads a value without quotes. Returns it with its length. `\` takes the meaning from the character after it.
fn read_bare(text: &str) -> Result<(String, usize), &'static str> {
    let mut out = String::new();
    // The length up to the last character that is not a blank; blanks after it are dropped.
    let mut kept = 0;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            c if is_line_break(c) => {
                out.truncate(kept);
                return Ok((out, at));
            }
            '\\' => {
                match chars.next() {
                    Some((_, c)) if is_line_break(c) => {}
                    Some((_, c)) => out.push(c),
                    None => return Err("a `\\` is at the end of the file"),
                }
                kept = out.len();
            }
            c => {
                out.push(c);
                if !is_blank(c) {
                    kept = out.len();
                }
            }
        }
    }
    out.truncate(kept);
    Ok((out, text.len()))
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

fn is_line_break(c: char) -> bool {
    matches!(c, '\n' | '\r')
}

fn is_noncharacter(c: char) -> bool {
    matches!(u32::from(c), 0xfdd0..=0xfdef) || u32::from(c) & 0xfffe == 0xfffe
}
