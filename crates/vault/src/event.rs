//! The table of all kinds of audit events, and usage events: what one holds and how it is encoded into a journal
//! record. The events of changes are in `audit`.
//!
//! An event never holds a value. It holds the name of a secret only if the secret has no id here and a template uses
//! the name: a name that nothing here has may be a value that a caller sent by mistake.

use std::fmt;
use std::sync::Arc;

use guillemet_base::names::{Millis, SecretId};

/// The process at the other end of a connection, as reported by the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its user, as a numeric id.
    pub uid: u32,
    /// Its group, as a numeric id.
    pub gid: u32,
    /// Its process id; 0 if it is not known.
    pub pid: u32,
    /// The path of its executable; empty if it is not known. It proves nothing and is recorded only.
    pub exe: Arc<str>,
}

/// The outcome of a request for a secret. The number is its code in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// The value was delivered to the caller.
    Answered = 1,
    /// The caller's copy is still right (304): this is a use, but the secret was not resolved again.
    Revalidated = 2,
    /// Refused: no secret has this name.
    Missing = 3,
    /// Refused: the secret is disabled.
    Disabled = 4,
    /// Refused: the place in the config cannot hold the value.
    Unfit = 5,
    /// Refused: no rule allows this caller to have it.
    Forbidden = 6,
}

/// The kind of a change. The number is its code in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ChangeKind {
    /// A secret was created.
    SecretCreated = 7,
    /// A secret got another name.
    SecretRenamed = 8,
    /// A secret got a new value.
    SecretRotated = 9,
    /// A secret was enabled: it can be resolved.
    SecretEnabled = 10,
    /// A secret was disabled: it cannot be resolved.
    SecretDisabled = 11,
    /// A secret got the value of a former version again.
    SecretRolledBack = 12,
    /// A secret was deleted.
    SecretDeleted = 13,
    /// A value was shown to a person.
    SecretRevealed = 14,
    /// Templates were rewritten to use the present name of a secret.
    ReferencesRewritten = 15,
    /// A plugin was added, or replaced another one.
    PluginAdded = 16,
    /// A plugin that had been added was removed.
    PluginRemoved = 17,
    /// The configuration was read again and is in force.
    ConfigurationChanged = 18,
    /// A console session began.
    ConsoleOpened = 19,
    /// A console session ended.
    ConsoleClosed = 20,
    /// The daemon started and opened the vault.
    VaultUnlocked = 21,
    /// The vault got another key file or passphrase.
    VaultRekeyed = 22,
    /// An account was created from this vault.
    AccountCreated = 23,
    /// This vault joined an account.
    AccountJoined = 24,
    /// This vault came back into its account with a recovery code.
    AccountRecovered = 25,
    /// The account was repaired.
    AccountRepaired = 26,
    /// This vault left its account.
    AccountLeft = 27,
    /// A recovery code was made.
    RecoveryCodeMade = 28,
    /// An invitation for another device was made.
    DeviceInvited = 29,
    /// This device admitted another one to the account.
    DeviceJoined = 30,
    /// A device of the account was revoked.
    DeviceRevoked = 31,
    /// The plugin that was in force before came back.
    PluginRolledBack = 32,
    /// A component under development began to stand in for a feature's plugin, or took the place of another that did.
    PluginStandInStarted = 33,
    /// A component under development stopped standing in: the feature's plugin is used again.
    PluginStandInEnded = 34,
}

/// The kind of an event: a use or a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A caller asked for a secret, with this outcome.
    Use(Outcome),
    /// Something was changed, or the attempt failed.
    Change(ChangeKind),
}

/// The class of an event. Counters and the audit trail treat classes differently; each class has its own ring in the
/// trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// A value left the vault, or a caller's copy of it was confirmed.
    Answer = 0,
    /// The caller got nothing.
    Refusal = 1,
    /// Something was changed, or the attempt failed.
    Change = 2,
}

impl Class {
    /// All classes, each with its name in the API and the name of its events in `/metrics`.
    pub const ALL: [(Self, &'static str, &'static str); 3] = [
        (Self::Answer, "answer", "answers"),
        (Self::Refusal, "refusal", "refusals"),
        (Self::Change, "change", "changes"),
    ];

    /// Returns the name in the API.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Returns the class with this name in the API, or `None` if no class has it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, label, _)| *label == name).map(|(class, ..)| *class)
    }
}

/// A row of the table of events, [`EVENT_KINDS`].
#[derive(Clone, Copy, Debug)]
pub struct EventKindRow {
    /// The kind. Its number is the code in files, which never changes.
    pub kind: EventKind,
    /// The name in the API and on the command line.
    pub name: &'static str,
    /// The class, which says how the event is counted and kept.
    pub class: Class,
    /// The text that people read in listings.
    pub text: &'static str,
}

/// All kinds of events. Files, the API, the labels of the console, `openapi.yaml` and `docs/usage.md` follow this
/// table, and tests check that they do.
pub const EVENT_KINDS: [EventKindRow; 34] = {
    const fn used(outcome: Outcome, name: &'static str, class: Class, text: &'static str) -> EventKindRow {
        EventKindRow { kind: EventKind::Use(outcome), name, class, text }
    }
    const fn change(kind: ChangeKind, name: &'static str, text: &'static str) -> EventKindRow {
        EventKindRow { kind: EventKind::Change(kind), name, class: Class::Change, text }
    }
    use ChangeKind::*;
    use Class::{Answer, Refusal};
    [
        used(Outcome::Answered, "answered", Answer, "The value was delivered"),
        used(Outcome::Revalidated, "revalidated", Answer, "The caller's copy is still valid (304)"),
        used(Outcome::Missing, "missing", Refusal, "There is no such secret"),
        used(Outcome::Disabled, "disabled", Refusal, "The secret is disabled"),
        used(Outcome::Unfit, "unfit", Refusal, "The value does not fit its place"),
        used(Outcome::Forbidden, "forbidden", Refusal, "No rule allows this caller to get it"),
        change(SecretCreated, "secret_created", "A secret was created"),
        change(SecretRenamed, "secret_renamed", "A secret was renamed"),
        change(SecretRotated, "secret_rotated", "A secret was given a new value"),
        change(SecretEnabled, "secret_enabled", "A secret was enabled"),
        change(SecretDisabled, "secret_disabled", "A secret was disabled"),
        change(SecretRolledBack, "secret_rolled_back", "A secret was rolled back to a former version"),
        change(SecretDeleted, "secret_deleted", "A secret was deleted"),
        change(SecretRevealed, "secret_revealed", "A value was shown to a person"),
        change(ReferencesRewritten, "references_rewritten", "Templates were rewritten to use a secret's current name"),
        change(PluginAdded, "plugin_added", "A plugin was added"),
        change(PluginRemoved, "plugin_removed", "A plugin was removed"),
        change(ConfigurationChanged, "configuration_changed", "The configuration was reloaded"),
        change(ConsoleOpened, "console_opened", "A console session started"),
        change(ConsoleClosed, "console_closed", "A console session ended"),
        change(VaultUnlocked, "vault_unlocked", "The daemon started and unlocked the vault"),
        change(VaultRekeyed, "vault_rekeyed", "The key or passphrase of the vault was changed"),
        change(AccountCreated, "account_created", "An account was created from this vault"),
        change(AccountJoined, "account_joined", "This device joined an account"),
        change(AccountRecovered, "account_recovered", "This device rejoined with a recovery code"),
        change(AccountRepaired, "account_repaired", "The account was repaired"),
        change(AccountLeft, "account_left", "This device left its account"),
        change(RecoveryCodeMade, "recovery_code_made", "A recovery code was created"),
        change(DeviceInvited, "device_invited", "An invitation was created"),
        change(DeviceJoined, "device_joined", "A device was admitted to the account"),
        change(DeviceRevoked, "device_revoked", "A device was revoked"),
        change(PluginRolledBack, "plugin_rolled_back", "A plugin was rolled back to the former one"),
        change(PluginStandInStarted, "plugin_stand_in_started", "A component under development stands in for a plugin"),
        change(PluginStandInEnded, "plugin_stand_in_ended", "A component under development no longer stands in"),
    ]
};

impl EventKind {
    /// Returns the row of the table that describes this kind.
    pub fn row(self) -> &'static EventKindRow {
        // A test checks that each kind has its row.
        EVENT_KINDS.iter().find(|row| row.kind == self).unwrap_or(&EVENT_KINDS[0])
    }

    /// Returns the kind with this name in the API, or `None` if no kind has it.
    pub fn from_name(name: &str) -> Option<Self> {
        EVENT_KINDS.iter().find(|row| row.name == name).map(|row| row.kind)
    }

    /// Returns the code that stands for this kind in files.
    pub fn code(self) -> u8 {
        match self {
            Self::Use(outcome) => outcome as u8,
            Self::Change(change) => change as u8,
        }
    }

    /// Returns the kind with this code in files.
    fn from_code(code: u8) -> Option<Self> {
        EVENT_KINDS.iter().map(|row| row.kind).find(|kind| kind.code() == code)
    }
}

impl Outcome {
    fn row(self) -> &'static EventKindRow {
        EventKind::Use(self).row()
    }

    /// Returns the name in the API.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Returns the outcome with this code in files, or `None` for the code of a change and for an unknown one.
    pub fn from_code(code: u8) -> Option<Self> {
        match EventKind::from_code(code) {
            Some(EventKind::Use(outcome)) => Some(outcome),
            _ => None,
        }
    }

    /// Returns the class of this outcome.
    pub fn class(self) -> Class {
        self.row().class
    }

    /// Reports whether the caller got nothing.
    pub fn is_refusal(self) -> bool {
        self.class() == Class::Refusal
    }

    /// Returns every outcome that is a refusal.
    pub fn refusals() -> impl Iterator<Item = Self> {
        EVENT_KINDS.iter().filter_map(|row| match row.kind {
            EventKind::Use(outcome) if row.class == Class::Refusal => Some(outcome),
            _ => None,
        })
    }
}

impl ChangeKind {
    /// Returns the name in the API.
    pub fn name(self) -> &'static str {
        EventKind::Change(self).row().name
    }

    /// Returns the change with this code in files, or `None` for the code of a use and for an unknown one.
    pub fn from_code(code: u8) -> Option<Self> {
        match EventKind::from_code(code) {
            Some(EventKind::Change(change)) => Some(change),
            _ => None,
        }
    }
}

/// A name that no secret, former name or template has. The name itself is never recorded, because a caller may have
/// sent a value in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnknownName {
    /// A keyed hash of the name in lower case: the first eight bytes of its HMAC-SHA-256 under a key of the vault.
    Hash([u8; 8]),
    /// Stands for all names beyond the number that is told apart.
    Other,
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A name cannot hold a colon, so this never collides with one.
            Self::Hash(hash) => write!(f, "unknown:{}", data_encoding::HEXLOWER.encode(hash)),
            Self::Other => f.write_str("unknown:other"),
        }
    }
}

/// The secret or name that a use is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A secret, by its id; its name is not recorded.
    Secret(SecretId),
    /// A name that a template uses but no secret has. Empty if the caller gave no name at all.
    Name(&'a str),
    /// A name that no secret, former name or template has.
    Unknown(UnknownName),
}

/// One answer or refusal, as it is recorded.
#[derive(Clone, Debug)]
pub struct RequestEvent<'a> {
    /// The time of the request, in milliseconds since the Unix epoch.
    pub time: Millis,
    /// How the request ended.
    pub outcome: Outcome,
    /// The process that asked.
    pub caller: &'a Caller,
    /// The id of the template; `None` for a raw resolve.
    pub template: Option<&'a str>,
    /// The target; `None` if the request has none.
    pub target: Option<&'a str>,
    /// For a caller without the right: method and path of the route that it asked for, without the variable parts of
    /// the path.
    pub route: Option<&'a str>,
    /// One entry for each slot that a secret was part of.
    pub uses: &'a [RecordedUse<'a>],
}

/// A secret or name in one field of a config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordedUse<'a> {
    /// The secret or name that was used.
    pub subject: Subject<'a>,
    /// The field of the config.
    pub field: &'a str,
}

/// An event as it was read back from a journal record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// The time of the request, in milliseconds since the Unix epoch.
    pub time: Millis,
    /// How the request ended.
    pub outcome: Outcome,
    /// The caller's user, as a numeric id.
    pub uid: u32,
    /// The caller's group, as a numeric id.
    pub gid: u32,
    /// The caller's process id; 0 if it was not known.
    pub pid: u32,
    /// The path of the caller's executable; empty if it was not known.
    pub exe: &'a str,
    /// The id of the template; `None` for a raw resolve.
    pub template: Option<&'a str>,
    /// The target; `None` if the request had none.
    pub target: Option<&'a str>,
    /// Method and path of the route, if the caller lacked the right to it.
    pub route: Option<&'a str>,
    /// The uses in this record. A large event is split over several records.
    pub uses: Vec<RecordedUse<'a>>,
    /// How many uses of unknown names the request had. Together they are one event of the trail. 0 if an earlier record
    /// of the same request has counted them. `None` if each is an event of its own.
    unknown_uses: Option<u32>,
}

/// An event of the trail: one use, or all unknown names of one request together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    /// The use. If it stands for several different names, its subject is [`UnknownName::Other`].
    pub usage: RecordedUse<'a>,
    /// How many uses this event stands for.
    pub uses: u32,
}

impl<'a> Decoded<'a> {
    /// Returns the uses that are counted: every use, and for a refusal without uses a single one without a name.
    pub fn counted(&self) -> &[RecordedUse<'a>] {
        const NAMELESS: [RecordedUse<'static>; 1] = [RecordedUse { subject: Subject::Name(""), field: "" }];
        if self.uses.is_empty() && self.outcome.is_refusal() { &NAMELESS } else { &self.uses }
    }

    /// Returns the events of the trail: one for each use, except that all unknown names of a request are one event.
    pub fn listed(&self) -> impl Iterator<Item = Listed<'a>> {
        let mut unknown_uses = self.unknown_uses;
        let mut unknown = self.unknown_names();
        let first = unknown.next().unwrap_or(UnknownName::Other);
        let name = if unknown.all(|name| name == first) { first } else { UnknownName::Other };
        self.counted().iter().copied().filter_map(move |usage| match (usage.subject, unknown_uses) {
            (Subject::Unknown(_), Some(0)) => None,
            (Subject::Unknown(_), Some(uses)) => {
                unknown_uses = Some(0);
                Some(Listed { usage: RecordedUse { subject: Subject::Unknown(name), field: "" }, uses })
            }
            _ => Some(Listed { usage, uses: 1 }),
        })
    }

    /// Returns how many events [`Self::listed`] returns.
    pub fn listed_count(&self) -> usize {
        let total = self.counted().len();
        match (self.unknown_uses, self.unknown_names().count()) {
            (None, _) | (_, 0) => total,
            (Some(uses), unknown) => total - unknown + usize::from(uses > 0),
        }
    }

    /// Returns the subjects that are unknown names.
    pub fn unknown_names(&self) -> impl Iterator<Item = UnknownName> {
        self.uses.iter().filter_map(|usage| match usage.subject {
            Subject::Unknown(name) => Some(name),
            _ => None,
        })
    }
}

/// The length up to which a text is recorded whole, in bytes; a longer one is cut off.
const TEXT_MAX: usize = 1024;
/// The length that stands for an absent text.
const NONE: u16 = u16::MAX;

/// The tags in a record. A tag comes before a use and gives the kind of its subject, or before something that applies
/// to all uses.
mod tag {
    pub(super) const NAME: u8 = 0;
    pub(super) const SECRET: u8 = 1;
    pub(super) const HASH: u8 = 2;
    pub(super) const OTHER: u8 = 3;
    /// How many uses of unknown names are one event.
    pub(super) const TOGETHER: u8 = 4;
    pub(super) const ROUTE: u8 = 5;
}

/// Appends the event to `out` with the first of `uses` that fit into `max` bytes, but at least one, and returns how
/// many. `uses` is the part of `event.uses`, up to its end, that has not been written yet.
pub fn encode(event: &RequestEvent<'_>, uses: &[RecordedUse<'_>], max: usize, out: &mut Vec<u8>) -> usize {
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
    let is_unknown = |usage: &&RecordedUse<'_>| matches!(usage.subject, Subject::Unknown(_));
    let unknown = event.uses.iter().filter(is_unknown).count();
    if unknown > 1 {
        // The first record that has any of them counts for all.
        let is_counted = event.uses[..event.uses.len() - uses.len()].iter().any(|usage| is_unknown(&usage));
        out.push(tag::TOGETHER);
        out.extend_from_slice(&(if is_counted { 0 } else { unknown as u32 }).to_le_bytes());
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

/// Decodes a record, or returns `None` if it is not one.
pub fn decode(record: &[u8]) -> Option<Decoded<'_>> {
    let mut reader = EventReader(record);
    let [outcome] = reader.array()?;
    let outcome = Outcome::from_code(outcome)?;
    let time = u64::from_le_bytes(reader.array()?);
    let uid = u32::from_le_bytes(reader.array()?);
    let gid = u32::from_le_bytes(reader.array()?);
    let pid = u32::from_le_bytes(reader.array()?);
    let exe = reader.text()??;
    let template = reader.text()?;
    let target = reader.text()?;
    let (mut route, mut unknown_uses, mut uses) = (None, None, Vec::new());
    while !reader.0.is_empty() {
        let [tag] = reader.array()?;
        let subject = match tag {
            tag::NAME => Subject::Name(reader.text()??),
            tag::SECRET => Subject::Secret(SecretId(reader.array()?)),
            tag::HASH => Subject::Unknown(UnknownName::Hash(reader.array()?)),
            tag::OTHER => Subject::Unknown(UnknownName::Other),
            tag::TOGETHER => {
                unknown_uses = Some(u32::from_le_bytes(reader.array()?));
                continue;
            }
            tag::ROUTE => {
                route = reader.text()?;
                continue;
            }
            _ => return None,
        };
        uses.push(RecordedUse { subject, field: reader.text()?? });
    }
    Some(Decoded { time, outcome, uid, gid, pid, exe, template, target, route, uses, unknown_uses })
}

struct EventReader<'a>(&'a [u8]);

impl<'a> EventReader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    /// Reads a text. Returns the outer `None` if the bytes are not a text, and the inner one if the text is absent.
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
            RecordedUse { subject: Subject::Secret(SecretId([7; 16])), field: "headers.A" },
            RecordedUse { subject: Subject::Name("missing"), field: "" },
            RecordedUse { subject: Subject::Unknown(UnknownName::Hash([9; 8])), field: "x" },
            RecordedUse { subject: Subject::Unknown(UnknownName::Other), field: "y" },
        ];
        let event = RequestEvent {
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

    /// All unknown names of a request are one event, in however many records they are written, and each of them counts.
    #[test]
    fn names_that_nothing_has_are_one_event_of_a_request() {
        let caller = caller();
        let unknown = |field| RecordedUse { subject: Subject::Unknown(UnknownName::Other), field };
        let mut uses = vec![RecordedUse { subject: Subject::Secret(SecretId([7; 16])), field: "a" }; 3];
        uses.extend(vec![unknown("b"); 700]);
        uses.push(RecordedUse { subject: Subject::Name("known"), field: "c" });
        for (uses, expected) in [
            (uses.as_slice(), vec![("a", 1), ("a", 1), ("a", 1), ("", 700), ("c", 1)]),
            (&uses[3..4], vec![("b", 1)]),
            (&uses[3..5], vec![("", 2)]),
        ] {
            let event = RequestEvent {
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
        // In records of the first version, each unknown name is an event of its own.
        let event = RequestEvent {
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

    /// The API, the console, the help and the documents follow the table, so a new kind cannot be forgotten in one of
    /// them.
    #[test]
    fn files_api_console_and_docs_follow_the_table() {
        let names = |of: &dyn Fn(&EventKindRow) -> bool| -> Vec<&str> {
            EVENT_KINDS.iter().filter(|row| of(row)).map(|row| row.name).collect()
        };
        for (index, row) in EVENT_KINDS.iter().enumerate() {
            // Files of earlier versions hold these codes: they count from 1, and an existing one never changes.
            let code = row.kind.code();
            assert_eq!(usize::from(code), index + 1, "{}", row.name);
            assert_eq!(EventKind::from_code(code), Some(row.kind));
            assert_eq!(EventKind::from_name(row.name), Some(row.kind));
            assert_eq!((row.kind.row().name, row.kind.row().text), (row.name, row.text));
            // A use is never read as a change, or the other way round.
            let (used, change) = (Outcome::from_code(code), ChangeKind::from_code(code));
            assert_eq!(
                (used.map(EventKind::Use), change.map(EventKind::Change)),
                match row.kind {
                    EventKind::Use(_) => (Some(row.kind), None),
                    EventKind::Change(_) => (None, Some(row.kind)),
                }
            );
            assert_eq!(row.class == Class::Change, change.is_some());
        }
        assert!(EventKind::from_code(0).is_none() && EventKind::from_code(EVENT_KINDS.len() as u8 + 1).is_none());
        for (index, (class, name, _)) in Class::ALL.into_iter().enumerate() {
            assert_eq!((class as usize, class.name(), Class::from_name(name)), (index, name, Some(class)));
        }
        let openapi = include_str!("../../../openapi.yaml");
        let all = format!(
            "    Outcome:\n      type: string\n      enum:\n{}",
            names(&|_| true).iter().map(|name| format!("        - {name}\n")).collect::<String>()
        );
        assert!(openapi.contains(&all), "the outcomes in openapi.yaml are not:\n{all}");
        let refusals = names(&|row| row.class == Class::Refusal);
        assert!(openapi.contains(&format!("outcome: {{ enum: [{}] }}", refusals.join(", "))), "refusals there");
        let classes = Class::ALL.map(|(_, name, _)| name);
        assert!(openapi.contains(&format!("enum: [{}]", classes.join(", "))), "the classes there");
        // clap's help texts are constants, so the names are written there by hand.
        let listed = |names: &[&str]| match names.split_last() {
            Some((last, first)) => format!("{} or {last}", first.join(", ")),
            None => String::new(),
        };
        let help = include_str!("../../../src/cli/usage.rs");
        assert!(help.contains(&listed(&names(&|row| row.class != Class::Change))), "the outcomes in `usage --help`");
        assert!(help.contains(&listed(&classes)), "the classes there");
        let docs = include_str!("../../../docs/usage.md");
        for row in EVENT_KINDS {
            let row = format!("| `{}` | {} | {} |\n", row.name, row.class.name(), row.text);
            assert!(docs.contains(&row), "docs/usage.md lacks {row}");
        }
    }

    #[test]
    fn a_large_event_is_written_in_parts() {
        let caller = caller();
        let field = "f".repeat(2000);
        let uses = vec![RecordedUse { subject: Subject::Secret(SecretId([7; 16])), field: &field }; 50];
        let event = RequestEvent {
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
