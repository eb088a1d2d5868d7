//! Reads a file for `curl --config` as curl's src/tool_parsecfg.c does (7.88 and 8.x).
//!
//! Stricter than curl, which ignores what follows a closing quote, takes an open quote to the end of the line, and only
//! warns about a second word: these are errors.

use super::{Leaf, error_at, is_space, lines};

pub fn read(text: &str) -> Result<Vec<Leaf>, String> {
    let mut leaves = Vec::new();
    for (start, line) in lines(text) {
        read_line(line, &mut leaves).map_err(|problem| error_at(text, start, problem))?;
    }
    Ok(leaves)
}

fn read_line(line: &str, leaves: &mut Vec<Leaf>) -> Result<(), &'static str> {
    if line.contains('\0') {
        return Err("NUL ends a line of curl");
    }
    let line = line.trim_start_matches(is_space);
    if line.is_empty() {
        return Ok(());
    }
    if line.starts_with(['#', '/', '*']) {
        leaves.push(Leaf::structure("a comment", line.trim_end_matches(is_space)));
        return Ok(());
    }
    // An option that is written with its dashes is separated by blanks only.
    let has_dashes = line.starts_with('-');
    let separates = |c: char| is_space(c) || !has_dashes && matches!(c, '=' | ':');
    let (option, rest) = line.split_at(line.find(separates).unwrap_or(line.len()));
    let rest = rest.trim_start_matches(separates);
    let (value, rest) = match rest.strip_prefix('"') {
        Some(quoted) => {
            let (value, rest) = unquote(quoted)?;
            (Some(value), rest)
        }
        None => {
            let (word, rest) = rest.split_at(rest.find(is_space).unwrap_or(rest.len()));
            ((!word.is_empty()).then(|| word.to_owned()), rest)
        }
    };
    match value {
        // curl 8.3 and later replace `{{name}}` in these.
        Some(value) if option.trim_start_matches('-').starts_with("expand-") => {
            leaves.push(Leaf::structure("an option whose value curl expands", format!("{option} {value}")));
        }
        Some(value) => leaves.push(Leaf::value(&[option], value)),
        None => leaves.push(Leaf::structure("an option without a value", option)),
    }
    let behind = rest.trim_matches(is_space);
    if behind.is_empty() {
        return Ok(());
    }
    if !rest.starts_with(is_space) {
        return Err("text follows the closing quote, which curl ignores");
    }
    if !behind.starts_with('#') {
        return Err("a second word follows the value, which curl ignores");
    }
    leaves.push(Leaf::structure("a comment", behind));
    Ok(())
}

/// Reads a text after its opening quote. Returns it with what follows the closing quote.
fn unquote(text: &str) -> Result<(String, &str), &'static str> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return Ok((out, chars.as_str())),
            '\\' => match chars.next() {
                Some('t') => out.push('\t'),
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('v') => out.push('\u{b}'),
                Some(c) => out.push(c),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err("a quote is not closed")
}
