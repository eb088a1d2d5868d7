//! The table of all kinds of audit events; a usage event, and how it is written into a record of the journal. What a
//! change leaves is in `audit`.
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

/// What became of a request for a secret. The number is its code in files.
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

/// What was changed. The number is its code in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ChangeKind {
    /// A secret is new.
    SecretCreated = 7,
    /// A secret has another name.
    SecretRenamed = 8,
    /// A secret has a new value.
    SecretRotated = 9,
    /// A secret may be resolved.
    SecretEnabled = 10,
    /// A secret may not be resolved.
    SecretDisabled = 11,
    /// A secret has the value of a former version.
    SecretRolledBack = 12,
    /// A secret is gone.
    SecretDeleted = 13,
    /// A value was shown to a person.
    SecretRevealed = 14,
    /// Templates name a secret by its present name.
    ReferencesRewritten = 15,
    /// A plugin was added, or replaced another.
    PluginAdded = 16,
    /// An added plugin was removed.
    PluginRemoved = 17,
    /// Another configuration is in force.
    ConfigurationChanged = 18,
    /// A console session began.
    ConsoleOpened = 19,
    /// A console session ended.
    ConsoleClosed = 20,
    /// The daemon opened the vault.
    VaultUnlocked = 21,
    /// The vault opens with another key or passphrase.
    VaultRekeyed = 22,
    /// A new account was made of this vault.
    AccountCreated = 23,
    /// This vault became part of an account.
    AccountJoined = 24,
    /// This vault came back into its account with a recovery code.
    AccountRecovered = 25,
    /// The account was repaired.
    AccountRepaired = 26,
    /// This vault left its account.
    AccountLeft = 27,
    /// A recovery code was made.
    RecoveryCodeMade = 28,
    /// An invitation was made.
    DeviceInvited = 29,
    /// This device admitted another one.
    DeviceJoined = 30,
    /// A device was revoked.
    DeviceRevoked = 31,
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody asked for a secret.
    Use(Outcome),
    /// Somebody changed something, or tried to.
    Change(ChangeKind),
}

/// What an event means for the counts and for the audit trail. Each class has a ring of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Something left the vault.
    Answer = 0,
    /// Nothing left the vault.
    Refusal = 1,
    /// Something is different, or was meant to be.
    Change = 2,
}

impl Class {
    /// Every class, with its name in the API, and that of its events in `/metrics`.
    pub const ALL: [(Self, &'static str, &'static str); 3] = [
        (Self::Answer, "answer", "answers"),
        (Self::Refusal, "refusal", "refusals"),
        (Self::Change, "change", "changes"),
    ];

    /// As the API names it.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// By the name it has in the API.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == name).map(|(class, ..)| *class)
    }
}

/// A row of the table of events.
#[derive(Clone, Copy, Debug)]
pub struct EventKind {
    /// The kind; its number is its code in files, which never changes.
    pub kind: Kind,
    /// The name in the API and on the command line.
    pub name: &'static str,
    /// What it means.
    pub class: Class,
    /// What people read of it.
    pub text: &'static str,
}

/// Every kind of event. Files, the API, the console's labels, `openapi.yaml` and `docs/usage.md` follow this
/// table; tests hold them to it.
pub const EVENT_KINDS: [EventKind; 31] = {
    const fn used(outcome: Outcome, name: &'static str, class: Class, text: &'static str) -> EventKind {
        EventKind { kind: Kind::Use(outcome), name, class, text }
    }
    const fn change(kind: ChangeKind, name: &'static str, text: &'static str) -> EventKind {
        EventKind { kind: Kind::Change(kind), name, class: Class::Change, text }
    }
    use ChangeKind::*;
    use Class::{Answer, Refusal};
    [
        used(Outcome::Answered, "answered", Answer, "The value was delivered"),
        used(Outcome::Revalidated, "revalidated", Answer, "The caller's copy is still right (304)"),
        used(Outcome::Missing, "missing", Refusal, "There is no such secret"),
        used(Outcome::Disabled, "disabled", Refusal, "The secret is disabled"),
        used(Outcome::Unfit, "unfit", Refusal, "The place cannot hold the value"),
        used(Outcome::Forbidden, "forbidden", Refusal, "No rule allows this caller to have it"),
        change(SecretCreated, "secret_created", "A secret was created"),
        change(SecretRenamed, "secret_renamed", "A secret was renamed"),
        change(SecretRotated, "secret_rotated", "A secret got a new value"),
        change(SecretEnabled, "secret_enabled", "A secret was enabled"),
        change(SecretDisabled, "secret_disabled", "A secret was disabled"),
        change(SecretRolledBack, "secret_rolled_back", "A secret got the value of a former version again"),
        change(SecretDeleted, "secret_deleted", "A secret was deleted"),
        change(SecretRevealed, "secret_revealed", "A value was shown to a person"),
        change(ReferencesRewritten, "references_rewritten", "Templates were rewritten to the present name of a secret"),
        change(PluginAdded, "plugin_added", "A plugin was added"),
        change(PluginRemoved, "plugin_removed", "A plugin was removed"),
        change(ConfigurationChanged, "configuration_changed", "The configuration was read again"),
        change(ConsoleOpened, "console_opened", "A console session began"),
        change(ConsoleClosed, "console_closed", "A console session ended"),
        change(VaultUnlocked, "vault_unlocked", "The daemon started and opened the vault"),
        change(VaultRekeyed, "vault_rekeyed", "The vault got another key or passphrase"),
        change(AccountCreated, "account_created", "An account was created from this vault"),
        change(AccountJoined, "account_joined", "This device joined an account"),
        change(AccountRecovered, "account_recovered", "This device came back with a recovery code"),
        change(AccountRepaired, "account_repaired", "The account was repaired"),
        change(AccountLeft, "account_left", "This device left its account"),
        change(RecoveryCodeMade, "recovery_code_made", "A recovery code was made"),
        change(DeviceInvited, "device_invited", "An invitation was made"),
        change(DeviceJoined, "device_joined", "A device was admitted to the account"),
        change(DeviceRevoked, "device_revoked", "A device was revoked"),
    ]
};

impl Kind {
    /// Returns its row of the table.
    pub fn row(self) -> &'static EventKind {
        // A test holds that each kind has its row.
        EVENT_KINDS.iter().find(|row| row.kind == self).unwrap_or(&EVENT_KINDS[0])
    }

    /// By the name it has in the API.
    pub fn named(name: &str) -> Option<Self> {
        EVENT_KINDS.iter().find(|row| row.name == name).map(|row| row.kind)
    }

    /// The code it has in files.
    pub fn code(self) -> u8 {
        match self {
            Self::Use(outcome) => outcome as u8,
            Self::Change(change) => change as u8,
        }
    }

    /// By the code it has in files.
    fn numbered(code: u8) -> Option<Self> {
        EVENT_KINDS.iter().map(|row| row.kind).find(|kind| kind.code() == code)
    }
}

impl Outcome {
    /// Returns its row of the table.
    fn row(self) -> &'static EventKind {
        Kind::Use(self).row()
    }

    /// As the API names it.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// By the code it has in files.
    pub fn numbered(code: u8) -> Option<Self> {
        match Kind::numbered(code) {
            Some(Kind::Use(outcome)) => Some(outcome),
            _ => None,
        }
    }

    /// What it means.
    pub fn class(self) -> Class {
        self.row().class
    }

    /// Whether nothing left the vault because it was not to be had.
    pub fn is_refusal(self) -> bool {
        self.class() == Class::Refusal
    }

    /// Every way of being refused.
    pub fn refusals() -> impl Iterator<Item = Self> {
        EVENT_KINDS.iter().filter_map(|row| match row.kind {
            Kind::Use(outcome) if row.class == Class::Refusal => Some(outcome),
            _ => None,
        })
    }
}

impl ChangeKind {
    /// As the API names it.
    pub fn name(self) -> &'static str {
        Kind::Change(self).row().name
    }

    /// By the code it has in files.
    pub fn numbered(code: u8) -> Option<Self> {
        match Kind::numbered(code) {
            Some(Kind::Change(change)) => Some(change),
            _ => None,
        }
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
    /// What was asked for, where a caller may not: method and path of the route, without what stood in the path.
    pub route: Option<&'a str>,
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
    /// What was asked for, where a caller may not.
    pub route: Option<&'a str>,
    /// The secrets.
    pub uses: Vec<Use<'a>>,
    /// How many uses of names that nothing has the request came with, which are one event of the trail together; 0
    /// where a record before this one stands for them. Nothing where each is an event of its own.
    together: Option<u32>,
}

/// An event of the trail: a use, or all names of one request that nothing has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    /// The use; of several names it is none of them in particular.
    pub usage: Use<'a>,
    /// How many uses it stands for.
    pub uses: u32,
}

impl<'a> Decoded<'a> {
    /// What is counted: each use, and for a refusal that names none a single nameless one.
    pub fn counted(&self) -> &[Use<'a>] {
        const NAMELESS: [Use<'static>; 1] = [Use { subject: Subject::Name(""), field: "" }];
        if self.uses.is_empty() && self.outcome.is_refusal() { &NAMELESS } else { &self.uses }
    }

    /// What is listed: each use, but all names of a request that nothing has as one.
    pub fn listed(&self) -> impl Iterator<Item = Listed<'a>> {
        let mut together = self.together;
        let mut unknown = self.unknown_names();
        let first = unknown.next().unwrap_or(UnknownName::Other);
        let name = if unknown.all(|name| name == first) { first } else { UnknownName::Other };
        self.counted().iter().copied().filter_map(move |usage| match (usage.subject, together) {
            (Subject::Unknown(_), Some(0)) => None,
            (Subject::Unknown(_), Some(uses)) => {
                together = Some(0);
                Some(Listed { usage: Use { subject: Subject::Unknown(name), field: "" }, uses })
            }
            _ => Some(Listed { usage, uses: 1 }),
        })
    }

    /// How many are listed.
    pub fn listed_count(&self) -> usize {
        let all = self.counted().len();
        match (self.together, self.unknown_names().count()) {
            (None, _) | (_, 0) => all,
            (Some(uses), unknown) => all - unknown + usize::from(uses > 0),
        }
    }

    /// The names that nothing has.
    pub fn unknown_names(&self) -> impl Iterator<Item = UnknownName> {
        self.uses.iter().filter_map(|usage| match usage.subject {
            Subject::Unknown(name) => Some(name),
            _ => None,
        })
    }
}

/// The longest texts that are recorded whole, in bytes.
const TEXT_MAX: usize = 1024;
/// The length of a text that is absent.
const NONE: u16 = u16::MAX;

/// In a record, before what it stands for: a use by the kind of its subject, or what is said of all uses.
mod tag {
    pub(super) const NAME: u8 = 0;
    pub(super) const SECRET: u8 = 1;
    pub(super) const HASH: u8 = 2;
    pub(super) const OTHER: u8 = 3;
    /// How many uses of names that nothing has are one event.
    pub(super) const TOGETHER: u8 = 4;
    pub(super) const ROUTE: u8 = 5;
}

/// Appends the event with as many of `uses`, its last ones, as fit into `max` bytes, at least one; returns how many.
pub fn encode(event: &Event<'_>, uses: &[Use<'_>], max: usize, out: &mut Vec<u8>) -> usize {
    out.push(event.outcome as u8);
    out.extend_from_slice(&event.time.to_le_bytes());
    out.extend_from_slice(&event.caller.uid.to_le_bytes());
    out.extend_from_slice(&event.caller.gid.to_le_bytes());
    out.extend_from_slice(&event.caller.pid.to_le_bytes());
    put(out, Some(&event.caller.exe));
    put(out, event.template);
    put(out, event.target);
    if event.route.is_some() {
        out.push(tag::ROUTE);
        put(out, event.route);
    }
    let is_unknown = |usage: &&Use<'_>| matches!(usage.subject, Subject::Unknown(_));
    let unknown = event.uses.iter().filter(is_unknown).count();
    if unknown > 1 {
        // The first record with any of them stands for all.
        let is_told = event.uses[..event.uses.len() - uses.len()].iter().any(|usage| is_unknown(&usage));
        out.push(tag::TOGETHER);
        out.extend_from_slice(&(if is_told { 0 } else { unknown as u32 }).to_le_bytes());
    }
    let mut written = 0;
    for usage in uses {
        let before = out.len();
        match usage.subject {
            Subject::Name(name) => {
                out.push(tag::NAME);
                put(out, Some(name));
            }
            Subject::Secret(id) => {
                out.push(tag::SECRET);
                out.extend_from_slice(&id.0);
            }
            Subject::Unknown(UnknownName::Hash(hash)) => {
                out.push(tag::HASH);
                out.extend_from_slice(&hash);
            }
            Subject::Unknown(UnknownName::Other) => out.push(tag::OTHER),
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
    let (mut route, mut together, mut uses) = (None, None, Vec::new());
    while !reader.0.is_empty() {
        let [tag] = reader.array()?;
        let subject = match tag {
            tag::NAME => Subject::Name(reader.text()??),
            tag::SECRET => Subject::Secret(SecretId(reader.array()?)),
            tag::HASH => Subject::Unknown(UnknownName::Hash(reader.array()?)),
            tag::OTHER => Subject::Unknown(UnknownName::Other),
            tag::TOGETHER => {
                together = Some(u32::from_le_bytes(reader.array()?));
                continue;
            }
            tag::ROUTE => {
                route = reader.text()?;
                continue;
            }
            _ => return None,
        };
        uses.push(Use { subject, field: reader.text()?? });
    }
    Some(Decoded { time, outcome, uid, gid, pid, exe, template, target, route, uses, together })
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
            route: Some("GET /v1/secrets"),
            uses: &uses,
        };
        let mut record = Vec::new();
        assert_eq!(encode(&event, &uses, 4096, &mut record), 4);
        let decoded = decode(&record).unwrap();
        assert_eq!((decoded.time, decoded.outcome, decoded.pid), (9, Outcome::Missing, 3));
        assert_eq!((decoded.template, decoded.target), (Some("mcp-server/a"), None));
        assert_eq!(decoded.route, Some("GET /v1/secrets"));
        assert_eq!(decoded.uses, uses);
    }

    /// All names of a request that nothing has are one event, in however many records they are written; each counts.
    #[test]
    fn names_that_nothing_has_are_one_event_of_a_request() {
        let caller = caller();
        let unknown = |field| Use { subject: Subject::Unknown(UnknownName::Other), field };
        let mut uses = vec![Use { subject: Subject::Secret(SecretId([7; 16])), field: "a" }; 3];
        uses.extend(vec![unknown("b"); 700]);
        uses.push(Use { subject: Subject::Name("known"), field: "c" });
        for (uses, expected) in [
            (uses.as_slice(), vec![("a", 1), ("a", 1), ("a", 1), ("", 700), ("c", 1)]),
            (&uses[3..4], vec![("b", 1)]),
            (&uses[3..5], vec![("", 2)]),
        ] {
            let event = Event {
                time: 9,
                outcome: Outcome::Missing,
                caller: &caller,
                template: None,
                target: None,
                route: None,
                uses,
            };
            let (mut rest, mut counted, mut listed) = (uses, 0, Vec::new());
            while !rest.is_empty() {
                let mut record = Vec::new();
                rest = &rest[encode(&event, rest, 200, &mut record)..];
                let decoded = decode(&record).unwrap();
                counted += decoded.counted().len();
                assert_eq!(decoded.listed_count(), decoded.listed().count());
                listed.extend(decoded.listed().map(|listed| (listed.usage.field.to_owned(), listed.uses)));
            }
            let expected: Vec<(String, u32)> =
                expected.into_iter().map(|(field, uses)| (field.to_owned(), uses)).collect();
            assert_eq!((counted, listed), (uses.len(), expected));
        }
        // As the first version wrote them, each is an event of its own.
        let event = Event {
            time: 9,
            outcome: Outcome::Missing,
            caller: &caller,
            template: None,
            target: None,
            route: None,
            uses: &[],
        };
        let mut record = Vec::new();
        encode(&event, &uses[3..5], 4096, &mut record);
        assert_eq!(decode(&record).unwrap().listed().count(), 2);
    }

    /// Whoever adds a kind adds it everywhere: what is written down about events is checked against the table.
    #[test]
    fn files_api_console_and_docs_follow_the_table() {
        let names = |of: &dyn Fn(&EventKind) -> bool| -> Vec<&str> {
            EVENT_KINDS.iter().filter(|row| of(row)).map(|row| row.name).collect()
        };
        for (index, row) in EVENT_KINDS.iter().enumerate() {
            // Codes are in files of earlier versions: they count from 1, and none changes.
            let code = row.kind.code();
            assert_eq!(usize::from(code), index + 1, "{}", row.name);
            assert_eq!(Kind::numbered(code), Some(row.kind));
            assert_eq!(Kind::named(row.name), Some(row.kind));
            assert_eq!((row.kind.row().name, row.kind.row().text), (row.name, row.text));
            // A use is never read as a change, nor the other way round.
            let (used, change) = (Outcome::numbered(code), ChangeKind::numbered(code));
            assert_eq!(
                (used.map(Kind::Use), change.map(Kind::Change)),
                match row.kind {
                    Kind::Use(_) => (Some(row.kind), None),
                    Kind::Change(_) => (None, Some(row.kind)),
                }
            );
            assert_eq!(row.class == Class::Change, change.is_some());
        }
        assert!(Kind::numbered(0).is_none() && Kind::numbered(EVENT_KINDS.len() as u8 + 1).is_none());
        for (index, (class, name, _)) in Class::ALL.into_iter().enumerate() {
            assert_eq!((class as usize, class.name(), Class::named(name)), (index, name, Some(class)));
        }
        let openapi = include_str!("../../openapi.yaml");
        let all = format!(
            "    Outcome:\n      type: string\n      enum:\n{}",
            names(&|_| true).iter().map(|name| format!("        - {name}\n")).collect::<String>()
        );
        assert!(openapi.contains(&all), "the outcomes in openapi.yaml are not:\n{all}");
        let refusals = names(&|row| row.class == Class::Refusal);
        assert!(openapi.contains(&format!("outcome: {{ enum: [{}] }}", refusals.join(", "))), "refusals there");
        let classes = Class::ALL.map(|(_, name, _)| name);
        assert!(openapi.contains(&format!("enum: [{}]", classes.join(", "))), "the classes there");
        // clap takes no text that is made at run time.
        let listed = |names: &[&str]| match names.split_last() {
            Some((last, first)) => format!("{} or {last}", first.join(", ")),
            None => String::new(),
        };
        let help = include_str!("../cli/usage.rs");
        assert!(help.contains(&listed(&names(&|row| row.class != Class::Change))), "the outcomes in `usage --help`");
        assert!(help.contains(&listed(&classes)), "the classes there");
        let docs = include_str!("../../docs/usage.md");
        for row in EVENT_KINDS {
            let row = format!("| `{}` | {} | {} |\n", row.name, row.class.name(), row.text);
            assert!(docs.contains(&row), "docs/usage.md lacks {row}");
        }
    }

    #[test]
    fn a_large_event_is_written_in_parts() {
        let caller = caller();
        let field = "f".repeat(2000);
        let uses = vec![Use { subject: Subject::Secret(SecretId([7; 16])), field: &field }; 50];
        let event = Event {
            time: 9,
            outcome: Outcome::Answered,
            caller: &caller,
            template: None,
            target: None,
            route: None,
            uses: &uses,
        };
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
