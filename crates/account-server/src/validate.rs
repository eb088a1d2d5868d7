//! Checks of request bodies. Each check reports everything that is wrong at once.
//!
//! Knows no storage: whatever depends on stored data is checked inside the transaction.

use std::collections::HashSet;

use super::error::ServerError;
use guillemet_wire::api_key::is_id;
use guillemet_wire::{BOX_MAX, Enrolment, INVITE_SECONDS, InviteRegistration, Push, RECORDS_MAX, Sealed, UsageUpload};

/// The largest number that a database can store.
const NUMBER_MAX: u64 = i64::MAX as u64;
/// The most devices in one list of a push.
const DEVICES_MAX: usize = 1000;
/// The largest wrap, link or name, in bytes.
const SMALL_MAX: usize = 4 << 10;

/// The problems found so far, as (field, message).
#[derive(Debug, Default)]
struct FieldErrors(Vec<(String, String)>);

impl FieldErrors {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push((field.into(), message.into()));
    }

    fn check_minimum(&mut self, field: String, number: u64, least: u64) {
        if number < least || number > NUMBER_MAX {
            self.add(field, format!("must be a whole number from {least} to {NUMBER_MAX}"));
        }
    }

    fn check_size(&mut self, field: String, sealed: &Sealed, max: usize) {
        if sealed.0.is_empty() || sealed.0.len() > max {
            self.add(field, format!("must be a box of 1 to {max} bytes"));
        }
    }

    fn check_count(&mut self, field: &str, count: usize, max: usize) {
        if count > max {
            self.add(field, format!("can have at most {max} entries"));
        }
    }

    fn check_unique<T: std::hash::Hash + Eq>(
        &mut self,
        field: impl Fn(usize) -> String,
        items: impl Iterator<Item = T>,
    ) {
        let mut seen = HashSet::new();
        for (index, item) in items.enumerate() {
            if !seen.insert(item) {
                self.add(field(index), "listed twice");
            }
        }
    }

    fn finish(self) -> Result<(), ServerError> {
        if self.0.is_empty() { Ok(()) } else { Err(ServerError::fields(self.0)) }
    }
}

/// Checks a push.
///
/// # Errors
/// [`ServerError`] with every field that is wrong.
pub fn push(push: &Push) -> Result<(), ServerError> {
    let mut errors = FieldErrors::default();
    let epoch = push.head.epoch;
    errors.check_minimum("head.seq".into(), push.head.seq, 1);
    errors.check_minimum("head.epoch".into(), epoch, 1);
    errors.check_size("head.box".into(), &push.head.sealed, BOX_MAX);
    errors.check_count("records", push.records.len(), RECORDS_MAX);
    errors.check_unique(|index| format!("records.{index}.id"), push.records.iter().map(|record| record.id));
    for (index, record) in push.records.iter().enumerate() {
        errors.check_minimum(format!("records.{index}.revision"), record.revision, 0);
        errors.check_minimum(format!("records.{index}.epoch"), record.epoch, 1);
        if let Some(sealed) = &record.sealed {
            errors.check_size(format!("records.{index}.box"), sealed, BOX_MAX);
        }
    }
    errors.check_count("wraps", push.wraps.len(), DEVICES_MAX);
    errors.check_unique(|index| format!("wraps.{index}.device"), push.wraps.iter().map(|wrap| wrap.device));
    for (index, wrap) in push.wraps.iter().enumerate() {
        errors.check_size(format!("wraps.{index}.box"), &wrap.sealed, SMALL_MAX);
        if wrap.epoch != epoch {
            errors.add(format!("wraps.{index}.epoch"), "must be the epoch of the head");
        }
    }
    if let Some(link) = &push.link {
        errors.check_size("link.box".into(), &link.sealed, SMALL_MAX);
        if link.epoch != epoch {
            errors.add("link.epoch", "must be the epoch of the head");
        }
    }
    errors.check_count("keys", push.keys.len(), DEVICES_MAX);
    errors.check_unique(|index| format!("keys.{index}.key_id"), push.keys.iter().map(|key| &key.key_id));
    for (index, key) in push.keys.iter().enumerate() {
        key_id(&mut errors, format!("keys.{index}.key_id"), &key.key_id);
    }
    errors.check_count("admitted", push.admitted.len(), DEVICES_MAX);
    errors.check_unique(|index| format!("admitted.{index}"), push.admitted.iter());
    errors.check_count("revoked", push.revoked.len(), DEVICES_MAX);
    errors.check_unique(|index| format!("revoked.{index}"), push.revoked.iter());
    errors.finish()
}

fn key_id(errors: &mut FieldErrors, field: String, id: &str) {
    if !is_id(id) {
        errors.add(field, "must be eight lower-case letters or digits");
    }
}

/// Checks an invitation.
///
/// # Errors
/// [`ServerError`] with every field that is wrong.
pub fn invite(invite: &InviteRegistration) -> Result<(), ServerError> {
    let mut errors = FieldErrors::default();
    if !(1..=INVITE_SECONDS).contains(&invite.expires_in) {
        errors.add("expires_in", format!("must be 1 to {INVITE_SECONDS} seconds"));
    }
    errors.finish()
}

/// Checks the request of a device that asks to join.
///
/// # Errors
/// [`ServerError`] with every field that is wrong.
pub fn enrolment(enrolment: &Enrolment) -> Result<(), ServerError> {
    let mut errors = FieldErrors::default();
    key_id(&mut errors, "key.key_id".into(), &enrolment.key.key_id);
    errors.check_size("name".into(), &enrolment.name, SMALL_MAX);
    errors.finish()
}

/// Checks a usage document.
///
/// # Errors
/// [`ServerError`] with every field that is wrong.
pub fn usage(usage: &UsageUpload) -> Result<(), ServerError> {
    let mut errors = FieldErrors::default();
    errors.check_minimum("counter".into(), usage.counter, 1);
    errors.check_minimum("epoch".into(), usage.epoch, 1);
    errors.check_size("box".into(), &usage.sealed, BOX_MAX);
    errors.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use guillemet_wire::{DeviceId, EpochLink, Hash, ObjectId, SealedHead, SealedRecord, Wrap};

    #[test]
    fn everything_wrong_is_told_at_once() {
        let sealed = Sealed(vec![1]);
        let record = SealedRecord { id: ObjectId([1; 16]), revision: u64::MAX, epoch: 1, sealed: Some(Sealed(vec![])) };
        let device = DeviceId([2; 16]);
        let invalid = Push {
            head: SealedHead { seq: 0, epoch: 2, prev: Hash::default(), sealed: sealed.clone() },
            records: vec![record.clone(), record],
            wraps: vec![Wrap { device, epoch: 1, sender: device, sealed: Sealed(vec![0; SMALL_MAX + 1]) }],
            link: Some(EpochLink { epoch: 3, sealed }),
            keys: Vec::new(),
            admitted: vec![device, device],
            revoked: Vec::new(),
        };
        let Err(error) = push(&invalid) else { panic!("it was taken") };
        let text = format!("{error:?}");
        for field in [
            "head.seq",
            "records.0.revision",
            "records.1.id",
            "records.1.box",
            "wraps.0.box",
            "wraps.0.epoch",
            "link.epoch",
            "admitted.1",
        ] {
            assert!(text.contains(&format!("\"{field}\"")), "{field}: {text}");
        }
    }
}
