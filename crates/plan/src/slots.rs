//! Creates slots and finds them in a text.
//!
//! Knows nothing of what a slot stands for.

use guillemet_base::random::random;

/// The length of a slot in bytes: `Z` and 39 digits, which hold 128 random bits.
pub const SLOT_LEN: usize = 40;

/// Creates a slot that cannot be guessed.
pub fn random_slot() -> String {
    format!("Z{:039}", u128::from_le_bytes(random()))
}

/// Returns the offsets of texts that look like a slot, from left to right and without overlap. A filter of the template
/// may have turned the letter into lower case.
pub fn find(text: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let mut offsets = Vec::new();
    let mut at = 0;
    while at + SLOT_LEN <= bytes.len() {
        if !matches!(bytes[at], b'Z' | b'z') {
            at += 1;
            continue;
        }
        let digits = bytes[at + 1..at + SLOT_LEN].iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == SLOT_LEN - 1 {
            offsets.push(at);
            at += SLOT_LEN;
        } else {
            at += 1;
        }
    }
    offsets
}

/// Returns the slot that begins at `at` in its canonical form; `at` comes from `find`.
pub fn canonical(text: &str, at: usize) -> String {
    text[at..at + SLOT_LEN].to_ascii_uppercase()
}

/// Overwrites the slot that begins at `at` with `with`. If that is another slot, no other byte moves.
pub fn replace(text: &mut String, at: usize, with: &str) {
    text.replace_range(at..at + SLOT_LEN, with);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_found_in_either_case_and_side_by_side() {
        let (a, b) = (random_slot(), random_slot());
        assert_eq!(a.len(), SLOT_LEN);
        assert_ne!(a, b);
        let text = format!("Bearer {a}{}5Z12 é{b}", b.to_lowercase());
        let found = find(&text);
        assert_eq!(found.iter().map(|at| canonical(&text, *at)).collect::<Vec<_>>(), [a.clone(), b.clone(), b]);
        assert!(find(&a[..39]).is_empty());
        assert!(find("").is_empty());
    }

    proptest::proptest! {
        #[test]
        fn looking_for_slots_survives_any_text(text in "\\PC{0,60}Z[0-9]{30,45}\\PC{0,10}") {
            for at in find(&text) {
                proptest::prop_assert_eq!(canonical(&text, at).len(), SLOT_LEN);
            }
        }
    }
}
