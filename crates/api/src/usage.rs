//! The audit trail.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// An event of the audit trail: a use of a secret, its refusal, or a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// The time of the event.
    pub time: String,
    /// `answer`, `refusal` or `change`.
    pub class: Cow<'static, str>,
    /// What happened, such as `answered`, `missing` or `secret_renamed`.
    pub outcome: Cow<'static, str>,
    /// The error code of a change that was not made; null if it was.
    pub error: Option<String>,
    /// The present name of the secret, or the last name of a deleted one. For a name that no secret had: that name if a
    /// template has it, else `unknown:` and a keyed hash of it, or `unknown:other`.
    pub secret: Option<String>,
    /// The id of the secret, in hexadecimal; null if there was none.
    pub secret_id: Option<String>,
    /// The number of uses that the event stands for: more than one if no secret had the names of a request, 0 for a
    /// change.
    pub uses: u32,
    /// The id of the template; null for a resolve by name.
    pub template: Option<String>,
    /// The field of the config; null if there is none.
    pub field: Option<String>,
    /// The target of the render; null if there is none.
    pub target: Option<String>,
    /// The method and path that a caller may not use, with names in place of the parameters.
    pub route: Option<String>,
    /// The feature of the plugin, or the name of the device, that was changed.
    pub subject: Option<String>,
    /// The state before the change: a version, a name, a digest. Never a value.
    pub before: Option<String>,
    /// The state after the change. Never a value.
    pub after: Option<String>,
    /// The process that asked; for a console session, the one that asked for its link. Null if another device made the
    /// change.
    pub caller: Option<EventCaller>,
    /// The id of the console session, which is not its cookie.
    pub session: Option<String>,
    /// The device of the account that made the change; null for this one.
    pub device: Option<EventDevice>,
}

/// A process, as the kernel reported it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventCaller {
    /// The number of the user.
    pub uid: u32,
    /// The number of the group.
    pub gid: u32,
    /// The number of the process; 0 if it is not known.
    pub pid: u32,
    /// The path of the executable; empty if it is not known. It proves nothing.
    pub exe: String,
}

/// A device of the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventDevice {
    /// The id of the device, in hexadecimal.
    pub id: String,
    /// The name of the device at the time of the event.
    pub name: String,
}
