//! How the usage of one secret is shown.

use serde::Serialize;

use crate::vault::usage::{Refusals, SecretUsage};
use crate::when::rfc3339;

/// What was resolved of a secret, and what was refused.
#[derive(Clone, Debug, Serialize)]
pub struct UsageView {
    /// By place, busiest first.
    pub by_template: Vec<PlaceView>,
    /// By caller, busiest first.
    pub by_caller: Vec<CallerView>,
    /// By day (UTC), newest first.
    pub by_day: Vec<DayView>,
    /// What the account's other devices reported, by the device's name.
    pub by_device: Vec<DeviceUsage>,
    /// By reason, place and caller, most often first.
    pub refusals: Vec<RefusalView>,
}

/// Resolutions in one place.
#[derive(Clone, Debug, Serialize)]
pub struct PlaceView {
    /// The template; null for a raw resolve.
    pub template: Option<String>,
    /// The field of the config.
    pub field: Option<String>,
    /// The target.
    pub target: Option<String>,
    /// How many.
    pub count: u64,
    /// When last.
    pub last_used_at: Option<String>,
}

/// Resolutions by one program of one user.
#[derive(Clone, Debug, Serialize)]
pub struct CallerView {
    /// User.
    pub uid: u32,
    /// Executable.
    pub exe: String,
    /// How many.
    pub count: u64,
    /// When last.
    pub last_used_at: String,
}

/// Resolutions of one day.
#[derive(Clone, Debug, Serialize)]
pub struct DayView {
    /// `YYYY-MM-DD`.
    pub day: String,
    /// How many.
    pub count: u64,
}

/// What another device of the account reported of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceUsage {
    /// What the device is called.
    pub device: String,
    /// How many resolutions; null where it has reported nothing of this secret.
    pub count: Option<u64>,
    /// When last.
    pub last_used_at: Option<String>,
    /// When it said so; null as `count`.
    pub told_at: Option<String>,
    /// Whether that was in the last 15 minutes. Where not, the device may have used the secret since.
    pub recent: bool,
}

/// Refusals of one kind, in one place, to one program of one user.
#[derive(Clone, Debug, Serialize)]
pub struct RefusalView {
    /// Why.
    pub outcome: &'static str,
    /// The template; null for a raw resolve.
    pub template: Option<String>,
    /// The field of the config.
    pub field: Option<String>,
    /// The target.
    pub target: Option<String>,
    /// User.
    pub uid: u32,
    /// Executable.
    pub exe: String,
    /// How often.
    pub count: u64,
    /// When last.
    pub last_at: String,
}

fn field(field: String) -> Option<String> {
    Some(field).filter(|field| !field.is_empty())
}

impl UsageView {
    /// Of what the recorder knows, and what other devices have reported.
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
