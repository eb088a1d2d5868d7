//! The routes of the API: one table, which gives each endpoint its path, right and function. A test compares
//! `openapi.yaml` with it.

use hyper::Response;

use super::context::RequestContext;
use super::endpoints::{account, daemon, plugins, secrets, templates};
use super::response::{Body, IntoResponse};
use crate::http::error::HttpError;
use guillemet_http::router::Route;

/// Generates `Endpoint`, `ROUTES` and everything that depends on the endpoint from the table below.
macro_rules! endpoints {
    (@is_open open) => { true };
    (@is_open admin) => { false };
    // Each request moves the future of all endpoints, so only those that callers wait for are a part of it.
    (@call open $function:path, $context:ident) => { $function($context).await };
    (@call admin $function:path, $context:ident) => { Box::pin($function($context)).await };
    ($($(#[$doc:meta])+ $name:ident = $method:literal $path:literal => $access:ident $function:path;)+) => {
        /// The endpoint of a path and a method.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Endpoint {
            $($(#[$doc])+ $name,)+
        }

        /// The method, path and endpoint of every route, in the order of the endpoints.
        pub const ROUTES: [Route<Endpoint>; [$(Endpoint::$name),+].len()] =
            [$(($method, $path, Endpoint::$name)),+];

        impl Endpoint {
            /// Returns its method and path, with placeholders for the parameters in the path.
            pub fn route(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($method, " ", $path),)+
                }
            }

            /// Returns whether the endpoint itself decides who may call it. All others need the right to administer.
            pub fn is_open(self) -> bool {
                match self {
                    $(Self::$name => endpoints!(@is_open $access),)+
                }
            }

            /// Calls the function of the endpoint.
            pub(super) async fn call(self, context: RequestContext<'_>) -> Result<Response<Body>, HttpError> {
                match self {
                    $(Self::$name => endpoints!(@call $access $function, context).map(IntoResponse::into_response),)+
                }
            }
        }
    };
}

endpoints! {
    /// Lists the secrets of the inventory.
    ListSecrets = "GET" "/v1/secrets" => admin secrets::list;
    /// Creates a secret with its first value.
    CreateSecret = "POST" "/v1/secrets" => admin secrets::create;
    /// Returns one secret with everything known about it.
    ShowSecret = "GET" "/v1/secrets/{name}" => admin secrets::show;
    /// Renames a secret, gives it another value, enables or disables it.
    ChangeSecret = "PATCH" "/v1/secrets/{name}" => admin secrets::update;
    /// Restores the value of a former version.
    RollBackSecret = "POST" "/v1/secrets/{name}/rollback" => admin secrets::roll_back;
    /// Deletes a secret that nothing references.
    DeleteSecret = "DELETE" "/v1/secrets/{name}" => admin secrets::delete;
    /// Returns values by name.
    Resolve = "POST" "/v1/resolve" => open secrets::resolve;
    /// Lists the templates and their problems.
    ListTemplates = "GET" "/v1/templates" => admin templates::list;
    /// Returns one template with its problems.
    ShowTemplate = "GET" "/v1/templates/{feature}/{name}" => admin templates::show;
    /// Returns the document with names in place of the values.
    Explain = "GET" "/v1/templates/{feature}/{name}/explain" => admin templates::explain;
    /// Renders a stored template.
    Render = "GET" "/v1/render/{feature}/{name}" => open templates::render;
    /// Renders a template that comes with the request.
    RenderInline = "POST" "/v1/render" => open templates::render_inline;
    /// Lists the plugins with their targets.
    ListPlugins = "GET" "/v1/plugins" => admin plugins::list;
    /// Inspects a plugin, or adds it.
    AddPlugin = "POST" "/v1/plugins" => admin plugins::add;
    /// Inspects the former plugin of a feature, or brings it back.
    RollBackPlugin = "POST" "/v1/plugins/{feature}/rollback" => admin plugins::roll_back;
    /// Lets a component under development stand in for a plugin, while the caller stays connected.
    StandInPlugin = "POST" "/v1/plugins/{feature}/stand-in" => admin plugins::stand_in;
    /// Removes an added plugin.
    RemovePlugin = "DELETE" "/v1/plugins/{feature}" => admin plugins::remove;
    /// Streams the changes that happen from now on.
    Events = "GET" "/v1/events" => admin daemon::events;
    /// Lists events of the audit trail.
    Usage = "GET" "/v1/usage" => admin daemon::usage;
    /// Returns the state of sync with the account.
    Account = "GET" "/v1/account" => admin account::show;
    /// Creates an account, or joins this vault to an existing one.
    BeginAccount = "POST" "/v1/account" => admin account::begin;
    /// Creates an invitation for another device.
    Invite = "POST" "/v1/account/invitations" => admin account::invite;
    /// Lists the devices of the account.
    ListDevices = "GET" "/v1/account/devices" => admin account::list_devices;
    /// Revokes a device of the account.
    RevokeDevice = "DELETE" "/v1/account/devices/{device}" => admin account::revoke_device;
    /// Creates a recovery code.
    Recovery = "POST" "/v1/account/recovery" => admin account::create_recovery_code;
    /// Repairs the account after its server was set back.
    Repair = "POST" "/v1/account/repair" => admin account::repair;
    /// Removes this device from the account.
    LeaveAccount = "DELETE" "/v1/account" => admin account::leave;
    /// Returns a link to the console.
    Console = "POST" "/v1/console" => admin daemon::console;
    /// Reads the configuration again.
    Reload = "POST" "/v1/reload" => admin daemon::reload;
    /// Returns the state of the daemon.
    Status = "GET" "/v1/status" => admin daemon::status;
    /// Confirms that the daemon answers requests.
    Health = "GET" "/healthz" => open daemon::health;
    /// Returns the metrics for Prometheus.
    Metrics = "GET" "/metrics" => admin daemon::metrics;
}
