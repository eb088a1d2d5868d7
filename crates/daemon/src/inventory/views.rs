//! The forms in which the inventory is shown: rows, references, versions.

use crate::resolve::snapshot::SnapshotState;
use guillemet_account::engine::DeviceReference;
use guillemet_api::secrets::{ReferenceView, VersionView};
use guillemet_base::names::SecretName;
use guillemet_base::time::rfc3339;
use guillemet_secret::record::Secret;
use guillemet_template::catalog::{BlockReason, Blocker};

/// Makes the view of a reference that another device has published.
pub(super) fn remote_reference(device: &str, reference: &DeviceReference) -> ReferenceView {
    ReferenceView {
        device: Some(device.to_owned()),
        template: reference.template.clone(),
        line: Some(reference.line),
        column: Some(reference.column),
        field: None,
        name: Some(reference.name.clone()),
    }
}

/// A reason why a secret cannot be deleted, or a name cannot be taken away from it.
#[derive(Clone, Debug)]
pub struct BlockerView {
    /// The reference, as far as it is known.
    pub reference: ReferenceView,
    /// What blocks the change and how to remove the blocker, for people.
    pub message: String,
    /// The kind of blocker; the API shows its code.
    pub reason: BlockReason,
    /// The time after which to try again, in milliseconds; absent if waiting does not help.
    pub retry_after_ms: Option<u64>,
}

/// Names a state of a secret, as an HTTP entity tag (RFC 9110, section 8.8.3): never made from a value.
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
pub(super) fn field(state: &SnapshotState, template: &str, line: u32, column: u32) -> Option<String> {
    let plan = state.templates.get(template)?.any_ready()?;
    let usage = plan.uses.iter().find(|usage| (usage.line, usage.column) == (line, column))?;
    Some(usage.field.clone())
}

/// Makes the view of a blocker for the secret that is called `name` now.
pub(super) fn blocker_view(blocker: Blocker, name: &SecretName, state: &SnapshotState) -> BlockerView {
    let position = blocker.line.zip(blocker.column);
    BlockerView {
        message: blocker.message(name),
        reason: blocker.reason,
        retry_after_ms: blocker.retry_after().map(|wait| wait.as_millis() as u64),
        reference: ReferenceView {
            device: None,
            field: position.and_then(|(line, column)| field(state, &blocker.template, line, column)),
            template: blocker.template,
            line: blocker.line,
            column: blocker.column,
            name: blocker.name,
        },
    }
}
