//! Fill: places the values in a plan. Besides the vault, values are in the clear only here, in the encoders that this
//! module calls, and in its callers, which are `resolve` of the daemon and `offline`.
//!
//! - Invariant (promise Once): a value is written as data in its place and never read again as syntax.
//! - Invariant (promise Blind): every buffer that held a value wipes itself.

use std::cell::Cell;

use guillemet_base::sys::memory::Clear;
use guillemet_plan::encode::{self, Refusal, ValueSource};
use guillemet_plan::plan::{Plan, PlanPiece};
use guillemet_plan::protocol::DocumentKind;
use guillemet_secret::memory::SealedValue;

/// The most bytes written for one document; text that is encoded again counts each time. A plan is small and may ask
/// for any number of encoders.
pub const FILLED_MAX: usize = 32 << 20;

/// A value that its place cannot hold.
#[derive(Debug)]
pub struct Unrepresentable {
    /// The indices of the plan's uses whose values do not fit. All that are in that place, if they cannot be told apart.
    pub uses: Vec<u32>,
    /// The reason why it does not fit; never contains the value.
    pub refusal: Refusal,
}

/// The values of a plan's uses, in order; `None` for a secret that is not available.
pub struct Values<'a>(pub Vec<Option<&'a SealedValue>>);

impl ValueSource for Values<'_> {
    fn append(&self, emission: u32, out: &mut Clear) {
        if let Some(value) = self.0.get(emission as usize).copied().flatten() {
            value.open_into(out);
        }
    }
}

/// The values for a document, with the number of bytes that may still be written for it.
struct Metered<'a> {
    values: &'a Values<'a>,
    remaining: Cell<usize>,
}

impl ValueSource for Metered<'_> {
    fn append(&self, emission: u32, out: &mut Clear) {
        self.values.append(emission, out);
    }

    fn count_bytes(&self, bytes: usize) -> bool {
        let remaining = self.remaining.get().checked_sub(bytes);
        self.remaining.set(remaining.unwrap_or(0));
        remaining.is_some()
    }
}

/// Returns how many bytes a document's buffer reserves in addition to the plan's text. Most encodings at most triple a
/// value; a buffer that has to grow wipes what it leaves behind.
pub fn extra_capacity(values: &Values<'_>) -> usize {
    let len: usize = values.0.iter().flatten().map(|value| value.len()).sum();
    (3 * len).min(FILLED_MAX) + 64
}

/// Fills a plan with values. Skips slots whose value is not available: the caller refuses the request in that case, and
/// only wants to know the other problems.
///
/// # Errors
/// Returns every value that its place cannot hold. If the document exceeds [`FILLED_MAX`], the last entry is the slot
/// where that happened.
pub fn fill(plan: &Plan, values: &Values<'_>) -> Result<Clear, Vec<Unrepresentable>> {
    let capacity = extra_capacity(values);
    let mut out = Clear::with_capacity(plan.literal_len + capacity);
    let mut scratch = Clear::with_capacity(capacity);
    let mut unfit = Vec::new();
    let source = Metered { values, remaining: Cell::new(FILLED_MAX) };
    for piece in &plan.pieces {
        match piece {
            PlanPiece::Text(text) => out.extend_from_slice(text.as_bytes()),
            PlanPiece::Slot { expr, uses } => {
                if uses.iter().any(|index| values.0.get(*index as usize).copied().flatten().is_none()) {
                    continue;
                }
                scratch.clear();
                if let Err(refusal) = encode::eval(expr, &source, &mut scratch) {
                    if source.remaining.get() == 0 {
                        unfit.push(Unrepresentable { uses: uses.clone(), refusal });
                        break;
                    }
                    let blaming = Metered { values, remaining: Cell::new(FILLED_MAX) };
                    unfit.push(Unrepresentable { uses: encode::blame(expr, &blaming), refusal });
                    continue;
                }
                match plan.kind {
                    DocumentKind::Json => append_json(&scratch, &mut out),
                    DocumentKind::Text => out.extend_from_slice(&scratch),
                }
                if out.len() > plan.literal_len + FILLED_MAX {
                    unfit.push(Unrepresentable {
                        uses: uses.clone(),
                        refusal: Refusal { reason: encode::TOO_MUCH.into() },
                    });
                    break;
                }
            }
        }
    }
    if unfit.is_empty() { Ok(out) } else { Err(unfit) }
}

/// Appends text as the content of a JSON string (RFC 8259, section 7).
pub fn append_json(text: &[u8], out: &mut Clear) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let plain = |b: &u8| (*b >= 0x20) & (*b != b'"') & (*b != b'\\');
    // Most values need no escape at all, and this check handles many bytes at once.
    if text.iter().fold(true, |is_plain, b| is_plain & plain(b)) {
        out.extend_from_slice(text);
        return;
    }
    let mut rest = text;
    while let Some(at) = rest.iter().position(|b| !plain(b)) {
        let b = rest[at];
        let escape: &[u8] = match b {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            _ => &[b'\\', b'u', b'0', b'0', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]],
        };
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(escape);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use guillemet_plan::expr::{Expr, Op, Part};
    use guillemet_plan::plan::verify;
    use guillemet_plan::protocol::{Emission, Planned, PlannedSlot, Target};
    use guillemet_template::lexer::Reference;

    const A: &str = "Z000000000000000000000000000000000000001";
    const B: &str = "Z000000000000000000000000000000000000002";

    /// A plan for these secrets, each with the expression of its slot. `@a` and `@b` in the document mark the slots.
    fn plan_of(document: &str, kind: DocumentKind, secrets: &[(&str, Expr)]) -> Plan {
        let slot = |(slot, (_, expr)): (&str, &(&str, Expr))| PlannedSlot { slot: slot.into(), expr: expr.clone() };
        let planned = Planned {
            document: document.replace("@a", A).replace("@b", B),
            kind,
            slots: [A, B].into_iter().zip(secrets).map(slot).collect(),
            emissions: (0..secrets.len() as u32)
                .map(|reference| Emission { reference, field: format!("f{reference}") })
                .collect(),
            warnings: Vec::new(),
            cost: Default::default(),
        };
        let target = Target {
            id: "t".into(),
            title: "T".into(),
            media_type: "text/plain".into(),
            file_name: "t".into(),
            aliases: Vec::new(),
        };
        let reference =
            |(name, _): &(&str, Expr)| Reference { name: name.parse().unwrap(), line: 1, column: 1, filters: vec![] };
        let references: Vec<Reference> = secrets.iter().map(reference).collect();
        verify(planned, &references, target).unwrap()
    }

    fn plan(document: &str, kind: DocumentKind, [a, b]: [Expr; 2]) -> Plan {
        plan_of(document, kind, &[("a", a), ("b", b)])
    }

    fn header(emission: u32) -> Expr {
        Expr::Apply { op: Op::HeaderValue, args: vec![vec![Part::Expr(Expr::Secret(emission))]] }
    }

    #[test]
    fn all_unfit_values_are_named_and_none_is_shown() {
        let plan = plan(r#"{"a": "@a", "b": "@b"}"#, DocumentKind::Json, [header(0), header(1)]);
        let (a, b) = (SealedValue::seal("first\nvalue"), SealedValue::seal("second\0value"));
        let unfit = fill(&plan, &Values(vec![Some(&a), Some(&b)])).unwrap_err();
        assert_eq!(unfit.iter().map(|unfit| unfit.uses[0]).collect::<Vec<_>>(), [0, 1]);
        assert!(!format!("{unfit:?}").contains("first") && !format!("{unfit:?}").contains("second"));
    }

    /// A plugin cannot make a value grow without limit: nested encoders double it, and a plan may have many.
    #[test]
    fn what_grows_without_end_is_refused() {
        let doubled = |times| {
            (0..times).fold(Expr::Secret(0), |inner, _| Expr::Apply {
                op: Op::JsonString,
                args: vec![vec![Part::Expr(inner)]],
            })
        };
        let quotes = SealedValue::seal(&"\"".repeat(1024));
        let values = || Values(vec![Some(&quotes), Some(&quotes)]);
        let filled = |slots: usize, times| {
            let mut plan = plan(r#"["@a", "@b"]"#, DocumentKind::Json, [Expr::Secret(0), Expr::Secret(1)]);
            plan.pieces = (0..slots).map(|_| PlanPiece::Slot { expr: doubled(times), uses: vec![0] }).collect();
            fill(&plan, &values()).map(|out| out.len())
        };
        assert!(filled(1, 8).is_ok_and(|length| length > 1 << 18));
        let unfit = filled(1, 20).unwrap_err();
        assert!(unfit.len() == 1 && unfit[0].refusal.reason.contains("longer than 4 MiB"), "{unfit:?}");
        // Each slot is short enough, but all of them together are not.
        let unfit = filled(200, 8).unwrap_err();
        assert!(unfit.len() == 1 && unfit[0].refusal.reason == encode::TOO_MUCH, "{unfit:?}");
    }

    proptest! {
        /// Promise Once: whatever the values contain, the document is the same tree with the values as leaves.
        #[test]
        fn a_value_is_never_syntax(a in "\\PC{0,20}[\"\\\\\n\u{1}<%{}$;&]{0,8}x", b in any::<String>()) {
            prop_assume!(!b.is_empty());
            let plan = plan(r#"{"a": ["x @a y", 1], "b": {"c": "@b"}}"#, DocumentKind::Json, [Expr::Secret(0), Expr::Secret(1)]);
            let (sealed_a, sealed_b) = (SealedValue::seal(&a), SealedValue::seal(&b));
            let out = fill(&plan, &Values(vec![Some(&sealed_a), Some(&sealed_b)])).unwrap();
            let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(read, serde_json::json!({"a": [format!("x {a} y"), 1], "b": {"c": b}}));
        }
    }
}
