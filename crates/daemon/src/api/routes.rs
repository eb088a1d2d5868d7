//! Which endpoints there are: one table, from which paths, rights and functions follow. `openapi.yaml` is held to it by a
//! test.

use hyper::Response;

use super::context::RequestContext;
use super::endpoints::{account, daemon, plugins, secrets, templates};
use super::response::{Body, IntoResponse};
use crate::http::error::HttpError;

/// Makes `Endpoint`, `ROUTES` and what depends on the endpoint out of the table below.
macro_rules! endpoints {
    (@is_open open) => { true };
    (@is_open admin) => { false };
    ($($(#[$doc:meta])+ $name:ident = $method:literal $path:literal => $access:ident $function:path;)+) => {
        /// What a path and a method lead to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Endpoint {
            $($(#[$doc])+ $name,)+
        }

        /// Method, path, endpoint; in the order of the endpoints.
        pub const ROUTES: [(&str, &str, Endpoint); [$(Endpoint::$name),+].len()] =
            [$(($method, $path, Endpoint::$name)),+];

        impl Endpoint {
            /// Returns its method and path, with names in place of what stands in the path.
            pub fn route(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($method, " ", $path),)+
                }
            }

            /// Returns whether it decides itself who may ask; every other is administration.
            pub fn is_open(self) -> bool {
                match self {
                    $(Self::$name => endpoints!(@is_open $access),)+
                }
            }

            /// Calls its function.
            pub(super) async fn call(self, context: RequestContext<'_>) -> Result<Response<Body>, HttpError> {
                match self {
                    $(Self::$name => $function(context).await.map(IntoResponse::into_response),)+
                }
            }
        }
    };
}

endpoints! {
    /// The inventory.
    ListSecrets = "GET" "/v1/secrets" => admin secrets::list;
    /// A new secret.
    CreateSecret = "POST" "/v1/secrets" => admin secrets::create;
    /// One secret with everything known about it.
    ShowSecret = "GET" "/v1/secrets/{name}" => admin secrets::show;
    /// Another name or value; enable or disable.
    ChangeSecret = "PATCH" "/v1/secrets/{name}" => admin secrets::update;
    /// The value of a former version again.
    RollBackSecret = "POST" "/v1/secrets/{name}/rollback" => admin secrets::roll_back;
    /// Delete, unless referenced.
    DeleteSecret = "DELETE" "/v1/secrets/{name}" => admin secrets::delete;
    /// Values by name.
    Resolve = "POST" "/v1/resolve" => open secrets::resolve;
    /// The templates.
    ListTemplates = "GET" "/v1/templates" => admin templates::list;
    /// One template.
    ShowTemplate = "GET" "/v1/templates/{feature}/{name}" => admin templates::show;
    /// The document with the names where the values will stand.
    Explain = "GET" "/v1/templates/{feature}/{name}/explain" => admin templates::explain;
    /// The config itself.
    Render = "GET" "/v1/render/{feature}/{name}" => open templates::render;
    /// A config of a template that comes with the request.
    RenderInline = "POST" "/v1/render" => open templates::render_inline;
    /// The plugins.
    ListPlugins = "GET" "/v1/plugins" => admin plugins::list;
    /// Look at a plugin, or add it.
    AddPlugin = "POST" "/v1/plugins" => admin plugins::add;
    /// Let an added plugin go.
    RemovePlugin = "DELETE" "/v1/plugins/{feature}" => admin plugins::remove;
    /// What changes from now on.
    Events = "GET" "/v1/events" => admin daemon::events;
    /// The audit trail.
    Usage = "GET" "/v1/usage" => admin daemon::usage;
    /// How it stands with the account.
    Account = "GET" "/v1/account" => admin account::show;
    /// A new account, or this vault in one that there is.
    BeginAccount = "POST" "/v1/account" => admin account::begin;
    /// An invitation for another machine.
    Invite = "POST" "/v1/account/invitations" => admin account::invite;
    /// The devices of the account.
    ListDevices = "GET" "/v1/account/devices" => admin account::list_devices;
    /// Put a device out.
    RevokeDevice = "DELETE" "/v1/account/devices/{device}" => admin account::revoke_device;
    /// A recovery code.
    Recovery = "POST" "/v1/account/recovery" => admin account::create_recovery_code;
    /// The way out after the server was set back.
    Repair = "POST" "/v1/account/repair" => admin account::repair;
    /// End the membership.
    LeaveAccount = "DELETE" "/v1/account" => admin account::leave;
    /// A link to the console.
    Console = "POST" "/v1/console" => admin daemon::console;
    /// Read the configuration again.
    Reload = "POST" "/v1/reload" => admin daemon::reload;
    /// How things are.
    Status = "GET" "/v1/status" => admin daemon::status;
    /// Whether requests are answered.
    Health = "GET" "/healthz" => open daemon::health;
    /// Numbers for Prometheus.
    Metrics = "GET" "/metrics" => admin daemon::metrics;
}

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
