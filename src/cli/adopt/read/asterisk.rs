//! Parses Asterisk's configuration files as its main/config.c does: sections, templates, comments.
//!
//! Knows nothing of SIP.

use std::ops::Range;

use zeroize::Zeroizing;

use crate::cli::adopt::source::Problems;

/// A setting of a section: a line `key = value`.
#[derive(Clone)]
pub struct Setting {
    /// The key, in lower case.
    pub key: String,
    /// The value, without escapes.
    pub value: Zeroizing<String>,
    /// The bytes of the file that hold the value.
    pub range: Range<usize>,
}

/// A section of the file, with the settings that it takes over from others.
pub struct Section {
    /// The name in its brackets.
    pub name: String,
    /// The byte of the file at which it begins.
    pub at: usize,
    /// The settings, with those of its templates first.
    pub lines: Vec<Setting>,
    /// Whether it is a template, which does nothing by itself.
    pub is_template: bool,
}

impl Section {
    /// Returns the last setting with this key, which is the one that most options use.
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.lines.iter().rev().find(|line| line.key == key)
    }

    /// Returns the value of `type`; an empty string if there is none.
    pub fn kind(&self) -> &str {
        self.get("type").map_or("", |line| line.value.as_str())
    }
}

/// Parses a file. Adds a problem for each line that cannot be read.
pub fn read(text: &str, problems: &mut Problems<'_>) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut comment = 0_usize;
    let mut at = 0;
    for raw in text.split_inclusive('\n') {
        let line_start = at;
        at += raw.len();
        let (spans, depth) = uncommented(raw, comment);
        comment = depth;
        // The parts of a line outside of comments are one span, unless a block comment is in its middle.
        let Some(span) = spans.into_iter().find(|span| !raw[span.clone()].trim().is_empty()) else { continue };
        let line = raw[span.clone()].trim();
        let line_at = line_start + span.start + (raw[span.clone()].len() - raw[span].trim_start().len());
        if line.starts_with('#') {
            problems.add(
                Some(line_at),
                "",
                "includes another file, which is not read",
                Some("adopt that file, or remove the line"),
            );
        } else if let Some(rest) = line.strip_prefix('[') {
            if let Some(section) = section(rest, line_at, &sections, problems) {
                sections.push(section);
            }
        } else if let Some((key, value)) = line.split_once('=') {
            let Some(section) = sections.last_mut() else {
                problems.add(Some(line_at), "", "is before the first section", None);
                continue;
            };
            let value = value.strip_prefix('>').unwrap_or(value);
            let range = line_at + line.len() - value.trim_start().len()..line_at + line.len();
            let key = key.trim().trim_end_matches('+').trim_end().to_ascii_lowercase();
            section.lines.push(Setting { key, value: unescaped(value.trim()), range });
        } else {
            problems.add(Some(line_at), "", "is neither a section nor `key = value`", None);
        }
    }
    sections
}

/// Parses a section's head after its first bracket: `name](options)`.
fn section(rest: &str, at: usize, sections: &[Section], problems: &mut Problems<'_>) -> Option<Section> {
    let Some((name, options)) = rest.split_once(']') else {
        problems.add(Some(at), "", "is a section header without `]`", None);
        return None;
    };
    let mut section = Section { name: name.to_owned(), at, lines: Vec::new(), is_template: false };
    let options = options.trim().strip_prefix('(').map(|options| options.trim_end_matches(')')).unwrap_or_default();
    for option in options.split(',').map(str::trim).filter(|option| !option.is_empty()) {
        match option {
            "!" => section.is_template = true,
            // It continues a section that was begun before.
            "+" => {
                if let Some(before) = sections.iter().rev().find(|before| before.name == section.name) {
                    section.lines.extend(before.lines.iter().cloned());
                }
            }
            base => match sections.iter().rev().find(|before| before.name == base) {
                Some(before) => section.lines.extend(before.lines.iter().cloned()),
                None => {
                    let message = format!("inherits from `{base}`, which is not above it in the file");
                    problems.add(Some(at), "", message, Some("put both into one file"));
                }
            },
        }
    }
    Some(section)
}

/// Returns the parts of a line outside of comments, and how deep block comments are nested after it. `\;` begins no
/// comment, `;--` opens a block comment unless a third `-` follows, and `--;` closes it.
fn uncommented(line: &str, mut depth: usize) -> (Vec<Range<usize>>, usize) {
    let bytes = line.as_bytes();
    let mut spans = Vec::new();
    let mut from = 0;
    for (at, _) in line.match_indices(';') {
        if depth > 0 {
            if at >= 2 && &bytes[at - 2..at] == b"--" {
                depth -= 1;
                from = at + 1;
            } else if opens(&bytes[at + 1..]) {
                depth += 1;
            }
        } else if at > 0 && bytes[at - 1] == b'\\' {
            continue;
        } else if opens(&bytes[at + 1..]) {
            spans.push(from..at);
            depth = 1;
        } else {
            spans.push(from..at);
            return (spans, depth);
        }
    }
    if depth == 0 {
        spans.push(from..bytes.len());
    }
    (spans, depth)
}

fn opens(rest: &[u8]) -> bool {
    rest.starts_with(b"--") && rest.get(2) != Some(&b'-')
}

fn unescaped(value: &str) -> Zeroizing<String> {
    Zeroizing::new(value.replace("\\;", ";"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::adopt::source::SourceFile;

    fn lines(text: &str) -> (Vec<String>, bool) {
        let source = SourceFile::of(text);
        let mut problems = Problems::new(&source);
        let sections = read(text, &mut problems);
        let lines = sections.iter().flat_map(|section| {
            section.lines.iter().map(|line| {
                assert_eq!(*unescaped(&text[line.range.clone()]), *line.value, "the range is the value's");
                format!("{}.{}={}", section.name, line.key, *line.value)
            })
        });
        (lines.collect(), problems.is_empty())
    }

    #[test]
    fn sections_values_and_comments() {
        let text = "; c\n[a]\n  Type = auth ; c\npassword = a\\;b;c\nx=>y\nempty =\n;-- hidden = 1\nalso = 2 --; shown = 3\n\n\
                    [b](a) ; c\nkey = \"q\" \\x\n;--- not a block\nz = 1\n";
        let (found, fine) = lines(text);
        assert!(fine);
        assert_eq!(
            found,
            [
                "a.type=auth",
                "a.password=a;b",
                "a.x=y",
                "a.empty=",
                "a.shown=3",
                "b.type=auth",
                "b.password=a;b",
                "b.x=y",
                "b.empty=",
                "b.shown=3",
                "b.key=\"q\" \\x",
                "b.z=1"
            ]
        );
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        for text in ["#include x.conf\n", "[a\n", "a = 1\n", "[a]\nword\n", "[a](b)\n"] {
            assert!(!lines(text).1, "{text}");
        }
    }
}
