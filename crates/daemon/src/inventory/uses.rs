//! The number of uses of a secret and its last use, on every device of the account. All other code gets these numbers
//! from here.
//!
//! Adds what this device has counted to what the others have reported, and says where a report is missing or old.
//! Knows no server: reports come in by `sync`, and the totals of this device from its recorder.

use std::sync::Arc;

use super::sync::{SyncedVault, UsageReport};
use super::{Inventory, Owned};
use guillemet_api::secrets::DeviceUsage;
use guillemet_base::names::{Millis, SecretId};
use guillemet_base::time::{now, rfc3339};
use guillemet_vault::usage::{AllTotals, RecorderError, Totals};

/// A report older than this, in milliseconds, no longer says what its device uses. Devices in contact report at least
/// every ten minutes (`sync::usage`).
const RECENT: Millis = 15 * 60 * 1000;

/// The uses of every secret, on every device.
pub struct AllUses {
    local: Arc<AllTotals>,
    others: Vec<(Arc<str>, Option<Arc<UsageReport>>)>,
    now: Millis,
}

/// The uses of one secret, on every device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// The number of uses that are known.
    pub count: u64,
    /// The latest use that is known, with the name of the device; `None` for this device.
    pub last: Option<(Millis, Option<Arc<str>>)>,
    /// Whether every other device has reported recently. If not, there may be uses that are not counted yet.
    pub is_complete: bool,
}

impl AllUses {
    /// Combines the totals of this device with the reports of the others, each with the device's name.
    fn new(local: Arc<AllTotals>, others: Vec<(Arc<str>, Option<Arc<UsageReport>>)>, now: Millis) -> Self {
        Self { local, others, now }
    }

    /// Returns the uses of one secret.
    pub fn of(&self, secret: SecretId) -> Uses {
        let local = self.on_this_device(secret);
        let mut uses = Uses { count: local.count, last: local.last_used.map(|at| (at, None)), is_complete: true };
        for (device, report) in &self.others {
            uses.is_complete &= self.is_recent(report.as_deref(), secret);
            let Some(reported) = report.as_ref().and_then(|report| report.of(secret)) else { continue };
            uses.count = uses.count.saturating_add(reported.count);
            if let Some(at) = reported.last_used.filter(|at| uses.last.as_ref().is_none_or(|(last, _)| last < at)) {
                uses.last = Some((at, Some(Arc::clone(device))));
            }
        }
        uses
    }

    /// Returns the report of each other device about one secret, ordered by the device's name.
    pub fn by_device(&self, secret: SecretId) -> Vec<DeviceUsage> {
        let view = |(device, report): &(Arc<str>, Option<Arc<UsageReport>>)| {
            let reported = report.as_ref().and_then(|report| Some((report.at, report.of(secret)?)));
            DeviceUsage {
                device: device.to_string(),
                count: reported.map(|(_, totals)| totals.count),
                last_used_at: reported.and_then(|(_, totals)| totals.last_used).map(rfc3339),
                told_at: reported.map(|(at, _)| rfc3339(at)),
                recent: self.is_recent(report.as_deref(), secret),
            }
        };
        self.others.iter().map(view).collect()
    }

    /// Returns the uses of one secret on this device alone.
    pub fn on_this_device(&self, secret: SecretId) -> Totals {
        self.local.get(&secret).copied().unwrap_or_default()
    }

    /// Returns the uses on this device, as they are reported to the others.
    pub fn this_device(&self) -> &AllTotals {
        &self.local
    }

    fn is_recent(&self, report: Option<&UsageReport>, secret: SecretId) -> bool {
        report.is_some_and(|report| report.at.saturating_add(RECENT) >= self.now && report.of(secret).is_some())
    }
}

impl Inventory {
    /// Returns the uses of every secret on every device, up to this device's last answer and the others' last reports.
    /// Blocks, because it folds the journal.
    ///
    /// # Errors
    /// [`RecorderError`] if the journal cannot be folded.
    pub fn uses(&self) -> Result<AllUses, RecorderError> {
        // The lock is not held for this, because a fold writes.
        let local = self.totals()?;
        Ok(Self::uses_with(local, &self.lock()))
    }

    /// Returns the same for a caller that holds the lock.
    pub(super) fn uses_under_lock(&self, owned: &Owned) -> Result<AllUses, RecorderError> {
        Ok(Self::uses_with(self.totals()?, owned))
    }

    fn uses_with(local: Arc<AllTotals>, owned: &Owned) -> AllUses {
        let others = owned.sync.as_ref().map(SyncedVault::reports_of_others).unwrap_or_default();
        AllUses::new(local, others, now())
    }

    #[expect(clippy::disallowed_methods, reason = "this is where the totals of all devices come together")]
    fn totals(&self) -> Result<Arc<AllTotals>, RecorderError> {
        self.resolver.recorder.totals()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guillemet_wire::DeviceId;

    const NOW: Millis = 1_800_000_000_000;
    const MINUTE: Millis = 60_000;

    fn id(number: u8) -> SecretId {
        SecretId([number; 16])
    }

    fn totals(of: &[(u8, u64, Option<Millis>)]) -> AllTotals {
        of.iter()
            .map(|(secret, count, last_used)| (id(*secret), Totals { count: *count, last_used: *last_used }))
            .collect()
    }

    fn report(age: Millis, of: &[(u8, u64, Option<Millis>)]) -> Option<Arc<UsageReport>> {
        Some(Arc::new(UsageReport::of_device(DeviceId([1; 16]), 1, NOW - age, &totals(of))))
    }

    fn all(here: &[(u8, u64, Option<Millis>)], others: Vec<(&str, Option<Arc<UsageReport>>)>) -> AllUses {
        let others = others.into_iter().map(|(name, report)| (name.into(), report)).collect();
        AllUses::new(Arc::new(totals(here)), others, NOW)
    }

    #[test]
    fn what_other_devices_use_counts() {
        let others = vec![("beta", report(MINUTE, &[(1, 3, Some(NOW - 2 * MINUTE))])), ("gamma", report(0, &[]))];
        let uses = all(&[(1, 2, Some(NOW - 5 * MINUTE)), (2, 1, Some(NOW))], others);
        let beta = Some((NOW - 2 * MINUTE, Some("beta".into())));
        assert_eq!(uses.of(id(1)), Uses { count: 5, last: beta, is_complete: true });
        assert_eq!(uses.of(id(2)), Uses { count: 1, last: Some((NOW, None)), is_complete: true });
        assert_eq!(uses.of(id(3)), Uses { count: 0, last: None, is_complete: true });
        assert_eq!(uses.on_this_device(id(1)).count, 2);
        let by_device = uses.by_device(id(1));
        let devices: Vec<_> =
            by_device.iter().map(|report| (report.device.as_str(), report.count, report.recent)).collect();
        assert_eq!(devices, [("beta", Some(3), true), ("gamma", Some(0), true)]);
    }

    #[test]
    fn a_device_that_is_silent_leaves_the_uses_incomplete() {
        for silent in [None, report(RECENT + 1, &[(1, 3, Some(NOW - RECENT - 2))])] {
            let is_known = silent.is_some();
            let uses = all(&[], vec![("alpha", report(RECENT, &[])), ("beta", silent)]);
            assert!(!uses.of(id(1)).is_complete && !uses.of(id(2)).is_complete);
            // Its last report still counts.
            assert_eq!(uses.of(id(1)).count, if is_known { 3 } else { 0 });
            let beta = &uses.by_device(id(2))[1];
            assert_eq!((beta.recent, beta.told_at.is_some(), beta.count), (false, is_known, is_known.then_some(0)));
        }
        // The time of a report can be in the future if a clock is ahead. That is no reason for doubt.
        assert!(all(&[], vec![("beta", report(0, &[]))]).of(id(1)).is_complete);
    }

    #[test]
    fn a_report_that_is_full_says_nothing_of_other_secrets() {
        let full: AllTotals = (0..=UsageReport::SECRETS_MAX as u64)
            .map(|number| {
                let mut id = [0; 16];
                id[..8].copy_from_slice(&number.to_le_bytes());
                (SecretId(id), Totals { count: 1, last_used: Some(number) })
            })
            .collect();
        let report = UsageReport::of_device(DeviceId([1; 16]), 1, NOW, &full);
        let oldest = SecretId([0; 16]);
        let read = UsageReport::read(DeviceId([1; 16]), 1, &report.to_bytes().unwrap()).unwrap();
        assert_eq!(read, report);
        let uses = AllUses::new(Arc::default(), vec![("beta".into(), Some(Arc::new(read)))], NOW);
        assert_eq!(uses.of(oldest), Uses { count: 0, last: None, is_complete: false });
        assert_eq!(uses.by_device(oldest)[0].told_at, None);
        let newest = full.iter().max_by_key(|(_, totals)| totals.last_used).map(|(id, _)| *id).unwrap();
        assert!(uses.of(newest).is_complete && uses.of(newest).count == 1);
    }
}
