//! Reads an example config for `plugin new --from`, and finds what is secret in it: its placeholders, and whatever
//! looks like a credential by the rules of [`credentials`](super::credentials).
//!
//! Knows nothing of plugins. Pure: bytes in, the config with its findings out.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use serde_json::Value;
use zeroize::Zeroizing;

use super::config::{ConfigLeaf, ConfigNode, ConfigTable, Hint, leaves};
use super::credentials::{Finding, FindingsByField, candidates};
use super::detect::has_credential_name;
use super::naming::Namer;
use super::read::{header, url};
use super::source::{Problems, SourceFile};
use crate::cli::Failure;
use guillemet_base::names::SecretName;
use guillemet_plan::document;
use guillemet_template::lexer::{self, Lexed};
use guillemet_template::{Format, ValueFilter};

/// The name of the template that the names of secrets are made for.
const TEMPLATE: &str = "example";
/// The shortest value that is looked for inside of other texts. A shorter one is a secret only as a whole text.
const PART_MIN: usize = 6;

/// An example config, and what is secret in it.
pub struct Sample {
    /// The fields of the config. Numbers that may be credentials are replaced by 1.
    pub config: ConfigTable,
    /// The secrets of the config, whose values are written nowhere.
    pub findings: FindingsByField,
    /// Notes for the user.
    pub notes: Vec<String>,
    source: SourceFile,
    places: HashMap<String, usize>,
}

impl Sample {
    /// Reads a sample for a feature. `source` is a template or a plain config in `format`.
    ///
    /// # Errors
    /// With everything that is wrong with it, each with its line.
    pub fn read(source: &SourceFile, format: Format, feature: &str) -> Result<Self, Failure> {
        let message = unusable(source);
        let mut problems = Problems::new(source);
        let Lexed { engine_text, call_prefix, references } = match lexer::lex(&source.text) {
            Ok(lexed) => lexed,
            Err(errors) => {
                errors.into_iter().for_each(|problem| problems.push(problem));
                problems.check(&message)?;
                Lexed::default()
            }
        };
        let text = plain(engine_text, &call_prefix, references.len());
        for (opening, what) in [(lexer::BLOCK.0, "a statement"), (lexer::VARIABLE.0, "a variable")] {
            for (at, _) in text.match_indices(opening) {
                let line = text[..at].matches('\n').count();
                let begin = source.text.split_inclusive('\n').take(line).map(str::len).sum();
                let help = "write the value that it has; only << secret \"name\" >> can stay";
                problems.add(Some(begin), "", format!("contains {what} of a template"), Some(help));
            }
        }
        problems.check(&message)?;

        // Lines are those of the file.
        let source = SourceFile { label: source.label.clone(), text: Zeroizing::new(text), file: None, mark: 0 };
        let mut problems = Problems::new(&source);
        let tree = document::parse(format, &source.text).unwrap_or_else(|errors| {
            errors.into_iter().for_each(|error| problems.add(error.at, "", error.message, error.help.as_deref()));
            document::Tree { root: Value::Null, places: HashMap::new() }
        });
        problems.check(&message)?;
        let Value::Object(root) = tree.root else { return Err(Failure::new(message)) };
        let mut config: ConfigTable = root.into_iter().map(|(name, value)| (name, node(value))).collect();
        let mut notes = Vec::new();
        hide_numbers(&mut config, &mut Vec::new(), &mut notes);

        let tags: Vec<Tag> = (0..)
            .zip(references)
            .map(|(index, reference)| Tag {
                mark: mark(&call_prefix, index),
                name: reference.name,
                filters: reference.filters,
            })
            .collect();
        let mut findings = FindingsByField::new();
        let plain_leaves = of_tags(&config, &tags, &mut findings, |path, message, help| {
            problems.add(tree.places.get(path).copied(), path, message, Some(help));
        });
        problems.check(&message)?;
        of_credentials(&config, &plain_leaves, feature, &tags, &mut findings);
        spread(&config, &mut findings);
        Ok(Self { config, findings, notes, source, places: tree.places })
    }

    /// Returns an empty list for further problems with the sample.
    pub fn problems(&self) -> Problems<'_> {
        Problems::new(&self.source)
    }

    /// Returns the byte of the text that the value of a field begins at, for [`problems`](Self::problems).
    pub fn at(&self, path: &str) -> Option<usize> {
        self.places.get(path).copied()
    }

    /// Returns the first words of an error about the sample.
    pub fn unusable(&self) -> String {
        unusable(&self.source)
    }

    /// Reports whether a text contains the value of a secret.
    pub fn reveals(&self, text: &str) -> bool {
        values(&self.config, &self.findings).iter().any(|(value, _)| value.len() >= PART_MIN && text.contains(&**value))
    }
}

fn unusable(source: &SourceFile) -> String {
    format!("{} cannot be used as a sample", source.label)
}

/// A placeholder of the sample.
struct Tag {
    /// The text that stands for it in the config.
    mark: String,
    name: SecretName,
    filters: Vec<ValueFilter>,
}

/// Returns the text that stands for a placeholder while the sample is parsed. The prefix is random.
fn mark(prefix: &str, index: usize) -> String {
    format!("{prefix}{index}_")
}

/// Returns the lexed text with a mark in place of each placeholder.
fn plain(mut text: String, prefix: &str, count: usize) -> String {
    let (opening, closing) = lexer::VARIABLE;
    for index in 0..count {
        let Some(call) = text.find(&format!("{prefix}{index}()")) else { continue };
        let begin = text[..call].rfind(opening);
        let end = text[call..].find(closing).map(|end| call + end + closing.len());
        if let (Some(begin), Some(end)) = (begin, end) {
            text.replace_range(begin..end, &mark(prefix, index));
        }
    }
    text
}

fn node(value: Value) -> ConfigNode {
    match value {
        Value::String(text) => ConfigLeaf::new(&text, None).into(),
        Value::Array(items) => ConfigNode::List(items.into_iter().map(node).collect()),
        Value::Object(map) => ConfigNode::Table(map.into_iter().map(|(name, value)| (name, node(value))).collect()),
        other => ConfigNode::Other(other),
    }
}

/// Replaces each number that has the name of a credential, because only a text can be a secret.
fn hide_numbers(table: &mut ConfigTable, path: &mut Vec<String>, notes: &mut Vec<String>) {
    for (name, node) in table {
        path.push(name.clone());
        hide_number(node, path, notes);
        path.pop();
    }
}

fn hide_number(node: &mut ConfigNode, path: &mut Vec<String>, notes: &mut Vec<String>) {
    match node {
        ConfigNode::Other(value @ Value::Number(_)) if has_credential_name(name_of(path)) => {
            *value = 1.into();
            notes.push(format!(
                "note: the number in `{}` may be a credential, so it was replaced by 1. Only a text can be a secret: put \
                 it in quotes to make it one",
                path.join(".")
            ));
        }
        ConfigNode::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push(index.to_string());
                hide_number(item, path, notes);
                path.pop();
            }
        }
        ConfigNode::Table(table) => hide_numbers(table, path, notes),
        ConfigNode::Text(_) | ConfigNode::Other(_) => {}
    }
}

/// Returns the name that a text is judged by: its field's. That of an item is the list's.
fn name_of(path: &[String]) -> &str {
    let is_index = |name: &&String| name.bytes().all(|b| b.is_ascii_digit());
    path.iter().rev().find(|name| !is_index(name)).map_or("", String::as_str)
}

/// Adds a finding for each placeholder. Returns the paths of the texts that have none.
fn of_tags(
    config: &ConfigTable,
    tags: &[Tag],
    findings: &mut FindingsByField,
    mut problem: impl FnMut(&str, &str, &str),
) -> Vec<Vec<String>> {
    let mut plain = Vec::new();
    for (path, leaf) in leaves(config) {
        let field = path.join(".");
        let mut found = Vec::new();
        for tag in tags {
            for (at, _) in leaf.text.match_indices(&tag.mark) {
                if tag.filters.len() > 1 {
                    problem(&field, "has a placeholder with more than one filter", "keep one of them");
                }
                found.push(Finding {
                    field: field.clone(),
                    range: at..at + tag.mark.len(),
                    filter: tag.filters.first().copied(),
                    value: Zeroizing::new(String::new()),
                    name: tag.name.clone(),
                    exists: false,
                    reason: "it is a placeholder",
                    spot: None,
                });
            }
        }
        if leaf.text.contains('«') {
            let help = "write << secret \"name\" >> where a secret is, and another character elsewhere";
            problem(&field, "contains `«`, which marks a secret in a plugin's cases", help);
        }
        found.sort_by_key(|finding| finding.range.start);
        if found.is_empty() {
            plain.push(path);
        } else {
            findings.insert(path, found);
        }
    }
    plain
}

/// Adds a finding for each credential in the texts without a placeholder.
fn of_credentials(
    config: &ConfigTable,
    plain: &[Vec<String>],
    feature: &str,
    tags: &[Tag],
    findings: &mut FindingsByField,
) {
    let host = leaves(config).iter().find_map(|(_, leaf)| url::host(&leaf.text));
    let reserved = tags.iter().map(|tag| tag.name.clone()).collect();
    let mut namer = Namer::new((feature, TEMPLATE), host.as_deref(), BTreeMap::new(), reserved);
    for (path, leaf) in leaves(config).into_iter().filter(|(path, _)| plain.contains(path)) {
        let name = name_of(&path).to_owned();
        let hinted = ConfigLeaf { hints: hints(&name, &leaf.text), ..ConfigLeaf::new(&leaf.text, None) };
        let found: Vec<Finding> = candidates(&[name], &hinted, false)
            .into_iter()
            .map(|candidate| Finding {
                field: path.join("."),
                name: namer.name(None, &candidate.purpose, &candidate.value).0,
                range: candidate.range,
                filter: candidate.filter,
                value: candidate.value,
                exists: false,
                reason: candidate.reason,
                spot: None,
            })
            .collect();
        if !found.is_empty() {
            findings.insert(path, found);
        }
    }
}

/// Returns what the rules of URLs and of authorization headers say about a text.
fn hints(name: &str, text: &str) -> Vec<Hint> {
    let split = url::take_apart(text, None, url::UrlChoice::Any);
    let in_query = leaves(&split.query).iter().any(|(_, leaf)| !leaf.hints.is_empty());
    // Parameters and users stay in their URL here, so a credential in one makes the whole URL a secret.
    if in_query || !split.url.hints.is_empty() {
        return ConfigLeaf::new(text, None).credential("url", "it is a URL with a credential").hints;
    }
    header(name, text, None).hints
}

/// Returns each value that is secret, as it is written and decoded, with the name of its secret.
fn values<'a>(config: &'a ConfigTable, findings: &'a FindingsByField) -> Vec<(Zeroizing<String>, &'a SecretName)> {
    let mut values = Vec::new();
    for (path, leaf) in leaves(config) {
        for finding in findings.get(&path).into_iter().flatten().filter(|finding| !finding.value.is_empty()) {
            values.push((finding.value.clone(), &finding.name));
            values.push((Zeroizing::new(leaf.text[finding.range.clone()].to_owned()), &finding.name));
        }
    }
    // The longest first, so that none is found in a part of another.
    values.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
    values
}

/// Adds a finding wherever a value that is secret occurs in another text.
fn spread(config: &ConfigTable, findings: &mut FindingsByField) {
    let mut added: Vec<(Vec<String>, Range<usize>, SecretName)> = Vec::new();
    {
        let values = values(config, findings);
        for (path, leaf) in leaves(config) {
            let known = findings.get(&path).into_iter().flatten().map(|finding| finding.range.clone());
            let mut taken: Vec<Range<usize>> = known.collect();
            for (value, name) in &values {
                let is_part = value.len() >= PART_MIN;
                for (at, _) in leaf.text.match_indices(&**value).filter(|_| is_part || **value == *leaf.text) {
                    let range = at..at + value.len();
                    if !taken.iter().any(|other| other.start < range.end && range.start < other.end) {
                        taken.push(range.clone());
                        added.push((path.clone(), range, (*name).clone()));
                    }
                }
            }
        }
    }
    for (path, range, name) in added {
        let list = findings.entry(path.clone()).or_default();
        let (field, reason) = (path.join("."), "it contains the value of another field");
        let value = Zeroizing::new(String::new());
        list.push(Finding { field, range, filter: None, value, name, exists: false, reason, spot: None });
        list.sort_by_key(|finding| finding.range.start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(format: Format, text: &str) -> Vec<String> {
        let sample =
            Sample::read(&SourceFile::of(text), format, "hook").unwrap_or_else(|failure| panic!("{failure:?}"));
        let show = |(path, finding): (&Vec<String>, &Finding)| {
            let filter = finding.filter.map_or_else(String::new, |filter| format!(" {filter:?}"));
            // The length of what stands for a placeholder says nothing.
            let end = if finding.filter.is_some() { String::new() } else { finding.range.end.to_string() };
            format!("{} {}..{end} {}{filter}", path.join("."), finding.range.start, finding.name)
        };
        let findings = sample.findings.iter();
        findings.flat_map(|(path, list)| list.iter().map(move |finding| show((path, finding)))).collect()
    }

    #[test]
    fn placeholders_and_credentials_are_found_and_so_is_a_value_elsewhere() {
        let toml = "url = \"https://api.acme.com/v1\"\npassword = \"hunter-22\"\ndsn = \"db://me:hunter-22@x\"\n\
                    tokens = [\"one\", \"true\"]\nuser = 'one'\nkept = \"a << secret 'mine' | base64 >>\"\n\
                    [headers]\nAuthorization = \"Bearer abc\"\n";
        assert_eq!(
            found(Format::Toml, toml),
            [
                "dsn 8..17 acme-password-prod",
                "headers.Authorization 7..10 acme-token-prod",
                "kept 2.. mine Base64",
                "password 0..9 acme-password-prod",
                "tokens.0 0..3 acme-tokens-prod",
                "user 0..3 acme-tokens-prod",
            ]
        );
        let query = "{\"hook\": \"https://x.example/?api_key=abcdef\", \"page\": \"https://x.example/?page=2\"}";
        assert_eq!(found(Format::Json, query), ["hook 0..33 x-url-prod"]);
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_line_and_without_a_value() {
        for (format, text, told) in [
            (Format::Toml, "a = 1\nb = hidden\n", "file:2:"),
            (Format::Json, "[\"hidden\"]", "not a table"),
            (Format::Yaml, "a: 1\nb: << vars.hidden >>\n", "file:2:1: contains a variable of a template"),
            (Format::Yaml, "a: 1\n<% if hidden %>\nb: 1\n<% endif %>\n", "contains a statement of a template"),
            (Format::Toml, "a = 1\nb = \"«hidden»\"\n", "file:2:5 b: contains `«`"),
            (Format::Toml, "b = 'hidden'\na = \"<< secret x >>\"\n", "file:2:"),
        ] {
            let Err(Failure(message)) = Sample::read(&SourceFile::of(text), format, "hook") else { panic!("{text}") };
            assert!(message.contains(told) && !message.contains("hidden"), "{message}");
        }
    }

    #[test]
    fn a_number_that_may_be_a_credential_is_replaced() {
        let source = SourceFile::of("password = 123456\nretries = 3\n");
        let Ok(sample) = Sample::read(&source, Format::Toml, "hook") else { panic!("it was refused") };
        let numbers: Vec<_> = sample
            .config
            .iter()
            .map(|(_, node)| if let ConfigNode::Other(value) = node { value.to_string() } else { String::new() })
            .collect();
        assert_eq!(numbers, ["1", "3"]);
        assert!(sample.notes[0].contains("`password`") && !sample.notes[0].contains("123456"));
    }
}
