//! Which paths there are, and who may ask what. `openapi-account.yaml` is held to this table by a test.

use super::storage::KeyKind;

/// What a path and a method lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Whose key it is.
    Current,
    /// A push.
    Push,
    /// A page of a pull.
    Changes,
    /// What changes from now on.
    Events,
    /// A new invitation.
    Invite,
    /// A device wants to join.
    Enrol,
    /// The devices that wait.
    Enrolments,
    /// One of them is turned away.
    TurnAway,
    /// The epoch's key, for the device that asks.
    Wrap,
    /// What was used on the device.
    PutUsage,
    /// What was used on every device.
    Usage,
    /// Whether requests are answered.
    Health,
    /// Numbers for Prometheus.
    Metrics,
}

impl Endpoint {
    /// Which kinds of keys may ask; an empty list where none is needed.
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

/// Method, path, endpoint; in the order of the endpoints.
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
pub struct Router(matchit::Router<Methods>);

/// What a path led to.
#[derive(Debug)]
pub enum Found<'a> {
    /// An endpoint, with the path's parameters.
    Endpoint(Endpoint, matchit::Params<'a, 'a>),
    /// The path knows these methods only.
    OtherMethods(String),
    /// There is no such path.
    Nothing,
}

impl Default for Router {
    fn default() -> Self {
        let mut by_path: Vec<(&'static str, Methods)> = Vec::new();
        for (method, path, endpoint) in ROUTES {
            match by_path.iter_mut().find(|(known, _)| *known == path) {
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

impl Router {
    /// Where this method and path lead.
    pub fn find<'a>(&'a self, method: &str, path: &'a str) -> Found<'a> {
        let Ok(matched) = self.0.at(path) else {
            return Found::Nothing;
        };
        match matched.value.iter().find(|(known, _)| *known == method) {
            Some((_, endpoint)) => Found::Endpoint(*endpoint, matched.params),
            None => {
                let methods: Vec<&str> = matched.value.iter().map(|(method, _)| *method).collect();
                Found::OtherMethods(methods.join(", "))
            }
        }
    }
}
