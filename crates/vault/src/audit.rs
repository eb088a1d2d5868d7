//! The events that changes leave in the audit trail: who wanted to change what, when, and how it ended.
//!
//! An event never holds a value. It holds a name only if something here has the name or had it: a name that nothing
//! here has may be a value, and is recorded as [`UnknownName`]. Knows nothing of files: `trail` keeps the events. It
//! writes them in the transaction of the change if that changes the vault ([`super::store::Writes::changes`]),
//! otherwise in a transaction of its own ([`super::store::Vault::record`], [`super::usage::Recorder::record_changes`]).

use serde::{Deserialize, Serialize};

use super::event::{Caller, ChangeKind, UnknownName};
use guillemet_base::names::{Millis, SecretId, SecretName};
use guillemet_secret::record::Secret;

/// The length up to which a text of an event is recorded whole, in bytes; a longer one is cut off.
const TEXT_MAX: usize = 1024;

/// Who makes a change: a process, a console session, or another device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The process that asked, as reported by the kernel; for a console session, the process that asked for its link.
    /// `None` if another device made the change.
    pub caller: Option<Caller>,
    /// The id of the console session, which is not its cookie; `None` outside of the console.
    pub session: Option<String>,
    /// The device of the account that made the change; `None` if it was this one.
    pub device: Option<DeviceRef>,
}

/// A device of the account, with the name it had when it was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRef {
    /// The device's id, in hexadecimal.
    pub id: String,
    /// The name at the time of the event.
    pub name: String,
}

impl Actor {
    /// Returns the actor for a process that connected to the socket.
    pub fn caller(caller: &Caller) -> Self {
        Self { caller: Some(caller.clone()), session: None, device: None }
    }

    /// Returns the actor for this process: a daemon that acts by itself, or a command that opened the vault.
    pub fn this_process() -> Self {
        let exe = std::env::current_exe().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        Self::caller(&Caller {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            pid: std::process::id(),
            exe: exe.into(),
        })
    }

    /// Returns the actor for a console session; `caller` is the process that asked for its link.
    pub fn session(caller: &Caller, id: &str) -> Self {
        Self { session: Some(id.to_owned()), ..Self::caller(caller) }
    }

    /// Returns the actor for another device of the account.
    pub fn device(id: &str, name: &str) -> Self {
        let device = DeviceRef { id: id.to_owned(), name: text(name) };
        Self { caller: None, session: None, device: Some(device) }
    }

    /// Returns the key of the holder whose share of the trail this actor's events use up.
    pub(super) fn holder(&self) -> Vec<u8> {
        match (&self.caller, &self.device) {
            (Some(caller), _) => holder_of(caller.uid),
            (None, device) => {
                let id = device.as_ref().map(|device| device.id.as_bytes()).unwrap_or_default();
                [b"device\0", id].concat()
            }
        }
    }
}

/// Returns the key of the holder whose share of the trail this user's events use up.
pub(super) fn holder_of(uid: u32) -> Vec<u8> {
    [b"user\0".as_slice(), &uid.to_le_bytes()].concat()
}

/// What a change is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ChangeSubject {
    /// The vault, the configuration or the account as a whole.
    #[default]
    Whole,
    /// A secret: its id and the name it had then.
    Secret(SecretId, String),
    /// A name that no secret has now, but that a template uses or a secret had before.
    Name(String),
    /// A name that no secret, former name or template has.
    Unknown(UnknownName),
    /// The plugin of this feature.
    Plugin(String),
    /// A device of the account.
    Device(DeviceRef),
}

/// One change, done or attempted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditChange {
    /// The time of the change, in milliseconds since the Unix epoch.
    pub time: Millis,
    /// The kind of the change.
    pub kind: ChangeKind,
    /// Who made the change or tried to.
    pub actor: Actor,
    /// The secret, plugin or device that the change is about.
    pub about: ChangeSubject,
    /// The former state: a digest, a name, a version or an unlock method. Never a value.
    pub before: Option<String>,
    /// The new state, in the same terms as `before`.
    pub after: Option<String>,
    /// The error code of the API that says why the change failed; `None` if it was made.
    pub error: Option<String>,
}

impl AuditChange {
    /// Returns a change that was made and is about nothing in particular.
    pub fn new(kind: ChangeKind, actor: &Actor, time: Millis) -> Self {
        Self { time, kind, actor: actor.clone(), about: ChangeSubject::Whole, before: None, after: None, error: None }
    }

    /// Returns the changes that lead from one revision of a secret to the next. Without `before`, the secret was
    /// created. The list is empty if the two do not differ in value, state or name.
    pub fn between(before: Option<&Secret>, after: &Secret, actor: &Actor, time: Millis) -> Vec<Self> {
        let change = |kind| Self::new(kind, actor, time).of_secret(after.id, &after.name);
        let Some(before) = before else {
            return vec![change(ChangeKind::SecretCreated)];
        };
        let mut changes = Vec::new();
        let version = |secret: &Secret| secret.current().number.to_string();
        if before.current().id != after.current().id {
            changes.push(change(ChangeKind::SecretRotated).before(version(before)).after(version(after)));
        }
        if before.enabled != after.enabled {
            let kind = if after.enabled { ChangeKind::SecretEnabled } else { ChangeKind::SecretDisabled };
            changes.push(change(kind));
        }
        if before.name.as_str() != after.name.as_str() {
            let (previous, present) = (before.name.as_str(), after.name.as_str());
            changes.push(change(ChangeKind::SecretRenamed).before(previous).after(present));
        }
        changes
    }

    /// Sets what the change is about.
    #[must_use]
    pub fn about(mut self, about: ChangeSubject) -> Self {
        self.about = about;
        self
    }

    /// Sets the secret that the change is about, with its current name.
    #[must_use]
    pub fn of_secret(self, id: SecretId, name: &SecretName) -> Self {
        self.about(ChangeSubject::Secret(id, name.to_string()))
    }

    /// Sets the former state: a digest, a name or a version. Never a value.
    #[must_use]
    pub fn before(mut self, before: impl Into<String>) -> Self {
        self.before = Some(text(&before.into()));
        self
    }

    /// Sets the new state. Never a value.
    #[must_use]
    pub fn after(mut self, after: impl Into<String>) -> Self {
        self.after = Some(text(&after.into()));
        self
    }

    /// Marks the change as failed. `code` is the API's code for the reason (`conflict`, `service_unavailable`, …).
    #[must_use]
    pub fn failed(mut self, code: &str) -> Self {
        self.error = Some(code.to_owned());
        self
    }
}

/// Cuts a text to the length that is recorded.
fn text(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_MAX)].to_owned()
}

/// A change as it is stored, in JSON. Absent fields are left out.
#[derive(Serialize, Deserialize)]
struct StoredChange {
    time: Millis,
    kind: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<(u32, u32, u32, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<DeviceRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<StoredSubject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredSubject {
    Secret([u8; 16], String),
    Name(String),
    Hash([u8; 8]),
    Other,
    Plugin(String),
    Device(DeviceRef),
}

impl AuditChange {
    /// Returns it as it is kept; the caller seals it.
    ///
    /// # Errors
    /// When it cannot be serialized.
    pub(super) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let actor = &self.actor;
        let about = match &self.about {
            ChangeSubject::Whole => None,
            ChangeSubject::Secret(id, name) => Some(StoredSubject::Secret(id.0, text(name))),
            ChangeSubject::Name(name) => Some(StoredSubject::Name(text(name))),
            ChangeSubject::Unknown(UnknownName::Hash(hash)) => Some(StoredSubject::Hash(*hash)),
            ChangeSubject::Unknown(UnknownName::Other) => Some(StoredSubject::Other),
            ChangeSubject::Plugin(feature) => Some(StoredSubject::Plugin(text(feature))),
            ChangeSubject::Device(device) => Some(StoredSubject::Device(device.clone())),
        };
        let caller = actor.caller.as_ref();
        let stored = StoredChange {
            time: self.time,
            kind: self.kind as u8,
            caller: caller.map(|caller| (caller.uid, caller.gid, caller.pid, text(&caller.exe))),
            session: actor.session.clone(),
            device: actor.device.clone(),
            about,
            before: self.before.clone(),
            after: self.after.clone(),
            error: self.error.clone(),
        };
        serde_json::to_vec(&stored)
    }

    /// Decodes a stored change, or returns `None` if it is malformed or of a kind that this version does not know.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let stored: StoredChange = serde_json::from_slice(bytes).ok()?;
        let caller = stored.caller.map(|(uid, gid, pid, exe)| Caller { uid, gid, pid, exe: exe.into() });
        let about = match stored.about {
            None => ChangeSubject::Whole,
            Some(StoredSubject::Secret(id, name)) => ChangeSubject::Secret(SecretId(id), name),
            Some(StoredSubject::Name(name)) => ChangeSubject::Name(name),
            Some(StoredSubject::Hash(hash)) => ChangeSubject::Unknown(UnknownName::Hash(hash)),
            Some(StoredSubject::Other) => ChangeSubject::Unknown(UnknownName::Other),
            Some(StoredSubject::Plugin(feature)) => ChangeSubject::Plugin(feature),
            Some(StoredSubject::Device(device)) => ChangeSubject::Device(device),
        };
        Some(Self {
            time: stored.time,
            kind: ChangeKind::from_code(stored.kind)?,
            actor: Actor { caller, session: stored.session, device: stored.device },
            about,
            before: stored.before,
            after: stored.after,
            error: stored.error,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_change_comes_back() {
        let device = DeviceRef { id: "ab".into(), name: "laptop".into() };
        let caller = Caller { uid: 1, gid: 2, pid: 3, exe: "/usr/bin/guillemet".into() };
        let actors = [Actor::caller(&caller), Actor::session(&caller, "12ab"), Actor::device("ab", "laptop")];
        let abouts = [
            ChangeSubject::Whole,
            ChangeSubject::Secret(SecretId([7; 16]), "a-name".into()),
            ChangeSubject::Name("missing".into()),
            ChangeSubject::Unknown(UnknownName::Hash([9; 8])),
            ChangeSubject::Unknown(UnknownName::Other),
            ChangeSubject::Plugin("mcp-server".into()),
            ChangeSubject::Device(device),
        ];
        for actor in &actors {
            for about in &abouts {
                let done =
                    AuditChange::new(ChangeKind::SecretRenamed, actor, 5).about(about.clone()).before("a").after("b");
                for change in [done.clone(), done.failed("conflict")] {
                    assert_eq!(AuditChange::decode(&change.encode().unwrap()).as_ref(), Some(&change));
                }
            }
        }
        let own = Actor::this_process().caller.unwrap();
        assert_eq!((own.pid, own.uid), (std::process::id(), rustix::process::geteuid().as_raw()));
        assert!(!own.exe.is_empty());
    }

    #[test]
    fn users_and_devices_hold_their_own_shares() {
        let of = |uid| Actor::caller(&Caller { uid, gid: 0, pid: 0, exe: "".into() }).holder();
        assert_eq!(of(7), holder_of(7));
        assert_ne!(of(7), of(8));
        assert_ne!(Actor::device("a", "x").holder(), Actor::device("b", "x").holder());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = AuditChange::decode(&bytes);
        }
    }
}
