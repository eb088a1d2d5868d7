//! What a config says to its consumer, as facts; whether two say the same; and the difference, for people.
//!
//! Invariant: what is shown holds no value: a place that will be filled shows its mark, and what differs is
//! masked where it could be a credential.

use serde_json::Value;
use zeroize::Zeroizing;

use super::looks;
use crate::cli::output;

/// What stands for a value that is not shown.
const MASK: &str = "••••••";
/// Most characters that are shown of one fact.
const SHOWN_MAX: usize = 120;

/// One thing a config says.
struct Fact {
    path: String,
    value: Zeroizing<String>,
    is_text: bool,
}

impl Fact {
    fn says_the_same(&self, other: &Self) -> bool {
        self.is_text == other.is_text && *self.value == *other.value
    }
}

/// What a config says, in its own order.
#[derive(Default)]
pub struct Facts(Vec<Fact>);

impl Facts {
    /// Adds a text.
    pub fn text(&mut self, path: &str, text: &str) {
        self.0.push(Fact { path: path.to_owned(), value: Zeroizing::new(text.to_owned()), is_text: true });
    }

    /// Adds a tree, a fact for each of its leaves.
    pub fn tree(&mut self, path: &str, value: &Value) {
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match value {
            Value::String(text) => self.text(path, text),
            Value::Object(map) if !map.is_empty() => {
                map.iter().for_each(|(name, value)| self.tree(&below(name), value));
            }
            Value::Array(items) if !items.is_empty() => {
                items.iter().enumerate().for_each(|(index, value)| self.tree(&below(&index.to_string()), value));
            }
            other => {
                let value = Zeroizing::new(other.to_string());
                self.0.push(Fact { path: path.to_owned(), value, is_text: false });
            }
        }
    }
}

/// How one fact comes through.
enum Row {
    /// As it was.
    Kept(String, String),
    /// As it was, with values of the vault in it.
    Placed(String, String),
    /// Otherwise, or not at all, or new.
    Changed(String, Option<String>, Option<String>),
}

/// Two configs, fact by fact. Holds what is shown and no value.
pub struct Comparison(Vec<Row>);

/// Compares what the file says with what the template gives. `marked` is the template's document with marks in
/// place of values; `values` are the credentials that were found.
///
/// # Errors
/// The facts in which a credential would not be what it is in the file.
pub fn compare(original: &Facts, rendered: &Facts, marked: &Facts, values: &[&str]) -> Result<Comparison, Vec<String>> {
    let mut broken: Vec<String> = Vec::new();
    let same_shape = rendered.0.len() == marked.0.len()
        && rendered.0.iter().zip(&marked.0).all(|(one, other)| one.path == other.path && one.is_text == other.is_text);
    if !same_shape {
        return Err(vec!["the document as a whole".into()]);
    }
    let mut rest: Vec<(&Fact, &Fact)> = rendered.0.iter().zip(&marked.0).collect();
    let mut rows = Vec::new();
    for fact in &original.0 {
        let found = rest.iter().position(|(after, _)| after.path == fact.path);
        let Some((after, mark)) = found.map(|index| rest.remove(index)) else {
            // What the config cannot hold is for the person to judge, and stays in the file.
            rows.push(Row::Changed(fact.path.clone(), Some(masked(fact, values)), None));
            continue;
        };
        let is_placed = *after.value != *mark.value;
        if after.says_the_same(fact) {
            let shown = brief(&mark.value);
            let row = if is_placed { Row::Placed } else { Row::Kept };
            rows.push(row(fact.path.clone(), shown));
            continue;
        }
        if values.iter().any(|value| holds(fact, value) && !after.value.contains(value)) {
            broken.push(fact.path.clone());
        }
        let shown = if is_placed { brief(&mark.value) } else { masked(after, values) };
        rows.push(Row::Changed(fact.path.clone(), Some(masked(fact, values)), Some(shown)));
    }
    for (after, mark) in rest {
        let shown = if *after.value == *mark.value { masked(after, values) } else { brief(&mark.value) };
        rows.push(Row::Changed(after.path.clone(), None, Some(shown)));
    }
    if broken.is_empty() { Ok(Comparison(rows)) } else { Err(broken) }
}

/// A fact of which nobody knows whether it is a credential: shown only where it looks like none.
fn masked(fact: &Fact, values: &[&str]) -> String {
    let name = fact.path.rsplit('.').next().unwrap_or_default();
    let held = values.iter().any(|value| holds(fact, value));
    let secret = fact.is_text && (held || looks::like_a_credential(name, &fact.value).is_some());
    if secret { MASK.into() } else { brief(&fact.value) }
}

/// Whether a fact has a credential in it. A very short one could be anywhere by chance.
fn holds(fact: &Fact, value: &str) -> bool {
    *fact.value == *value || (value.len() >= 4 && fact.value.contains(value))
}

fn brief(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t")
}

/// A text with its marks masked: how it looks in the file.
fn before(marked: &str) -> String {
    let mut out = String::new();
    let mut rest = marked;
    while let Some((plain, behind)) = rest.split_once('«') {
        out.push_str(plain);
        let Some((_, after)) = behind.split_once('»') else { break };
        out.push_str(MASK);
        rest = after;
    }
    out + rest
}

impl Comparison {
    /// How many facts are not as they were.
    pub fn changes(&self) -> usize {
        self.0.iter().filter(|row| matches!(row, Row::Changed(..))).count()
    }

    /// Prints it like a diff: the file before, the rendered config after.
    pub fn print(&self) {
        for row in &self.0 {
            match row {
                Row::Kept(path, value) => output::diff(' ', &format!("{path} = {value}")),
                Row::Placed(path, value) => {
                    output::diff('-', &format!("{path} = {}", before(value)));
                    output::diff('+', &format!("{path} = {value}"));
                }
                Row::Changed(path, old, new) => {
                    for (sign, value) in [('-', old), ('+', new)] {
                        if let Some(value) = value {
                            output::diff(sign, &format!("{path} = {value}"));
                        }
                    }
                }
            }
        }
    }

    /// What is not as it was, in words: a line each.
    pub fn told(&self) -> Vec<String> {
        let told = |row: &Row| match row {
            Row::Changed(path, Some(_), None) => Some(format!("{path} is left out")),
            Row::Changed(path, None, Some(_)) => Some(format!("{path} is added")),
            Row::Changed(path, ..) => Some(format!("{path} differs")),
            _ => None,
        };
        self.0.iter().filter_map(told).collect()
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
        assert_eq!(compared.told(), ["n differs", "more.password is left out", "type is added"]);
        let shown: Vec<String> = compared
            .0
            .iter()
            .map(|row| match row {
                Row::Kept(path, value) => format!("{path} {value}"),
                Row::Placed(path, value) => format!("{path} {} > {value}", before(value)),
                Row::Changed(path, old, new) => format!("{path} {old:?} > {new:?}"),
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
