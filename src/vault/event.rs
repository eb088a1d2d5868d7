//! A usage event, and how it is written into a record of the journal.
//!
//! Never a value. The name of a secret only where there is no id: a reference to a missing one.

use std::sync::Arc;

use crate::names::{Millis, SecretId};

/// Who asked, by the kernel's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Process; 0 where it is not known.
    pub pid: u32,
    /// Its executable, for the record only.
    pub exe: Arc<str>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// The value left.
    Answered = 1,
    /// The caller's copy was confirmed (304): a use, and no resolution.
    Revalidated = 2,
    /// Refused: there is no such secret.
    Missing = 3,
    /// Refused: it is disabled.
    Disabled = 4,
    /// Refused: its place cannot hold the value.
    Unfit = 5,
    /// Refused: this caller may not.
    Forbidden = 6,
}

impl Outcome {
    /// All of them, with the names the API uses.
    pub const ALL: [(&'static str, Self); 6] = [
        ("answered", Self::Answered),
        ("revalidated", Self::Revalidated),
        ("missing", Self::Missing),
        ("disabled", Self::Disabled),
        ("unfit", Self::Unfit),
        ("forbidden", Self::Forbidden),
    ];

    /// As the API names it.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }

    /// By the number it has in files.
    pub fn numbered(number: u8) -> Option<Self> {
        Self::ALL.iter().map(|(_, outcome)| *outcome).find(|outcome| *outcome as u8 == number)
    }

    /// Whether nothing left the vault because it was not to be had.
    pub fn is_refusal(self) -> bool {
        !matches!(self, Self::Answered | Self::Revalidated)
    }
}

/// One answer or refusal.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// When.
    pub time: Millis,
    /// What became of it.
    pub outcome: Outcome,
    /// Who.
    pub caller: &'a Caller,
    /// The template; `None` for a raw resolve.
    pub template: Option<&'a str>,
    /// The target.
    pub target: Option<&'a str>,
    /// One entry for each slot a secret was part of.
    pub uses: &'a [Use<'a>],
}

/// One secret in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use<'a> {
    /// The secret, where there is one.
    pub secret: Option<SecretId>,
    /// Its name; recorded only where there is no id.
    pub name: &'a str,
    /// The field of the config.
    pub field: &'a str,
}

/// A record read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// When.
    pub time: Millis,
    /// What became of it.
    pub outcome: Outcome,
    /// Who.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Process.
    pub pid: u32,
    /// Executable.
    pub exe: &'a str,
    /// The template.
    pub template: Option<&'a str>,
    /// The target.
    pub target: Option<&'a str>,
    /// The secrets; the name is empty where there is an id.
    pub uses: Vec<Use<'a>>,
}

impl<'a> Decoded<'a> {
    /// What is counted and listed: each use, and for a refusal that names none a single nameless one.
    pub fn entries(&self) -> &[Use<'a>] {
        const NAMELESS: [Use<'static>; 1] = [Use { secret: None, name: "", field: "" }];
        if self.uses.is_empty() && self.outcome.is_refusal() { &NAMELESS } else { &self.uses }
    }
}

/// The longest texts that are recorded whole, in bytes.
const TEXT_MAX: usize = 1024;
/// The length of a text that is absent.
const NONE: u16 = u16::MAX;

/// Appends the event with as many of `uses` as fit into `max` bytes, at least one; returns how many.
pub fn encode(event: &Event<'_>, uses: &[Use<'_>], max: usize, out: &mut Vec<u8>) -> usize {
    out.push(event.outcome as u8);
    out.extend_from_slice(&event.time.to_le_bytes());
    out.extend_from_slice(&event.caller.uid.to_le_bytes());
    out.extend_from_slice(&event.caller.gid.to_le_bytes());
    out.extend_from_slice(&event.caller.pid.to_le_bytes());
    put(out, Some(&event.caller.exe));
    put(out, event.template);
    put(out, event.target);
    let mut written = 0;
    for usage in uses {
        let before = out.len();
        match usage.secret {
            Some(id) => {
                out.push(1);
                out.extend_from_slice(&id.0);
            }
            None => {
                out.push(0);
                put(out, Some(usage.name));
            }
        }
        put(out, Some(usage.field));
        if out.len() > max && written > 0 {
            out.truncate(before);
            break;
        }
        written += 1;
    }
    written
}

fn put(out: &mut Vec<u8>, text: Option<&str>) {
    let Some(text) = text else {
        out.extend_from_slice(&NONE.to_le_bytes());
        return;
    };
    let text = &text[..text.floor_char_boundary(TEXT_MAX)];
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(0).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Reads a record; `None` where it is none.
pub fn decode(record: &[u8]) -> Option<Decoded<'_>> {
    let mut reader = Reader(record);
    let [outcome] = reader.array()?;
    let outcome = Outcome::numbered(outcome)?;
    let time = u64::from_le_bytes(reader.array()?);
    let uid = u32::from_le_bytes(reader.array()?);
    let gid = u32::from_le_bytes(reader.array()?);
    let pid = u32::from_le_bytes(reader.array()?);
    let exe = reader.text()??;
    let template = reader.text()?;
    let target = reader.text()?;
    let mut uses = Vec::new();
    while !reader.0.is_empty() {
        let usage = match reader.array()? {
            [1] => Use { secret: Some(SecretId(reader.array()?)), name: "", field: reader.text()?? },
            [0] => Use { secret: None, name: reader.text()??, field: reader.text()?? },
            _ => return None,
        };
        uses.push(usage);
    }
    Some(Decoded { time, outcome, uid, gid, pid, exe, template, target, uses })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    /// A text; the outer `None` where there is none to read, the inner where it is absent.
    fn text(&mut self) -> Option<Option<&'a str>> {
        let len = u16::from_le_bytes(self.array()?);
        if len == NONE {
            return Some(None);
        }
        let (taken, rest) = self.0.split_at_checked(usize::from(len))?;
        self.0 = rest;
        Some(Some(std::str::from_utf8(taken).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn caller() -> Caller {
        Caller { uid: 1, gid: 2, pid: 3, exe: "/usr/bin/agent".into() }
    }

    #[test]
    fn an_event_comes_back_and_a_name_only_where_there_is_no_id() {
        let caller = caller();
        let uses = [
            Use { secret: Some(SecretId([7; 16])), name: "hidden", field: "headers.A" },
            Use { secret: None, name: "missing", field: "" },
        ];
        let event = Event {
            time: 9,
            outcome: Outcome::Missing,
            caller: &caller,
            template: Some("mcp-server/a"),
            target: None,
            uses: &uses,
        };
        let mut record = Vec::new();
        assert_eq!(encode(&event, &uses, 4096, &mut record), 2);
        assert!(!record.windows(6).any(|window| window == b"hidden"));
        let decoded = decode(&record).unwrap();
        assert_eq!((decoded.time, decoded.outcome, decoded.pid), (9, Outcome::Missing, 3));
        assert_eq!((decoded.template, decoded.target), (Some("mcp-server/a"), None));
        assert_eq!(decoded.uses[0], Use { name: "", ..uses[0] });
        assert_eq!(decoded.uses[1], uses[1]);
    }

    #[test]
    fn a_large_event_is_written_in_parts() {
        let caller = caller();
        let field = "f".repeat(2000);
        let uses = vec![Use { secret: Some(SecretId([7; 16])), name: "", field: &field }; 50];
        let event =
            Event { time: 9, outcome: Outcome::Answered, caller: &caller, template: None, target: None, uses: &uses };
        let (mut rest, mut total) = (uses.as_slice(), 0);
        while !rest.is_empty() {
            let mut record = Vec::new();
            let written = encode(&event, rest, 4096, &mut record);
            assert!(record.len() <= 4096);
            total += decode(&record).unwrap().uses.len();
            rest = &rest[written..];
        }
        assert_eq!(total, 50);
    }

    proptest! {
        #[test]
        fn arbitrary_records_never_panic(mut record in proptest::collection::vec(any::<u8>(), 0..200), first in 0..8u8) {
            let _ = decode(&record);
            record.insert(0, first);
            let _ = decode(&record);
        }
    }
}
