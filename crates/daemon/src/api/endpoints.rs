//! The endpoints: each reads its request, calls a service of `app`, and decides how to send the result.

pub mod account;
pub mod daemon;
pub mod plugins;
pub mod secrets;
pub mod templates;

use hyper::Response;

use super::context::RequestContext;
use super::response::Body;
use super::routes::Endpoint;
use crate::app::error::AppError;
use crate::app::serving;
use crate::http::error::HttpError;

/// Handles a request of a caller that has some right.
///
/// # Errors
/// The error that the caller gets as the response.
pub(super) async fn handle(endpoint: Endpoint, context: RequestContext<'_>) -> Result<Response<Body>, HttpError> {
    if !endpoint.is_open() && !context.principal.access.administers() {
        return Err(forbidden(&context).into());
    }
    endpoint.call(context).await
}

/// Records that a caller without the right to administer asked for an endpoint that needs it.
fn forbidden(context: &RequestContext<'_>) -> AppError {
    let (app, caller, route) = (context.app, context.principal.caller, context.principal.route);
    let resolver = &app.resolver;
    match (context.url.lossy_param("feature"), context.url.lossy_param("name")) {
        (Some(feature), Some(name)) => {
            return serving::forbidden_template(app, route, &[&*feature, "/", &*name].concat(), caller);
        }
        (None, Some(name)) => match name.parse() {
            Ok(name) => resolver.forbid(caller, route, None, [(&name, "")].into_iter()),
            Err(_) => resolver.forbid_unknown(caller, route, &name),
        },
        (_, None) => resolver.forbid(caller, route, None, std::iter::empty()),
    }
    AppError::forbidden_and_recorded(Vec::new())
}
