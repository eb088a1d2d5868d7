//! Reads back what a plugin's own tables write into a document whose format nothing tells.
//!
//! Only the table is known, so only the table is checked: each value has to end where it should, and to come back.

use super::readers::escaped::read_escaped;
use super::values::{self, HOSTILE};
use super::{CanarySlot, does_not_stay};
use guillemet_base::problem::Problem;
use guillemet_plan::expr::{Expr, Op};
use guillemet_plan::plan::{Plan, PlanPiece};

/// Returns a problem for each slot with a table that does not read back what it writes.
pub fn check(plan: &Plan, slots: &[CanarySlot<'_>]) -> Vec<Problem> {
    let is_slot = |piece: &&PlanPiece| matches!(piece, PlanPiece::Slot { .. });
    let following = plan.pieces.iter().enumerate().filter(|(_, piece)| is_slot(piece)).map(|(index, _)| {
        match plan.pieces.get(index + 1) {
            Some(PlanPiece::Text(text)) => text.as_str(),
            _ => "",
        }
    });
    let problem = |(slot, following): (&CanarySlot<'_>, &str)| {
        let misread = misread(plan, slot, following);
        (!misread.is_empty()).then(|| slot.problem(plan, &format!(" {}", does_not_stay(&misread))))
    };
    slots.iter().zip(following).filter_map(problem).collect()
}

/// Returns the names of the hostile texts that do not come back from a slot. `following` is the literal text behind it.
fn misread(plan: &Plan, slot: &CanarySlot<'_>, following: &str) -> Vec<&'static str> {
    let Expr::Apply { op: Op::Escape(table), .. } = slot.expr else { return Vec::new() };
    let next = following.chars().next();
    let is_misread = |hostile: &&values::Hostile| {
        // What the table refuses is never written.
        let Some(filled) = slot.accepted(plan.kind, hostile) else { return false };
        read_escaped(table, next, &format!("{}{following}", filled.written)) != Ok((filled.leaf, following))
    };
    HOSTILE.iter().filter(is_misread).map(|hostile| hostile.name).collect()
}
