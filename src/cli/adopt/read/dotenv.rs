//! Reads a dotenv file with plain values, and reports each mistake at its place.

pub use guillemet_plan::dotenv::Variable;

use crate::cli::adopt::source::Problems;
use guillemet_plan::dotenv;

/// Reads a file. If a variable is set twice, the last one counts.
pub fn read(text: &str, problems: &mut Problems<'_>) -> Vec<Variable> {
    let mut variables: Vec<Variable> = Vec::new();
    for found in dotenv::read(text) {
        match found {
            Ok(variable) => {
                variables.retain(|other| other.name != variable.name);
                variables.push(variable);
            }
            Err(at) => problems.add(Some(at), "", "is not a line of a dotenv file", Some("write NAME='value'")),
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::cli::adopt::source::SourceFile;

    fn variables(text: &str) -> (Vec<(String, Option<String>)>, bool) {
        let source = SourceFile::of(text);
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
        for invalid in ["A='open\n", "=x\n", "A='a'b\n", "A B=c\n"] {
            assert!(!variables(invalid).1, "{invalid}");
        }
    }

    /// Checks that python-dotenv, if it is installed, reads the same.
    #[test]
    fn python_dotenv_reads_the_same() {
        let script = "import dotenv, io, json, sys\n\
                      v = dotenv.dotenv_values(stream=io.StringIO(sys.stdin.read()), interpolate=False)\n\
                      print(json.dumps(v))";
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/consumers/venv/bin/python");
        if !guillemet_testing::missing::has(python.exists(), "python-dotenv", "`make test` installs it") {
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
