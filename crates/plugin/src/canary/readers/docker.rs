//! Reads a file for `docker --env-file` (docker/cli opts/file.go, pkg/kvfile) and `kubectl --from-env-file`
//! (pkg/generate/versioned/env_file.go).
//!
//! Nothing is quoted or escaped: a value goes to the end of its line. Stricter than docker, which takes a name without
//! `=` from its own environment: that is structure here.

use super::{Leaf, error_at, lines};

/// The most bytes of a line, which Go's `bufio.Scanner` can hold.
const LINE_MAX: usize = 64 << 10;

pub fn read(text: &str) -> Result<Vec<Leaf>, String> {
    let mut leaves = Vec::new();
    // A byte order mark is skipped.
    let skipped = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    for (start, line) in lines(&text[skipped..]) {
        let error = |problem: &str| error_at(text, start + skipped, problem);
        if line.len() >= LINE_MAX {
            return Err(error("it is longer than docker reads"));
        }
        if line.contains('\0') {
            return Err(error("an environment variable cannot contain NUL"));
        }
        // The scanner drops a carriage return at the end, and both readers drop white space at the beginning.
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() {
            continue;
        }
        if line.starts_with('#') {
            leaves.push(Leaf::structure("a comment", line));
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (line, None),
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(error("the text before `=` is not a variable name"));
        }
        leaves.push(match value {
            Some(value) => Leaf::value(&[name], value),
            None => Leaf::structure("a variable that docker takes from its own environment", name),
        });
    }
    Ok(leaves)
}
