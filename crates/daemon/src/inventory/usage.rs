//! The usage of one secret, as the API shows it.

use serde::Serialize;

use guillemet_base::time::rfc3339;
use guillemet_vault::usage::{Refusals, SecretUsage};

/// The uses of a secret, and the refusals.
#[derive(Clone, Debug, Serialize)]
pub struct UsageView {
    /// The uses by place, the most used first.
    pub by_template: Vec<PlaceView>,
    /// The uses by caller, the most frequent first.
    pub by_caller: Vec<CallerView>,
    /// The uses by day in UTC, the newest first.
    pub by_day: Vec<DayView>,
    /// The reports of the account's other devices, ordered by the device's name.
    pub by_device: Vec<DeviceUsage>,
    /// The refusals by reason, place and caller, the most frequent first.
    pub refusals: Vec<RefusalView>,
}

/// The uses in one place.
#[derive(Clone, Debug, Serialize)]
pub struct PlaceView {
    /// The id of the template; null if the secret was resolved by name.
    pub template: Option<String>,
    /// The field of the config; null if it is not known, or if the secret was resolved by name.
    pub field: Option<String>,
    /// The name of the target; null if there is none.
    pub target: Option<String>,
    /// The number of uses in this place.
    pub count: u64,
    /// The time of the last use, in RFC 3339; null if it is not known.
    pub last_used_at: Option<String>,
}

/// The uses by one program of one user.
#[derive(Clone, Debug, Serialize)]
pub struct CallerView {
    /// The number of the user, as reported by the kernel.
    pub uid: u32,
    /// The path of the executable.
    pub exe: String,
    /// The number of uses by this caller.
    pub count: u64,
    /// The time of the last use, in RFC 3339.
    pub last_used_at: String,
}

/// The uses on one day.
#[derive(Clone, Debug, Serialize)]
pub struct DayView {
    /// The day in UTC, as `YYYY-MM-DD`.
    pub day: String,
    /// The number of uses on this day.
    pub count: u64,
}

/// The uses of a secret on another device of the account, as it reported them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceUsage {
    /// The name of the device.
    pub device: String,
    /// The number of uses; null if the device has reported nothing about this secret.
    pub count: Option<u64>,
    /// The time of the last use, in RFC 3339; null if there is none.
    pub last_used_at: Option<String>,
    /// The time of the report, in RFC 3339; null if `count` is.
    pub told_at: Option<String>,
    /// Whether the report is from the last 15 minutes. If not, the device may have used the secret since.
    pub recent: bool,
}

/// The refusals of one kind, in one place, to one program of one user.
#[derive(Clone, Debug, Serialize)]
pub struct RefusalView {
    /// The reason for the refusals.
    pub outcome: &'static str,
    /// The id of the template; null if the secret was asked for by name.
    pub template: Option<String>,
    /// The field of the config; null if it is not known, or if the secret was asked for by name.
    pub field: Option<String>,
    /// The name of the target; null if there is none.
    pub target: Option<String>,
    /// The number of the user, as reported by the kernel.
    pub uid: u32,
    /// The path of the executable.
    pub exe: String,
    /// The number of refusals of this kind.
    pub count: u64,
    /// The time of the last refusal, in RFC 3339.
    pub last_at: String,
}

fn field(field: String) -> Option<String> {
    Some(field).filter(|field| !field.is_empty())
}

impl UsageView {
    /// Combines what the recorder knows with the reports of other devices.
    pub fn of(usage: SecretUsage, by_device: Vec<DeviceUsage>, refusals: Vec<Refusals>) -> Self {
        let by_template = usage.by_template.into_iter().map(|place| PlaceView {
            template: place.template,
            field: field(place.field),
            target: place.target,
            count: place.count,
            last_used_at: place.last_used.map(rfc3339),
        });
        let by_caller = usage.by_caller.into_iter().map(|caller| CallerView {
            uid: caller.uid,
            exe: caller.exe,
            count: caller.count,
            last_used_at: rfc3339(caller.last_used),
        });
        let refusals = refusals.into_iter().map(|refused| RefusalView {
            outcome: refused.outcome.name(),
            template: refused.template,
            field: field(refused.field),
            target: refused.target,
            uid: refused.uid,
            exe: refused.exe,
            count: refused.count,
            last_at: rfc3339(refused.last),
        });
        Self {
            by_template: by_template.collect(),
            by_caller: by_caller.collect(),
            by_day: usage.by_day.into_iter().map(|day| DayView { day: day.day, count: day.count }).collect(),
            by_device,
            refusals: refusals.collect(),
        }
    }
}
