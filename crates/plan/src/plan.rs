//! A plan: a template compiled for one target, as literal text and the slots between. Holds no value.
//!
//! `verify` makes one from a planner's answer and trusts nothing in it: a planner that has been taken over completely
//! can only decide where a secret of its own templates is placed (promise Isolated).

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::encode::Placement;
use crate::expr::{Expr, Op, Part, TextParts};
use crate::protocol::{DocumentKind, Emission, Planned, Target};
use guillemet_base::display::is_unprintable;
use guillemet_base::names::SecretName;
use guillemet_base::problem::{Problem, sanitize_problems};
use guillemet_template::lexer::Reference;

/// The largest document, in bytes.
pub const DOCUMENT_MAX: usize = 4 << 20;
/// The most slots in a document.
pub const SLOTS_MAX: usize = 10_000;
/// The deepest nesting of an expression's operations.
pub const EXPR_DEPTH_MAX: usize = 24;
/// The deepest nesting of a JSON document, which the usual readers of JSON can follow.
pub const JSON_DEPTH_MAX: usize = 128;
/// The number of digits after the `Z` of a slot.
const SLOT_DIGITS: usize = 39;
/// The length of a slot in bytes.
pub const SLOT_LEN: usize = SLOT_DIGITS + 1;

/// A template compiled for one target.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Identifies the plan: the same document and the same expressions give the same digest.
    pub digest: [u8; 16],
    /// The target that the plan was made for.
    pub target: Target,
    /// The syntax of the document: JSON or text.
    pub kind: DocumentKind,
    /// The pieces of the document, in order.
    pub pieces: Vec<PlanPiece>,
    /// Every use of a secret in this document. `Expr::Secret` is an index in this list.
    pub uses: Vec<Use>,
    /// The length of all literal text, in bytes.
    pub literal_len: usize,
    /// Remarks about the template that are not errors.
    pub warnings: Vec<Problem>,
}

/// A piece of a document.
#[derive(Debug, Serialize, Deserialize)]
pub enum PlanPiece {
    /// Literal text, copied as it is.
    Text(String),
    /// A slot, evaluated when the config is filled.
    Slot {
        /// The expression whose result is placed here.
        expr: Expr,
        /// The indices of the uses whose values it needs, each once.
        uses: Vec<u32>,
    },
}

/// One use of a secret in a document.
#[derive(Debug, Serialize, Deserialize)]
pub struct Use {
    /// The index of the reference in the template.
    pub reference: usize,
    /// The secret's name, as the template spells it.
    pub name: SecretName,
    /// The key that the secret is looked up by (`SecretName::key`).
    pub key: Box<str>,
    /// The line of the reference, counted from 1.
    pub line: u32,
    /// The column of the reference in characters, counted from 1.
    pub column: u32,
    /// The field of the config that contains it.
    pub field: String,
    /// How often the value is read from the vault for one answer: once for every slot it is part of.
    pub count: u32,
}

/// The rule that a planner's answer breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its planner's response violates the contract: {0}")]
pub struct ContractViolation(pub String);

fn violation<T>(message: impl Into<String>) -> Result<T, ContractViolation> {
    Err(ContractViolation(message.into()))
}

/// Reports whether the text is a slot: `Z` (or `z`) and 39 digits.
pub fn is_slot(text: &str) -> bool {
    text.len() == SLOT_LEN
        && matches!(text.as_bytes()[0], b'Z' | b'z')
        && text.as_bytes()[1..].iter().all(u8::is_ascii_digit)
}

/// Returns the places of slots in a text, as byte offsets.
pub fn find_slots(text: &str) -> impl Iterator<Item = usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at + SLOT_LEN <= bytes.len() {
            if matches!(bytes[at], b'Z' | b'z') {
                let digits = bytes[at + 1..].iter().take(SLOT_DIGITS).take_while(|b| b.is_ascii_digit()).count();
                if digits == SLOT_DIGITS {
                    at += SLOT_LEN;
                    return Some(at - SLOT_LEN);
                }
                at += digits;
            }
            at += 1;
        }
        None
    })
}

/// Verifies a planner's answer and makes a plan of it.
///
/// `references` are those of the template, from the daemon's own lexer.
///
/// # Errors
/// Fails with [`ContractViolation`] if the answer breaks any rule; none of it is used then.
pub fn verify(planned: Planned, references: &[Reference], target: Target) -> Result<Plan, ContractViolation> {
    if planned.document.len() > DOCUMENT_MAX {
        return violation(format!("a document of more than {DOCUMENT_MAX} bytes"));
    }
    if planned.slots.len() > SLOTS_MAX || planned.emissions.len() > SLOTS_MAX {
        return violation(format!("more than {SLOTS_MAX} slots"));
    }
    let mut uses = uses(planned.emissions, references)?;
    let mut slots: HashMap<String, Expr> = HashMap::with_capacity(planned.slots.len());
    for slot in planned.slots {
        if !is_slot(&slot.slot) {
            return violation("an invalid slot");
        }
        verify_expr(&slot.expr, 0, &mut uses, references)?;
        if planned.kind == DocumentKind::Text && slot.expr.place() != Some(Placement::TextDocument) {
            return violation("a secret in a text document without an encoder for text documents");
        }
        if slots.insert(slot.slot, slot.expr).is_some() {
            return violation("a slot that is listed twice");
        }
    }
    if uses.iter().any(|usage| usage.count == 0) {
        return violation("a secret of the template does not reach the document");
    }

    let document = planned.document.as_str();
    if planned.kind == DocumentKind::Json {
        verify_json(document, &slots)?;
    }
    let mut digest = Sha256::new();
    let mut pieces = Vec::with_capacity(2 * slots.len() + 1);
    let mut from = 0;
    for at in find_slots(document) {
        // Removed from the table, so a slot that is not in it is forged, or occurs a second time.
        let Some(expr) = slots.remove(&document[at..at + SLOT_LEN]) else {
            return violation("an unknown slot in the document, or the same slot twice");
        };
        push_text(&mut pieces, &document[from..at]);
        digest.update(&document[from..at]);
        digest.update(format!("\u{0}{expr:?}\u{0}"));
        pieces.push(PlanPiece::Slot { uses: expr.emissions(), expr });
        from = at + SLOT_LEN;
    }
    if !slots.is_empty() {
        return violation("a slot that is missing from the document");
    }
    push_text(&mut pieces, &document[from..]);
    digest.update(&document[from..]);
    digest.update(format!("\u{0}{}\u{0}{}", target.id, target.media_type));
    for usage in &uses {
        digest.update(format!("\u{0}{}", usage.reference));
    }
    let digest: [u8; 32] = digest.finalize().into();
    let literal_len =
        document.len() - SLOT_LEN * pieces.iter().filter(|piece| matches!(piece, PlanPiece::Slot { .. })).count();
    Ok(Plan {
        digest: digest[..16].try_into().unwrap_or_default(),
        target,
        kind: planned.kind,
        pieces,
        uses,
        literal_len,
        warnings: sanitize_problems(planned.warnings),
    })
}

/// Returns the uses that the planner reports, each with its reference.
fn uses(emissions: Vec<Emission>, references: &[Reference]) -> Result<Vec<Use>, ContractViolation> {
    let mut uses = Vec::with_capacity(emissions.len());
    for emission in emissions {
        let index = emission.reference as usize;
        let Some(reference) = references.get(index) else {
            return violation("a reference that the template does not have");
        };
        if emission.field.len() > 1024 || emission.field.contains(is_unprintable) {
            return violation("an invalid field path");
        }
        uses.push(Use {
            reference: index,
            name: reference.name.clone(),
            key: reference.name.key().into(),
            line: reference.line,
            column: reference.column,
            field: emission.field,
            count: 0,
        });
    }
    Ok(uses)
}

fn push_text(pieces: &mut Vec<PlanPiece>, text: &str) {
    if !text.is_empty() {
        pieces.push(PlanPiece::Text(text.to_owned()));
    }
}

fn verify_expr(expr: &Expr, depth: usize, uses: &mut [Use], references: &[Reference]) -> Result<(), ContractViolation> {
    if depth > EXPR_DEPTH_MAX {
        return violation("an expression nested too deeply");
    }
    // A secret is used with exactly the filters that its template applies to it, or not at all.
    if let Some(emission) = filtered(expr, uses, references) {
        uses[emission].count += 1;
        return Ok(());
    }
    let Expr::Apply { op, args } = expr else {
        return violation("a secret without the filters of its template");
    };
    if matches!(op, Op::Filter(_)) {
        return violation("a filter that the template does not have");
    }
    let definition = op.definition();
    if args.len() != definition.texts() {
        return violation("an encoder with the wrong number of arguments");
    }
    if let Err(clause) = op.check() {
        return violation(format!("`{}` {clause}", definition.name));
    }
    if op.reasons().any(|reason| reason.len() > 1024 || reason.contains(is_unprintable)) {
        return violation("an invalid reason");
    }
    if definition.place == Placement::Url {
        verify_url(&args[0])?;
    }
    let mut secrets = false;
    for part in args.iter().flatten() {
        match part {
            Part::Literal(text) if find_slots(text).next().is_some() => {
                return violation("a slot inside literal text");
            }
            Part::Literal(_) => {}
            Part::Expr(inner) => {
                secrets = true;
                verify_expr(inner, depth + 1, uses, references)?;
            }
        }
    }
    if secrets { Ok(()) } else { violation("an expression without a secret") }
}

/// Returns the emission if the expression is exactly a secret with the filters of its reference.
fn filtered(expr: &Expr, uses: &[Use], references: &[Reference]) -> Option<usize> {
    let mut applied = Vec::new();
    let mut inner = expr;
    loop {
        match inner {
            Expr::Secret(emission) => {
                let usage = uses.get(*emission as usize)?;
                applied.reverse();
                return (applied == references[usage.reference].filters).then_some(*emission as usize);
            }
            Expr::Apply { op: Op::Filter(filter), args } => match args.as_slice() {
                [text] => match text.as_slice() {
                    [Part::Expr(next)] if applied.len() < EXPR_DEPTH_MAX => {
                        applied.push(*filter);
                        inner = next;
                    }
                    _ => return None,
                },
                _ => return None,
            },
            Expr::Apply { .. } => return None,
        }
    }
}

/// Checks that a secret in a URL is the whole URL, or percent-encoded.
fn verify_url(text: &TextParts) -> Result<(), ContractViolation> {
    let safe = |part: &Part| match part {
        Part::Literal(_) => true,
        Part::Expr(expr) => expr.place() == Some(Placement::UrlComponent),
    };
    if text.len() == 1 || text.iter().all(safe) {
        Ok(())
    } else {
        violation("a secret inside a URL that is not percent-encoded")
    }
}

/// Checks that every slot is in a string that is a value, and that a URL is a whole value.
fn verify_json(document: &str, slots: &HashMap<String, Expr>) -> Result<(), ContractViolation> {
    // Only checks that it is JSON, without building a tree, so the depth is counted below.
    if serde_json::from_str::<serde::de::IgnoredAny>(document).is_err() {
        return violation("a JSON document that is not JSON");
    }
    let mut outside = find_slots(document).count();
    let bytes = document.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        let open = bytes[at..].iter().position(|b| *b == b'"').map_or(bytes.len(), |found| at + found);
        for b in &bytes[at..open] {
            match b {
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth -= 1,
                _ => {}
            }
            if depth > JSON_DEPTH_MAX {
                return violation(format!("a JSON document deeper than {JSON_DEPTH_MAX} levels"));
            }
        }
        if open == bytes.len() {
            break;
        }
        let mut close = open + 1;
        while bytes[close] != b'"' {
            close += if bytes[close] == b'\\' { 2 } else { 1 };
        }
        at = close + 1;
        let content = &document[open + 1..close];
        let is_key = bytes[at..].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b':');
        for slot in find_slots(content) {
            outside -= 1;
            if is_key {
                return violation("a secret in a key");
            }
            let expr = slots.get(&content[slot..slot + SLOT_LEN]);
            if expr.and_then(Expr::place) == Some(Placement::Url) && content.len() != SLOT_LEN {
                return violation("a URL that is only part of a field");
            }
        }
    }
    if outside > 0 { violation("a secret outside a string") } else { Ok(()) }
}

#[cfg(test)]
mod tests;
