//! A dotenv file, as python-dotenv 1.x reads it.
//!
//! Differs from it in what cannot be read: python-dotenv passes over such a line, here it is told. `${…}` is not
//! expanded: its place is told too.

use std::ops::Range;

use zeroize::Zeroizing;

use crate::cli::adopt::source::Problems;

/// A variable.
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value; nothing where the line has no `=`.
    pub value: Option<Zeroizing<String>>,
    /// Where the value stands in the file, with its quotes.
    pub range: Range<usize>,
}

/// Reads a file; of variables that are there twice the last counts.
pub fn read(text: &str, problems: &mut Problems<'_>) -> Vec<Variable> {
    let mut variables: Vec<Variable> = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let blank = rest.len() - rest.trim_start().len();
        if blank > 0 {
            at += blank;
            continue;
        }
        if rest.starts_with('#') {
            at += rest.find(['\r', '\n']).unwrap_or(rest.len());
            continue;
        }
        match variable(text, at) {
            Some((variable, end)) => {
                variables.retain(|other| other.name != variable.name);
                variables.push(variable);
                at = end;
            }
            None => {
                problems.add(Some(at), "", "is no line of a dotenv file", Some("write NAME='value'"));
                at += rest.find('\n').map_or(rest.len(), |end| end + 1);
            }
        }
    }
    variables
}

/// The variable that begins there, and where its line ends.
fn variable(text: &str, begin: usize) -> Option<(Variable, usize)> {
    let blank = |c: char| c.is_whitespace() && !matches!(c, '\r' | '\n');
    let skip = |at: usize| at + text[at..].len() - text[at..].trim_start_matches(blank).len();
    let mut at = begin;
    if let Some(rest) = text[at..].strip_prefix("export")
        && rest.starts_with(blank)
    {
        at = skip(at + "export".len());
    }
    let name = if let Some(rest) = text[at..].strip_prefix('\'') {
        let end = rest.find('\'').filter(|end| *end > 0)?;
        at += end + 2;
        &rest[..end]
    } else {
        let end = text[at..].find(|c: char| matches!(c, '=' | '#') || c.is_whitespace()).unwrap_or(text.len() - at);
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
        // To the end of the line, or to a comment behind a blank.
        _ => {
            let line = &rest[..rest.find(['\r', '\n']).unwrap_or(rest.len())];
            let comment =
                line.char_indices().zip(line.chars().skip(1)).find(|((_, c), next)| c.is_whitespace() && *next == '#');
            let line = line[..comment.map_or(line.len(), |((index, _), _)| index)].trim_end();
            Some((Zeroizing::new(line.to_owned()), at + line.len()))
        }
    }
}

/// What an escape stands for; nothing where it stands for itself.
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::cli::adopt::source::Source;

    fn variables(text: &str) -> (Vec<(String, Option<String>)>, bool) {
        let source = Source::of(text);
        let mut problems = Problems::new(&source);
        let found = read(text, &mut problems);
        let found = found.into_iter().map(|variable| {
            let value = variable.value.map(|value| (*value).clone());
            if let Some(value) = &value {
                assert!(variable.range.len() >= value.len() || text[variable.range.clone()].contains('\\'), "{text}");
            }
            (variable.name, value)
        });
        (found.collect(), problems.is_empty())
    }

    const FILE: &str = "# c\nexport A=x y # c\nB = 'it\\'s \\n'#c\n'C'=\"a\\nb\\\"\\q\"\nD=\nE\nF=a#b\nG='two\nlines' # c\n\
                        H=  spaced  \nI=\"\"\nA=again\nJ=${HOME}x\nK='a\\\\b'\nL=a\\nb\nM=\"ü\"\n";

    fn expected() -> Vec<(String, Option<String>)> {
        let pairs = [
            ("B", Some("it's \\n")),
            ("C", Some("a\nb\"\\q")),
            ("D", Some("")),
            ("E", None),
            ("F", Some("a#b")),
            ("G", Some("two\nlines")),
            ("H", Some("spaced")),
            ("I", Some("")),
            ("A", Some("again")),
            ("J", Some("${HOME}x")),
            ("K", Some("a\\b")),
            ("L", Some("a\\nb")),
            ("M", Some("ü")),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).to_vec()
    }

    #[test]
    fn quotings_comments_and_what_is_there_twice() {
        assert_eq!(variables(FILE), (expected(), true));
        for wrong in ["A='open\n", "=x\n", "A='a'b\n", "A B=c\n"] {
            assert!(!variables(wrong).1, "{wrong}");
        }
    }

    /// The same by the real one, where it is installed.
    #[test]
    fn python_dotenv_reads_the_same() {
        let script = "import dotenv, io, json, sys\n\
                      v = dotenv.dotenv_values(stream=io.StringIO(sys.stdin.read()), interpolate=False)\n\
                      print(json.dumps(v))";
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/consumers/venv/bin/python");
        if !python.exists() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "python-dotenv is missing");
            println!("skipped: needs python-dotenv, which `make test` installs");
            return;
        }
        let mut child =
            Command::new(python).args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(FILE.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let read: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        let read: std::collections::BTreeMap<_, _> =
            read.into_iter().map(|(name, value)| (name, value.as_str().map(str::to_owned))).collect();
        assert_eq!(read, expected().into_iter().collect());
    }
}
