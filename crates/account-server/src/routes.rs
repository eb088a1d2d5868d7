//! The table of paths, and the kinds of keys that each accepts. A test compares `openapi-account.yaml` with it.

use super::storage::KeyKind;
use guillemet_http::router::Route;

/// The operation that a method and a path select.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Returns the account and device of the API key.
    Current,
    /// Pushes a new head.
    Push,
    /// Returns a page of a pull.
    Changes,
    /// Streams what changes from now on.
    Events,
    /// Registers a new invitation.
    Invite,
    /// Records that a device asks to join.
    Enrol,
    /// Lists the devices that ask to join.
    Enrolments,
    /// Turns away a device that asks to join.
    TurnAway,
    /// Returns the wrapped key of the epoch for the device that asks.
    Wrap,
    /// Stores the usage document of the device.
    PutUsage,
    /// Lists the usage documents of all devices.
    Usage,
    /// Reports whether requests are answered.
    Health,
    /// Returns numbers for Prometheus.
    Metrics,
}

impl Endpoint {
    /// Returns the kinds of keys that can use the endpoint; an empty list if it needs no key.
    pub fn keys(self) -> &'static [KeyKind] {
        match self {
            Self::Health | Self::Metrics | Self::Enrol => &[],
            Self::Current => &[KeyKind::Creation, KeyKind::Pending, KeyKind::Device],
            Self::Push => &[KeyKind::Creation, KeyKind::Device],
            Self::Wrap => &[KeyKind::Pending, KeyKind::Device],
            _ => &[KeyKind::Device],
        }
    }
}

/// All routes as (method, path, endpoint), in the order of the endpoints' declaration.
pub const ROUTES: [Route<Endpoint>; 13] = [
    ("GET", "/v1/accounts/current", Endpoint::Current),
    ("POST", "/v1/accounts/{id}/heads", Endpoint::Push),
    ("GET", "/v1/accounts/{id}/changes", Endpoint::Changes),
    ("GET", "/v1/accounts/{id}/events", Endpoint::Events),
    ("POST", "/v1/accounts/{id}/invites", Endpoint::Invite),
    ("POST", "/v1/accounts/{id}/enrolments", Endpoint::Enrol),
    ("GET", "/v1/accounts/{id}/enrolments", Endpoint::Enrolments),
    ("DELETE", "/v1/accounts/{id}/enrolments/{device}", Endpoint::TurnAway),
    ("GET", "/v1/accounts/{id}/wrap", Endpoint::Wrap),
    ("PUT", "/v1/accounts/{id}/usage", Endpoint::PutUsage),
    ("GET", "/v1/accounts/{id}/usage", Endpoint::Usage),
    ("GET", "/healthz", Endpoint::Health),
    ("GET", "/metrics", Endpoint::Metrics),
];
