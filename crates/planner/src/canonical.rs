//! Checks the document that a plugin has written against the contract, and writes it again in canonical form.
//!
//! The plugin has to keep every rule here. The daemon checks the result again, because it trusts no planner.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::encoder::{Encoder, PluginError, forged_slot};
use guillemet_base::display::sanitize;
use guillemet_plan::encode::{ENCODERS, EncoderDefinition, Placement};
use guillemet_plan::expr::Expr;
use guillemet_plan::protocol::{DocumentKind, Emission, PlanReference, PlannedSlot};
use guillemet_plan::slots::{self, SLOT_LEN};

/// The most bytes of a document.
pub const DOCUMENT_MAX: usize = 4 << 20;
/// The deepest nesting of a JSON document.
const DEPTH_MAX: usize = 64;
/// The most characters of a path in a message.
const PATH_MAX: usize = 100;

/// A document that keeps the contract.
#[derive(Debug)]
pub struct CanonicalDocument {
    /// The text of the document, with slots in their canonical form.
    pub text: String,
    /// The syntax of the document: JSON or text.
    pub kind: DocumentKind,
    /// Every slot of the text, in its order.
    pub slots: Vec<PlannedSlot>,
}

/// Checks a document and returns it in canonical form.
///
/// # Errors
/// Fails with [`PluginError`], which lists the rules that the document breaks.
pub fn check(
    text: String,
    kind: DocumentKind,
    target: &str,
    encoder: &Encoder,
    emissions: &[Emission],
    references: &[PlanReference],
) -> Result<CanonicalDocument, PluginError> {
    if text.len() > DOCUMENT_MAX {
        return Err(PluginError(format!("its document is larger than {} MiB", DOCUMENT_MAX >> 20)));
    }
    let mut reader = Canonicalizer {
        encoder,
        emissions,
        references,
        kind,
        path: Vec::new(),
        problems: Vec::new(),
        taken: HashSet::new(),
        slots: Vec::new(),
    };
    let text = match kind {
        DocumentKind::Json => {
            let UniqueKeysJson(mut tree) = serde_json::from_str(&text).map_err(|error| not_json(&error))?;
            reader.tree(&mut tree, 0);
            let mut text = serde_json::to_string_pretty(&tree)
                .map_err(|_| PluginError("its document cannot be written as JSON".into()))?;
            text.push('\n');
            text
        }
        DocumentKind::Text => {
            let mut text = text;
            if text.contains('\0') {
                reader.problems.push("wrote a NUL into its document".into());
            }
            reader.string(&mut text);
            text
        }
    };
    let reached: HashSet<u32> = reader.slots.iter().flat_map(|slot| slot.expr.emissions()).collect();
    for (index, emission) in emissions.iter().enumerate() {
        if !reached.contains(&(index as u32)) {
            reader.problems.push(format!("omitted {} (dropped)", secret(emission, references)));
        }
    }
    let Canonicalizer { problems, slots, .. } = reader;
    if problems.is_empty() {
        Ok(CanonicalDocument { text, kind, slots })
    } else {
        Err(PluginError(format!("for the target `{target}`, it {}", problems.join("; it "))))
    }
}

/// Returns how a message names the secret of an emission.
fn secret(emission: &Emission, references: &[PlanReference]) -> String {
    match references.get(emission.reference as usize) {
        Some(PlanReference { name, line, column, .. }) => {
            format!("the secret \"{name}\" (line {line}, column {column}) of the field `{}`", emission.field)
        }
        None => "a secret".into(),
    }
}

fn not_json(error: &serde_json::Error) -> PluginError {
    let reason = match error.classify() {
        serde_json::error::Category::Data => error.to_string(),
        _ => format!("line {}, column {}", error.line(), error.column()),
    };
    PluginError(format!("its document is not valid JSON ({reason})"))
}

struct Canonicalizer<'a> {
    encoder: &'a Encoder,
    emissions: &'a [Emission],
    references: &'a [PlanReference],
    kind: DocumentKind,
    /// The place in a JSON document that is being read.
    path: Vec<String>,
    problems: Vec<String>,
    /// The slots found so far.
    taken: HashSet<String>,
    slots: Vec<PlannedSlot>,
}

impl Canonicalizer<'_> {
    fn tree(&mut self, value: &mut Value, depth: usize) {
        if depth > DEPTH_MAX {
            return self.rule(format!("nested its document deeper than {DEPTH_MAX} levels"));
        }
        match value {
            Value::String(text) => self.string(text),
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.path.push(index.to_string());
                    self.tree(item, depth + 1);
                    self.path.pop();
                }
            }
            Value::Object(map) => {
                for (key, item) in map.iter_mut() {
                    for at in slots::find(key) {
                        let secret = self.secret(&slots::canonical(key, at));
                        let place = self.place("", 0);
                        self.rule(format!("wrote {secret} into a key of {place}; a secret can only be in a value"));
                    }
                    self.path.push(key.clone());
                    self.tree(item, depth + 1);
                    self.path.pop();
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn string(&mut self, text: &mut String) {
        for at in slots::find(text) {
            let slot = slots::canonical(text, at);
            let Some(expr) = self.encoder.expr(&slot) else {
                self.rule(forged_slot().0.trim_start_matches("it ").to_owned());
                continue;
            };
            let place = || (self.secret(&slot), self.place(text, at));
            if self.taken.contains(&slot) {
                let (secret, place) = place();
                self.rule(format!(
                    "wrote {secret} twice, the second time into {place} (doubled); to use a secret twice, encode it \
                     twice"
                ));
                continue;
            }
            match self.kind {
                DocumentKind::Json if is_url(expr) && text.len() != SLOT_LEN => {
                    let (secret, place) = place();
                    self.rule(format!(
                        "added text around the result of `url` with {secret} in {place}; it must be a whole value"
                    ));
                }
                DocumentKind::Text if expr.place() != Some(Placement::TextDocument) => {
                    let (secret, place) = place();
                    self.rule(format!(
                        "wrote {secret} into {place} without a terminal encoder (bare); use one of {}",
                        terminal_encoders()
                    ));
                }
                _ => {}
            }
            self.taken.insert(slot.clone());
            slots::replace(text, at, &slot);
            self.slots.push(PlannedSlot { slot, expr: expr.clone() });
        }
    }

    /// Returns how a message names the secrets that a slot stands for: the first of them.
    fn secret(&self, slot: &str) -> String {
        let emission = self.encoder.expr(slot).and_then(|expr| expr.emissions().first().copied());
        let emission = emission.and_then(|emission| self.emissions.get(emission as usize));
        emission.map_or_else(|| "a secret".into(), |emission| secret(emission, self.references))
    }

    /// Returns how a message names a place of the document: the value that is being read, or the line of a text.
    fn place(&self, text: &str, at: usize) -> String {
        match self.kind {
            DocumentKind::Json if self.path.is_empty() => "the document".into(),
            // Without any slot, which would mean nothing to a person.
            DocumentKind::Json => match self.path.join(".") {
                path if slots::find(&path).is_empty() => format!("`{}` of the document", sanitize(&path, PATH_MAX)),
                _ => "the document".into(),
            },
            DocumentKind::Text => format!("line {} of the document", text[..at].matches('\n').count() + 1),
        }
    }

    fn rule(&mut self, rule: String) {
        if self.problems.len() < 20 && !self.problems.contains(&rule) {
            self.problems.push(rule);
        }
    }
}

/// Returns the names of the encoders that a secret in a text document can have, for a message.
fn terminal_encoders() -> String {
    let is_terminal = |encoder: &&EncoderDefinition| encoder.place == Placement::TextDocument;
    let names: Vec<String> = ENCODERS.iter().filter(is_terminal).map(|encoder| format!("`{}`", encoder.name)).collect();
    names.join(", ")
}

/// Reports whether the text is a URL. Operations that only refuse some texts and change nothing may be applied to it.
fn is_url(expr: &Expr) -> bool {
    match expr {
        Expr::Apply { op, args } if op.definition().is_restriction() => matches!(
            args.first().map(Vec::as_slice),
            Some([guillemet_plan::expr::Part::Expr(inner)]) if is_url(inner)
        ),
        _ => expr.place() == Some(Placement::Url),
    }
}

/// JSON in which no object has a key twice. The parser limits its depth.
struct UniqueKeysJson(Value);

impl<'de> Deserialize<'de> for UniqueKeysJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor).map(UniqueKeysJson)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, boolean: bool) -> Result<Value, E> {
        Ok(Value::Bool(boolean))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Value, E> {
        Number::from_f64(number).map(Value::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(UniqueKeysJson(item)) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let UniqueKeysJson(value) = access.next_value()?;
            if map.insert(key, value).is_some() {
                return Err(A::Error::custom("a key appears twice in the same object"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
#[path = "canonical_tests.rs"]
mod tests;
