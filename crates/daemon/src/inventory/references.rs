//! References between devices: publishes what this device's templates name, and shows what the templates of others
//! name.

use std::sync::Arc;
use std::time::Instant;

use super::sync::SyncedVault;
use super::views::{BlockerView, remote_reference};
use guillemet_account::engine::{Blocked, DeviceReference, References, Words};
use guillemet_api::secrets::ReferenceView;
use guillemet_base::names::SecretName;
use guillemet_template::catalog::{BlockReason, Catalog, Names, TemplateContent};
use guillemet_wire::DeviceId;

/// The most references that one device publishes, and the most bytes of texts that cannot be parsed: they must fit into
/// one record.
const REFERENCES_MAX: usize = 20_000;
const WORDS_MAX: usize = 1 << 20;

impl SyncedVault {
    /// Returns the references that other devices have published, with the name of each device.
    pub(in crate::inventory) fn references_of_others(&self) -> Vec<(Arc<str>, Arc<References>)> {
        let me = self.engine.me().device;
        let name =
            |device: DeviceId| self.engine.head().map_or_else(|| device.to_string(), |(head, _)| head.name_of(device));
        let others = self.engine.base().all_references().filter(|(device, _)| **device != me);
        let mut others: Vec<_> =
            others.map(|(device, references)| (name(*device).into(), Arc::clone(references))).collect();
        others.sort_by(|a: &(Arc<str>, _), b| a.0.cmp(&b.0));
        others
    }

    /// Returns the references on other devices to a name of a secret, as blockers of its removal.
    pub(in crate::inventory) fn references(&self, name: &SecretName) -> Vec<BlockerView> {
        let mut blockers = Vec::new();
        for (device, references) in self.references_of_others() {
            let reference = references.references.iter().filter(|reference| reference.matches(name));
            blockers.extend(reference.map(|reference| remote_view(&device, reference)));
        }
        blockers
    }
}

fn remote_view(device: &str, reference: &DeviceReference) -> BlockerView {
    BlockerView {
        reference: remote_reference(device, reference),
        message: format!("a template on `{device}` references it; remove the reference there"),
        reason: BlockReason::Referenced,
        retry_after_ms: None,
    }
}

pub(super) fn blocked_view(blocked: Blocked) -> BlockerView {
    let device = &blocked.device_name;
    let (reason, message) = match (&blocked.name, blocked.certain) {
        (_, true) => {
            (BlockReason::Referenced, format!("a template on `{device}` references it; remove the reference there"))
        }
        (Some(_), false) => (
            BlockReason::InBrokenText,
            format!(
                "the name appears in a file on `{device}` that has errors or is not a template; fix or remove it there"
            ),
        ),
        (None, false) => (
            BlockReason::Unknown,
            format!(
                "this cannot be read on `{device}`, so its references are unknown; make it readable or remove it there"
            ),
        ),
    };
    BlockerView {
        reference: ReferenceView {
            device: Some(blocked.device_name.clone()),
            template: blocked.template,
            line: blocked.position.map(|(line, _)| line),
            column: blocked.position.map(|(_, column)| column),
            field: None,
            name: blocked.name,
        },
        message,
        reason,
        retry_after_ms: None,
    }
}

/// Returns the references that this device publishes: what its templates name, and the words of files that cannot be
/// parsed. Files that vanished just now count, since git or an editor may be replacing them. What does not fit into one
/// record is published as unknown, which blocks every delete.
pub(super) fn local_references(catalog: &Catalog, now: Instant) -> References {
    let mut published = References::default();
    let mut words = 0;
    for template in catalog.files().chain(catalog.vanished(now)) {
        match &template.content {
            TemplateContent::Lexed(_) | TemplateContent::Broken { names: Names::References(_), .. } => {
                let references = template.references();
                if published.references.len() + references.len() > REFERENCES_MAX {
                    published.unknown.push(template.id.clone());
                    continue;
                }
                published.references.extend(references.iter().map(|reference| DeviceReference {
                    template: template.id.clone(),
                    line: reference.line,
                    column: reference.column,
                    name: reference.name.to_string(),
                }));
            }
            TemplateContent::Broken { names: Names::Text(text), .. } if words + text.len() <= WORDS_MAX => {
                words += text.len();
                published.texts.push(Words::of(&template.id, text));
            }
            TemplateContent::Broken { .. } => published.unknown.push(template.id.clone()),
        }
    }
    for stray in catalog.strays().chain(catalog.vanished_strays(now)) {
        match stray.text() {
            Ok("") => {}
            Ok(text) if words + text.len() <= WORDS_MAX => {
                words += text.len();
                published.texts.push(Words::of(&stray.path, text));
            }
            Ok(_) | Err(_) => published.unknown.push(stray.path.clone()),
        }
    }
    published.unknown.extend(catalog.unreadable());
    // The same content in another order, or with duplicates, must not count as a change.
    published.references.sort_unstable_by(|a, b| sort_key(a).cmp(&sort_key(b)));
    published.references.dedup();
    published.texts.sort_unstable_by(|a, b| (&a.template, &a.words).cmp(&(&b.template, &b.words)));
    published.texts.dedup();
    published.unknown.sort_unstable();
    published.unknown.dedup();
    published
}

fn sort_key(reference: &DeviceReference) -> (&str, u32, u32, &str) {
    (&reference.template, reference.line, reference.column, &reference.name)
}
