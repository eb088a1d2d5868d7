//! Canaries: fills a plan with hostile values and reads the document back in its format, where each value must be
//! exactly one leaf.
//!
//! This finds a plugin that forgot an encoder, used that of another format, or put quotes around one that writes its own.
//! It runs where plugins and templates are checked, never when a config is served: there, only the encoders decide.
//! Knows no secret; a canary is a text of this module.

mod formats;
mod places;
pub mod readers;
mod tables;
mod values;

use self::formats::DocumentFormat;
use self::readers::{Leaf, ReadableFormat};
use self::values::Hostile;
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

/// Reports whether the plan's document can be read back here, or has no secret that would have to be.
pub fn can_read(plan: &Plan) -> bool {
    let slots = CanarySlot::all(plan);
    slots.is_empty() || !matches!(format(plan, &slots), Ok(DocumentFormat { format: None, .. }))
}

/// Reads a filled document back. Returns its values in order, each with its path.
///
/// # Errors
/// Fails with the reason if the document's format is not known or has no reader, or if the text does not have it.
pub fn read(plan: &Plan, document: &str) -> Result<Vec<(String, String)>, String> {
    let slots = CanarySlot::all(plan);
    let format = match format(plan, &slots) {
        Ok(DocumentFormat { format, .. }) => format.ok_or("there is no reader for this kind of document")?,
        Err(mismatches) => {
            return Err(mismatches.into_iter().map(|mismatch| mismatch.message).collect::<Vec<_>>().join("; "));
        }
    };
    Ok(format.leaves(document)?.into_iter().map(|leaf| (leaf.path.join("."), leaf.text)).collect())
}

/// Fills every slot with hostile canaries and reads the document back. Returns a problem, at the reference of its
/// secret, for each slot whose encoder does not belong to the document's format, or that did not come back as exactly
/// one leaf. Returns one problem without a place if the document cannot be read at all. If nothing tells the document's
/// format ([`can_read`]), only what plugins' own tables write is read back, by the table.
pub fn check(plan: &Plan) -> Vec<Problem> {
    let slots = CanarySlot::all(plan);
    if slots.is_empty() {
        return Vec::new();
    }
    let (format, by) = match format(plan, &slots) {
        Ok(DocumentFormat { format: Some(format), by }) => (format, by),
        Ok(DocumentFormat { format: None, .. }) => return tables::check(plan, &slots),
        Err(mismatches) => {
            let problem =
                |mismatch: formats::Mismatch| slots[mismatch.slot].problem(plan, &format!(": {}", mismatch.message));
            return mismatches.into_iter().map(problem).collect();
        }
    };
    CanaryCheck { plan, slots, format, by }.run()
}

fn format(plan: &Plan, slots: &[CanarySlot<'_>]) -> Result<DocumentFormat, Vec<formats::Mismatch>> {
    formats::of(plan, &slots.iter().map(|slot| slot.expr).collect::<Vec<_>>())
}

/// One slot of the plan.
struct CanarySlot<'a> {
    expr: &'a Expr,
    uses: &'a [u32],
}

impl<'a> CanarySlot<'a> {
    /// Returns every slot of a plan, in order.
    fn all(plan: &'a Plan) -> Vec<Self> {
        plan.pieces.iter().filter_map(Self::of).collect()
    }

    fn of(piece: &'a PlanPiece) -> Option<Self> {
        match piece {
            PlanPiece::Text(_) => None,
            PlanPiece::Slot { expr, uses } => Some(Self { expr, uses }),
        }
    }

    /// Returns a token as the slot's place in the document needs it: through the encoder that writes the value there,
    /// with its quotes.
    fn written_token(&self, kind: DocumentKind, slot: usize) -> String {
        let token = token(slot);
        match self.expr {
            Expr::Apply { op, .. } if kind == DocumentKind::Text => encode::literal(op, &[&token]).unwrap_or(token),
            _ => token,
        }
    }

    /// Returns a problem at the reference of the slot's first secret. `message` follows the secret's name.
    fn problem(&self, plan: &Plan, message: &str) -> Problem {
        let usage = self.uses.first().and_then(|index| plan.uses.get(*index as usize));
        Problem {
            path: usage.map_or_else(String::new, |usage| usage.field.clone()),
            line: usage.map(|usage| usage.line),
            column: usage.map(|usage| usage.column),
            message: format!(
                "the secret \"{}\"{message} (target `{}`)",
                usage.map_or_else(String::new, |usage| usage.name.to_string()),
                plan.target.id
            ),
            help: Some("the plugin needs an encoder there: do not use this target until its author fixes it".into()),
        }
    }

    /// Fills the slot with a hostile canary, in the first form that its place accepts.
    fn accepted(&self, kind: DocumentKind, hostile: &Hostile) -> Option<Filled> {
        let fill = |form: &values::CanaryForm| self.filled(kind, &|emission| form(emission, hostile.text)).ok();
        hostile.forms.iter().find_map(fill)
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

/// Returns the tokens in a text, each as its byte offset and its slot.
fn tokens(text: &str) -> Vec<(usize, usize)> {
    let slot = |(at, _): (usize, &str)| {
        let slot = text.get(at + 2..at + 7)?.parse().ok()?;
        text[at..].starts_with(&token(slot)).then_some((at, slot))
    };
    text.match_indices("Cq").filter_map(slot).collect()
}

/// A leaf of the document with tokens in it, split into text, slot, text, and so on.
struct ExpectedLeaf {
    leaf: Leaf,
    texts: Vec<String>,
    slots: Vec<usize>,
}

impl ExpectedLeaf {
    /// Reports whether the leaf has a slot and literal quotes around everything.
    fn is_in_quotes(&self) -> bool {
        let first = self.texts[0].chars().next();
        let last = self.texts.last().and_then(|text| text.chars().next_back());
        !self.slots.is_empty() && first == last && matches!(first, Some('"' | '\''))
    }

    fn new(leaf: Leaf) -> Self {
        let (mut texts, mut slots, mut from) = (Vec::new(), Vec::new(), 0);
        // A slot in the structure is not inside a value.
        for (at, slot) in tokens(&leaf.text).into_iter().filter(|_| leaf.structure.is_none()) {
            texts.push(leaf.text[from..at].to_owned());
            slots.push(slot);
            from = at + token(slot).len();
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
            && actual.structure == self.leaf.structure
            && actual.text == expected
            && (!is_held || places::fits(&self.leaf.path, &self.leaf.text, &expected))
    }
}

/// Returns the message about a value that does not come back when it contains these.
fn does_not_stay(names: &[&str]) -> String {
    let suffix = if names.len() > NAMED_MAX { ", and more" } else { "" };
    format!("does not stay one value when it contains {}{suffix}", names[..names.len().min(NAMED_MAX)].join(", "))
}

/// Returns the filling of each slot.
type Fillings<'f> = &'f dyn Fn(usize) -> Option<&'f Filled>;

struct CanaryCheck<'a> {
    plan: &'a Plan,
    slots: Vec<CanarySlot<'a>>,
    format: ReadableFormat,
    /// The encoder that the format was told by; `None` if the target declares it.
    by: Option<&'static str>,
}

impl CanaryCheck<'_> {
    fn run(&self) -> Vec<Problem> {
        let expected = match self.format.leaves(&self.document(|slot| self.token(slot))) {
            Ok(leaves) => leaves.into_iter().map(ExpectedLeaf::new).collect::<Vec<_>>(),
            Err(reason) => return vec![self.unreadable(&reason)],
        };
        let misplaced = self.misplaced(&expected);
        if misplaced.is_empty() { self.tried(&expected) } else { misplaced }
    }

    /// Returns the slots that are not inside a value, or inside quotes that are a part of the value.
    fn misplaced(&self, expected: &[ExpectedLeaf]) -> Vec<Problem> {
        let mut count = vec![0; self.slots.len()];
        for slot in expected.iter().flat_map(|leaf| &leaf.slots) {
            if let Some(count) = count.get_mut(*slot) {
                *count += 1;
            }
        }
        let astray = |slot: usize| {
            let within = |leaf: &&ExpectedLeaf| tokens(&leaf.leaf.text).iter().any(|(_, found)| *found == slot);
            let place = expected.iter().find(within).and_then(|leaf| leaf.leaf.structure);
            let place = place.map_or_else(String::new, |place| format!(", but in {place}"));
            self.problem(slot, format!("is not inside a value of the {} document{place}", self.format.name()))
        };
        let mut problems: Vec<Problem> = (0..self.slots.len()).filter(|slot| count[*slot] != 1).map(astray).collect();
        let in_quotes = expected.iter().filter(|leaf| self.format.keeps_quotes() && leaf.is_in_quotes());
        problems.extend(in_quotes.flat_map(|leaf| &leaf.slots).map(|slot| {
            let name = self.format.name();
            let article = formats::article(name);
            self.problem(*slot, format!("is inside quotes, which are a part of the value in {article} {name} document"))
        }));
        problems
    }

    /// Fills the document with each hostile text, and returns the slots that did not come back.
    fn tried(&self, expected: &[ExpectedLeaf]) -> Vec<Problem> {
        let mut failed: Vec<(usize, Vec<&'static str>)> = Vec::new();
        let mut problems = Vec::new();
        let plain = self.plain(&mut problems);
        for hostile in values::HOSTILE {
            let filled: Vec<Option<Filled>> =
                self.slots.iter().map(|slot| slot.accepted(self.plan.kind, hostile)).collect();
            let fill = |slot: usize| filled[slot].as_ref().or(plain[slot].as_ref());
            if self.matches(expected, &fill) {
                continue;
            }
            let hostile_ones = || (0..self.slots.len()).filter(|slot| filled[*slot].is_some());
            let fails_alone = |candidate: &usize| {
                let only = |slot: usize| if slot == *candidate { fill(slot) } else { plain[slot].as_ref() };
                !self.matches(expected, &only)
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
        problems.extend(failed.into_iter().map(|(slot, names)| self.problem(slot, does_not_stay(&names))));
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

    /// Returns the token of a slot as its place needs it.
    fn token(&self, slot: usize) -> String {
        self.slots[slot].written_token(self.plan.kind, slot)
    }

    /// Reports whether a filled document has exactly the leaves that it should have.
    fn matches(&self, expected: &[ExpectedLeaf], filled: Fillings<'_>) -> bool {
        let document = self.document(|slot| filled(slot).map_or_else(|| self.token(slot), |f| f.written.clone()));
        let Ok(actual) = self.format.leaves(&document) else { return false };
        actual.len() == expected.len()
            && expected.iter().zip(&actual).all(|(expected, actual)| expected.matches(actual, filled))
    }

    fn unreadable(&self, reason: &str) -> Problem {
        let (target, name) = (&self.plan.target.id, self.format.name());
        let message = match self.by {
            None => format!("the target `{target}` produces a document that is not valid {name}: {reason}"),
            Some(by) => format!(
                "the target `{target}` writes values with `{by}` into a document that is not valid {name}: {reason}"
            ),
        };
        Problem { message, help: Some("report it to the plugin's author".into()), ..Problem::default() }
    }

    fn problem(&self, slot: usize, message: String) -> Problem {
        self.slots[slot].problem(self.plan, &format!(" {message}"))
    }
}

#[cfg(test)]
mod tests;
