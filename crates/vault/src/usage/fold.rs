//! What a fold adds up in memory before it writes. A busy daemon's millions of records are about few places.
//!
//! Knows nothing of the vault's file.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::super::event::{Class, Decoded, Outcome, Subject, UnknownName};
use super::super::trail::NewestRecords;
use guillemet_base::names::{Millis, SecretId};

pub(super) const DAY: Millis = 24 * 60 * 60 * 1000;

/// The place that a counter counts for; sealed in the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct CounterPlace {
    pub(super) template: Option<String>,
    pub(super) target: Option<String>,
    pub(super) field: String,
    pub(super) uid: u32,
    pub(super) exe: String,
}

/// The secret or name that a caller asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CounterSubject {
    Secret(SecretId),
    /// A name without a secret, in lower case; empty if the caller gave no name at all.
    Name(String),
    /// A name that no secret, former name or template has.
    Unknown(UnknownName),
}

/// The amount that a fold adds to one counter.
#[derive(Debug)]
pub(super) struct CounterIncrement {
    pub(super) place: CounterPlace,
    pub(super) subject: CounterSubject,
    /// The reason for the refusal; `None` if the use was answered.
    pub(super) refusal: Option<Outcome>,
    pub(super) count: u64,
    pub(super) last: Millis,
}

/// The sums of one fold.
pub(super) struct Folding {
    /// The index in `counted` for each combination of place, subject and outcome, encoded as bytes. The bytes are put
    /// together in `key`, so that nothing is allocated for a combination that was seen before.
    indices: HashMap<Box<[u8]>, usize>,
    key: Vec<u8>,
    pub(super) counted: Vec<CounterIncrement>,
    pub(super) by_day: HashMap<(SecretId, u64), u64>,
    /// The number of records so far.
    pub(super) seen: u64,
    /// The newest uses of each class, answers and refusals.
    pub(super) newest: [NewestRecords; 2],
}

impl Folding {
    /// Returns empty sums, which keep at most `events` of the newest uses of each class and user for the trail.
    pub(super) fn new(events: usize) -> Self {
        Self {
            indices: HashMap::new(),
            key: Vec::new(),
            counted: Vec::new(),
            by_day: HashMap::new(),
            seen: 0,
            newest: [Class::Answer, Class::Refusal].map(|class| NewestRecords::new(class, events)),
        }
    }

    /// Adds a record; `content` is the encoded form of `event`.
    pub(super) fn add(&mut self, content: &[u8], event: &Decoded<'_>) {
        let refusal = event.outcome.is_refusal().then_some(event.outcome);
        let count = u64::from(event.outcome != Outcome::Revalidated);
        let newest = &mut self.newest[usize::from(refusal.is_some())];
        newest.push_use(self.seen, event.uid, content, event.listed_count());
        self.seen += 1;

        self.key.clear();
        self.key.push(refusal.map_or(0, |outcome| outcome as u8));
        self.key.extend_from_slice(&event.uid.to_le_bytes());
        for text in [Some(event.exe), event.template, event.target] {
            self.key.extend_from_slice(&text.map_or(u32::MAX, |text| text.len() as u32).to_le_bytes());
            self.key.extend_from_slice(text.unwrap_or_default().as_bytes());
        }
        let of_event = self.key.len();
        for usage in event.counted() {
            self.key.truncate(of_event);
            match usage.subject {
                Subject::Secret(secret) => {
                    self.key.push(1);
                    self.key.extend_from_slice(&secret.0);
                }
                // Without a secret there is no answer.
                _ if refusal.is_none() => continue,
                Subject::Name(name) => {
                    self.key.push(0);
                    self.key.extend(name.bytes().map(|byte| byte.to_ascii_lowercase()));
                    // Ends the name: no name holds this byte.
                    self.key.push(0);
                }
                Subject::Unknown(UnknownName::Hash(hash)) => {
                    self.key.push(2);
                    self.key.extend_from_slice(&hash);
                }
                Subject::Unknown(UnknownName::Other) => self.key.push(3),
            }
            self.key.extend_from_slice(usage.field.as_bytes());
            let index = match self.indices.get(self.key.as_slice()) {
                Some(index) => *index,
                None => {
                    let place = CounterPlace {
                        template: event.template.map(str::to_owned),
                        target: event.target.map(str::to_owned),
                        field: usage.field.to_owned(),
                        uid: event.uid,
                        exe: event.exe.to_owned(),
                    };
                    let subject = match usage.subject {
                        Subject::Secret(secret) => CounterSubject::Secret(secret),
                        Subject::Name(name) => CounterSubject::Name(name.to_ascii_lowercase()),
                        Subject::Unknown(unknown) => CounterSubject::Unknown(unknown),
                    };
                    self.indices.insert(self.key.as_slice().into(), self.counted.len());
                    self.counted.push(CounterIncrement { place, subject, refusal, count: 0, last: 0 });
                    self.counted.len() - 1
                }
            };
            let counted = &mut self.counted[index];
            counted.count += count;
            counted.last = counted.last.max(event.time);
            if let (None, 1.., Subject::Secret(secret)) = (refusal, count, usage.subject) {
                *self.by_day.entry((secret, event.time / DAY)).or_default() += count;
            }
        }
    }
}
