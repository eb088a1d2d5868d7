//! Canaries: fills a plan with hostile values and reads the document back in its format, where each value must be
//! exactly one leaf.
//!
//! This finds a plugin that forgot an encoder, or used that of another format. It runs where plugins and templates are
//! checked, never when a config is served: there, only the encoders decide. Knows no secret; a canary is a text of this
//! module.

mod leaves;
mod places;
mod values;

use self::leaves::{Leaf, ReadableFormat};
use guillemet_base::problem::Problem;
use guillemet_base::sys::memory::Clear;
use guillemet_plan::encode::{self, Placement, Refusal, ValueSource};
use guillemet_plan::expr::{Expr, Part};
use guillemet_plan::plan::{Plan, PlanPiece};
use guillemet_plan::protocol::DocumentKind;

/// The most canaries that one problem names.
const NAMED_MAX: usize = 5;
/// The most slots that are tried alone, to find the one at fault in a document.
const ALONE_MAX: usize = 64;

/// Reports whether the plan's document has a format that can be read here.
pub fn can_read(plan: &Plan) -> bool {
    ReadableFormat::of(plan).is_some()
}

/// Fills every slot with hostile canaries and reads the document back. Returns a problem, at the reference of its
/// secret, for each slot that did not come back as exactly one leaf. Returns one problem without a place if the
/// document cannot be read at all. Returns nothing if all did, or if this module cannot read the document's format (it
/// reads JSON, XML and dotenv).
pub fn check(plan: &Plan) -> Vec<Problem> {
    let slots: Vec<CanarySlot> = plan.pieces.iter().filter_map(CanarySlot::of).collect();
    let Some(format) = ReadableFormat::of(plan).filter(|_| !slots.is_empty()) else { return Vec::new() };
    CanaryCheck { plan, slots, format }.run()
}

/// One slot of the plan.
struct CanarySlot<'a> {
    expr: &'a Expr,
    uses: &'a [u32],
}

impl<'a> CanarySlot<'a> {
    fn of(piece: &'a PlanPiece) -> Option<Self> {
        match piece {
            PlanPiece::Text(_) => None,
            PlanPiece::Slot { expr, uses } => Some(Self { expr, uses }),
        }
    }

    /// Returns the text of the slot's leaf and its text in the document, when each use has its canary.
    fn filled(&self, kind: DocumentKind, canary: &dyn Fn(u32) -> String) -> Result<Filled, Refusal> {
        struct Canaries<'c>(&'c dyn Fn(u32) -> String);
        impl ValueSource for Canaries<'_> {
            fn append(&self, emission: u32, out: &mut Clear) {
                out.extend_from_slice((self.0)(emission).as_bytes());
            }
        }
        let source = Canaries(canary);
        let text = |expr: &Expr| {
            let mut out = Clear::new();
            encode::eval(expr, &source, &mut out)?;
            Ok(String::from_utf8_lossy(&out).into_owned())
        };
        let written = text(self.expr)?;
        match (kind, self.expr) {
            // The outermost operation of a text document writes the value in its format, so the leaf is that
            // operation's input.
            (DocumentKind::Text, Expr::Apply { args, .. }) if self.expr.place() == Some(Placement::TextDocument) => {
                let mut leaf = String::new();
                for part in args.iter().flatten() {
                    match part {
                        Part::Literal(literal) => leaf.push_str(literal),
                        Part::Expr(expr) => leaf.push_str(&text(expr)?),
                    }
                }
                Ok(Filled { written, leaf })
            }
            (DocumentKind::Text, _) => Ok(Filled { leaf: written.clone(), written }),
            (DocumentKind::Json, _) => {
                let quoted = serde_json::Value::from(written.as_str()).to_string();
                Ok(Filled { written: quoted[1..quoted.len() - 1].to_owned(), leaf: written })
            }
        }
    }
}

/// A slot with canaries in it.
struct Filled {
    written: String,
    leaf: String,
}

/// Returns an alphanumeric word in place of a slot, which means itself in every format.
fn token(slot: usize) -> String {
    format!("Cq{slot:05}Xq")
}

/// A leaf of the document with tokens in it, split into text, slot, text, and so on.
struct ExpectedLeaf {
    leaf: Leaf,
    texts: Vec<String>,
    slots: Vec<usize>,
}

impl ExpectedLeaf {
    fn new(leaf: Leaf) -> Self {
        let (mut texts, mut slots, mut from) = (Vec::new(), Vec::new(), 0);
        for (at, _) in leaf.text.match_indices("Cq") {
            let number = leaf.text.get(at + 2..at + 7).and_then(|digits| digits.parse().ok());
            if let Some(slot) = number.filter(|slot| leaf.text[at..].starts_with(&token(*slot))) {
                texts.push(leaf.text[from..at].to_owned());
                slots.push(slot);
                from = at + token(slot).len();
            }
        }
        texts.push(leaf.text[from..].to_owned());
        Self { leaf, texts, slots }
    }

    /// Reports whether `actual` is this leaf, with the canaries of its slots in their places.
    fn matches(&self, actual: &Leaf, filled: Fillings<'_>) -> bool {
        let mut expected = self.texts[0].clone();
        for (slot, text) in self.slots.iter().zip(&self.texts[1..]) {
            match filled(*slot) {
                Some(filled) => expected.push_str(&filled.leaf),
                None => expected.push_str(&token(*slot)),
            }
            expected.push_str(text);
        }
        let is_held = self.slots.iter().any(|slot| filled(*slot).is_some());
        actual.path == self.leaf.path
            && actual.text == expected
            && (!is_held || places::fits(&self.leaf.path, &self.leaf.text, &expected))
    }
}

/// Returns the filling of each slot.
type Fillings<'f> = &'f dyn Fn(usize) -> Option<&'f Filled>;

struct CanaryCheck<'a> {
    plan: &'a Plan,
    slots: Vec<CanarySlot<'a>>,
    format: ReadableFormat,
}

impl CanaryCheck<'_> {
    fn run(&self) -> Vec<Problem> {
        let expected: Vec<ExpectedLeaf> = match self.format.leaves(&self.document(token)) {
            Ok(leaves) => leaves.into_iter().map(ExpectedLeaf::new).collect(),
            Err(reason) => return vec![self.unreadable(&reason)],
        };
        let mut count = vec![0; self.slots.len()];
        for slot in expected.iter().flat_map(|leaf| &leaf.slots) {
            if let Some(count) = count.get_mut(*slot) {
                *count += 1;
            }
        }
        let astray: Vec<usize> = (0..self.slots.len()).filter(|slot| count[*slot] != 1).collect();
        if !astray.is_empty() {
            let message = format!("is not inside a value of the {} document", self.format.name());
            return astray.iter().map(|slot| self.problem(*slot, message.clone())).collect();
        }
        let mut failed: Vec<(usize, Vec<&'static str>)> = Vec::new();
        let mut problems = Vec::new();
        let plain = self.plain(&mut problems);
        for hostile in values::HOSTILE {
            let filled: Vec<Option<Filled>> = self.slots.iter().map(|slot| self.accepted(slot, hostile.text)).collect();
            let fill = |slot: usize| filled[slot].as_ref().or(plain[slot].as_ref());
            if self.matches(&expected, &fill) {
                continue;
            }
            let hostile_ones = || (0..self.slots.len()).filter(|slot| filled[*slot].is_some());
            let fails_alone = |candidate: &usize| {
                let only = |slot: usize| if slot == *candidate { fill(slot) } else { plain[slot].as_ref() };
                !self.matches(&expected, &only)
            };
            let mut culprits: Vec<usize> = hostile_ones().take(ALONE_MAX).filter(fails_alone).collect();
            if culprits.is_empty() {
                culprits = hostile_ones().collect();
            }
            for slot in culprits {
                match failed.iter_mut().find(|(index, _)| *index == slot) {
                    Some((_, names)) => names.push(hostile.name),
                    None => failed.push((slot, vec![hostile.name])),
                }
            }
        }
        failed.sort_by_key(|(slot, _)| *slot);
        problems.extend(failed.into_iter().map(|(slot, names)| {
            let suffix = if names.len() > NAMED_MAX { ", and more" } else { "" };
            let names = names[..names.len().min(NAMED_MAX)].join(", ");
            self.problem(slot, format!("does not stay one value when it contains {names}{suffix}"))
        }));
        problems
    }

    /// Returns the document with the text from `fill` in place of each slot.
    fn document(&self, fill: impl Fn(usize) -> String) -> String {
        let mut slot = 0;
        let mut document = String::new();
        for piece in &self.plan.pieces {
            match piece {
                PlanPiece::Text(text) => document.push_str(text),
                PlanPiece::Slot { .. } => {
                    document.push_str(&fill(slot));
                    slot += 1;
                }
            }
        }
        document
    }

    /// Returns a harmless filling of each slot. Reports the slots that accept no value at all.
    fn plain(&self, problems: &mut Vec<Problem>) -> Vec<Option<Filled>> {
        let mut fill = |(index, slot): (usize, &CanarySlot)| {
            let mut reason = String::new();
            for form in values::PLAIN {
                match slot.filled(self.plan.kind, &|emission| form(emission)) {
                    Ok(filled) => return Some(filled),
                    Err(refusal) => reason = refusal.reason,
                }
            }
            problems.push(self.problem(index, format!("does not accept any value: {reason}")));
            None
        };
        self.slots.iter().enumerate().map(&mut fill).collect()
    }

    /// Fills the slot with a hostile canary, in the first form that its place accepts.
    fn accepted(&self, slot: &CanarySlot, text: &str) -> Option<Filled> {
        let fill = |form: &values::CanaryForm| slot.filled(self.plan.kind, &|emission| form(emission, text)).ok();
        values::FORMS.iter().find_map(fill)
    }

    /// Reports whether a filled document has exactly the leaves that it should have.
    fn matches(&self, expected: &[ExpectedLeaf], filled: Fillings<'_>) -> bool {
        let document = self.document(|slot| filled(slot).map_or_else(|| token(slot), |f| f.written.clone()));
        let Ok(actual) = self.format.leaves(&document) else { return false };
        actual.len() == expected.len()
            && expected.iter().zip(&actual).all(|(expected, actual)| expected.matches(actual, filled))
    }

    fn unreadable(&self, reason: &str) -> Problem {
        Problem {
            message: format!(
                "the target `{}` produces a document that is not valid {}: {reason}",
                self.plan.target.id,
                self.format.name()
            ),
            help: Some("report it to the plugin's author".into()),
            ..Problem::default()
        }
    }

    fn problem(&self, slot: usize, message: String) -> Problem {
        let usage = self.slots[slot].uses.first().and_then(|index| self.plan.uses.get(*index as usize));
        Problem {
            path: usage.map_or_else(String::new, |usage| usage.field.clone()),
            line: usage.map(|usage| usage.line),
            column: usage.map(|usage| usage.column),
            message: format!(
                "the secret \"{}\" {message} (target `{}`)",
                usage.map_or_else(String::new, |usage| usage.name.to_string()),
                self.plan.target.id
            ),
            help: Some("the plugin needs an encoder there: do not use this target until its author fixes it".into()),
        }
    }
}

#[cfg(test)]
mod tests;
