//! A usage event, the table of its kinds, and how it is written into a record of the journal.
//!
//! Never a value. A name only where there is no id and a template has it: what nothing here has may be a value.

use std::fmt;
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

/// The kind of an event: what became of a request for a secret. The number is its code in files.
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

/// What an event means for the counts and for the audit trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Something left the vault.
    Answer,
    /// Nothing left the vault.
    Refusal,
}

/// A row of the table of events.
#[derive(Clone, Copy, Debug)]
pub struct EventKind {
    /// The kind; as a number, its code in files, which never changes.
    pub outcome: Outcome,
    /// The name in the API and on the command line.
    pub name: &'static str,
    /// What it means.
    pub class: Class,
    /// What people read of it.
    pub text: &'static str,
}

/// Every kind of event. Files, the API, the console's labels, `openapi.yaml` and `docs/usage.md` follow this
/// table; tests hold them to it.
pub const EVENT_KINDS: [EventKind; 6] = {
    const fn kind(outcome: Outcome, name: &'static str, class: Class, text: &'static str) -> EventKind {
        EventKind { outcome, name, class, text }
    }
    use Class::{Answer, Refusal};
    [
        kind(Outcome::Answered, "answered", Answer, "The value was delivered"),
        kind(Outcome::Revalidated, "revalidated", Answer, "The caller's copy is still right (304)"),
        kind(Outcome::Missing, "missing", Refusal, "There is no such secret"),
        kind(Outcome::Disabled, "disabled", Refusal, "The secret is disabled"),
        kind(Outcome::Unfit, "unfit", Refusal, "The place cannot hold the value"),
        kind(Outcome::Forbidden, "forbidden", Refusal, "No rule allows this caller to have it"),
    ]
};

impl Outcome {
    /// Returns its row of the table.
    fn kind(self) -> &'static EventKind {
        // A test holds that each outcome has its row.
        EVENT_KINDS.iter().find(|kind| kind.outcome == self).unwrap_or(&EVENT_KINDS[0])
    }

    /// As the API names it.
    pub fn name(self) -> &'static str {
        self.kind().name
    }

    /// What people read of it.
    pub fn text(self) -> &'static str {
        self.kind().text
    }

    /// By the code it has in files.
    pub fn numbered(code: u8) -> Option<Self> {
        EVENT_KINDS.iter().map(|kind| kind.outcome).find(|outcome| *outcome as u8 == code)
    }

    /// By the name it has in the API.
    pub fn named(name: &str) -> Option<Self> {
        EVENT_KINDS.iter().find(|kind| kind.name == name).map(|kind| kind.outcome)
    }

    /// Whether nothing left the vault because it was not to be had.
    pub fn is_refusal(self) -> bool {
        self.kind().class == Class::Refusal
    }
}

/// A name that neither a secret, nor a former name, nor a template has. A caller may have sent a value where a
/// name belongs, so the name itself is never recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnknownName {
    /// A keyed hash of it, in lower case: HMAC-SHA-256 under a key of the vault, its first eight bytes.
    Hash([u8; 8]),
    /// One more than are told apart.
    Other,
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A colon is in no name.
            Self::Hash(hash) => write!(f, "unknown:{}", data_encoding::HEXLOWER.encode(hash)),
            Self::Other => f.write_str("unknown:other"),
        }
    }
}

/// What a use is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A secret; its name is not recorded.
    Secret(SecretId),
    /// A name that no secret has, but a template; empty where not even a name was given.
    Name(&'a str),
    /// A name that nothing here has.
    Unknown(UnknownName),
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
    /// What it is of.
    pub subject: Subject<'a>,
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
    /// The secrets.
    pub uses: Vec<Use<'a>>,
}

impl<'a> Decoded<'a> {
    /// What is counted and listed: each use, and for a refusal that names none a single nameless one.
    pub fn entries(&self) -> &[Use<'a>] {
        const NAMELESS: [Use<'static>; 1] = [Use { subject: Subject::Name(""), field: "" }];
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
        match usage.subject {
            Subject::Name(name) => {
                out.push(0);
                put(out, Some(name));
            }
            Subject::Secret(id) => {
                out.push(1);
                out.extend_from_slice(&id.0);
            }
            Subject::Unknown(UnknownName::Hash(hash)) => {
                out.push(2);
                out.extend_from_slice(&hash);
            }
            Subject::Unknown(UnknownName::Other) => out.push(3),
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
        let subject = match reader.array()? {
            [0] => Subject::Name(reader.text()??),
            [1] => Subject::Secret(SecretId(reader.array()?)),
            [2] => Subject::Unknown(UnknownName::Hash(reader.array()?)),
            [3] => Subject::Unknown(UnknownName::Other),
            _ => return None,
        };
        uses.push(Use { subject, field: reader.text()?? });
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
    fn an_event_comes_back() {
        let caller = caller();
        let uses = [
            Use { subject: Subject::Secret(SecretId([7; 16])), field: "headers.A" },
            Use { subject: Subject::Name("missing"), field: "" },
            Use { subject: Subject::Unknown(UnknownName::Hash([9; 8])), field: "x" },
            Use { subject: Subject::Unknown(UnknownName::Other), field: "y" },
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
        assert_eq!(encode(&event, &uses, 4096, &mut record), 4);
        let decoded = decode(&record).unwrap();
        assert_eq!((decoded.time, decoded.outcome, decoded.pid), (9, Outcome::Missing, 3));
        assert_eq!((decoded.template, decoded.target), (Some("mcp-server/a"), None));
        assert_eq!(decoded.uses, uses);
    }

    /// Whoever adds a kind adds it everywhere: what is written down about events is checked against the table.
    #[test]
    fn files_api_console_and_docs_follow_the_table() {
        let names: Vec<&str> = EVENT_KINDS.iter().map(|kind| kind.name).collect();
        for (index, kind) in EVENT_KINDS.iter().enumerate() {
            // Codes are in files of earlier versions: they count from 1, and none changes.
            assert_eq!(kind.outcome as usize, index + 1, "{}", kind.name);
            assert_eq!(Outcome::numbered(kind.outcome as u8), Some(kind.outcome));
            assert_eq!(Outcome::named(kind.name), Some(kind.outcome));
            assert_eq!((kind.outcome.name(), kind.outcome.text()), (kind.name, kind.text));
        }
        assert!(Outcome::numbered(0).is_none() && Outcome::numbered(EVENT_KINDS.len() as u8 + 1).is_none());
        let refusals: Vec<&str> =
            EVENT_KINDS.iter().filter(|kind| kind.outcome.is_refusal()).map(|kind| kind.name).collect();
        let openapi = include_str!("../../openapi.yaml");
        let listed = [format!("enum: [{}]\n", names.join(", ")), format!("enum: [{}] }}\n", names.join(", "))];
        assert!(listed.iter().all(|list| openapi.contains(list)), "the outcomes in openapi.yaml");
        assert!(openapi.contains(&format!("outcome: {{ enum: [{}] }}", refusals.join(", "))), "refusals there");
        // clap takes no text that is made at run time.
        let listed = match names.split_last() {
            Some((last, first)) => format!("{} or {last}.", first.join(", ")),
            None => String::new(),
        };
        assert!(include_str!("../cli/usage.rs").contains(&listed), "the outcomes in `guillemet usage --help`");
        let docs = include_str!("../../docs/usage.md");
        for kind in EVENT_KINDS {
            let class = if kind.outcome.is_refusal() { "refusal" } else { "answer" };
            let row = format!("| `{}` | {class} | {} |\n", kind.name, kind.text);
            assert!(docs.contains(&row), "docs/usage.md lacks {row}");
        }
    }

    #[test]
    fn a_large_event_is_written_in_parts() {
        let caller = caller();
        let field = "f".repeat(2000);
        let uses = vec![Use { subject: Subject::Secret(SecretId([7; 16])), field: &field }; 50];
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
