//! The table of paths, and the kinds of keys that each accepts. A test compares `openapi-account.yaml` with it.

use super::storage::KeyKind;

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
pub const ROUTES: [(&str, &str, Endpoint); 13] = [
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

/// The endpoints of one path, by method.
type Methods = Vec<(&'static str, Endpoint)>;

/// Finds the endpoint of a request.
#[derive(Debug)]
pub struct ServerRouter(matchit::Router<Methods>);

/// The result of looking up a path.
#[derive(Debug)]
pub enum ServerRoute<'a> {
    /// The endpoint, and the parameters in the path.
    Endpoint(Endpoint, matchit::Params<'a, 'a>),
    /// The path exists, but only supports these methods, separated by commas.
    OtherMethods(String),
    /// The path does not exist.
    Nothing,
}

impl Default for ServerRouter {
    fn default() -> Self {
        let mut by_path: Vec<(&'static str, Methods)> = Vec::new();
        for (method, path, endpoint) in ROUTES {
            match by_path.iter_mut().find(|(existing, _)| *existing == path) {
                Some((_, methods)) => methods.push((method, endpoint)),
                None => by_path.push((path, vec![(method, endpoint)])),
            }
        }
        let mut router = matchit::Router::new();
        for (path, methods) in by_path {
            let inserted = router.insert(path, methods);
            debug_assert!(inserted.is_ok(), "the paths of ROUTES do not conflict");
        }
        Self(router)
    }
}

impl ServerRouter {
    /// Looks up the endpoint for a method and a path.
    pub fn find<'a>(&'a self, method: &str, path: &'a str) -> ServerRoute<'a> {
        let Ok(matched) = self.0.at(path) else {
            return ServerRoute::Nothing;
        };
        match matched.value.iter().find(|(allowed, _)| *allowed == method) {
            Some((_, endpoint)) => ServerRoute::Endpoint(*endpoint, matched.params),
            None => {
                let methods: Vec<&str> = matched.value.iter().map(|(method, _)| *method).collect();
                ServerRoute::OtherMethods(methods.join(", "))
            }
        }
    }
}
