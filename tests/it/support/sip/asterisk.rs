//! Reads a configuration file by Asterisk's rules, in place of Asterisk, which Debian 12 does not have.
//!
//! Written from its source [asterisk main/config.c, config_text_file_load and process_text_line, read 2026-11]: lines
//! longer than its buffer are skipped; `;` begins a comment unless a `\` is before it, which is then removed; `;--`
//! opens a block comment, which `--;` closes; all characters up to the space are stripped from both ends of the rest;
//! the first `=` divides it, and a `>` directly after that belongs to the sign.

/// The most bytes of a line, which `fgets` reads into 8,192.
const LINE: usize = 8_191;

/// A section: its name, and its variables in order.
#[derive(Debug)]
pub struct Section {
    pub name: String,
    pub variables: Vec<(String, String)>,
}

impl Section {
    /// Returns the value of a variable, which has to be set exactly once.
    pub fn get(&self, name: &str) -> &str {
        let mut values = self.variables.iter().filter(|(found, _)| found == name);
        let (_, value) = values.next().unwrap_or_else(|| panic!("[{}] has no {name}", self.name));
        assert!(values.next().is_none(), "[{}] has {name} twice", self.name);
        value
    }
}

/// Reads the sections of a file.
pub fn read(file: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut depth = 0;
    for line in file.split_inclusive('\n').filter(|line| line.len() <= LINE) {
        let text = without_comments(line.as_bytes(), &mut depth);
        let text = String::from_utf8(text).expect("text stays text");
        let text = strip(&text);
        if text.is_empty() {
            continue;
        }
        if let Some(header) = text.strip_prefix('[') {
            let name = header.split(']').next().unwrap().to_owned();
            sections.push(Section { name, variables: Vec::new() });
        } else {
            assert!(!text.starts_with('#'), "a directive: {text}");
            let (name, value) = text.split_once('=').unwrap_or_else(|| panic!("no `=`: {text}"));
            assert!(!name.ends_with('+'), "`+=` appends: {text}");
            let value = strip(value.strip_prefix('>').unwrap_or(value));
            let section = sections.last_mut().expect("a section before its variables");
            section.variables.push((strip(name).to_owned(), value.to_owned()));
        }
    }
    assert_eq!(depth, 0, "a comment over lines is open at the end");
    sections
}

/// Returns a line without its comments. `depth` is the nesting depth of block comments.
fn without_comments(line: &[u8], depth: &mut usize) -> Vec<u8> {
    let mut line = line.to_vec();
    // `from` is the start of the part still to be examined; `kept` is the start of the part outside of comments, if
    // any.
    let (mut from, mut kept) = (0, (*depth == 0).then_some(0));
    let mut out = Vec::new();
    while let Some(at) = line[from..].iter().position(|b| *b == b';').map(|at| from + at) {
        let behind = |offset: usize| line.get(at + offset).copied().unwrap_or(0);
        if at > from && line[at - 1] == b'\\' {
            line.remove(at - 1);
            from = at;
        } else if behind(1) == b'-' && behind(2) == b'-' && behind(3) != b'-' {
            if let Some(begin) = kept.take() {
                out.extend_from_slice(&line[begin..at]);
            }
            *depth += 1;
            from = at + 3;
        } else if *depth > 0 && at >= from + 2 && line[at - 2..at] == *b"--" {
            *depth -= 1;
            from = at + 1;
            kept = (*depth == 0).then_some(from);
        } else if *depth > 0 {
            from = at + 1;
        } else {
            line.truncate(at);
            from = at;
        }
    }
    if let Some(begin) = kept {
        out.extend_from_slice(&line[begin..]);
    }
    out
}

/// Strips a text as `ast_strip` does.
fn strip(text: &str) -> &str {
    text.trim_matches(|c: char| c <= ' ')
}
