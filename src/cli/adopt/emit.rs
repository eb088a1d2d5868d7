//! Writes a config as the text of a template, with a placeholder for every finding.
//!
//! Text of the config stays text: whatever the lexer would read as a tag, or refuse because it looks like one, is put
//! between `<% raw %>` and `<% endraw %>`, and characters that a terminal should not receive are written as escapes of
//! the format.

use std::fmt::Write as _;

use serde_json::{Number, Value};

use super::config::{ConfigLeaf, ConfigNode, ConfigTable};
use super::credentials::{Finding, FindingsByField};
use guillemet_base::display::is_unprintable;
use guillemet_template::lexer::lex;
use guillemet_template::{Format, ValueFilter};

/// Writes the template. Returns its text and the format that was used: JSON instead of TOML for a config with a null or
/// an integer above 2^63 - 1, which TOML cannot hold.
pub fn write(config: &ConfigTable, findings: &FindingsByField, format: Format) -> (String, Format) {
    let format =
        if format == Format::Toml && !config.iter().all(|(_, node)| fits_toml(node)) { Format::Json } else { format };
    let mut writer = Writer { findings, path: Vec::new(), out: String::new() };
    match format {
        Format::Toml => writer.toml(config),
        Format::Yaml => writer.yaml_table(config, 0),
        Format::Json | Format::Jsonc => {
            writer.json_table(config, 0);
            writer.out.push('\n');
        }
    }
    (writer.out, format)
}

fn fits_toml(node: &ConfigNode) -> bool {
    match node {
        ConfigNode::Text(_) => true,
        ConfigNode::Other(Value::Null) => false,
        ConfigNode::Other(Value::Number(number)) => number.is_i64() || number.is_f64(),
        ConfigNode::Other(_) => true,
        ConfigNode::List(items) => items.iter().all(fits_toml),
        ConfigNode::Table(table) => table.iter().all(|(_, node)| fits_toml(node)),
    }
}

struct Writer<'a> {
    findings: &'a FindingsByField,
    path: Vec<String>,
    out: String,
}

impl Writer<'_> {
    fn json(&mut self, node: &ConfigNode, depth: usize) {
        match node {
            ConfigNode::Text(leaf) => self.text(leaf),
            ConfigNode::Other(value) => self.out.push_str(&value.to_string()),
            ConfigNode::Table(table) => self.json_table(table, depth),
            ConfigNode::List(items) if items.is_empty() => self.out.push_str("[]"),
            ConfigNode::List(items) => {
                self.out.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.next(index, depth + 1);
                    self.below(&index.to_string(), |writer| writer.json(item, depth + 1));
                }
                self.line(depth);
                self.out.push(']');
            }
        }
    }

    fn json_table(&mut self, table: &ConfigTable, depth: usize) {
        if table.is_empty() {
            return self.out.push_str("{}");
        }
        self.out.push('{');
        for (index, (name, node)) in table.iter().enumerate() {
            self.next(index, depth + 1);
            self.out.push_str(&quoted_text(name));
            self.out.push_str(": ");
            self.below(name, |writer| writer.json(node, depth + 1));
        }
        self.line(depth);
        self.out.push('}');
    }

    /// Begins a line of JSON, after a comma if one is needed.
    fn next(&mut self, index: usize, depth: usize) {
        if index > 0 {
            self.out.push(',');
        }
        self.line(depth);
    }

    fn line(&mut self, depth: usize) {
        self.out.push('\n');
        self.out.push_str(&"  ".repeat(depth));
    }

    /// Writes the plain fields first and then a section for each table, because a field after a section header would
    /// belong to that section.
    fn toml(&mut self, table: &ConfigTable) {
        let is_section = |node: &ConfigNode| matches!(node, ConfigNode::Table(_));
        for (name, node) in table.iter().filter(|(_, node)| !is_section(node)) {
            self.toml_field(name, node);
        }
        for (name, node) in table {
            let ConfigNode::Table(section) = node else { continue };
            let separator = if self.out.is_empty() { "" } else { "\n" };
            let _ = writeln!(self.out, "{separator}[{}]", toml_key(name));
            self.below(name, |writer| {
                for (name, node) in section {
                    writer.toml_field(name, node);
                }
            });
        }
    }

    fn toml_field(&mut self, name: &str, node: &ConfigNode) {
        self.out.push_str(&toml_key(name));
        self.out.push_str(" = ");
        self.below(name, |writer| writer.toml_value(node));
        self.out.push('\n');
    }

    fn toml_value(&mut self, node: &ConfigNode) {
        match node {
            ConfigNode::Text(leaf) => self.text(leaf),
            ConfigNode::Other(Value::Number(number)) => self.out.push_str(&toml_number(number)),
            ConfigNode::Other(value) => self.out.push_str(&value.to_string()),
            ConfigNode::List(items) => {
                self.out.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.out.push_str(if index > 0 { ", " } else { "" });
                    self.below(&index.to_string(), |writer| writer.toml_value(item));
                }
                self.out.push(']');
            }
            ConfigNode::Table(table) if table.is_empty() => self.out.push_str("{}"),
            ConfigNode::Table(table) => {
                self.out.push_str("{ ");
                for (index, (name, node)) in table.iter().enumerate() {
                    self.out.push_str(if index > 0 { ", " } else { "" });
                    self.out.push_str(&toml_key(name));
                    self.out.push_str(" = ");
                    self.below(name, |writer| writer.toml_value(node));
                }
                self.out.push_str(" }");
            }
        }
    }

    fn yaml_table(&mut self, table: &ConfigTable, depth: usize) {
        for (name, node) in table {
            self.out.push_str(&"  ".repeat(depth));
            self.out.push_str(&yaml_key(name));
            self.out.push(':');
            self.below(name, |writer| writer.yaml(node, depth));
        }
    }

    /// Writes the value after `key:` or `-`, with its line break.
    fn yaml(&mut self, node: &ConfigNode, depth: usize) {
        match node {
            ConfigNode::Table(table) if !table.is_empty() => {
                self.out.push('\n');
                self.yaml_table(table, depth + 1);
            }
            ConfigNode::List(items) if !items.is_empty() => {
                self.out.push('\n');
                for (index, item) in items.iter().enumerate() {
                    self.out.push_str(&"  ".repeat(depth + 1));
                    self.out.push('-');
                    self.below(&index.to_string(), |writer| writer.yaml(item, depth + 1));
                }
            }
            inline => {
                self.out.push(' ');
                self.json(inline, 0);
                self.out.push('\n');
            }
        }
    }

    fn below(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.path.push(name.to_owned());
        write(self);
        self.path.pop();
    }

    fn text(&mut self, leaf: &ConfigLeaf) {
        let empty = Vec::new();
        let findings = self.findings.get(&self.path).unwrap_or(&empty);
        self.out.push_str(&quoted(&pieces(leaf, findings)));
    }
}

/// A piece of a text: plain text or a secret.
enum TextPiece<'a> {
    Text(&'a str),
    Secret(&'a Finding),
}

fn pieces<'a>(leaf: &'a ConfigLeaf, findings: &'a [Finding]) -> Vec<TextPiece<'a>> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for finding in findings {
        pieces.push(TextPiece::Text(&leaf.text[from..finding.range.start]));
        pieces.push(TextPiece::Secret(finding));
        from = finding.range.end;
    }
    pieces.push(TextPiece::Text(&leaf.text[from..]));
    pieces
}

/// Returns a plain text in quotes that JSON, TOML and YAML all read the same way.
pub fn quoted_text(text: &str) -> String {
    quoted(&[TextPiece::Text(text)])
}

/// Returns the pieces of a text in quotes that JSON, TOML and YAML all read the same way.
fn quoted(pieces: &[TextPiece<'_>]) -> String {
    let mut out = String::from("\"");
    for (index, piece) in pieces.iter().enumerate() {
        match piece {
            TextPiece::Text(text) => {
                let before_tag = pieces.get(index + 1).is_some_and(|piece| matches!(piece, TextPiece::Secret(_)));
                append(&mut out, text, before_tag);
            }
            TextPiece::Secret(finding) => {
                let filter =
                    finding.filter.and_then(|filter| ValueFilter::ALL.iter().find(|(_, other)| *other == filter));
                let filter = filter.map_or_else(String::new, |(name, _)| format!(" | {name}"));
                let _ = write!(out, "<< secret '{}'{filter} >>", finding.name);
            }
        }
    }
    out.push('"');
    out
}

/// Appends plain text so that the lexer reads it as such. `before_tag` says that a placeholder follows.
fn append(out: &mut String, text: &str, before_tag: bool) {
    let text = escaped(text);
    // `<<`, `<%` and `<#` may open a tag, depending on what follows. One more `<` keeps a tag from opening.
    let may_open = ["<<", "<%", "<#"].iter().any(|opener| text.contains(opener)) || (before_tag && text.ends_with('<'));
    if may_open || lex(&text).is_err() {
        // An `endraw` in the text itself must not end the raw block, so its `<%` is split over two blocks.
        let text = if text.contains("endraw") { text.replace("<%", "<<% endraw %><% raw %>%") } else { text };
        let _ = write!(out, "<% raw %>{text}<% endraw %>");
    } else {
        out.push_str(&text);
    }
}

/// Returns a text as it is written between quotes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // These are characters that could drive a terminal, and those that the lexer reserves. All are in the Basic
            // Multilingual Plane.
            c if is_unprintable(c) || matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fffe}' | '\u{ffff}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

fn is_bare(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

/// Returns a key in TOML syntax.
pub fn toml_key(name: &str) -> String {
    if is_bare(name) { name.to_owned() } else { quoted_text(name) }
}

/// Words that some version of YAML does not read as text.
const YAML_WORDS: [&str; 9] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];

/// Returns a key in YAML syntax.
pub fn yaml_key(name: &str) -> String {
    let word = is_bare(name)
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && !YAML_WORDS.contains(&name.to_ascii_lowercase().as_str());
    if word { name.to_owned() } else { quoted_text(name) }
}

fn toml_number(number: &Number) -> String {
    let text = number.to_string();
    if number.is_f64() && !text.contains(['.', 'e', 'E']) { format!("{text}.0") } else { text }
}

#[cfg(test)]
mod tests;
