//! Reads the words of a POSIX shell script (Shell Command Language, sections 2.2 to 2.9).
//!
//! Text that is quoted, or means itself, is a value. Everything live is structure: expansions, substitutions, patterns,
//! operators, comments and here-documents. What they contain is not read. So are constructs that only some shells have,
//! such as `$'…'`.

use super::{Leaf, error_at};

pub fn read(text: &str) -> Result<Vec<Leaf>, String> {
    if let Some(at) = text.find('\0') {
        return Err(error_at(text, at, "NUL cannot be in a shell script"));
    }
    let mut reader = Reader { text, at: 0, leaves: Vec::new(), documents: Vec::new() };
    reader.run().map_err(|problem| error_at(text, reader.at, problem))?;
    Ok(reader.leaves)
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    leaves: Vec<Leaf>,
    /// The delimiters of the here-documents that begin at the next line, and whether tabs before them count.
    documents: Vec<(String, bool)>,
}

type Read<T> = Result<T, &'static str>;

impl<'t> Reader<'t> {
    fn run(&mut self) -> Read<()> {
        while let Some(c) = self.rest().chars().next() {
            match c {
                ' ' | '\t' => self.at += 1,
                '\\' if self.rest().starts_with("\\\n") => self.at += 2,
                '\n' => {
                    self.structure("a line break", 1);
                    self.here_documents()?;
                }
                '#' => self.structure("a comment", self.rest().find('\n').unwrap_or(self.rest().len())),
                '<' if self.rest().starts_with("<<") => self.here_document()?,
                '&' | '|' | ';' | '(' | ')' | '<' | '>' => self.structure("an operator", 1),
                _ => self.word()?,
            }
        }
        if self.documents.is_empty() { Ok(()) } else { Err("a here-document is without its text") }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// Records the next bytes as structure.
    fn structure(&mut self, what: &'static str, len: usize) {
        self.leaves.push(Leaf::structure(what, &self.rest()[..len]));
        self.at += len;
    }

    /// Reads `<<` with its delimiter. `<<<` is an operator of some shells.
    fn here_document(&mut self) -> Read<()> {
        if self.rest().starts_with("<<<") {
            self.structure("an operator", 3);
            return Ok(());
        }
        let strips_tabs = self.rest().starts_with("<<-");
        self.structure("an operator", if strips_tabs { 3 } else { 2 });
        self.at += self.rest().len() - self.rest().trim_start_matches([' ', '\t']).len();
        let len = self.rest().find(|c: char| " \t\n;&|<>()".contains(c)).unwrap_or(self.rest().len());
        let delimiter: String = self.rest()[..len].chars().filter(|c| !matches!(c, '\'' | '"' | '\\')).collect();
        if delimiter.is_empty() {
            return Err("a here-document has no delimiter");
        }
        self.structure("the delimiter of a here-document", len);
        self.documents.push((delimiter, strips_tabs));
        Ok(())
    }

    /// Reads the texts of the here-documents that begin at this line.
    fn here_documents(&mut self) -> Read<()> {
        for (delimiter, strips_tabs) in std::mem::take(&mut self.documents) {
            let mut len = 0;
            let mut lines = self.rest().split_inclusive('\n');
            loop {
                let line = lines.next().ok_or("a here-document is not closed")?;
                len += line.len();
                let line = line.strip_suffix('\n').unwrap_or(line);
                if delimiter == if strips_tabs { line.trim_start_matches('\t') } else { line } {
                    break;
                }
            }
            self.structure("a here-document", len);
        }
        Ok(())
    }

    /// Reads a word: its name if it is an assignment, then its values and what is live in it, in order.
    fn word(&mut self) -> Read<()> {
        self.leaves.push(Leaf::structure("a word", ""));
        let mut word = Word { name: "a word".into(), text: String::new(), is_plain: true, pieces: Vec::new() };
        while let Some(c) = self.rest().chars().next() {
            match c {
                ' ' | '\t' | '\n' | '&' | '|' | ';' | '(' | ')' | '<' | '>' => break,
                '\\' => {
                    word.is_plain = false;
                    let escaped = self.rest()[1..].chars().next().ok_or("a `\\` is at the end of the script")?;
                    if escaped != '\n' {
                        word.text.push(escaped);
                    }
                    self.at += 1 + escaped.len_utf8();
                }
                '\'' => {
                    word.is_plain = false;
                    let len = self.rest()[1..].find('\'').ok_or("a quote is not closed")?;
                    word.text.push_str(&self.rest()[1..=len]);
                    self.at += len + 2;
                }
                '"' => {
                    word.is_plain = false;
                    self.at += 1;
                    self.double_quoted(&mut word)?;
                }
                '$' | '`' => {
                    let len = live_len(self.rest())?;
                    self.live("an expansion", len, &mut word);
                }
                '*' | '?' | '[' | ']' | '{' | '}' => self.live("a pattern", 1, &mut word),
                '~' if word.text.is_empty() || word.text.ends_with(':') => self.live("a home folder", 1, &mut word),
                '=' if word.is_name() => {
                    word.name = std::mem::take(&mut word.text);
                    word.is_plain = false;
                    word.pieces.push(Leaf::structure("the name of a variable", word.name.clone()));
                    self.at += 1;
                }
                c => {
                    word.text.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
        word.flush();
        if word.pieces.iter().all(|piece| piece.structure == Some("the name of a variable")) {
            word.pieces.push(Leaf::value(&[&word.name], ""));
        }
        self.leaves.append(&mut word.pieces);
        Ok(())
    }

    /// Reads text after its opening `"` up to and including the closing one.
    fn double_quoted(&mut self, word: &mut Word) -> Read<()> {
        loop {
            let c = self.rest().chars().next().ok_or("a quote is not closed")?;
            match c {
                '"' => {
                    self.at += 1;
                    return Ok(());
                }
                '$' | '`' => {
                    // A quote has no meaning of its own after a `$` here.
                    let len = if self.rest().starts_with("$'") { 1 } else { live_len(self.rest())? };
                    self.live("an expansion", len, word);
                }
                '\\' => {
                    let escaped = self.rest()[1..].chars().next().ok_or("a quote is not closed")?;
                    match escaped {
                        '$' | '`' | '"' | '\\' => word.text.push(escaped),
                        '\n' => {}
                        escaped => word.text.extend(['\\', escaped]),
                    }
                    self.at += 1 + escaped.len_utf8();
                }
                c => {
                    word.text.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
    }

    /// Records the next bytes as live text of a word.
    fn live(&mut self, what: &'static str, len: usize, word: &mut Word) {
        word.flush();
        word.is_plain = false;
        word.pieces.push(Leaf::structure(what, &self.rest()[..len]));
        self.at += len;
    }
}

/// A word that is being read.
struct Word {
    name: String,
    /// The text since the last live part.
    text: String,
    /// Whether nothing was quoted or live so far.
    is_plain: bool,
    pieces: Vec<Leaf>,
}

impl Word {
    fn flush(&mut self) {
        if !self.text.is_empty() {
            self.pieces.push(Leaf::value(&[&self.name], std::mem::take(&mut self.text)));
        }
    }

    /// Reports whether the word so far is the name of a variable.
    fn is_name(&self) -> bool {
        self.is_plain
            && !self.text.is_empty()
            && !self.text.starts_with(|c: char| c.is_ascii_digit())
            && self.text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    }
}

/// Returns the length of an expansion, a substitution, or a `$` alone.
fn live_len(text: &str) -> Read<usize> {
    let closed = |open: usize, close: char| {
        let end = text[open..].find(close).map(|end| open + end + 1);
        end.ok_or("an expansion is not closed")
    };
    if text.starts_with('`') {
        return nested_len(text, 1, '`');
    }
    let behind = &text[1..];
    match behind.chars().next() {
        Some('(') => nested_len(text, 2, ')'),
        Some('{') => nested_len(text, 2, '}'),
        Some('\'') => closed(2, '\''),
        Some('"') => Ok(1),
        Some(c) if c.is_ascii_digit() || "@*#?-$!".contains(c) => Ok(2),
        _ => Ok(1 + behind.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(behind.len())),
    }
}

/// Returns the length up to and including the text that closes what begins at `open`, past quotes and what is nested.
fn nested_len(text: &str, open: usize, close: char) -> Read<usize> {
    let mut at = open;
    while let Some(c) = text[at..].chars().next() {
        match c {
            c if c == close => return Ok(at + 1),
            '\\' => at += 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
            '\'' => at += 2 + text[at + 1..].find('\'').ok_or("a quote is not closed")?,
            '"' => at = nested_len(text, at + 1, '"')?,
            '(' if close == ')' => at = nested_len(text, at + 1, ')')?,
            '{' if close == '}' => at = nested_len(text, at + 1, '}')?,
            '$' if matches!(text[at + 1..].chars().next(), Some('(' | '{')) => at += live_len(&text[at..])?,
            c => at += c.len_utf8(),
        }
    }
    Err("an expansion is not closed")
}
