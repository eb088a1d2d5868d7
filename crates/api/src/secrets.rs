//! Secrets: rows of the inventory, their details and changes, and values by name.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The status of a row: whether the secret can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretStatus {
    /// The secret is enabled and has a value.
    Active,
    /// The secret is kept, but is not resolved.
    Disabled,
    /// A reference names it, but there is no such secret.
    Missing,
}

impl SecretStatus {
    /// All statuses, with their names in the API.
    pub const ALL: [(&'static str, Self); 3] =
        [("active", Self::Active), ("disabled", Self::Disabled), ("missing", Self::Missing)];

    /// Returns the name of the status in the API.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

/// A row of the inventory: a secret, or a name that references use although there is no such secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretView {
    /// The id of the secret, in hexadecimal. For a missing row it is null, like every field about the stored secret.
    pub id: Option<String>,
    /// The name as it was entered; for a missing row, as its first reference spells it.
    pub name: String,
    /// The status of the row.
    pub status: SecretStatus,
    /// Whether the secret can be resolved.
    pub enabled: Option<bool>,
    /// The number of references.
    pub usage_count: usize,
    /// The number of uses on all devices of the account that have reported.
    pub resolution_count: Option<u64>,
    /// The time of the last known use on any of these devices.
    pub last_used_at: Option<String>,
    /// The name of the device of the last use; null for this device.
    pub last_used_on: Option<String>,
    /// Whether every other device of the account has reported its uses in the last 15 minutes. If not, there may be
    /// uses that are not counted yet.
    pub usage_complete: Option<bool>,
    /// The time at which the secret was created.
    pub created_at: Option<String>,
    /// The time of the last change.
    pub updated_at: Option<String>,
    /// The number of the current version, counted from 1.
    pub version: Option<u32>,
    /// The former names of the secret.
    pub former_names: Option<Vec<String>>,
}

/// A reference: a place in a template that names a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceView {
    /// The name of the device that has the template; absent for this device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The id of the template.
    pub template: String,
    /// The line in the template's file; null if it is not known.
    pub line: Option<u32>,
    /// The column in that line; null if it is not known.
    pub column: Option<u32>,
    /// The field of the config; null if it is not known (a branch that was not taken, a broken template).
    pub field: Option<String>,
    /// The name as the template spells it; null if it is not known.
    pub name: Option<String>,
}

/// A secret after a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedSecret {
    /// The row of the secret.
    #[serde(flatten)]
    pub secret: SecretView,
    /// The entity tag of this state of the secret, which travels in the header `ETag`.
    #[serde(skip)]
    pub etag: Option<String>,
    /// The ids of the templates that were rewritten; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rewritten: Vec<String>,
}

/// A version of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionView {
    /// The number of the version, counted from 1.
    pub version: u32,
    /// The time at which it was created.
    pub created_at: String,
    /// Whether this version is the one that is served.
    pub current: bool,
}

/// A secret, with everything that is known about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretDetail {
    /// The row of the secret.
    #[serde(flatten)]
    pub secret: SecretView,
    /// The places that reference the secret.
    pub references: Vec<ReferenceView>,
    /// The versions, the newest first; empty for a missing row.
    pub versions: Vec<VersionView>,
    /// The uses of the secret, and the refusals.
    pub usage: SecretUsageView,
    /// The entity tag of this state of the secret, which travels in the header `ETag`; `None` for a missing row.
    #[serde(skip)]
    pub etag: Option<String>,
}

/// The uses of a secret, and the refusals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUsageView {
    /// By place, the most uses first.
    pub by_template: Vec<PlaceUsage>,
    /// By caller, the most uses first.
    pub by_caller: Vec<CallerUsage>,
    /// By day in UTC, the newest first; at most 90 days.
    pub by_day: Vec<DayUsage>,
    /// The reports of the account's other devices, by the device's name; empty without an account.
    pub by_device: Vec<DeviceUsage>,
    /// By reason, place and caller, the most frequent first. Includes refusals of the name while no secret had it.
    pub refusals: Vec<RefusalCount>,
}

/// The uses in one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceUsage {
    /// The id of the template; null if the secret was resolved by name.
    pub template: Option<String>,
    /// The field of the config; null if it is not known, or if the secret was resolved by name.
    pub field: Option<String>,
    /// The name of the target; null if there is none.
    pub target: Option<String>,
    /// The number of uses in this place.
    pub count: u64,
    /// The time of the last use; null if it is not known.
    pub last_used_at: Option<String>,
}

/// The uses by one program of one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerUsage {
    /// The number of the user, as reported by the kernel.
    pub uid: u32,
    /// The path of the executable; empty if it is not known.
    pub exe: String,
    /// The number of uses by this caller.
    pub count: u64,
    /// The time of the last use.
    pub last_used_at: String,
}

/// The uses on one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayUsage {
    /// The day in UTC, as `YYYY-MM-DD`.
    pub day: String,
    /// The number of uses on this day.
    pub count: u64,
}

/// The uses of a secret on another device of the account, as it reported them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceUsage {
    /// The name of the device.
    pub device: String,
    /// The number of uses; null if the device has reported nothing about this secret.
    pub count: Option<u64>,
    /// The time of the last use; null if there is none.
    pub last_used_at: Option<String>,
    /// The time of the report; null if `count` is.
    pub told_at: Option<String>,
    /// Whether the report is from the last 15 minutes. If not, the device may have used the secret since.
    pub recent: bool,
}

/// The refusals of one kind, in one place, to one program of one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalCount {
    /// The reason for the refusals: `missing`, `disabled`, `unfit` or `forbidden`.
    pub outcome: Cow<'static, str>,
    /// The id of the template; null if the secret was requested by name.
    pub template: Option<String>,
    /// The field of the config; null if it is not known, or if the secret was requested by name.
    pub field: Option<String>,
    /// The name of the target; null if there is none.
    pub target: Option<String>,
    /// The number of the user, as reported by the kernel.
    pub uid: u32,
    /// The path of the executable; empty if it is not known.
    pub exe: String,
    /// The number of refusals of this kind.
    pub count: u64,
    /// The time of the last refusal.
    pub last_at: String,
}

/// The body of a request that creates a secret.
#[derive(Serialize)]
pub struct CreateSecret<'a> {
    /// The name: 1 to 128 ASCII letters, digits, `.`, `_` or `-`, beginning with a letter or a digit.
    pub name: &'a str,
    /// The value: 1 byte to 64 KiB of UTF-8.
    pub value: &'a str,
    /// Whether the secret can be resolved.
    pub enabled: bool,
}

/// The body of a request that changes a secret. What is `None` stays as it is.
#[derive(Default, Serialize)]
pub struct UpdateSecret<'a> {
    /// The new name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    /// The new value, at most 64 KiB of UTF-8. An empty one leaves the present value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<&'a str>,
    /// Whether the secret can be resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Whether to write the present name into the templates that use a former one, all of them or none.
    pub rewrite: bool,
}

/// The body of a request that makes the value of a former version the current one.
#[derive(Debug, Serialize)]
pub struct RollBackSecret {
    /// The number of the version, counted from 1.
    pub version: u32,
}

/// The body of a request for values by name.
#[derive(Debug, Serialize)]
pub struct ResolveSecrets<'a> {
    /// The names of the secrets, 1 to 1000.
    pub secrets: &'a [&'a str],
    /// Whether a person will see the values. The audit trail then has a `secret_revealed` event for each.
    pub reveal: bool,
}

/// Values by name. Cannot be printed or written; the allocator of `guillemet-base` wipes the memory when it is freed.
#[derive(Deserialize)]
pub struct ResolvedValues {
    /// The values, by the names as the request spells them.
    pub secrets: BTreeMap<String, String>,
}
