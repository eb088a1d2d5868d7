//! Refuses text for reasons that a plugin gives: characters, a sequence, a length.

use super::{Args, Clear, Op, Refusal, eval, refuse};
use crate::expr::Part;

/// Refuses literal text that holds a forbidden character.
pub fn forbid_in_literal(op: &Op, literal: &str) -> Result<(), Refusal> {
    match op {
        Op::Forbid { characters, reason } if literal.contains(|c| characters.contains(c)) => refuse(reason),
        _ => Ok(()),
    }
}

/// Appends the text; refuses a value that holds one of the characters. Literal text was checked when the plan was made.
pub fn forbid(op: &Op, args: &Args<'_>, out: &mut Clear) -> Result<(), Refusal> {
    let Op::Forbid { characters, reason } = op else { return Ok(()) };
    keep_if(args, |value| !value.contains(|c| characters.contains(c)), reason, out)
}

/// Refuses literal text that holds a character that is not allowed.
pub fn allow_in_literal(op: &Op, literal: &str) -> Result<(), Refusal> {
    match op {
        Op::Allow { characters, reason } if !literal.chars().all(|c| characters.contains(c)) => refuse(reason),
        _ => Ok(()),
    }
}

/// Appends the text; refuses a value that holds another character than those allowed. Literal text was checked when the
/// plan was made.
pub fn allow(op: &Op, args: &Args<'_>, out: &mut Clear) -> Result<(), Refusal> {
    let Op::Allow { characters, reason } = op else { return Ok(()) };
    keep_if(args, |value| value.chars().all(|c| characters.contains(c)), reason, out)
}

/// Appends the text; refuses it if one of its values does not pass.
fn keep_if(args: &Args<'_>, passes: impl Fn(&str) -> bool, reason: &str, out: &mut Clear) -> Result<(), Refusal> {
    let mut is_allowed = true;
    for part in args.texts.iter().flatten() {
        match part {
            Part::Literal(literal) => out.extend_from_slice(literal.as_bytes()),
            Part::Expr(expr) => {
                let start = out.len();
                eval(expr, args.source, out)?;
                is_allowed &= std::str::from_utf8(&out[start..]).is_ok_and(&passes);
            }
        }
    }
    if is_allowed { Ok(()) } else { refuse(reason) }
}

/// Appends the text; refuses an occurrence of the sequence that is not completely inside one literal.
pub fn forbid_sequence(op: &Op, args: &Args<'_>, out: &mut Clear) -> Result<(), Refusal> {
    let Op::ForbidSequence { sequence, reason } = op else { return Ok(()) };
    let sequence = sequence.as_bytes();
    let start = out.len();
    let mut literals: Vec<std::ops::Range<usize>> = Vec::new();
    for part in args.texts.iter().flatten() {
        let from = out.len();
        match part {
            Part::Literal(literal) => {
                out.extend_from_slice(literal.as_bytes());
                literals.push(from..out.len());
            }
            Part::Expr(expr) => eval(expr, args.source, out)?,
        }
    }
    if sequence.is_empty() {
        return refuse(reason);
    }
    let is_literal = |at: usize| literals.iter().any(|range| range.start <= at && at + sequence.len() <= range.end);
    let windows = out[start..].windows(sequence.len()).enumerate();
    // Compares the first byte alone first: nearly every window differs there.
    let is_sequence = |window: &[u8]| window[0] == sequence[0] && window == sequence;
    if windows.into_iter().any(|(at, window)| is_sequence(window) && !is_literal(start + at)) {
        return refuse(reason);
    }
    Ok(())
}

/// Appends the text; refuses it if it has more bytes than allowed.
pub fn at_most(op: &Op, args: &Args<'_>, out: &mut Clear) -> Result<(), Refusal> {
    let Op::AtMost { bytes, reason } = op else { return Ok(()) };
    let start = out.len();
    args.append(0, out)?;
    if out.len() - start > *bytes as usize { refuse(reason) } else { Ok(()) }
}
