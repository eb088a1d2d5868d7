//! Reads a netrc file as curl (lib/netrc.c, 7.84 and later) and Python (Lib/netrc.py, 3.11 and later) both do.
//!
//! They differ in unquoted text with `\`, in escapes other than `\"` and `\\`, in line breaks and nothing between
//! quotes, in text directly after a quote, and in `#` at the beginning of a token: these are errors or comments.

use super::{Leaf, error_at, lines};

/// The keywords whose next token is a value of the entry.
const FIELDS: [&str; 4] = ["login", "user", "account", "password"];

pub fn read(text: &str) -> Result<Vec<Leaf>, String> {
    let mut leaves = Vec::new();
    let mut entry: Option<String> = None;
    // The keyword whose value is the next token.
    let mut field: Option<&'static str> = None;
    let mut is_macro = false;
    for (start, line) in lines(text) {
        let error = |problem: &str| error_at(text, start, problem);
        if is_macro {
            // A macro ends at an empty line.
            is_macro = !line.is_empty();
            leaves.push(Leaf::structure("a line of a macro", line));
            continue;
        }
        let mut rest = line.strip_suffix('\r').unwrap_or(line);
        loop {
            rest = rest.trim_start_matches([' ', '\t']);
            if rest.is_empty() {
                break;
            }
            if rest.starts_with('#') {
                if field.is_some() {
                    return Err(error("a value begins with `#`, which curl reads as a comment"));
                }
                leaves.push(Leaf::structure("a comment", rest));
                break;
            }
            let (token, behind) = read_token(rest).map_err(error)?;
            let is_quoted = rest.starts_with('"');
            rest = behind;
            match (field.take(), token.as_str()) {
                (Some("machine"), _) => {
                    leaves.push(Leaf::value(&["machine"], token.clone()));
                    entry = Some(token);
                }
                (Some(name), _) => leaves.push(Leaf::value(&[entry.as_deref().unwrap_or_default(), name], token)),
                (None, _) if is_quoted => return Err(error("a quoted text is in the place of a keyword")),
                (None, "machine") => field = Some("machine"),
                (None, "default") => {
                    leaves.push(Leaf::structure("an entry", token));
                    entry = Some("default".into());
                }
                (None, "macdef") => {
                    leaves.push(Leaf::structure("a macro", rest));
                    is_macro = true;
                    break;
                }
                (None, keyword) => {
                    field = FIELDS.into_iter().find(|name| *name == keyword);
                    if field.is_none() || entry.is_none() {
                        return Err(error("a word is in the place of a keyword"));
                    }
                }
            }
        }
    }
    if field.is_some() {
        return Err(error_at(text, text.len(), "a keyword is without its value"));
    }
    Ok(leaves)
}

/// Splits a line after the token at its beginning.
fn read_token(line: &str) -> Result<(String, &str), &'static str> {
    if line.contains(|c: char| c.is_control() && c != '\t') {
        return Err("a control character, which the readers of netrc treat differently");
    }
    let Some(quoted) = line.strip_prefix('"') else {
        let (token, rest) = line.split_at(line.find([' ', '\t']).unwrap_or(line.len()));
        let is_different = token.contains('\\');
        return if is_different { Err("a `\\` outside of quotes, which curl keeps") } else { Ok((token.into(), rest)) };
    };
    let mut out = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next().ok_or("a quote is not closed")? {
            '"' => break,
            '\\' => match chars.next() {
                Some(c @ ('"' | '\\')) => out.push(c),
                _ => {
                    return Err("an escape other than `\\\"` and `\\\\`, which the readers of netrc treat differently");
                }
            },
            c => out.push(c),
        }
    }
    let rest = chars.as_str();
    if out.is_empty() {
        return Err("an empty value, at which Python ends the file");
    }
    if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
        return Err("text follows the closing quote, which is another token");
    }
    Ok((out, rest))
}
