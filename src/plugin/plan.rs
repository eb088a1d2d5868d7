//! A plan: a template worked out for one target. Literal text, and what stands between; no value.
//!
//! `check` makes one from what a planner answered and believes nothing of it: a planner that was
//! taken over as a whole can at most decide where a secret of its own templates stands.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::expr::{Expr, Op, Part, Text};
use crate::names::SecretName;
use crate::planner::protocol::{DocumentKind, Planned, Target};
use crate::planner::text::is_unfit;
use crate::template::lexer::Reference;
use crate::template::problem::tidy_problems;
use crate::template::{Problem, ValueFilter};

/// The largest document, in bytes.
pub const DOCUMENT_MAX: usize = 4 << 20;
/// The most slots in a document.
pub const SLOTS_MAX: usize = 10_000;
/// The deepest expression.
pub const EXPR_DEPTH_MAX: usize = 24;
/// The deepest JSON document: as deep as the usual readers of JSON follow.
pub const JSON_DEPTH_MAX: usize = 128;
/// Digits behind the `Z` of a slot.
const SLOT_DIGITS: usize = 39;
/// Characters of a slot.
pub const SLOT_LEN: usize = SLOT_DIGITS + 1;

/// A template worked out for one target.
#[derive(Debug)]
pub struct Plan {
    /// Names this plan: the same document and the same expressions give the same digest.
    pub digest: [u8; 16],
    /// The target it was worked out for.
    pub target: Target,
    /// How the document is written.
    pub kind: DocumentKind,
    /// The document in order.
    pub pieces: Vec<Piece>,
    /// Every secret of the template in this document; `Expr::Secret` counts in this list.
    pub uses: Vec<Use>,
    /// Bytes of literal text.
    pub literal_len: usize,
    /// Worth telling, not an error.
    pub warnings: Vec<Problem>,
}

/// A piece of a document.
#[derive(Debug)]
pub enum Piece {
    /// Text that stands as it is.
    Text(String),
    /// Worked out when the config is filled.
    Slot {
        /// What stands here.
        expr: Expr,
        /// The uses it takes a value from, each once.
        uses: Vec<u32>,
    },
}

/// One use of a secret in a document.
#[derive(Debug)]
pub struct Use {
    /// Which reference of the template.
    pub reference: usize,
    /// The secret, as the template spells it.
    pub name: SecretName,
    /// Under which it is looked up (`SecretName::key`).
    pub key: Box<str>,
    /// Line of the reference, from 1.
    pub line: u32,
    /// Column of the reference in characters, from 1.
    pub column: u32,
    /// The field of the config it stands in.
    pub field: String,
    /// How often it is taken out of the vault for one answer: once for every slot it is part of.
    pub count: u32,
}

/// What a planner's answer broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer of its planner breaks the contract: {0}")]
pub struct Violation(pub String);

fn violation<T>(what: impl Into<String>) -> Result<T, Violation> {
    Err(Violation(what.into()))
}

/// Whether the text is a slot: `Z` (or `z`) and 39 digits.
pub fn is_slot(text: &str) -> bool {
    text.len() == SLOT_LEN
        && matches!(text.as_bytes()[0], b'Z' | b'z')
        && text.as_bytes()[1..].iter().all(u8::is_ascii_digit)
}

/// Where slots stand in a text, as byte offsets.
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

/// Makes a plan of a planner's answer, or says what is wrong with it.
///
/// `references` are those of the template, by the daemon's own lexer.
///
/// # Errors
/// A `Violation` where the answer breaks any rule; the plugin is then not believed.
pub fn check(planned: Planned, references: &[Reference], target: Target) -> Result<Plan, Violation> {
    if planned.document.len() > DOCUMENT_MAX {
        return violation(format!("a document of more than {DOCUMENT_MAX} bytes"));
    }
    if planned.slots.len() > SLOTS_MAX || planned.emissions.len() > SLOTS_MAX {
        return violation(format!("more than {SLOTS_MAX} slots"));
    }
    let mut uses = Vec::with_capacity(planned.emissions.len());
    for emission in planned.emissions {
        let index = emission.reference as usize;
        let Some(reference) = references.get(index) else {
            return violation("a reference that the template does not have");
        };
        if emission.field.len() > 1024 || emission.field.contains(is_unfit) {
            return violation("a field path that is none");
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

    let mut slots: HashMap<String, Expr> = HashMap::with_capacity(planned.slots.len());
    for slot in planned.slots {
        if !is_slot(&slot.slot) {
            return violation("a slot that is none");
        }
        check_expr(&slot.expr, 0, &mut uses, references)?;
        if planned.kind == DocumentKind::Text && !is_terminal(&slot.expr) {
            return violation("a secret in a text document without an encoder of such documents");
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
        check_json(document, &slots)?;
    }
    let mut digest = Sha256::new();
    let mut pieces = Vec::with_capacity(2 * slots.len() + 1);
    let mut from = 0;
    for at in find_slots(document) {
        // Taken out of the table: a slot that is not in it is forged, or stands there a second time.
        let Some(expr) = slots.remove(&document[at..at + SLOT_LEN]) else {
            return violation("a slot in the document that stands for nothing, or stands there twice");
        };
        push_text(&mut pieces, &document[from..at]);
        digest.update(&document[from..at]);
        digest.update(format!("\u{0}{expr:?}\u{0}"));
        pieces.push(Piece::Slot { uses: expr.emissions(), expr });
        from = at + SLOT_LEN;
    }
    if !slots.is_empty() {
        return violation("a slot that does not stand in the document");
    }
    push_text(&mut pieces, &document[from..]);
    digest.update(&document[from..]);
    digest.update(format!("\u{0}{}\u{0}{}", target.id, target.media_type));
    for usage in &uses {
        digest.update(format!("\u{0}{}", usage.reference));
    }
    let digest: [u8; 32] = digest.finalize().into();
    let literal_len =
        document.len() - SLOT_LEN * pieces.iter().filter(|piece| matches!(piece, Piece::Slot { .. })).count();
    Ok(Plan {
        digest: digest[..16].try_into().unwrap_or_default(),
        target,
        kind: planned.kind,
        pieces,
        uses,
        literal_len,
        warnings: tidy_problems(planned.warnings),
    })
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// The operations whose result may stand bare in a text document.
fn is_terminal(expr: &Expr) -> bool {
    matches!(expr, Expr::Apply { op, .. } if op.is_terminal())
}

/// How many arguments an operation takes.
fn arity(op: &Op) -> usize {
    match op {
        Op::BasicCredentials => 2,
        Op::SipDigestHa1(_) => 3,
        _ => 1,
    }
}

fn check_expr(expr: &Expr, depth: usize, uses: &mut [Use], references: &[Reference]) -> Result<(), Violation> {
    if depth > EXPR_DEPTH_MAX {
        return violation("an expression that is nested too deeply");
    }
    // A secret is used through the filters its template wrote behind it, or not at all.
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
    if args.len() != arity(op) {
        return violation("an encoder with the wrong number of arguments");
    }
    match op {
        Op::Forbid { characters, .. } if characters.is_empty() => return violation("`forbid` with nothing to forbid"),
        Op::ForbidSequence { sequence, .. } if sequence.is_empty() => {
            return violation("`forbid-sequence` with nothing to forbid");
        }
        Op::Forbid { reason, .. } | Op::ForbidSequence { reason, .. } | Op::AtMost { reason, .. }
            if reason.len() > 1024 || reason.contains(char::is_control) =>
        {
            return violation("a reason that is none");
        }
        Op::Url => check_url_text(&args[0])?,
        _ => {}
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
                check_expr(inner, depth + 1, uses, references)?;
            }
        }
    }
    if secrets { Ok(()) } else { violation("an expression without a secret") }
}

/// The emission, when the expression is exactly a secret with the filters of its reference.
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

/// A secret is a URL as a whole, or stands in one percent-encoded.
fn check_url_text(text: &Text) -> Result<(), Violation> {
    let safe = |part: &Part| match part {
        Part::Literal(_) => true,
        Part::Expr(Expr::Apply { op, .. }) => matches!(
            op,
            Op::UrlQuery
                | Op::UrlPathSegment
                | Op::Filter(ValueFilter::Url | ValueFilter::Hex | ValueFilter::Base64url)
        ),
        Part::Expr(Expr::Secret(_)) => false,
    };
    if text.len() == 1 || text.iter().all(safe) {
        Ok(())
    } else {
        violation("a secret inside a URL that is not percent-encoded")
    }
}

/// Every slot stands in a string that is a value, and a URL is the whole of one.
fn check_json(document: &str, slots: &HashMap<String, Expr>) -> Result<(), Violation> {
    // Only whether it is JSON: no tree is built, so the depth is counted below.
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
            if matches!(expr, Some(Expr::Apply { op: Op::Url, .. })) && content.len() != SLOT_LEN {
                return violation("a URL that is only a part of a field");
            }
        }
    }
    if outside > 0 { violation("a secret outside a string") } else { Ok(()) }
}

#[cfg(test)]
mod tests;
