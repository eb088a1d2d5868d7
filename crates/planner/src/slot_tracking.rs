//! Follows every slot from the template engine into the config tree.
//!
//! Invariant: each slot that was issued is in a string of the tree, whole, as often as it is counted; otherwise the
//! template is refused, and the problem names the reference.

use std::collections::HashMap;

use serde_json::Value;

use super::render::{Issued, RenderedText};
use crate::source_map::{Origins, SourcePosition};
use guillemet_base::display::sanitize;
use guillemet_base::problem::Problem;
use guillemet_plan::description::{SecretFields, TARGETS_FIELD};
use guillemet_plan::document::Tree;
use guillemet_plan::protocol::{Emission, PlanReference, PlanRequest};
use guillemet_plan::slots;

/// The slots of a rendered text, each at exactly one place.
pub struct Emitted {
    /// The text; a slot that was written twice has become two.
    pub text: String,
    /// The reference that each slot of the text stands for, by slot.
    by_slot: HashMap<String, u32>,
    /// The slots with their references, in the order of the text.
    order: Vec<(String, u32)>,
}

/// Finds the slots of a rendered text.
///
/// # Errors
/// Returns a problem for each reference whose slot was cut, changed or never written; if there is none, one for each
/// slot that was never issued.
pub fn find_emitted(request: &PlanRequest, rendered: RenderedText) -> Result<(Emitted, Origins), Vec<Problem>> {
    let RenderedText { mut text, origins, issued } = rendered;
    let references: HashMap<&str, u32> = issued.iter().map(|one| (one.slot.as_str(), one.reference)).collect();
    let mut emitted = Emitted { text: String::new(), by_slot: HashMap::new(), order: Vec::new() };
    let mut problems = Vec::new();
    let mut used = std::collections::HashSet::new();
    for at in slots::find(&text) {
        let mut slot = slots::canonical(&text, at);
        let Some(reference) = references.get(slot.as_str()).copied() else {
            problems.push(forged(origins.of_output(at), String::new()));
            continue;
        };
        if !used.insert(slot.clone()) {
            slot = slots::random_slot();
        }
        slots::replace(&mut text, at, &slot);
        emitted.by_slot.insert(slot.clone(), reference);
        emitted.order.push((slot, reference));
    }
    // A slot that was changed may look like a forged one; the problem of its reference says more.
    let missing = lost_references(request, &issued, |slot| used.contains(slot));
    if !missing.is_empty() {
        problems = missing;
    }
    emitted.text = text;
    if problems.is_empty() { Ok((emitted, origins)) } else { Err(problems) }
}

/// Returns a problem for each reference with a slot that is missing from the text; each reference once.
fn lost_references(request: &PlanRequest, issued: &[Issued], found: impl Fn(&str) -> bool) -> Vec<Problem> {
    let mut references: Vec<u32> = issued.iter().filter(|one| !found(&one.slot)).map(|one| one.reference).collect();
    references.sort_unstable();
    references.dedup();
    let problem = |reference: &PlanReference| {
        of_reference(
            reference,
            String::new(),
            format!("the secret \"{}\" was changed by the template, or never written", reference.name),
            "write the secret directly: only its value filters (`<< secret \"…\" | base64 >>`) can change it",
        )
    };
    references.iter().filter_map(|reference| request.references.get(*reference as usize)).map(problem).collect()
}

/// Every emission in order, and the emission that each slot of the tree stands for.
pub type Placed = (Vec<Emission>, HashMap<String, u32>);

/// Walks the tree and records each emission with its field. A slot that YAML has repeated through an alias gets a slot
/// of its own. Returns the emissions, and the emission that each slot of the tree stands for. `targets` is the content
/// of the reserved field, which has been removed from the tree.
///
/// # Errors
/// Returns a problem for each slot that is in a key, in a comment, in the reserved field or outside the fields that may
/// contain a secret, and for each forged one.
pub fn track_emissions(
    request: &PlanRequest,
    emitted: &Emitted,
    tree: &mut Tree,
    origins: &Origins,
    fields: &SecretFields,
    targets: Option<&Value>,
) -> Result<Placed, Vec<Problem>> {
    let mut walk = SlotWalk {
        request,
        emitted,
        origins,
        offsets: &tree.places,
        fields,
        path: Vec::new(),
        emissions: Vec::new(),
        by_slot: HashMap::new(),
        seen: std::collections::HashSet::new(),
        problems: Vec::new(),
    };
    walk.value(&mut tree.root);
    if let Some(targets) = targets {
        walk.path = vec![TARGETS_FIELD.to_owned()];
        walk.check_reserved(targets);
    }
    let missing = emitted.order.iter().filter(|(slot, _)| !walk.seen.contains(slot));
    let mut in_comments: Vec<u32> = missing.map(|(_, reference)| *reference).collect();
    in_comments.sort_unstable();
    in_comments.dedup();
    for reference in in_comments {
        if let Some(reference) = request.references.get(reference as usize) {
            let message = format!("the secret \"{}\" does not reach the config: it is in a comment", reference.name);
            let help = "put comments that contain a secret between `<#` and `#>`";
            walk.problems.push(of_reference(reference, String::new(), message, help));
        }
    }
    if walk.problems.is_empty() { Ok((walk.emissions, walk.by_slot)) } else { Err(walk.problems) }
}

struct SlotWalk<'a> {
    request: &'a PlanRequest,
    emitted: &'a Emitted,
    origins: &'a Origins,
    offsets: &'a HashMap<String, usize>,
    fields: &'a SecretFields,
    path: Vec<String>,
    emissions: Vec<Emission>,
    by_slot: HashMap<String, u32>,
    /// Slots of the text that were met, in a value or a key.
    seen: std::collections::HashSet<String>,
    problems: Vec<Problem>,
}

impl SlotWalk<'_> {
    fn value(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.path.push(index.to_string());
                    self.value(item);
                    self.path.pop();
                }
            }
            Value::Object(map) => {
                for (key, item) in map.iter_mut() {
                    self.key(key);
                    self.path.push(key.clone());
                    self.value(item);
                    self.path.pop();
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn key(&mut self, key: &str) {
        for at in slots::find(key) {
            let slot = slots::canonical(key, at);
            let path = self.path.join(".");
            match self.reference(&slot) {
                Some(reference) => {
                    let message = format!("the secret \"{}\" is used as a key", reference.name);
                    let problem =
                        of_reference(reference, path, message, "a secret can be a value, but not the name of a field");
                    self.problems.push(problem);
                    self.seen.insert(slot);
                }
                None => self.forged(path),
            }
        }
    }

    fn text(&mut self, text: &mut String) {
        for at in slots::find(text) {
            let mut slot = slots::canonical(text, at);
            let field = self.path.join(".");
            let Some(index) = self.emitted.by_slot.get(&slot).copied() else {
                self.forged(field);
                continue;
            };
            if !self.seen.insert(slot.clone()) {
                slot = slots::random_slot();
            }
            slots::replace(text, at, &slot);
            if !self.fields.allow(&self.path)
                && let Some(reference) = self.request.references.get(index as usize)
            {
                let message =
                    format!("the secret \"{}\" is in a field where the plugin does not allow secrets", reference.name);
                self.problems.push(of_reference(reference, field.clone(), message, &self.fields.help()));
            }
            let emission = u32::try_from(self.emissions.len()).unwrap_or(u32::MAX);
            self.by_slot.insert(slot, emission);
            self.emissions.push(Emission { reference: index, field: sanitize(&field, 512) });
        }
    }

    /// Checks the field that the plugin never sees: nothing can be filled in there.
    fn check_reserved(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.none_in(text),
            Value::Array(items) => items.iter().for_each(|item| self.check_reserved(item)),
            Value::Object(map) => map.iter().for_each(|(key, item)| {
                self.none_in(key);
                self.check_reserved(item);
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn none_in(&mut self, text: &str) {
        for at in slots::find(text) {
            let slot = slots::canonical(text, at);
            let field = self.path.join(".");
            match self.reference(&slot) {
                Some(reference) => {
                    let message = format!("the secret \"{}\" is in `{field}`", reference.name);
                    let help = "list targets there, and remove the secret";
                    let problem = of_reference(reference, field, message, help);
                    self.problems.push(problem);
                    self.seen.insert(slot);
                }
                None => self.forged(field),
            }
        }
    }

    fn reference(&self, slot: &str) -> Option<&PlanReference> {
        let index = self.emitted.by_slot.get(slot)?;
        self.request.references.get(*index as usize)
    }

    fn forged(&mut self, field: String) {
        let position = self.offsets.get(&field).map(|at| self.origins.of_output(*at)).unwrap_or_default();
        self.problems.push(forged(position, field));
    }
}

fn forged(position: SourcePosition, path: String) -> Problem {
    Problem {
        path,
        line: position.line,
        column: position.column,
        message: "text here looks like a slot (`Z` and 39 digits), which is reserved for Guillemet".into(),
        help: Some("change the text; to use a secret, write `<< secret \"…\" >>`".into()),
    }
}

fn of_reference(reference: &PlanReference, path: String, message: String, help: &str) -> Problem {
    Problem {
        path: sanitize(&path, 512),
        line: Some(reference.line),
        column: Some(reference.column),
        message,
        help: Some(help.to_owned()),
    }
}
