//! How a page of changes is cut, the same for every storage.
//!
//! A page holds heads without a gap, and records up to the newest of the heads it was given so far, never
//! above. While somebody reads page after page, others push: a record that is changed again loses its place
//! and gets a new one above, which is not behind any page that was read. So whoever follows `next` to its end
//! has every head up to the newest of the last page, and of every record that these heads changed the form
//! that counts at that one.

use crate::account::wire::{ChangedRecord, Cursor, ObjectId};

/// Most heads in one page.
pub const HEADS_MAX: usize = 1000;
/// Most bytes of boxes in one page; as base64 they are 8 MiB.
const BYTES_MAX: usize = 6 << 20;
/// What a head or record costs beside its box.
const BESIDE: usize = 200;

/// How much still fits into a page.
#[derive(Debug)]
pub struct Room {
    bytes: usize,
    empty: bool,
}

impl Default for Room {
    fn default() -> Self {
        Self { bytes: BYTES_MAX, empty: true }
    }
}

impl Room {
    /// Takes a box in. The first always fits, so that every page brings something.
    pub fn take(&mut self, len: usize) -> bool {
        let fits = self.empty || len + BESIDE <= self.bytes;
        if fits {
            self.bytes = self.bytes.saturating_sub(len + BESIDE);
            self.empty = false;
        }
        fits
    }
}

/// The place behind which records are wanted: with the highest id, all of `records_after` itself are passed.
pub fn behind(from: &Cursor) -> (u64, ObjectId) {
    (from.records_after, from.after_id.unwrap_or(ObjectId([0xff; 16])))
}

/// Where the next page begins: `reached` is the newest head that was given so far, `newest` the newest there
/// is, `cut` says that there are more records up to `reached`.
pub fn next(from: &Cursor, reached: u64, newest: u64, records: &[ChangedRecord], cut: bool) -> Option<Cursor> {
    match records.last() {
        Some(last) if cut => {
            Some(Cursor { heads_after: reached, records_after: last.seq, after_id: Some(last.record.id) })
        }
        // No record fitted beside the heads.
        None if cut => Some(Cursor { heads_after: reached, ..*from }),
        _ if reached < newest && from.records_after < reached => {
            Some(Cursor { heads_after: reached, records_after: reached, after_id: None })
        }
        _ if reached < newest => Some(Cursor { heads_after: reached, ..*from }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_takes_at_least_one_and_at_most_its_room() {
        let fitting = |lengths: &[usize]| {
            let mut room = Room::default();
            lengths.iter().take_while(|len| room.take(**len)).count()
        };
        assert_eq!(fitting(&[BYTES_MAX * 2, 1]), 1);
        assert_eq!(fitting(&[BYTES_MAX / 2 - BESIDE; 3]), 2);
    }

    #[test]
    fn what_was_passed_is_not_read_again() {
        let from = Cursor { heads_after: 3, records_after: 7, after_id: Some(ObjectId([1; 16])) };
        assert_eq!(next(&from, 9, 9, &[], false), None);
        assert_eq!(next(&from, 5, 9, &[], false), Some(Cursor { heads_after: 5, ..from }));
        let passed = Some(Cursor { heads_after: 8, records_after: 8, after_id: None });
        assert_eq!(next(&from, 8, 9, &[], false), passed);
        assert_eq!(next(&from, 8, 9, &[], true), Some(Cursor { heads_after: 8, ..from }));
    }
}
