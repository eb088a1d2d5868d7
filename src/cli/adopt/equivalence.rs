//! The meaning of a config for its consumer, as a list of facts. Compares two configs and prints the difference.
//!
//! Invariant: the printed text contains no credential. A place that will be filled shows its mark, and any other text
//! that could be a credential is masked.

use serde_json::Value;
use zeroize::Zeroizing;

use super::detect;

/// The text that is shown in place of a hidden value.
const MASK: &str = "••••••";
/// The most characters that are shown of one fact.
const SHOWN_MAX: usize = 120;

/// One setting of a config.
struct Fact {
    path: String,
    value: Zeroizing<String>,
    is_text: bool,
}

impl Fact {
    fn is_equivalent(&self, other: &Self) -> bool {
        self.is_text == other.is_text && *self.value == *other.value
    }
}

/// The settings of a config, in its own order.
#[derive(Default)]
pub struct Facts(Vec<Fact>);

impl Facts {
    /// Adds a fact whose value is a text.
    pub fn text(&mut self, path: &str, text: &str) {
        self.0.push(Fact { path: path.to_owned(), value: Zeroizing::new(text.to_owned()), is_text: true });
    }

    /// Adds a fact for each leaf of a tree.
    pub fn tree(&mut self, path: &str, value: &Value) {
        let child_path = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match value {
            Value::String(text) => self.text(path, text),
            Value::Object(map) if !map.is_empty() => {
                map.iter().for_each(|(name, value)| self.tree(&child_path(name), value));
            }
            Value::Array(items) if !items.is_empty() => {
                items.iter().enumerate().for_each(|(index, value)| self.tree(&child_path(&index.to_string()), value));
            }
            other => {
                let value = Zeroizing::new(other.to_string());
                self.0.push(Fact { path: path.to_owned(), value, is_text: false });
            }
        }
    }
}

/// The way one fact changes.
enum FactChange {
    /// It stays as it was.
    Kept(String, String),
    /// It stays as it was, with values from the vault in it.
    Placed(String, String),
    /// It changes, disappears or is new. Holds the path and the old and the new text.
    Changed(String, Option<String>, Option<String>),
}

/// Two configs compared fact by fact. Holds only text that may be shown.
pub struct Comparison(Vec<FactChange>);

/// Compares the meaning of the file with that of the rendered template. `marked` is the template's document with marks
/// in place of values; `values` are the credentials that were found.
///
/// # Errors
/// With the paths of the facts in which a credential would differ from the file's.
pub fn compare(original: &Facts, rendered: &Facts, marked: &Facts, values: &[&str]) -> Result<Comparison, Vec<String>> {
    let mut changed: Vec<String> = Vec::new();
    let same_shape = rendered.0.len() == marked.0.len()
        && rendered.0.iter().zip(&marked.0).all(|(one, other)| one.path == other.path && one.is_text == other.is_text);
    if !same_shape {
        return Err(vec!["the document as a whole".into()]);
    }
    let mut remaining: Vec<(&Fact, &Fact)> = rendered.0.iter().zip(&marked.0).collect();
    let mut rows = Vec::new();
    for fact in &original.0 {
        let position = remaining.iter().position(|(after, _)| after.path == fact.path);
        let Some((after, mark)) = position.map(|index| remaining.remove(index)) else {
            // The user judges what the config cannot express; it stays in the file.
            rows.push(FactChange::Changed(fact.path.clone(), Some(masked(fact, values)), None));
            continue;
        };
        let is_placed = *after.value != *mark.value;
        if after.is_equivalent(fact) {
            let shown = shorten(&mark.value);
            let row = if is_placed { FactChange::Placed } else { FactChange::Kept };
            rows.push(row(fact.path.clone(), shown));
            continue;
        }
        if values.iter().any(|value| contains_value(fact, value) && !after.value.contains(value)) {
            changed.push(fact.path.clone());
        }
        let shown = if is_placed { shorten(&mark.value) } else { masked(after, values) };
        rows.push(FactChange::Changed(fact.path.clone(), Some(masked(fact, values)), Some(shown)));
    }
    for (after, mark) in remaining {
        let shown = if *after.value == *mark.value { masked(after, values) } else { shorten(&mark.value) };
        rows.push(FactChange::Changed(after.path.clone(), None, Some(shown)));
    }
    if changed.is_empty() { Ok(Comparison(rows)) } else { Err(changed) }
}

/// Returns a fact's text, masked if it contains a known credential or looks like one.
fn masked(fact: &Fact, values: &[&str]) -> String {
    let name = fact.path.rsplit('.').next().unwrap_or_default();
    let contains = values.iter().any(|value| contains_value(fact, value));
    let secret = fact.is_text && (contains || detect::credential_reason(name, &fact.value).is_some());
    if secret { MASK.into() } else { shorten(&fact.value) }
}

/// Reports whether a fact contains a credential. A credential of less than four bytes has to be the whole text, because
/// it could be part of any text by chance.
fn contains_value(fact: &Fact, value: &str) -> bool {
    *fact.value == *value || (value.len() >= 4 && fact.value.contains(value))
}

fn shorten(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t")
}

/// Returns a text with its marks masked, as the file's text is shown.
fn mask_marks(marked: &str) -> String {
    let mut out = String::new();
    let mut rest = marked;
    while let Some((plain, inner)) = rest.split_once('«') {
        out.push_str(plain);
        let Some((_, after)) = inner.split_once('»') else { break };
        out.push_str(MASK);
        rest = after;
    }
    out + rest
}

impl Comparison {
    /// Returns the number of facts that differ.
    pub fn changes(&self) -> usize {
        self.0.iter().filter(|row| matches!(row, FactChange::Changed(..))).count()
    }

    /// Returns the lines of a diff, each with its sign: `-` is the file, `+` the rendered config, a space is both.
    pub fn lines(&self) -> Vec<(char, String)> {
        let mut lines = Vec::new();
        for row in &self.0 {
            match row {
                FactChange::Kept(path, value) => lines.push((' ', format!("{path} = {value}"))),
                FactChange::Placed(path, value) => {
                    lines.push(('-', format!("{path} = {}", mask_marks(value))));
                    lines.push(('+', format!("{path} = {value}")));
                }
                FactChange::Changed(path, old, new) => {
                    let of = |(sign, value): (char, &Option<String>)| {
                        value.as_ref().map(|value| (sign, format!("{path} = {value}")))
                    };
                    lines.extend([('-', old), ('+', new)].into_iter().filter_map(of));
                }
            }
        }
        lines
    }

    /// Describes each difference in a line of words.
    pub fn describe(&self) -> Vec<String> {
        let sentence = |row: &FactChange| match row {
            FactChange::Changed(path, Some(_), None) => Some(format!("{path} is omitted")),
            FactChange::Changed(path, None, Some(_)) => Some(format!("{path} is added")),
            FactChange::Changed(path, ..) => Some(format!("{path} differs")),
            _ => None,
        };
        self.0.iter().filter_map(sentence).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts(value: &Value) -> Facts {
        let mut facts = Facts::default();
        facts.tree("", value);
        facts
    }

    #[test]
    fn what_stays_what_is_placed_and_what_differs() {
        let original =
            facts(&json!({"url": "https://x", "token": "Bearer s3cret", "n": 1, "more": {"password": "p4ss"}}));
        let rendered = facts(&json!({"token": "Bearer s3cret", "url": "https://x", "n": "1", "type": "http"}));
        let marked = facts(&json!({"token": "Bearer «a»", "url": "https://x", "n": "1", "type": "http"}));
        let compared =
            compare(&original, &rendered, &marked, &["s3cret"]).unwrap_or_else(|broken| panic!("{broken:?}"));
        assert_eq!(compared.describe(), ["n differs", "more.password is omitted", "type is added"]);
        let shown: Vec<String> = compared
            .0
            .iter()
            .map(|row| match row {
                FactChange::Kept(path, value) => format!("{path} {value}"),
                FactChange::Placed(path, value) => format!("{path} {} > {value}", mask_marks(value)),
                FactChange::Changed(path, old, new) => format!("{path} {old:?} > {new:?}"),
            })
            .collect();
        assert_eq!(
            shown,
            [
                "url https://x",
                "token Bearer •••••• > Bearer «a»",
                "n Some(\"1\") > Some(\"1\")",
                "more.password Some(\"••••••\") > None",
                "type None > Some(\"http\")",
            ]
        );
    }

    #[test]
    fn a_value_that_would_change_is_an_error() {
        let original = facts(&json!({"a": "x s3cret"}));
        let (rendered, marked) = (facts(&json!({"a": "x s3kret"})), facts(&json!({"a": "x «n»"})));
        assert_eq!(compare(&original, &rendered, &marked, &["s3cret"]).err(), Some(vec!["a".to_owned()]));
        let other_shape = facts(&json!({"b": "x «n»"}));
        assert!(compare(&original, &original, &other_shape, &["s3cret"]).is_err());
    }
}
