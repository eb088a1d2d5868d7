//! Reads YAML that readers of YAML 1.1 (PyYAML, libyaml) and 1.2 read alike, from the events of granit-parser.
//!
//! Text that they would read differently is an error where it can only be a mistake: raw line separators, characters
//! that are not printable, escapes that only one of them knows. A plain scalar that either of them might not read as
//! text is structure, as are comments, anchors, aliases and tags.

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};

use super::{Leaf, error_at};

/// The words that a reader of YAML 1.1 or 1.2 takes for a boolean or null, in lower case.
const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

pub fn read(text: &str) -> Result<Vec<Leaf>, String> {
    check_characters(text)?;
    let mut reader = Reader { text, leaves: Vec::new(), nodes: Vec::new(), flow: 0 };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let at = error.marker().byte_offset().unwrap_or(text.len());
            error_at(text, at, &error.info())
        })?;
        reader.read(event, span)?;
    }
    Ok(reader.leaves)
}

/// Refuses characters that cannot be in a YAML stream without an escape, or that end a line in YAML 1.1 only.
fn check_characters(text: &str) -> Result<(), String> {
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let problem = match c {
            '\u{feff}' if at == 0 => continue,
            '\r' if chars.peek().is_some_and(|(_, next)| *next == '\n') => continue,
            '\u{85}' | '\u{2028}' | '\u{2029}' => "ends a line in YAML 1.1 and not in 1.2",
            '\r' => "ends a line",
            '\u{feff}' => "is a byte order mark",
            '\t' | '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'.. => continue,
            _ => "is not printable",
        };
        return Err(error_at(text, at, &format!("U+{:04X} without an escape, which {problem}", u32::from(c))));
    }
    Ok(())
}

/// A collection that is being read.
enum Node {
    /// The number of the next item.
    List(usize),
    /// The keys so far, and whether the last one waits for its value.
    Table { keys: Vec<String>, is_open: bool },
}

struct Reader<'t> {
    text: &'t str,
    leaves: Vec<Leaf>,
    nodes: Vec<Node>,
    /// The number of open collections in brackets or braces.
    flow: usize,
}

impl Reader<'_> {
    fn read(&mut self, event: Event<'_>, span: Span) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, _, tag) => {
                let is_text = tag.as_ref().is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                let what = match tag {
                    Some(_) if !is_text => Some("a value with a tag"),
                    None if style == ScalarStyle::Plain && !is_plain_text(&text) => Some("a value that is not text"),
                    _ => None,
                };
                if style == ScalarStyle::DoubleQuoted {
                    self.check_escapes(span)?;
                }
                if style == ScalarStyle::Plain {
                    self.check_plain(&text, span)?;
                }
                self.scalar(text.into_owned(), what, span)
            }
            Event::Alias(_) => self.scalar(self.slice(span).to_owned(), Some("an alias"), span),
            Event::SequenceStart(style, ..) => self.open(style, Node::List(0), "a list"),
            Event::MappingStart(style, ..) => {
                self.open(style, Node::Table { keys: Vec::new(), is_open: false }, "a table")
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.nodes.pop();
                // Everything inside of a collection in brackets is in brackets.
                self.flow = self.flow.saturating_sub(1);
                self.close_value();
                Ok(())
            }
            Event::Comment(text, _) => {
                self.leaves.push(Leaf::structure("a comment", text));
                Ok(())
            }
            Event::DocumentStart(true, _) => {
                self.leaves.push(Leaf::structure("the start of a document", ""));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn error(&self, span: Span, problem: &str) -> String {
        error_at(self.text, span.start.byte_offset().unwrap_or_default(), problem)
    }

    fn slice(&self, span: Span) -> &str {
        span.slice(self.text).unwrap_or_default()
    }

    /// Returns the path of the value that comes next.
    fn path(&self) -> Vec<String> {
        let step = |node: &Node| match node {
            Node::List(index) => index.to_string(),
            Node::Table { keys, .. } => keys.last().cloned().unwrap_or_default(),
        };
        self.nodes.iter().map(step).collect()
    }

    /// Records a scalar: a key if one is due, else a value.
    fn scalar(&mut self, text: String, what: Option<&'static str>, span: Span) -> Result<(), String> {
        if let Some(Node::Table { keys, is_open: is_open @ false }) = self.nodes.last_mut() {
            if keys.contains(&text) {
                return Err(self.error(span, "a key appears twice in the same table"));
            }
            keys.push(text.clone());
            *is_open = true;
            self.leaves.push(Leaf::structure("a key", text));
            return Ok(());
        }
        self.leaves.push(Leaf { path: self.path(), text, structure: what });
        self.close_value();
        Ok(())
    }

    fn open(&mut self, style: StructureStyle, node: Node, what: &'static str) -> Result<(), String> {
        if self.is_key() {
            return Err("a list or a table is a key".into());
        }
        self.leaves.push(Leaf { path: self.path(), text: String::new(), structure: Some(what) });
        self.nodes.push(node);
        self.flow += usize::from(style == StructureStyle::Flow);
        Ok(())
    }

    /// Goes on to the next item or key after a value.
    fn close_value(&mut self) {
        match self.nodes.last_mut() {
            Some(Node::List(index)) => *index += 1,
            Some(Node::Table { is_open, .. }) => *is_open = false,
            None => {}
        }
    }

    /// Refuses text without quotes for which readers of YAML 1.1 reject the whole document.
    fn check_plain(&self, text: &str, span: Span) -> Result<(), String> {
        let problem = if self.flow > 0 && text.contains('?') {
            "`?` without quotes in a list or table, which YAML 1.1 does not know"
        } else if text.contains('\t') {
            "a tab without quotes, at which PyYAML stops"
        } else if text == "=" || text == "<<" && !self.is_key() {
            "`=` or `<<` without quotes, which has a meaning of its own in YAML 1.1"
        } else {
            return Ok(());
        };
        Err(self.error(span, problem))
    }

    /// Reports whether the next scalar is a key.
    fn is_key(&self) -> bool {
        matches!(self.nodes.last(), Some(Node::Table { is_open: false, .. }))
    }

    /// Refuses escapes that YAML 1.1 does not have, or that PyYAML reads as half of a character.
    fn check_escapes(&self, span: Span) -> Result<(), String> {
        let written = self.slice(span);
        let mut chars = written.char_indices();
        while let Some((at, c)) = chars.next() {
            if c != '\\' {
                continue;
            }
            let escaped = &written[at + 1..];
            chars.next();
            let is_surrogate = escaped.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("ud"))
                && escaped[2..].starts_with(['8', '9', 'a', 'b', 'c', 'd', 'e', 'f', 'A', 'B', 'C', 'D', 'E', 'F']);
            if escaped.starts_with('/') || is_surrogate {
                let start = span.start.byte_offset().unwrap_or_default();
                return Err(error_at(self.text, start + at, "an escape that not every reader of YAML knows"));
            }
        }
        Ok(())
    }
}

/// Reports whether a plain scalar is text in YAML 1.1 and in 1.2. Some other texts are too.
fn is_plain_text(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | '~' | '<' | '='))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}
