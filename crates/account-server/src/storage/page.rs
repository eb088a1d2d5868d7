//! The division of changes into pages, the same for every storage.
//!
//! A page has heads without a gap, and records up to the newest of the heads given so far, never beyond. While a device
//! reads page after page, others push: a record that changes again moves to a new position after all pages that were
//! read. So a device that follows `next` to the end has every head up to the newest one of the last page, and of every
//! record that these heads changed the form that is valid at that head.

use guillemet_wire::{ChangedRecord, ObjectId, PullCursor};

/// The most heads in one page.
pub const HEADS_MAX: usize = 1000;
/// The most bytes of boxes in one page. As base64 they are 8 MiB.
const BYTES_MAX: usize = 6 << 20;
/// The size of a head or record in addition to its box, in bytes.
const BESIDE: usize = 200;

/// The space that is left in a page.
#[derive(Debug)]
pub struct PageBudget {
    bytes: usize,
    empty: bool,
}

impl Default for PageBudget {
    fn default() -> Self {
        Self { bytes: BYTES_MAX, empty: true }
    }
}

impl PageBudget {
    /// Reserves space for a box. Returns whether it fits; the first one always does, so that every page has something.
    pub fn reserve(&mut self, len: usize) -> bool {
        let fits = self.empty || len + BESIDE <= self.bytes;
        if fits {
            self.bytes = self.bytes.saturating_sub(len + BESIDE);
            self.empty = false;
        }
        fits
    }
}

/// Returns the position after which records are wanted. Without `after_id` it is after the last record of
/// `records_after`.
pub fn position_before(from: &PullCursor) -> (u64, ObjectId) {
    (from.records_after, from.after_id.unwrap_or(ObjectId([0xff; 16])))
}

/// Returns the position of the next page; `None` if this is the last. `reached` is the newest head given so far,
/// `newest` the newest of the account, and `cut` means that there are more records up to `reached`.
pub fn next(from: &PullCursor, reached: u64, newest: u64, records: &[ChangedRecord], cut: bool) -> Option<PullCursor> {
    match records.last() {
        Some(last) if cut => {
            Some(PullCursor { heads_after: reached, records_after: last.seq, after_id: Some(last.record.id) })
        }
        // No record fitted into the page next to the heads.
        None if cut => Some(PullCursor { heads_after: reached, ..*from }),
        _ if reached < newest && from.records_after < reached => {
            Some(PullCursor { heads_after: reached, records_after: reached, after_id: None })
        }
        _ if reached < newest => Some(PullCursor { heads_after: reached, ..*from }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_takes_at_least_one_and_at_most_its_room() {
        let fitting = |lengths: &[usize]| {
            let mut room = PageBudget::default();
            lengths.iter().take_while(|len| room.reserve(**len)).count()
        };
        assert_eq!(fitting(&[BYTES_MAX * 2, 1]), 1);
        assert_eq!(fitting(&[BYTES_MAX / 2 - BESIDE; 3]), 2);
    }

    #[test]
    fn what_was_passed_is_not_read_again() {
        let from = PullCursor { heads_after: 3, records_after: 7, after_id: Some(ObjectId([1; 16])) };
        assert_eq!(next(&from, 9, 9, &[], false), None);
        assert_eq!(next(&from, 5, 9, &[], false), Some(PullCursor { heads_after: 5, ..from }));
        let passed = Some(PullCursor { heads_after: 8, records_after: 8, after_id: None });
        assert_eq!(next(&from, 8, 9, &[], false), passed);
        assert_eq!(next(&from, 8, 9, &[], true), Some(PullCursor { heads_after: 8, ..from }));
    }
}
