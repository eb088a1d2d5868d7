//! The difference between two plans as people read them: a unified diff of their documents with `«name»` in place of
//! each secret, and of what else a consumer or a value meets: media type, file name, encodings.
//!
//! A plugin decides how large and how hostile the documents are, so time and size are bounded.

use std::time::Duration;

use similar::TextDiff;

use guillemet_plan::plan::Plan;
use guillemet_plan::preview;

/// The equal lines around a difference.
const AROUND: usize = 3;
/// How long one difference may take. After that, it is correct and longer than necessary.
const TIME: Duration = Duration::from_millis(200);
/// The most bytes of one difference.
const DIFFERENCE_MAX: usize = 16 << 10;
/// The most bytes of all differences of a comparison.
const TOTAL_MAX: usize = 512 << 10;

/// Bounds what the differences of one comparison take together.
#[derive(Default)]
pub(super) struct Differences {
    total: usize,
}

impl Differences {
    /// Returns a difference, or a sentence in its place if there have been too many.
    pub(super) fn admit(&mut self, difference: String) -> String {
        self.total += difference.len();
        if self.total <= TOTAL_MAX { difference } else { "the difference is left out: there are too many\n".into() }
    }
}

/// Returns the difference between two plans; `None` if there is none.
pub(super) fn of_plans(before: &Plan, after: &Plan) -> Option<String> {
    let texts = [(preview::document(before), preview::document(after)), (surroundings(before), surroundings(after))];
    let parts: Vec<String> =
        texts.iter().filter(|(before, after)| before != after).map(|(before, after)| unified(before, after)).collect();
    (!parts.is_empty()).then(|| parts.concat())
}

/// Returns what a plan says besides its document: a line for its target, and one for each use of a secret.
fn surroundings(plan: &Plan) -> String {
    let mut text = format!("media type {}, file name {}\n", plan.target.media_type, plan.target.file_name);
    for (index, encodings) in preview::uses(plan) {
        let usage = &plan.uses[index];
        let encodings = if encodings.is_empty() { "as it is".to_owned() } else { encodings.join(", ") };
        text += &format!("«{}» of `{}`: {encodings}\n", usage.name, usage.field);
    }
    text
}

fn unified(before: &str, after: &str) -> String {
    let diff = TextDiff::configure().timeout(TIME).diff_lines(before, after);
    let mut text = diff.unified_diff().context_radius(AROUND).missing_newline_hint(false).to_string();
    if text.is_empty() {
        return "only the line break at the end differs\n".into();
    }
    if text.len() > DIFFERENCE_MAX {
        text.truncate(text.floor_char_boundary(DIFFERENCE_MAX));
        text.push_str("\n… the rest is left out\n");
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
