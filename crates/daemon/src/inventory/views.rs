//! The forms in which the inventory is shown: rows, references, versions.

use serde::{Serialize, Serializer};

use super::usage::UsageView;
use crate::resolve::snapshot::State;
use guillemet_account::engine::DeviceReference;
use guillemet_base::names::SecretName;
use guillemet_base::time::rfc3339;
use guillemet_secret::record::Secret;
use guillemet_template::catalog::{BlockReason, Blocker};

/// The status of a row: whether the secret can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The secret is enabled and has a value.
    Active,
    /// The secret is kept, but is not resolved.
    Disabled,
    /// A reference names it, but there is no such secret.
    Missing,
}

impl Status {
    /// All statuses, with the names that the API uses.
    pub const ALL: [(&'static str, Self); 3] =
        [("active", Self::Active), ("disabled", Self::Disabled), ("missing", Self::Missing)];
}

/// A row of the inventory, as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct SecretView {
    /// The id of the secret. For a missing row it is null, like every field about the stored secret.
    pub id: Option<String>,
    /// The name as it was entered; for a missing row, as its first reference spells it.
    pub name: String,
    /// The status of the row.
    pub status: Status,
    /// Whether the secret can be resolved.
    pub enabled: Option<bool>,
    /// The number of references.
    pub usage_count: usize,
    /// The number of uses on all devices of the account that have reported.
    pub resolution_count: Option<u64>,
    /// The time of the last known use on any of these devices, in RFC 3339.
    pub last_used_at: Option<String>,
    /// The name of the device of the last use; null for this device.
    pub last_used_on: Option<String>,
    /// Whether every other device of the account has reported its uses in the last 15 minutes. If not, there may be
    /// uses that are not counted yet.
    pub usage_complete: Option<bool>,
    /// The time at which the secret was created, in RFC 3339.
    pub created_at: Option<String>,
    /// The time of the last change, in RFC 3339.
    pub updated_at: Option<String>,
    /// The number of the current version.
    pub version: Option<u32>,
    /// The former names of the secret.
    pub former_names: Option<Vec<String>>,
}

/// A reference, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReferenceView {
    /// The name of the device that has the template; absent for this device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The id of the template.
    pub template: String,
    /// The line in the template's file, counted from 1; null if it is not known.
    pub line: Option<u32>,
    /// The column in characters, counted from 1; null if it is not known.
    pub column: Option<u32>,
    /// The field of the config; null if it is not known (a branch that was not taken, a broken template).
    pub field: Option<String>,
    /// The name as the template spells it; null if it is not known.
    pub name: Option<String>,
}

impl ReferenceView {
    /// Makes the view of a reference that another device has published.
    pub fn remote(device: &str, named: &DeviceReference) -> Self {
        Self {
            device: Some(device.to_owned()),
            template: named.template.clone(),
            line: Some(named.line),
            column: Some(named.column),
            field: None,
            name: Some(named.name.clone()),
        }
    }
}

/// A secret after a change.
#[derive(Clone, Debug, Serialize)]
pub struct Changed {
    /// The row of the secret.
    #[serde(flatten)]
    pub secret: SecretView,
    /// The HTTP entity tag of this state of the secret.
    #[serde(skip)]
    pub etag: String,
    /// The ids of the templates that were rewritten, if the change asked for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rewritten: Vec<String>,
}

/// A version of a secret, as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct VersionView {
    /// The number of the version, counted from 1.
    pub version: u32,
    /// The time at which it was created, in RFC 3339.
    pub created_at: String,
    /// Whether this version is the one that is served.
    pub current: bool,
}

/// A secret, with everything that is known about it.
#[derive(Clone, Debug, Serialize)]
pub struct SecretDetail {
    /// The row of the secret.
    #[serde(flatten)]
    pub secret: SecretView,
    /// The places that reference the secret.
    pub references: Vec<ReferenceView>,
    /// The versions, the newest first.
    pub versions: Vec<VersionView>,
    /// The uses of the secret, and the refusals.
    pub usage: UsageView,
    /// The HTTP entity tag of this state of the secret; `None` for a missing row.
    #[serde(skip)]
    pub etag: Option<String>,
}

/// A reason why a secret cannot be deleted, or a name cannot be taken away from it.
#[derive(Clone, Debug, Serialize)]
pub struct BlockerView {
    /// The reference, as far as it is known.
    #[serde(flatten)]
    pub reference: ReferenceView,
    /// What blocks the change and how to remove the blocker, for people.
    pub message: String,
    /// The kind of blocker; the API shows its code.
    #[serde(serialize_with = "code")]
    pub reason: BlockReason,
    /// The time after which to try again, in milliseconds; absent if waiting does not help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

fn code<S: Serializer>(reason: &BlockReason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(reason.code())
}

/// Returns the HTTP entity tag of a secret's state (RFC 9110, section 8.8.3). It is never derived from a value.
pub fn etag(secret: &Secret) -> String {
    format!("\"{}-{}\"", secret.id, secret.revision)
}

/// Returns the versions of a secret, the newest first.
pub(super) fn versions(secret: &Secret) -> Vec<VersionView> {
    let view = |version: &guillemet_secret::record::Version| VersionView {
        version: version.number,
        created_at: rfc3339(version.created_at),
        current: version.number == secret.current().number,
    };
    secret.versions.iter().rev().map(view).collect()
}

/// Returns the field that a reference is in; `None` if no plan of the template is known.
pub(super) fn field(state: &State, template: &str, line: u32, column: u32) -> Option<String> {
    let plan = state.templates.get(template)?.any_ready()?;
    let here = plan.uses.iter().find(|usage| (usage.line, usage.column) == (line, column))?;
    Some(here.field.clone())
}

/// Makes the view of a blocker for the secret that is called `name` now.
pub(super) fn blocker_view(blocker: Blocker, name: &SecretName, state: &State) -> BlockerView {
    let place = blocker.line.zip(blocker.column);
    BlockerView {
        message: blocker.message(name),
        reason: blocker.reason,
        retry_after_ms: blocker.retry_after().map(|wait| wait.as_millis() as u64),
        reference: ReferenceView {
            device: None,
            field: place.and_then(|(line, column)| field(state, &blocker.template, line, column)),
            template: blocker.template,
            line: blocker.line,
            column: blocker.column,
            name: blocker.name,
        },
    }
}
