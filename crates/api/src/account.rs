//! The account, which the vaults of several devices share.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The state of sync with the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FlatStatus")]
pub struct AccountStatus {
    /// Whether this vault is in an account.
    pub joined: bool,
    /// `none`, `offline`, `connected`, `refused` (the server's state is not accepted) or `stopped` (until a person
    /// intervenes).
    pub state: Cow<'static, str>,
    /// The code of a refusal, such as `rollback` or `revoked`; null if there is none.
    pub code: Option<String>,
    /// The reason for the state, and what to do about it.
    pub message: Option<String>,
    /// The account; its fields are absent if this vault is in none.
    #[serde(flatten)]
    pub account: Option<AccountView>,
}

/// An [`AccountStatus`] as it is read. A flattened `Option` would be `None` if any field of the account were damaged.
#[derive(Deserialize)]
struct FlatStatus {
    joined: bool,
    state: Cow<'static, str>,
    code: Option<String>,
    message: Option<String>,
    #[serde(flatten)]
    account: Map<String, Value>,
}

impl TryFrom<FlatStatus> for AccountStatus {
    type Error = serde_json::Error;

    fn try_from(flat: FlatStatus) -> Result<Self, Self::Error> {
        let FlatStatus { joined, state, code, message, account } = flat;
        let account = if joined { Some(serde_json::from_value(Value::Object(account))?) } else { None };
        Ok(Self { joined, state, code, message, account })
    }
}

/// The account that a vault is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountView {
    /// The id of the account, in hexadecimal.
    pub account: String,
    /// The address of its server.
    pub server: String,
    /// The id of this device, in hexadecimal.
    pub device: String,
    /// The name of this device in the account.
    pub device_name: String,
    /// The number of devices, recovery codes included.
    pub devices: usize,
    /// The number of secrets in the account.
    pub secrets: usize,
    /// The number of the newest head that was verified; null if there is none yet.
    pub seq: Option<u64>,
    /// The epoch of that head's key.
    pub epoch: Option<u64>,
    /// The fingerprint words of that head.
    pub words: Option<String>,
    /// The time at which that head was made.
    pub head_made_at: Option<String>,
    /// The age of that head, in seconds.
    pub head_age_seconds: Option<u64>,
    /// The time of the server's last answer; null if it has not answered since the start.
    pub heard_at: Option<String>,
    /// The number of changes that the account does not have yet.
    pub pending: usize,
    /// What a person should know, the oldest first.
    pub notices: Vec<NoticeView>,
}

/// Something that a person should know about the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeView {
    /// The time at which it happened.
    pub at: String,
    /// What happened.
    pub message: String,
}

/// A device of the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceView {
    /// The id, in hexadecimal.
    pub id: String,
    /// The name in the account.
    pub name: String,
    /// The time at which it joined.
    pub joined_at: String,
    /// Whether it is this device.
    pub this: bool,
    /// Whether it is a recovery code.
    pub recovery: bool,
    /// The number of references that it published last; null if it has published none.
    pub references: Option<usize>,
    /// The head that the device knew when it published them.
    pub references_at_seq: Option<u64>,
    /// The time of its last usage report.
    pub usage_told_at: Option<String>,
}

/// An invitation for one device. The code is shown once, and admits whoever has it: it cannot be printed for debugging.
#[derive(Serialize, Deserialize)]
pub struct Invitation {
    /// The code, `gi1-…`.
    pub code: String,
    /// The seconds for which it is valid.
    pub expires_in: u64,
}

/// A recovery code, which is a device on paper. It opens the whole account: it cannot be printed for debugging.
#[derive(Serialize, Deserialize)]
pub struct RecoveryCode {
    /// The code, `gr1-…`.
    pub code: String,
    /// The number of the head that admitted it.
    pub seq: u64,
    /// The fingerprint words of that head.
    pub words: String,
    /// The time at which it was made.
    pub made_at: String,
}

/// A device that was revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedDevice {
    /// The id of the device, in hexadecimal.
    pub device: String,
    /// The names of the secrets that it could read.
    pub secrets: Vec<String>,
}

/// What a repair does about a server that was restored from a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RepairAction {
    /// Both have the same state.
    None,
    /// This device has a newer state, and publishes it again.
    Publish,
    /// The server has another state, and this device adopts it.
    Adopt,
}

impl RepairAction {
    /// Returns the name of the action in the API and in the audit trail.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Publish => "publish",
            Self::Adopt => "adopt",
        }
    }
}

/// A repair, proposed or done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairPlan {
    /// What it does.
    pub action: RepairAction,
    /// The number of the newest head that this device has verified.
    pub seq: u64,
    /// Its fingerprint words.
    pub words: String,
    /// The number of the server's newest head.
    pub server_seq: u64,
    /// Its fingerprint words, which confirm the repair.
    pub server_words: String,
    /// Whether the repair was done.
    pub done: bool,
}

/// This device has left the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftAccount {
    /// Whether the account knows. If not, another device has to revoke this one.
    pub told: bool,
}

/// What happens to a secret whose name is in this vault and in the account that it joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SameName {
    /// Both stay; this vault's is renamed to `NAME-2`.
    Both,
    /// The account's stays, and this vault's is dropped.
    Account,
    /// The value of this vault becomes the newest version of the account's.
    Mine,
}

/// The body of a request that creates, joins or recovers an account, depending on the code.
#[derive(Serialize)]
pub struct JoinAccount<'a> {
    /// The code: `gc1-…`, `gi1-…` or `gr1-…`.
    pub code: &'a str,
    /// The name of this device in the account, 1 to 64 bytes.
    pub name: &'a str,
    /// The address of the server; `None` for the one in the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<&'a str>,
    /// What happens to secrets with these names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub same_names: BTreeMap<String, SameName>,
    /// What happens to all other secrets that are on both sides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all_same_names: Option<SameName>,
}

impl<'a> JoinAccount<'a> {
    /// Makes the body of a request that decides about no secret that is on both sides.
    pub fn new(code: &'a str, name: &'a str, server: Option<&'a str>) -> Self {
        Self { code, name, server, same_names: BTreeMap::new(), all_same_names: None }
    }
}

/// The body of a request that proposes a repair, or does it.
#[derive(Debug, Default, Serialize)]
pub struct RepairAccount<'a> {
    /// The fingerprint words of the server's head, which a person has compared; `None` for a proposal.
    pub confirm: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_as_it_was_written_or_not_at_all() {
        let none = AccountStatus { joined: false, state: "none".into(), code: None, message: None, account: None };
        let account = AccountView {
            account: "a1".into(),
            server: "https://example.org".into(),
            device: "d1".into(),
            device_name: "office".into(),
            devices: 2,
            secrets: 3,
            seq: Some(4),
            epoch: None,
            words: Some("one two".into()),
            head_made_at: None,
            head_age_seconds: Some(5),
            heard_at: None,
            pending: 0,
            notices: vec![NoticeView { at: "now".into(), message: "m".into() }],
        };
        let joined = AccountStatus {
            joined: true,
            state: "refused".into(),
            code: Some("rollback".into()),
            message: Some("m".into()),
            account: Some(account),
        };
        for status in [&none, &joined] {
            let written = serde_json::to_string(status).unwrap();
            assert_eq!(serde_json::from_str::<AccountStatus>(&written).unwrap(), *status, "{written}");
        }
        let mut damaged = serde_json::to_value(&joined).unwrap();
        damaged["devices"] = "two".into();
        let error = serde_json::from_value::<AccountStatus>(damaged).unwrap_err().to_string();
        assert!(error.contains("two") && error.contains("usize"), "{error}");
        let half = r#"{"joined":true,"state":"connected","code":null,"message":null,"account":"a1"}"#;
        let error = serde_json::from_str::<AccountStatus>(half).unwrap_err().to_string();
        assert!(error.contains("missing field `server`"), "{error}");
    }
}
