//! What the inventory shows: rows, references, versions.

use serde::{Serialize, Serializer};
use time::OffsetDateTime;

use super::usage::UsageView;
use crate::account::engine::Named;
use crate::names::{Millis, SecretName};
use crate::resolve::snapshot::State;
use crate::template::catalog::{Blocker, Reason};
use crate::vault::record::Secret;

/// Whether a secret can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Enabled, and has a value.
    Active,
    /// Kept, and refused to every resolution.
    Disabled,
    /// A reference names it and there is no value to be had.
    Missing,
}

impl Status {
    /// All of them, with the names the API uses.
    pub const ALL: [(&'static str, Self); 3] =
        [("active", Self::Active), ("disabled", Self::Disabled), ("missing", Self::Missing)];
}

/// A row of the inventory, as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct SecretView {
    /// The id; null for a missing row, as is everything that is kept with a secret.
    pub id: Option<String>,
    /// The name, as it was typed; for a missing row as its first reference spells it.
    pub name: String,
    /// Whether it can be used.
    pub status: Status,
    /// Whether it is enabled.
    pub enabled: Option<bool>,
    /// The number of active references.
    pub usage_count: usize,
    /// How often a value left the vault, on every device of the account that has reported.
    pub resolution_count: Option<u64>,
    /// When one last did, on any of them.
    pub last_used_at: Option<String>,
    /// The device where that was; null for this one.
    pub last_used_on: Option<String>,
    /// Whether every other device of the account has reported its use in the last 15 minutes. Where not, there may be
    /// uses that are not counted yet.
    pub usage_complete: Option<bool>,
    /// When it was created.
    pub created_at: Option<String>,
    /// When it last changed.
    pub updated_at: Option<String>,
    /// The number of its current version.
    pub version: Option<u32>,
    /// Names it had before.
    pub former_names: Option<Vec<String>>,
}

/// A reference, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReferenceView {
    /// The device it is on; absent for this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The template's id.
    pub template: String,
    /// Line in its file, from 1.
    pub line: Option<u32>,
    /// Column in characters, from 1.
    pub column: Option<u32>,
    /// The field of the config; null while it is not known (a branch not taken, a broken template).
    pub field: Option<String>,
    /// The name, as the template spells it.
    pub name: Option<String>,
}

impl ReferenceView {
    /// One that another device has told of.
    pub fn remote(device: &str, named: &Named) -> Self {
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

/// A changed secret.
#[derive(Clone, Debug, Serialize)]
pub struct Changed {
    /// The row.
    #[serde(flatten)]
    pub secret: SecretView,
    /// Names this state of it, as an HTTP entity tag.
    #[serde(skip)]
    pub etag: String,
    /// The templates that were rewritten, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rewritten: Vec<String>,
}

/// A version, as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct VersionView {
    /// Its number, from 1.
    pub version: u32,
    /// When it was created.
    pub created_at: String,
    /// Whether it is the one that is served.
    pub current: bool,
}

/// A secret with everything known about it.
#[derive(Clone, Debug, Serialize)]
pub struct SecretDetail {
    /// The row.
    #[serde(flatten)]
    pub secret: SecretView,
    /// Who names it.
    pub references: Vec<ReferenceView>,
    /// Newest first.
    pub versions: Vec<VersionView>,
    /// What was resolved.
    pub usage: UsageView,
    /// Names this state of it, as an HTTP entity tag; `None` for a missing row.
    #[serde(skip)]
    pub etag: Option<String>,
}

/// What stands in the way of a deletion.
#[derive(Clone, Debug, Serialize)]
pub struct BlockerView {
    /// The reference, as far as it is known.
    #[serde(flatten)]
    pub reference: ReferenceView,
    /// What it is and how to lift it.
    pub message: String,
    /// Its kind; the API has its code.
    #[serde(serialize_with = "code")]
    pub reason: Reason,
    /// When to try again, where waiting is enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

fn code<S: Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(reason.code())
}

/// Names a state of a secret, as an HTTP entity tag (RFC 9110, section 8.8.3): never made from a value.
pub fn etag(secret: &Secret) -> String {
    format!("\"{}-{}\"", secret.id, secret.revision)
}

/// The versions of a secret, newest first.
pub(super) fn versions(secret: &Secret) -> Vec<VersionView> {
    let view = |version: &crate::vault::record::Version| VersionView {
        version: version.number,
        created_at: rfc3339(version.created_at),
        current: version.number == secret.current().number,
    };
    secret.versions.iter().rev().map(view).collect()
}

/// The field a reference stands in, where a plan has told.
pub(super) fn field(state: &State, template: &str, line: u32, column: u32) -> Option<String> {
    let plan = state.templates.get(template)?.any_ready()?;
    let here = plan.uses.iter().find(|usage| (usage.line, usage.column) == (line, column))?;
    Some(here.field.clone())
}

/// What stands in the way of something done to the secret that is called `name` now.
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

/// A time as the API writes it: RFC 3339 in UTC with milliseconds.
pub fn rfc3339(at: Millis) -> String {
    let nanos = i128::from(at) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    // By hand: a long listing has three for each row, and a format is worked through at each of them.
    let mut text = String::with_capacity(24);
    let digits = |number: u16, count: u32, after: char, text: &mut String| {
        text.extend((0..count).rev().map(|place| char::from(b'0' + (number / 10u16.pow(place) % 10) as u8)));
        text.push(after);
    };
    // From 1970 to 9999: more is no `OffsetDateTime`.
    digits(time.year() as u16, 4, '-', &mut text);
    digits(u8::from(time.month()).into(), 2, '-', &mut text);
    digits(time.day().into(), 2, 'T', &mut text);
    digits(time.hour().into(), 2, ':', &mut text);
    digits(time.minute().into(), 2, ':', &mut text);
    digits(time.second().into(), 2, '.', &mut text);
    digits(time.millisecond(), 3, 'Z', &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_with_milliseconds() {
        for (at, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_795_428_000_123, "2026-11-23T10:00:00.123Z"),
            (1_709_251_199_009, "2024-02-29T23:59:59.009Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (Millis::MAX, "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(at), text);
        }
    }
}
