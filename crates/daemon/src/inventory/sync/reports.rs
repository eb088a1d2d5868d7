//! Usage reports of devices: one sealed document for each device, of which only the newest counts.
//!
//! Opens and stores the reports; `uses` adds them up, and `sync::usage` sends and fetches them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::AccountError;
use super::joined::{SyncedVault, USAGE};
use crate::inventory::Inventory;
use guillemet_account::engine::Engine;
use guillemet_account::seal::BoxKind;
use guillemet_base::names::{Millis, SecretId};
use guillemet_vault::store::VaultError;
use guillemet_vault::usage::{AllTotals, Totals};
use guillemet_wire::DeviceId;

/// The usage of one device, as it reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageReport {
    /// The device that made the report.
    pub device: DeviceId,
    /// The number of the report, which increases with each report of the device.
    pub counter: u64,
    /// The time at which it was made, by the device's clock.
    pub at: Millis,
    totals: AllTotals,
}

/// The form in which a report is sealed.
#[derive(Serialize, Deserialize)]
struct ReportDocument {
    at: Millis,
    /// The number of uses and the last use of each secret.
    secrets: BTreeMap<String, (u64, Option<Millis>)>,
}

impl UsageReport {
    /// The most secrets in one report. If there are more, it contains those used last. The limit exists because the
    /// reports of all devices come in one response.
    pub const SECRETS_MAX: usize = 10_000;

    /// Returns the report of a device with these totals.
    pub fn of_device(device: DeviceId, counter: u64, at: Millis, totals: &AllTotals) -> Self {
        let totals = if totals.len() <= Self::SECRETS_MAX {
            totals.clone()
        } else {
            let mut used: Vec<_> = totals.iter().map(|(id, totals)| (*id, *totals)).collect();
            used.sort_unstable_by_key(|(_, totals)| Reverse(totals.last_used));
            used.truncate(Self::SECRETS_MAX);
            used.into_iter().collect()
        };
        Self { device, counter, at, totals }
    }

    /// Reads what [`Self::to_bytes`] wrote; `None` if it is anything else.
    pub fn read(device: DeviceId, counter: u64, bytes: &[u8]) -> Option<Self> {
        let document: ReportDocument = serde_json::from_slice(bytes).ok()?;
        let entry = |(id, (count, last_used)): (String, (u64, Option<Millis>))| {
            let id = data_encoding::HEXLOWER.decode(id.as_bytes()).ok()?.try_into().ok()?;
            Some((SecretId(id), Totals { count, last_used }))
        };
        Some(Self {
            device,
            counter,
            at: document.at,
            totals: document.secrets.into_iter().filter_map(entry).collect(),
        })
    }

    /// Returns the bytes to seal.
    ///
    /// # Errors
    /// If the report cannot be serialized.
    pub fn to_bytes(&self) -> Result<Vec<u8>, VaultError> {
        let entry = |(id, totals): (&SecretId, &Totals)| (id.to_string(), (totals.count, totals.last_used));
        let document = ReportDocument { at: self.at, secrets: self.totals.iter().map(entry).collect() };
        serde_json::to_vec(&document).map_err(VaultError::Unserializable)
    }

    /// Returns the uses of a secret; `None` if the report says nothing about it, because a full report leaves secrets
    /// out.
    pub fn of(&self, secret: SecretId) -> Option<Totals> {
        let totals = self.totals.get(&secret).copied();
        totals.or_else(|| (self.totals.len() < Self::SECRETS_MAX).then(Totals::default))
    }

    /// Returns whether it counts the same uses as another.
    pub fn has_same_counts(&self, other: &Self) -> bool {
        self.totals == other.totals
    }

    fn open(engine: &Engine, upload: &guillemet_wire::UsageUpload) -> Option<Self> {
        let key = engine.key_of(upload.epoch)?;
        let plain =
            key.open(BoxKind::Usage, engine.me().account, upload.device.0, upload.counter, &upload.sealed).ok()?;
        Self::read(upload.device, upload.counter, &plain)
    }
}

/// A report in sealed and in opened form.
pub(super) struct StoredReport {
    sealed: guillemet_wire::UsageUpload,
    report: Arc<UsageReport>,
}

impl StoredReport {
    /// Opens reports, and drops those that do not open, because a server can send anything.
    pub(super) fn open_all(engine: &Engine, uploads: Vec<guillemet_wire::UsageUpload>) -> Vec<Self> {
        let open = |sealed: guillemet_wire::UsageUpload| {
            let report = Arc::new(UsageReport::open(engine, &sealed)?);
            Some(Self { sealed, report })
        };
        uploads.into_iter().filter_map(open).collect()
    }
}

impl SyncedVault {
    /// Returns the report of each other device of the account, ordered by the device's name; `None` if it has not
    /// reported yet. Leaves out recovery codes, which use nothing.
    pub(in crate::inventory) fn reports_of_others(&self) -> Vec<(Arc<str>, Option<Arc<UsageReport>>)> {
        let me = self.engine.me().device;
        let Some((head, _)) = self.engine.head() else { return Vec::new() };
        let others = head.devices.iter().filter(|device| device.id != me && !device.paper);
        let report = |id: DeviceId| {
            let stored = self.usage.iter().find(|stored| stored.report.device == id);
            stored.map(|stored| Arc::clone(&stored.report))
        };
        let mut others: Vec<_> = others.map(|device| (device.name.as_str().into(), report(device.id))).collect();
        others.sort_by(|a: &(Arc<str>, _), b| a.0.cmp(&b.0));
        others
    }
}

impl Inventory {
    /// Returns the newest report of each device, including this one.
    pub fn reports(&self) -> Vec<Arc<UsageReport>> {
        let owned = self.lock();
        let reports = owned.sync.iter().flat_map(|synced| &synced.usage);
        reports.map(|stored| Arc::clone(&stored.report)).collect()
    }

    /// Stores reports that can be opened and are newer than the known ones.
    ///
    /// # Errors
    /// [`AccountError::None`] without an account, [`AccountError::Inventory`] if the vault cannot be written.
    pub fn keep_reports(&self, uploads: Vec<guillemet_wire::UsageUpload>) -> Result<(), AccountError> {
        let mut owned = self.lock();
        let synced = owned.sync.as_mut().ok_or(AccountError::None)?;
        let is_known = |upload: &guillemet_wire::UsageUpload| {
            synced
                .usage
                .iter()
                .any(|stored| stored.report.device == upload.device && stored.report.counter >= upload.counter)
        };
        let newer: Vec<_> = uploads.into_iter().filter(|upload| !is_known(upload)).collect();
        let newer = StoredReport::open_all(&synced.engine, newer);
        if newer.is_empty() {
            return Ok(());
        }
        synced.usage.retain(|stored| !newer.iter().any(|newer| newer.report.device == stored.report.device));
        synced.usage.extend(newer);
        let sealed: Vec<&guillemet_wire::UsageUpload> = synced.usage.iter().map(|stored| &stored.sealed).collect();
        let bytes = serde_json::to_vec(&sealed).map_err(VaultError::Unserializable)?;
        Ok(owned.vault.set_document(USAGE, &bytes)?)
    }
}
