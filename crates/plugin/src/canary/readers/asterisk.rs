//! Reads a configuration as Asterisk's main/config.c does (config_text_file_load, process_text_line).
//!
//! `;` begins a comment unless a `\` is before it, which is then removed; `;--` opens a comment over lines, which `--;`
//! closes; all characters up to the blank are stripped from both ends of a line; the first `=` divides it, and a `>`
//! directly after that belongs to the sign. Stricter than Asterisk, which skips lines that it cannot read: these are
//! errors.

use super::{Leaf, error_at, lines};

/// The most bytes of a line with its line feed, which `fgets` reads into a buffer of 8,192.
const LINE_MAX: usize = 8_191;

pub fn read(text: &str) -> Result<Vec<Leaf>, String> {
    let mut leaves = Vec::new();
    let mut section = None;
    let mut depth = 0;
    for (start, line) in lines(text) {
        let error = |problem: &str| error_at(text, start, problem);
        if line.len() >= LINE_MAX {
            return Err(error("it is longer than Asterisk reads"));
        }
        if line.contains('\0') {
            return Err(error("NUL ends a line of Asterisk"));
        }
        let (kept, comment) = split_comment(line, &mut depth);
        let kept = strip(&kept);
        if let Some(name) = kept.strip_prefix('[') {
            let Some((name, options)) = name.split_once(']') else { return Err(error("`]` is missing")) };
            if !(options.is_empty() || options.starts_with('(') && options.ends_with(')')) {
                return Err(error("text follows the name of a section"));
            }
            leaves.push(Leaf::structure("the name of a section", kept));
            section = Some(name.to_owned());
        } else if kept.starts_with('#') {
            leaves.push(Leaf::structure("a directive", kept));
        } else if !kept.is_empty() {
            let Some((name, value)) = kept.split_once('=') else { return Err(error("`=` is missing")) };
            let Some(section) = &section else { return Err(error("it is before the first section")) };
            let value = strip(value.strip_prefix('>').unwrap_or(value));
            leaves.push(Leaf::value(&[section, strip(name)], value));
        }
        if !comment.is_empty() {
            leaves.push(Leaf::structure("a comment", comment));
        }
    }
    if depth > 0 {
        return Err(error_at(text, text.len(), "a comment over lines (`;--`) is not closed"));
    }
    Ok(leaves)
}

/// Divides a line into what is read and its comments. `depth` is the nesting depth of comments over lines.
fn split_comment(line: &str, depth: &mut usize) -> (String, String) {
    let (mut kept, mut comment) = (String::new(), String::new());
    let mut rest = line;
    while let Some(at) = rest.find(';') {
        let out = if *depth > 0 { &mut comment } else { &mut kept };
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        if let Some(before) = before.strip_suffix('\\') {
            out.push_str(before);
            out.push(';');
        } else if after.starts_with("--") && !after.starts_with("---") {
            out.push_str(before);
            comment.push_str(";--");
            *depth += 1;
            rest = &after[2..];
            continue;
        } else if *depth > 0 {
            comment.push_str(before);
            comment.push(';');
            if before.ends_with("--") {
                *depth -= 1;
            }
        } else {
            kept.push_str(before);
            comment.push_str(&rest[at..]);
            return (kept, comment);
        }
        rest = after;
    }
    let out = if *depth > 0 { &mut comment } else { &mut kept };
    out.push_str(rest);
    (kept, comment)
}

/// Strips a text as `ast_strip` does.
fn strip(text: &str) -> &str {
    text.trim_matches(|c: char| c <= ' ')
}
