//! Canaries: a plan filled with hostile values and read back in its format must give each of them as one leaf.
//!
//! This finds a plugin that forgot an encoder, or took that of another format. It is asked where plugins and
//! templates are checked, never on the way of a config: there the encoders alone decide. Knows no secret; a
//! canary is a text of this module.

mod dotenv;
mod leaves;
mod places;
mod values;

use self::leaves::{Format, Leaf};
use super::encode::{self, Refusal, Source};
use super::expr::{Expr, Part};
use super::plan::{Piece, Plan};
use crate::planner::protocol::DocumentKind;
use crate::sys::memory::Clear;
use crate::template::Problem;

/// Most canaries that one problem names.
const NAMED_MAX: usize = 5;

/// Whether there is a parser here for the plan's document.
pub fn reads(plan: &Plan) -> bool {
    Format::of(plan).is_some()
}

/// Fills every slot with hostile canaries and reads the document back. Comes back with what did not return as
/// exactly one leaf, at the reference of its secret; empty when all did, and where there is no parser for the
/// document's format here (JSON, XML and dotenv have one).
pub fn check(plan: &Plan) -> Vec<Problem> {
    let slots: Vec<Slot> = plan.pieces.iter().filter_map(Slot::of).collect();
    let Some(format) = Format::of(plan).filter(|_| !slots.is_empty()) else { return Vec::new() };
    Check { plan, slots, format }.run()
}

/// One slot of the plan.
struct Slot<'a> {
    expr: &'a Expr,
    uses: &'a [u32],
}

impl<'a> Slot<'a> {
    fn of(piece: &'a Piece) -> Option<Self> {
        match piece {
            Piece::Text(_) => None,
            Piece::Slot { expr, uses } => Some(Self { expr, uses }),
        }
    }

    /// What stands in its leaf when each use has its canary, and what stands in the document.
    fn filled(&self, kind: DocumentKind, canary: &dyn Fn(u32) -> String) -> Result<Filled, Refusal> {
        struct Canaries<'c>(&'c dyn Fn(u32) -> String);
        impl Source for Canaries<'_> {
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
            // The outermost operation of a text document writes the value in its format: the leaf is what it read.
            (DocumentKind::Text, Expr::Apply { op, args }) if op.is_terminal() => {
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
#[derive(Clone)]
struct Filled {
    written: String,
    leaf: String,
}

/// Something alphanumeric in place of a slot: it means itself in every format.
fn token(slot: usize) -> String {
    format!("Cq{slot:05}Xq")
}

struct Check<'a> {
    plan: &'a Plan,
    slots: Vec<Slot<'a>>,
    format: Format,
}

impl Check<'_> {
    fn run(&self) -> Vec<Problem> {
        let tokens = self.document(token);
        let reference = match self.format.leaves(&tokens) {
            Ok(reference) => reference,
            Err(reason) => return vec![self.unreadable(&reason)],
        };
        let astray: Vec<usize> = (0..self.slots.len())
            .filter(|slot| reference.iter().filter(|leaf| leaf.text.contains(&token(*slot))).count() != 1)
            .collect();
        if !astray.is_empty() {
            let message = |_: usize| format!("stands outside of every value of the {} document", self.format.name());
            return astray.iter().map(|slot| self.problem(*slot, message(*slot))).collect();
        }
        let mut failed: Vec<(usize, Vec<&'static str>)> = Vec::new();
        let mut problems = Vec::new();
        let plain = self.plain(&mut problems);
        for hostile in values::HOSTILE {
            let filled: Vec<Option<Filled>> = self.slots.iter().map(|slot| self.accepted(slot, hostile.text)).collect();
            let all = |slot: usize| filled[slot].clone().or_else(|| plain[slot].clone());
            if self.holds(&reference, &all) {
                continue;
            }
            let alone = |one: usize| {
                let only = |slot: usize| if slot == one { all(slot) } else { plain[slot].clone() };
                filled[one].is_some() && !self.holds(&reference, &only)
            };
            let mut guilty: Vec<usize> = (0..self.slots.len()).filter(|slot| alone(*slot)).collect();
            if guilty.is_empty() {
                guilty = (0..self.slots.len()).filter(|slot| filled[*slot].is_some()).collect();
            }
            for slot in guilty {
                match failed.iter_mut().find(|(known, _)| *known == slot) {
                    Some((_, names)) => names.push(hostile.name),
                    None => failed.push((slot, vec![hostile.name])),
                }
            }
        }
        failed.sort_by_key(|(slot, _)| *slot);
        problems.extend(failed.into_iter().map(|(slot, names)| {
            let more = if names.len() > NAMED_MAX { ", and more" } else { "" };
            let names = names[..names.len().min(NAMED_MAX)].join(", ");
            self.problem(slot, format!("does not stay one value when it holds {names}{more}"))
        }));
        problems
    }

    /// The document with something in place of each slot.
    fn document(&self, fill: impl Fn(usize) -> String) -> String {
        let mut slot = 0;
        let mut document = String::new();
        for piece in &self.plan.pieces {
            match piece {
                Piece::Text(text) => document.push_str(text),
                Piece::Slot { .. } => {
                    document.push_str(&fill(slot));
                    slot += 1;
                }
            }
        }
        document
    }

    /// A harmless filling of each slot; notes the slots that take nothing at all.
    fn plain(&self, problems: &mut Vec<Problem>) -> Vec<Option<Filled>> {
        let mut fill = |(index, slot): (usize, &Slot)| {
            let mut refused = String::new();
            for form in values::PLAIN {
                match slot.filled(self.plan.kind, &|emission| form(emission)) {
                    Ok(filled) => return Some(filled),
                    Err(refusal) => refused = refusal.reason,
                }
            }
            problems.push(self.problem(index, format!("takes no value at all: {refused}")));
            None
        };
        self.slots.iter().enumerate().map(&mut fill).collect()
    }

    /// The slot with a hostile canary in it, in the first form that its place takes.
    fn accepted(&self, slot: &Slot, text: &str) -> Option<Filled> {
        let fits = |form: &values::Form| slot.filled(self.plan.kind, &|emission| form(emission, text)).ok();
        values::FORMS.iter().find_map(fits)
    }

    /// Whether a filled document has the leaves it should have, and nothing else.
    fn holds(&self, reference: &[Leaf], filled: &dyn Fn(usize) -> Option<Filled>) -> bool {
        let fillings: Vec<Option<Filled>> = (0..self.slots.len()).map(filled).collect();
        let document = self.document(|slot| fillings[slot].as_ref().map_or(token(slot), |f| f.written.clone()));
        let Ok(found) = self.format.leaves(&document) else { return false };
        found.len() == reference.len()
            && found.iter().zip(reference).all(|(found, reference)| {
                let mut expected = reference.text.clone();
                let mut held = false;
                for (slot, filling) in fillings.iter().enumerate() {
                    if let Some(filling) = filling
                        && expected.contains(&token(slot))
                    {
                        expected = expected.replace(&token(slot), &filling.leaf);
                        held = true;
                    }
                }
                found.path == reference.path
                    && found.text == expected
                    && (!held || places::fits(&reference.path, &reference.text, &expected))
            })
    }

    fn unreadable(&self, reason: &str) -> Problem {
        Problem {
            message: format!(
                "the target `{}` gives a document that is not {}: {reason}",
                self.plan.target.id,
                self.format.name()
            ),
            help: Some("tell the plugin's author".into()),
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
            help: Some(
                "the plugin needs an encoder there: do not use this target before its author has mended it".into(),
            ),
        }
    }
}

#[cfg(test)]
mod tests;
