//! The usage of one secret, as the API shows it.

use guillemet_api::secrets::{CallerUsage, DayUsage, DeviceUsage, PlaceUsage, RefusalCount, SecretUsageView};
use guillemet_base::time::rfc3339;
use guillemet_vault::usage::{Refusals, SecretUsage};

fn field(field: String) -> Option<String> {
    Some(field).filter(|field| !field.is_empty())
}

/// Combines what the recorder knows with the reports of other devices.
pub(super) fn usage_view(usage: SecretUsage, by_device: Vec<DeviceUsage>, refusals: Vec<Refusals>) -> SecretUsageView {
    let by_template = usage.by_template.into_iter().map(|place| PlaceUsage {
        template: place.template,
        field: field(place.field),
        target: place.target,
        count: place.count,
        last_used_at: place.last_used.map(rfc3339),
    });
    let by_caller = usage.by_caller.into_iter().map(|caller| CallerUsage {
        uid: caller.uid,
        exe: caller.exe,
        count: caller.count,
        last_used_at: rfc3339(caller.last_used),
    });
    let refusals = refusals.into_iter().map(|refusal| RefusalCount {
        outcome: refusal.outcome.name().into(),
        template: refusal.template,
        field: field(refusal.field),
        target: refusal.target,
        uid: refusal.uid,
        exe: refusal.exe,
        count: refusal.count,
        last_at: rfc3339(refusal.last),
    });
    SecretUsageView {
        by_template: by_template.collect(),
        by_caller: by_caller.collect(),
        by_day: usage.by_day.into_iter().map(|day| DayUsage { day: day.day, count: day.count }).collect(),
        by_device,
        refusals: refusals.collect(),
    }
}
