//! Reads INI as Python's configparser (Lib/configparser.py) and npm's `ini` (lib/ini.js) both do. What they read
//! differently is structure, so that no value can be in it.
//!
//! Before the first section only npm's `ini` reads anything, so its rules alone hold there.

use super::{Leaf, error_at, lines};

/// Where configparser and npm's `ini` differ.
const DIFFERENT: &str = "a value that Python's configparser and npm's ini read differently";

pub fn read(text: &str) -> Result<Vec<Leaf>, String> {
    let mut leaves = Vec::new();
    let mut section: Option<String> = None;
    let mut keys: Vec<String> = Vec::new();
    for (start, line) in lines(text) {
        let error = |problem: &str| error_at(text, start, problem);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.contains('\r') {
            return Err(error("a carriage return, which npm's ini reads as a line break"));
        }
        let content = line.trim();
        if content.is_empty() {
            continue;
        }
        if content.starts_with(['#', ';']) {
            leaves.push(Leaf::structure("a comment", content));
        } else if line.starts_with(char::is_whitespace) {
            leaves.push(Leaf::structure("a line that configparser adds to the value before it", content));
        } else if let Some(name) = line.strip_prefix('[') {
            let name = name.trim_end().strip_suffix(']').filter(|name| !name.is_empty() && !name.contains(']'));
            let Some(name) = name else { return Err(error("it is not the name of a section in brackets")) };
            leaves.push(Leaf::structure("the name of a section", name));
            section = Some(name.to_owned());
            keys.clear();
        } else {
            if section.is_some() && !line.contains(['=', ':']) {
                return Err(error("`=` is missing"));
            }
            let leaf = read_pair(section.as_deref(), line);
            // configparser refuses a key that is set twice, and ignores its case.
            if let [_, key] = leaf.path.as_slice() {
                let key = key.to_lowercase();
                if keys.contains(&key) {
                    return Err(error("a key is set twice"));
                }
                keys.push(key);
            }
            leaves.push(leaf);
        }
    }
    Ok(leaves)
}

fn read_pair(section: Option<&str>, line: &str) -> Leaf {
    let Some((key, value)) = line.split_once('=') else { return Leaf::structure("a line without `=`", line) };
    if section.is_some() && key.contains(':') {
        return Leaf::structure("a line that configparser divides at `:` and npm's ini at `=`", line);
    }
    let (key, value) = (key.trim_end(), value.trim_matches([' ', '\t']));
    let path: Vec<&str> = section.into_iter().chain([key]).collect();
    let mut leaf = Leaf::value(&path, value);
    if is_different(value) {
        leaf.structure = Some(DIFFERENT);
    }
    leaf
}

/// Reports whether the two read a value differently: comments, escapes, interpolation, quotes, words and white space. In
/// JavaScript, a line separator ends a line, so npm's `ini` drops the value.
fn is_different(value: &str) -> bool {
    let is_white = |c: char| c.is_whitespace() || matches!(c, '\u{feff}' | '\u{1c}'..='\u{1f}');
    let is_quoted = |quote: char| value.starts_with(quote) && value.ends_with(quote);
    value.is_empty()
        || value.contains([';', '#', '\\', '%', '$', '\0', '\u{2028}', '\u{2029}'])
        || value.starts_with(is_white)
        || value.ends_with(is_white)
        || is_quoted('"')
        || is_quoted('\'')
        || matches!(value, "true" | "false" | "null")
}
