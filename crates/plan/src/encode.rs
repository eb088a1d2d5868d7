//! Gives the operations of `expr` their meaning: one function for literal text and values alike, so that the two can
//! never disagree. `encoders` is the table of all of them.
//!
//! Knows nothing of plans or requests. Text is appended to the caller's buffer, which wipes itself; a refusal names the
//! reason, never the text.

use super::expr::{Expr, Part, TextParts};
use guillemet_base::sys::memory::Clear;

mod baresip;
mod config;
mod digest;
mod dotenv;
mod encoders;
mod escape;
mod http;
mod restrict;
mod text;

pub use self::digest::{BytesEncoding, HmacAlgorithm};
use self::encoders::EncoderForm;
pub use self::encoders::{
    DigestAlgorithm, ENCODERS, EncoderDefinition, EncoderOptions, FILTERS, Op, Placement, Signature,
};
pub use self::escape::{CharacterSet, EscapeTable};
pub use self::http::percent_encoded;

/// The longest text that an expression may produce, in bytes. Nested encoders can double it each time.
pub const TEXT_MAX: usize = 4 << 20;

/// The reason of a refusal when a document exceeds its limit.
pub const TOO_MUCH: &str = "the document would get too long, or need too many encoders";

/// The reason why a place cannot hold a text. Never contains the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// The reason, for the person who has to change the value or the template.
    pub reason: String,
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { reason: reason.into() })
}

/// The source of the values when an expression is evaluated.
pub trait ValueSource {
    /// Appends the value of this emission to `out`.
    fn append(&self, emission: u32, out: &mut Clear);

    /// Counts the bytes of each text that is produced. Returns `false` if the total exceeds what is allowed.
    fn count_bytes(&self, _bytes: usize) -> bool {
        true
    }
}

/// A source for text without secrets, which appends nothing.
struct NoSecrets;

impl ValueSource for NoSecrets {
    fn append(&self, _emission: u32, _out: &mut Clear) {}
}

/// Encodes text without secrets at once.
///
/// `args` are the arguments in the order of `expr::Op`.
///
/// # Errors
/// Fails with [`Refusal`] if the place cannot hold the text.
pub fn literal(op: &Op, args: &[&str]) -> Result<String, Refusal> {
    for text in args {
        check_literal(op, text)?;
    }
    let texts: Vec<TextParts> = args.iter().map(|text| vec![Part::Literal((*text).into())]).collect();
    let mut out = Clear::new();
    apply(op, &Args { texts: &texts, source: &NoSecrets }, &mut out)?;
    literal_text(out)
}

/// Checks literal text against what the operation forbids in it. Evaluation checks values only, because literal text
/// would be refused at every fill.
///
/// # Errors
/// Fails with [`Refusal`] if the operation forbids the text.
pub fn check_literal(op: &Op, literal: &str) -> Result<(), Refusal> {
    match op.definition().form {
        EncoderForm::Restricted { check_literal, .. } => check_literal(op, literal),
        _ => Ok(()),
    }
}

/// Returns literal text beside a secret as it will be in the document. Returns nothing if the encoding of a text
/// depends on its neighbors, as Base64 does, or if the text will be refused.
pub fn literal_beside(op: &Op, literal: &str) -> String {
    match op.definition().form {
        EncoderForm::Kept(_) | EncoderForm::Restricted { .. } | EncoderForm::QuotedIfNeeded(_) => literal.to_owned(),
        EncoderForm::Escaped { escape, .. } => {
            let mut out = Clear::new();
            escape(literal.as_bytes(), &mut out).and_then(|()| literal_text(out)).unwrap_or_default()
        }
        EncoderForm::Tabled => {
            let mut out = Clear::new();
            let Op::Escape(table) = op else { return String::new() };
            table.write_content(literal, &mut out).and_then(|()| literal_text(out)).unwrap_or_default()
        }
        EncoderForm::Whole(_) | EncoderForm::Joined(_) => String::new(),
    }
}

/// Returns encoded literal text as a string. It is not secret, so it may leave the wiping buffer.
fn literal_text(out: Clear) -> Result<String, Refusal> {
    String::from_utf8(out.to_vec()).or_else(|_| refuse("the text is not valid UTF-8"))
}

/// Evaluates an expression: appends the encoded text to `out`.
///
/// # Errors
/// Fails with [`Refusal`] if its place cannot hold a value, if `out` gets longer than [`TEXT_MAX`], or if the source's
/// limit is exceeded. `out` then contains a part of the text and must be discarded.
pub fn eval(expr: &Expr, source: &dyn ValueSource, out: &mut Clear) -> Result<(), Refusal> {
    let start = out.len();
    match expr {
        Expr::Secret(emission) => source.append(*emission, out),
        Expr::Apply { op, args } => apply(op, &Args { texts: args, source }, out)?,
    }
    if out.len() > TEXT_MAX {
        return refuse(format!("it is longer than {} MiB when encoded for its place", TEXT_MAX >> 20));
    }
    if !source.count_bytes(out.len() - start) {
        return refuse(TOO_MUCH);
    }
    Ok(())
}

/// The most secrets in the arguments of one operation that [`blame`] tells apart.
const BLAME_MAX: usize = 64;

/// Returns the emissions that cause the refusal of an expression: those of the innermost operation that refuses, and of
/// its texts those that it refuses on their own. Returns all of the expression's emissions if they cannot be told
/// apart, as when a text is too long as a whole.
///
/// `source` limits the work, as in [`eval`].
pub fn blame(expr: &Expr, source: &dyn ValueSource) -> Vec<u32> {
    let all = expr.emissions();
    let Expr::Apply { op, args } = expr else { return all };
    if all.len() == 1 || args.iter().flatten().count() > BLAME_MAX {
        return all;
    }
    let inner: Vec<&Expr> = args.iter().flatten().filter_map(Part::expr).collect();
    let refuses = |expr: &Expr| eval(expr, source, &mut Clear::new()).is_err();
    let mut blamed: Vec<u32> = inner.iter().filter(|expr| refuses(expr)).flat_map(|expr| blame(expr, source)).collect();
    if blamed.is_empty() {
        // A harmless word in place of each secret that is not at fault, in a form that the operation takes.
        let word = HARMLESS.into_iter().find(|word| !refuses_only(op, args, None, word, source));
        let alone = |index: &usize| word.is_some_and(|word| refuses_only(op, args, Some(*index), word, source));
        blamed = (0..inner.len()).filter(alone).flat_map(|index| inner[index].emissions()).collect();
    }
    blamed.sort_unstable();
    blamed.dedup();
    if blamed.is_empty() { all } else { blamed }
}

/// Words that [`blame`] puts in place of secrets.
const HARMLESS: [&str; 3] = ["x", "1", "https://x.example/"];

/// Reports whether an operation refuses its arguments with `word` in place of every expression but the one with the
/// index `only`.
fn refuses_only(op: &Op, args: &[TextParts], only: Option<usize>, word: &str, source: &dyn ValueSource) -> bool {
    let mut index = 0;
    let mut replaced = |part: &Part| match part {
        Part::Literal(_) => part.clone(),
        Part::Expr(_) => {
            index += 1;
            if Some(index - 1) == only { part.clone() } else { Part::Literal(word.to_owned()) }
        }
    };
    let texts: Vec<TextParts> = args.iter().map(|text| text.iter().map(&mut replaced).collect()).collect();
    apply(op, &Args { texts: &texts, source }, &mut Clear::new()).is_err()
}

/// The arguments of an operation, with the source of the values in them.
struct Args<'a> {
    texts: &'a [TextParts],
    source: &'a dyn ValueSource,
}

impl Args<'_> {
    /// Appends an argument to `out`. A missing argument counts as empty; the number is checked when a plan is made.
    fn append(&self, index: usize, out: &mut Clear) -> Result<(), Refusal> {
        for part in self.texts.get(index).into_iter().flatten() {
            match part {
                Part::Literal(literal) => out.extend_from_slice(literal.as_bytes()),
                Part::Expr(expr) => eval(expr, self.source, out)?,
            }
        }
        Ok(())
    }

    /// Evaluates an argument into a separate buffer.
    fn eval(&self, index: usize) -> Result<Clear, Refusal> {
        let mut out = Clear::new();
        self.append(index, &mut out)?;
        Ok(out)
    }
}

fn apply(op: &Op, args: &Args<'_>, out: &mut Clear) -> Result<(), Refusal> {
    match op.definition().form {
        // Appended first and then checked in place, which needs no second buffer.
        EncoderForm::Kept(check) => {
            let start = out.len();
            args.append(0, out)?;
            check(&out[start..])
        }
        EncoderForm::Restricted { apply, .. } | EncoderForm::Joined(apply) => apply(op, args, out),
        EncoderForm::Tabled => match op {
            Op::Escape(table) => table.write(utf8(&args.eval(0)?)?, out),
            _ => Ok(()),
        },
        EncoderForm::QuotedIfNeeded(write) | EncoderForm::Whole(write) => write(&args.eval(0)?, out),
        EncoderForm::Escaped { check, escape, quote } => {
            let text = args.eval(0)?;
            check(&text)?;
            out.extend_from_slice(quote.as_bytes());
            escape(&text, out)?;
            out.extend_from_slice(quote.as_bytes());
            Ok(())
        }
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(bytes).or_else(|_| refuse("the value is not valid UTF-8"))
}

/// Reports whether the character is one of the code points that Unicode reserves for internal use.
fn is_noncharacter(c: char) -> bool {
    matches!(u32::from(c), 0xfdd0..=0xfdef) || u32::from(c) & 0xfffe == 0xfffe
}

fn append_encoded(encoding: &data_encoding::Encoding, text: &[u8], out: &mut Clear) {
    let start = out.len();
    out.resize(start + encoding.encode_len(text.len()), 0);
    encoding.encode_mut(text, &mut out[start..]);
}

#[cfg(test)]
mod dotenv_tests;
#[cfg(test)]
mod escape_tests;
#[cfg(test)]
mod tests;
