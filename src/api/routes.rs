//! Which paths there are. `openapi.yaml` is held to this table by a test.

/// What a path and a method lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The inventory.
    ListSecrets,
    /// A new secret.
    CreateSecret,
    /// One secret with everything known about it.
    ShowSecret,
    /// Another name or value; enable or disable.
    ChangeSecret,
    /// The value of a former version again.
    RollBackSecret,
    /// Delete, unless referenced.
    DeleteSecret,
    /// Values by name.
    Resolve,
    /// The templates.
    ListTemplates,
    /// One template.
    ShowTemplate,
    /// The document with the names where the values will stand.
    Explain,
    /// The config itself.
    Render,
    /// A config of a template that comes with the request.
    RenderInline,
    /// The plugins.
    ListPlugins,
    /// Look at a plugin, or add it.
    AddPlugin,
    /// Let an added plugin go.
    RemovePlugin,
    /// What changes from now on.
    Events,
    /// The audit trail.
    Usage,
    /// How it stands with the account.
    Account,
    /// A new account, or this vault in one that there is.
    BeginAccount,
    /// An invitation for another machine.
    Invite,
    /// The devices of the account.
    ListDevices,
    /// Put a device out.
    RevokeDevice,
    /// A recovery code.
    Recovery,
    /// The way out after the server was set back.
    Repair,
    /// End the membership.
    LeaveAccount,
    /// A link to the console.
    Console,
    /// Read the configuration again.
    Reload,
    /// How things are.
    Status,
    /// Whether requests are answered.
    Health,
    /// Numbers for Prometheus.
    Metrics,
}

impl Endpoint {
    /// Returns its method and path, with names in place of what stands in the path.
    pub fn route(self) -> String {
        // A test holds that the table is in the order of the endpoints.
        let (method, path, _) = ROUTES[self as usize];
        format!("{method} {path}")
    }

    /// Whether it decides itself who may ask; every other is administration.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Render | Self::RenderInline | Self::Resolve | Self::Health)
    }
}

/// Method, path, endpoint; in the order of the endpoints.
pub const ROUTES: [(&str, &str, Endpoint); 30] = [
    ("GET", "/v1/secrets", Endpoint::ListSecrets),
    ("POST", "/v1/secrets", Endpoint::CreateSecret),
    ("GET", "/v1/secrets/{name}", Endpoint::ShowSecret),
    ("PATCH", "/v1/secrets/{name}", Endpoint::ChangeSecret),
    ("POST", "/v1/secrets/{name}/rollback", Endpoint::RollBackSecret),
    ("DELETE", "/v1/secrets/{name}", Endpoint::DeleteSecret),
    ("POST", "/v1/resolve", Endpoint::Resolve),
    ("GET", "/v1/templates", Endpoint::ListTemplates),
    ("GET", "/v1/templates/{feature}/{name}", Endpoint::ShowTemplate),
    ("GET", "/v1/templates/{feature}/{name}/explain", Endpoint::Explain),
    ("GET", "/v1/render/{feature}/{name}", Endpoint::Render),
    ("POST", "/v1/render", Endpoint::RenderInline),
    ("GET", "/v1/plugins", Endpoint::ListPlugins),
    ("POST", "/v1/plugins", Endpoint::AddPlugin),
    ("DELETE", "/v1/plugins/{feature}", Endpoint::RemovePlugin),
    ("GET", "/v1/events", Endpoint::Events),
    ("GET", "/v1/usage", Endpoint::Usage),
    ("GET", "/v1/account", Endpoint::Account),
    ("POST", "/v1/account", Endpoint::BeginAccount),
    ("POST", "/v1/account/invitations", Endpoint::Invite),
    ("GET", "/v1/account/devices", Endpoint::ListDevices),
    ("DELETE", "/v1/account/devices/{device}", Endpoint::RevokeDevice),
    ("POST", "/v1/account/recovery", Endpoint::Recovery),
    ("POST", "/v1/account/repair", Endpoint::Repair),
    ("DELETE", "/v1/account", Endpoint::LeaveAccount),
    ("POST", "/v1/console", Endpoint::Console),
    ("POST", "/v1/reload", Endpoint::Reload),
    ("GET", "/v1/status", Endpoint::Status),
    ("GET", "/healthz", Endpoint::Health),
    ("GET", "/metrics", Endpoint::Metrics),
];

/// The endpoints of one path, by method.
type Methods = Vec<(&'static str, Endpoint)>;

/// Finds the endpoint of a request.
pub struct Router(matchit::Router<Methods>);

/// What a path led to.
pub enum Found<'a> {
    /// An endpoint, with the path's parameters (still percent-encoded).
    Endpoint(Endpoint, matchit::Params<'a, 'a>),
    /// The path knows these methods only.
    OtherMethods(String),
    /// There is no such path.
    Nothing,
}

impl Router {
    /// Of `ROUTES`.
    pub fn new() -> Self {
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

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}
