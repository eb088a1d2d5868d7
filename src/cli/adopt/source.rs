//! The file with plain values: read once, and where things stand in it.
//!
//! Invariant: what it holds is in buffers that wipe themselves, and no message made here has any of it but
//! names of fields.

use std::fs::{File, Metadata};
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::cli::Failure;
use crate::template::Problem;
use crate::template::catalog::TEMPLATE_MAX;

/// The file.
pub struct Source {
    /// What messages call it.
    pub shown: String,
    /// Its text, without a byte order mark.
    pub text: Zeroizing<String>,
    /// Where it lies, and how it looked when it was read; nothing for standard input.
    pub file: Option<(PathBuf, Look)>,
    /// Bytes of the byte order mark that was left out.
    pub mark: usize,
}

/// How a file looks from outside: another content looks different.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Look {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Look {
    /// Of what the system says of a file.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Source {
    /// Reads a file, or standard input for `-`.
    ///
    /// # Errors
    /// When it cannot be read, is larger than a template can be, or not UTF-8.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let is_stdin = path.as_os_str() == "-";
        let shown = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
        let unreadable = |error: std::io::Error| Failure::new(format!("{shown} cannot be read: {error}"));
        // Room for all of it from the start: a buffer that grows leaves copies.
        let mut bytes = Zeroizing::new(Vec::with_capacity(TEMPLATE_MAX as usize + 1));
        let file = if is_stdin {
            std::io::stdin().lock().take(TEMPLATE_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
            None
        } else {
            let mut file = File::open(path).map_err(unreadable)?;
            Read::by_ref(&mut file).take(TEMPLATE_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
            Some((path.to_owned(), Look::of(&file.metadata().map_err(unreadable)?)))
        };
        if bytes.len() as u64 > TEMPLATE_MAX {
            return Err(Failure::new(format!("{shown} is larger than {} KiB, which no config is", TEMPLATE_MAX >> 10)));
        }
        let Ok(text) = std::str::from_utf8(&bytes) else {
            let line = bytes.utf8_chunks().next().map_or(0, |chunk| chunk.valid().matches('\n').count()) + 1;
            return Err(Failure::new(format!("{shown}:{line} is not UTF-8; save it as UTF-8 first")));
        };
        let plain = text.strip_prefix('\u{feff}').unwrap_or(text);
        Ok(Self { shown, mark: text.len() - plain.len(), text: Zeroizing::new(plain.to_owned()), file })
    }

    /// For tests and parts of other texts.
    #[cfg(test)]
    pub fn of(text: &str) -> Self {
        Self { shown: "file".into(), text: Zeroizing::new(text.to_owned()), file: None, mark: 0 }
    }

    /// Line and column (in characters) of a byte, from 1.
    pub fn position(&self, at: usize) -> (u32, u32) {
        let before = &self.text[..self.text.floor_char_boundary(at)];
        let line_start = before.rfind('\n').map_or(0, |found| found + 1);
        let number = |count: usize| u32::try_from(count + 1).unwrap_or(u32::MAX);
        (number(before.matches('\n').count()), number(before[line_start..].chars().count()))
    }
}

/// Everything that is wrong with a file.
pub struct Problems<'a> {
    source: &'a Source,
    list: Vec<Problem>,
}

impl<'a> Problems<'a> {
    /// None yet.
    pub fn new(source: &'a Source) -> Self {
        Self { source, list: Vec::new() }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Notes one, at a byte of the file where that is known. `message` and `help` hold no value.
    pub fn add(&mut self, at: Option<usize>, path: &str, message: impl Into<String>, help: Option<&str>) {
        let position = at.map(|at| self.source.position(at));
        self.list.push(Problem {
            path: path.to_owned(),
            line: position.map(|(line, _)| line),
            column: position.map(|(_, column)| column),
            message: message.into(),
            help: help.map(str::to_owned),
        });
    }

    /// All of them as an error; `what` says of what.
    ///
    /// # Errors
    /// When there is one.
    pub fn check(&self, what: &str) -> Result<(), Failure> {
        if self.list.is_empty() {
            return Ok(());
        }
        let mut list: Vec<&Problem> = self.list.iter().collect();
        list.sort_by_key(|problem| (problem.line.unwrap_or(u32::MAX), problem.column));
        list.dedup();
        let entries: String = list.into_iter().map(|problem| entry(&self.source.shown, problem)).collect();
        Err(Failure::new(format!("{what}; nothing was changed{entries}")))
    }
}

/// One problem: its place, what is wrong, what to do. The line itself is not shown: it may hold a value.
fn entry(shown: &str, problem: &Problem) -> String {
    let mut place = String::new();
    if let Some(line) = problem.line {
        place = format!("{shown}:{line}");
        if let Some(column) = problem.column {
            place.push_str(&format!(":{column}"));
        }
    }
    let head: Vec<&str> = [place.as_str(), &problem.path].into_iter().filter(|text| !text.is_empty()).collect();
    let colon = if head.is_empty() { "" } else { ": " };
    let help = problem.help.as_ref().map_or_else(String::new, |help| format!("\n    help: {help}"));
    format!("\n  {}{colon}{}{help}", head.join(" "), problem.message)
}

/// How a token is written in what it stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Quoting {
    /// `"…"` of JSON, which YAML takes too.
    Double,
    /// As it is.
    Plain,
    /// A value of Asterisk's configuration.
    Asterisk,
    /// A value of a dotenv file, or a word of a shell: `'…'`.
    Single,
}

impl Quoting {
    /// Writes a text that holds marks in place of values.
    fn write(self, text: &str) -> Zeroizing<String> {
        Zeroizing::new(match self {
            Self::Double => serde_json::Value::from(text).to_string(),
            Self::Plain => text.to_owned(),
            Self::Asterisk => text.replace(';', "\\;"),
            Self::Single => format!("'{}'", text.replace('\'', "'\\''")),
        })
    }
}

/// A piece of the file that is read as a whole: a string, a word, a value. Its text may hold others.
struct Token {
    within: Option<usize>,
    range: Range<usize>,
    text: Zeroizing<String>,
    quoting: Quoting,
}

/// The tokens that texts of the config came from.
#[derive(Default)]
pub struct Tokens(Vec<Token>);

/// Where a text of the config came from.
#[derive(Clone, PartialEq, Eq)]
pub struct Spot {
    /// Which token.
    pub token: usize,
    /// Where in the token's text.
    pub at: Range<usize>,
    /// Whether that is another form of the text: a part of it has no place of its own.
    pub encoded: bool,
}

impl Spot {
    /// The place of a part of the text.
    pub fn part(&self, range: &Range<usize>) -> Self {
        let at = self.at.start + range.start..self.at.start + range.end;
        if self.encoded { self.clone() } else { Self { token: self.token, at, encoded: false } }
    }
}

impl Tokens {
    /// Adds a token that stands at `range` of the file, or of the text of another token.
    pub fn add(&mut self, within: Option<usize>, range: Range<usize>, text: &str, quoting: Quoting) -> usize {
        self.0.push(Token { within, range, text: Zeroizing::new(text.to_owned()), quoting });
        self.0.len() - 1
    }

    /// The whole of a token.
    pub fn spot(&self, token: usize) -> Spot {
        Spot { token, at: 0..self.0[token].text.len(), encoded: false }
    }

    /// The byte of the file that a spot begins at; of what is written in another form, its token.
    pub fn offset(&self, spot: &Spot) -> usize {
        let mut token = &self.0[spot.token];
        while let Some(outer) = token.within {
            token = &self.0[outer];
        }
        token.range.start
    }

    /// The file with `marks` in place of what stands at their spots. Everything else stays, byte for byte.
    pub fn rewrite(&self, text: &str, marks: &[(Spot, String)]) -> Zeroizing<String> {
        let mut edits: Vec<Vec<(Range<usize>, Zeroizing<String>)>> = self.0.iter().map(|_| Vec::new()).collect();
        for (spot, mark) in marks {
            let list = &mut edits[spot.token];
            match list.iter_mut().find(|(range, _)| *range == spot.at) {
                // Two values that are written as one, such as Basic credentials.
                Some((_, there)) if **there != *mark => there.push_str(&format!(":{mark}")),
                Some(_) => {}
                None => list.push((spot.at.clone(), Zeroizing::new(mark.clone()))),
            }
        }
        let mut of_file = Vec::new();
        // A token is added after the one it stands in.
        for index in (0..self.0.len()).rev() {
            let token = &self.0[index];
            let own = std::mem::take(&mut edits[index]);
            if own.is_empty() {
                continue;
            }
            let written = (token.range.clone(), token.quoting.write(&edited(&token.text, own)));
            match token.within {
                Some(outer) => edits[outer].push(written),
                None => of_file.push(written),
            }
        }
        edited(text, of_file)
    }
}

/// A text with other text in some of its ranges, which do not overlap.
fn edited(text: &str, mut edits: Vec<(Range<usize>, Zeroizing<String>)>) -> Zeroizing<String> {
    edits.sort_by_key(|(range, _)| range.start);
    let mut out = Zeroizing::new(String::with_capacity(2 * text.len() + 64));
    let mut from = 0;
    for (range, new) in edits.into_iter().filter(|(range, _)| range.end <= text.len()) {
        if range.start < from {
            continue;
        }
        out.push_str(&text[from..range.start]);
        out.push_str(&new);
        from = range.end;
    }
    out.push_str(&text[from..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reaches_the_file_through_what_it_stands_in() {
        let text = "curl -d '{\"a\": \"x y\", \"b\": \"z\"}' # c";
        let mut tokens = Tokens::default();
        let body = tokens.add(None, 8..32, "{\"a\": \"x y\", \"b\": \"z\"}", Quoting::Single);
        let a = tokens.add(Some(body), 6..11, "x y", Quoting::Double);
        let b = tokens.add(Some(body), 18..21, "z", Quoting::Double);
        let marks = [(tokens.spot(b), "«b»".to_owned()), (tokens.spot(a).part(&(2..3)), "«a»".to_owned())];
        let after = tokens.rewrite(text, &marks);
        assert_eq!(*after, "curl -d '{\"a\": \"x «a»\", \"b\": \"«b»\"}' # c");
        assert_eq!(tokens.offset(&tokens.spot(b)), 8);
        assert_eq!(*tokens.rewrite(text, &[]), text);
    }

    #[test]
    fn positions_count_characters() {
        let source = Source::of("ä\nöü x");
        assert_eq!(source.position(source.text.find('x').unwrap()), (2, 4));
        assert_eq!(source.position(0), (1, 1));
    }

    #[test]
    fn all_problems_are_told_in_order_and_without_the_line() {
        let source = Source::of("a: hidden\nb: hidden\n");
        let mut problems = Problems::new(&source);
        problems.add(Some(10), "b", "is wrong", Some("change it"));
        problems.add(Some(0), "a", "is wrong", None);
        problems.add(None, "", "nothing fits", None);
        let Err(Failure(text)) = problems.check("file cannot be adopted") else { panic!("nothing was said") };
        assert_eq!(
            text,
            "file cannot be adopted; nothing was changed\n  file:1:1 a: is wrong\n  file:2:1 b: is wrong\n    help: change \
             it\n  nothing fits"
        );
    }
}
