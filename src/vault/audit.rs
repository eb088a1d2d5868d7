//! What a change leaves in the audit trail: who wanted what, when, and how it ended.
//!
//! Never a value. A name only where something here has it, or had it: what nothing here has may be a value, and is
//! recorded as `UnknownName`. Knows no file: `trail` keeps the events, in the transaction of the change where
//! that changes the vault ([`super::store::Writes::changes`]), else in one of its own
//! ([`super::store::Vault::record`], [`super::usage::Recorder::record_changes`]).

use serde::{Deserialize, Serialize};

use super::event::{Caller, ChangeKind, UnknownName};
use super::record::Secret;
use crate::names::{Millis, SecretId, SecretName};

/// The longest text of an event that is recorded whole, in bytes.
const TEXT_MAX: usize = 1024;

/// Who makes a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The process that asked, by the kernel's word; of a console session, the one that asked for its link. Nothing
    /// where another device made the change.
    pub caller: Option<Caller>,
    /// The console session; not its cookie.
    pub session: Option<String>,
    /// The device of the account that made the change, where it was not this one.
    pub device: Option<DeviceRef>,
}

/// A device of the account, as it was called then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRef {
    /// Its id, in hexadecimal.
    pub id: String,
    /// What it was called.
    pub name: String,
}

impl Actor {
    /// A process on the socket.
    pub fn caller(caller: &Caller) -> Self {
        Self { caller: Some(caller.clone()), session: None, device: None }
    }

    /// This process: a daemon that acts by itself, or a command that opened the vault.
    pub fn own() -> Self {
        let exe = std::env::current_exe().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        Self::caller(&Caller {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            pid: std::process::id(),
            exe: exe.into(),
        })
    }

    /// A console session, of whoever asked for its link.
    pub fn session(caller: &Caller, id: &str) -> Self {
        Self { session: Some(id.to_owned()), ..Self::caller(caller) }
    }

    /// Another device of the account.
    pub fn device(id: &str, name: &str) -> Self {
        let device = DeviceRef { id: id.to_owned(), name: text(name) };
        Self { caller: None, session: None, device: Some(device) }
    }

    /// Names whose share of the trail an event of this actor counts to.
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

/// Names whose share of the trail an event of this user counts to.
pub(super) fn holder_of(uid: u32) -> Vec<u8> {
    [b"user\0".as_slice(), &uid.to_le_bytes()].concat()
}

/// What a change is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum About {
    /// The vault, the configuration or the account as a whole.
    #[default]
    Whole,
    /// A secret, as it was called then.
    Secret(SecretId, String),
    /// A name that no secret has, but a template or a former name is.
    Name(String),
    /// A name that nothing here has.
    Unknown(UnknownName),
    /// The plugin of a feature.
    Plugin(String),
    /// A device of the account.
    Device(DeviceRef),
}

/// One change, done or attempted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub time: Millis,
    /// What was changed.
    pub kind: ChangeKind,
    /// Who.
    pub actor: Actor,
    /// What it is about.
    pub about: About,
    /// What was there: a digest, a name, a version, a way to unlock.
    pub before: Option<String>,
    /// What is there instead.
    pub after: Option<String>,
    /// Why it was not done, as the API's code; nothing where it was.
    pub error: Option<String>,
}

impl Change {
    /// A change that is done, of nothing in particular.
    pub fn new(kind: ChangeKind, actor: &Actor, time: Millis) -> Self {
        Self { time, kind, actor: actor.clone(), about: About::Whole, before: None, after: None, error: None }
    }

    /// What leads from one form of a secret to the next, oldest first; nothing where both are the same to everybody.
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
            let (former, present) = (before.name.as_str(), after.name.as_str());
            changes.push(change(ChangeKind::SecretRenamed).before(former).after(present));
        }
        changes
    }

    /// The same about something.
    #[must_use]
    pub fn about(mut self, about: About) -> Self {
        self.about = about;
        self
    }

    /// The same about a secret, which is called so.
    #[must_use]
    pub fn of_secret(self, id: SecretId, name: &SecretName) -> Self {
        self.about(About::Secret(id, name.to_string()))
    }

    /// The same with what was there before: a digest, a name, a version. Never a value.
    #[must_use]
    pub fn before(mut self, before: impl Into<String>) -> Self {
        self.before = Some(text(&before.into()));
        self
    }

    /// The same with what is there instead. Never a value.
    #[must_use]
    pub fn after(mut self, after: impl Into<String>) -> Self {
        self.after = Some(text(&after.into()));
        self
    }

    /// The same, not done: with the code that the API has for the reason (`conflict`, `service_unavailable`, …).
    #[must_use]
    pub fn failed(mut self, code: &str) -> Self {
        self.error = Some(code.to_owned());
        self
    }
}

/// A text of bounded length.
fn text(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_MAX)].to_owned()
}

/// A change as it is kept, in JSON. What is absent is not there.
#[derive(Serialize, Deserialize)]
struct Kept {
    time: Millis,
    kind: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<(u32, u32, u32, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<DeviceRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<KeptAbout>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeptAbout {
    Secret([u8; 16], String),
    Name(String),
    Hash([u8; 8]),
    Other,
    Plugin(String),
    Device(DeviceRef),
}

impl Change {
    /// Returns it as it is kept; the caller seals it.
    ///
    /// # Errors
    /// When it cannot be serialized.
    pub(super) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let actor = &self.actor;
        let about = match &self.about {
            About::Whole => None,
            About::Secret(id, name) => Some(KeptAbout::Secret(id.0, text(name))),
            About::Name(name) => Some(KeptAbout::Name(text(name))),
            About::Unknown(UnknownName::Hash(hash)) => Some(KeptAbout::Hash(*hash)),
            About::Unknown(UnknownName::Other) => Some(KeptAbout::Other),
            About::Plugin(feature) => Some(KeptAbout::Plugin(text(feature))),
            About::Device(device) => Some(KeptAbout::Device(device.clone())),
        };
        let caller = actor.caller.as_ref();
        let kept = Kept {
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
        serde_json::to_vec(&kept)
    }

    /// Reads what `encode` wrote; nothing where it is a kind that this version does not know.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let kept: Kept = serde_json::from_slice(bytes).ok()?;
        let caller = kept.caller.map(|(uid, gid, pid, exe)| Caller { uid, gid, pid, exe: exe.into() });
        let about = match kept.about {
            None => About::Whole,
            Some(KeptAbout::Secret(id, name)) => About::Secret(SecretId(id), name),
            Some(KeptAbout::Name(name)) => About::Name(name),
            Some(KeptAbout::Hash(hash)) => About::Unknown(UnknownName::Hash(hash)),
            Some(KeptAbout::Other) => About::Unknown(UnknownName::Other),
            Some(KeptAbout::Plugin(feature)) => About::Plugin(feature),
            Some(KeptAbout::Device(device)) => About::Device(device),
        };
        Some(Self {
            time: kept.time,
            kind: ChangeKind::numbered(kept.kind)?,
            actor: Actor { caller, session: kept.session, device: kept.device },
            about,
            before: kept.before,
            after: kept.after,
            error: kept.error,
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
            About::Whole,
            About::Secret(SecretId([7; 16]), "a-name".into()),
            About::Name("missing".into()),
            About::Unknown(UnknownName::Hash([9; 8])),
            About::Unknown(UnknownName::Other),
            About::Plugin("mcp-server".into()),
            About::Device(device),
        ];
        for actor in &actors {
            for about in &abouts {
                let done = Change::new(ChangeKind::SecretRenamed, actor, 5).about(about.clone()).before("a").after("b");
                for change in [done.clone(), done.failed("conflict")] {
                    assert_eq!(Change::decode(&change.encode().unwrap()).as_ref(), Some(&change));
                }
            }
        }
        let own = Actor::own().caller.unwrap();
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
            let _ = Change::decode(&bytes);
        }
    }
}
