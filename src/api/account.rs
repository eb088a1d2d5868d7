//! The account over the API: how it stands, how it begins, who is in it. What is done, `membership` does.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::body::Incoming;
use serde_json::json;

use super::App;
use super::endpoints::{Answer, Asked, empty, json_answer};
use super::error::{ApiError, Code};
use super::request;
use super::routes::Endpoint;
use crate::account::client::ClientError;
use crate::account::code;
use crate::account::engine::Unprepared;
use crate::account::wire::DeviceId;
use crate::inventory::{AccountError, rfc3339};
use crate::membership::{self, Trouble, Wanted};

/// The longest name of a device, in bytes.
const NAME_MAX: usize = 64;

/// Answers one request about the account.
///
/// # Errors
/// What the caller is told instead.
pub(super) async fn answer(app: &Arc<App>, endpoint: Endpoint, asked: Asked<'_>, body: Incoming) -> Answer {
    match endpoint {
        Endpoint::BeginAccount => {
            let mut fields = asked.object(app, body).await?;
            let (text, name) = (fields.text("code"), fields.text("name"));
            if name.as_ref().is_some_and(|name| name.trim().is_empty() || name.len() > NAME_MAX) {
                fields.wrong("name", format!("1 to {NAME_MAX} bytes are needed"));
            }
            let wanted = Wanted {
                name: crate::planner::text::tidy(name.as_deref().unwrap_or_default().trim(), NAME_MAX),
                url: fields.optional_text("server"),
                same_names: fields.same_names("same_names"),
                otherwise: fields.same_name("all_same_names"),
            };
            let read = text.as_deref().map(code::Code::parse);
            if let Some(Err(error)) = &read {
                fields.wrong("code", error.to_string());
            }
            fields.finish()?;
            let begun = match read {
                Some(Ok(code::Code::Creation(code))) => membership::create(app, code, &wanted).await,
                Some(Ok(code::Code::Invite(code))) => membership::join(app, code, &wanted).await,
                Some(Ok(code::Code::Recovery(code))) => membership::recover(app, code, &wanted).await,
                _ => return Err(ApiError::new(Code::Internal, "a field was read twice")),
            };
            begun?;
            // What this vault brings is in the account when this is answered, where the server can be reached.
            membership::first_contact(app).await;
            Ok(json_answer(StatusCode::CREATED, &membership::status(app)))
        }
        Endpoint::Invite => {
            let (code, expires_in) = membership::invite(app).await?;
            Ok(json_answer(StatusCode::CREATED, &json!({"code": *code, "expires_in": expires_in})))
        }
        Endpoint::ListDevices => {
            let items = membership::devices(app).map_err(Trouble::from)?;
            Ok(json_answer(StatusCode::OK, &request::Listing { count: items.len(), items }))
        }
        Endpoint::RevokeDevice => {
            let device = request::part(asked.params.get("device").unwrap_or_default())?;
            let device: DeviceId = device.parse().map_err(|_| no_device())?;
            let secrets = membership::revoke(app, device).await?;
            Ok(json_answer(StatusCode::OK, &json!({"device": device, "secrets": secrets})))
        }
        Endpoint::Recovery => {
            let printed = membership::recovery(app).await?;
            let made = json!({"code": *printed.code, "seq": printed.seq, "words": printed.words, "made_at": rfc3339(printed.made_at)});
            Ok(json_answer(StatusCode::CREATED, &made))
        }
        Endpoint::Repair => {
            let mut fields = asked.object(app, body).await?;
            let confirmed = fields.optional_text("confirm");
            fields.finish()?;
            Ok(json_answer(StatusCode::OK, &membership::repair(app, confirmed.as_deref()).await?))
        }
        Endpoint::LeaveAccount => {
            let told = membership::leave(app).await?;
            Ok(json_answer(StatusCode::OK, &json!({"told": told})))
        }
        Endpoint::Account => Ok(json_answer(StatusCode::OK, &membership::status(app))),
        _ => Ok(empty(StatusCode::NOT_FOUND)),
    }
}

fn no_device() -> ApiError {
    ApiError::new(Code::NotFound, Unprepared::NoDevice.to_string())
}

impl From<Trouble> for ApiError {
    fn from(trouble: Trouble) -> Self {
        let message = trouble.to_string();
        match trouble {
            Trouble::Account(AccountError::Inventory(error)) => error.into(),
            Trouble::Account(AccountError::Unprepared(Unprepared::NoDevice)) => no_device(),
            Trouble::Account(AccountError::Unprepared(Unprepared::NoSecret)) => Self::new(Code::NotFound, message),
            Trouble::Account(AccountError::SameNames(names)) => {
                let entry = |name: String| {
                    let said = format!("`{name}` is in this vault and in the account; both, account or mine?");
                    json!({"field": format!("same_names.{name}"), "name": name, "message": said})
                };
                Self::with(Code::Conflict, message, names.into_iter().map(entry))
            }
            Trouble::Account(AccountError::Refused(refusal)) => {
                let entry = json!({"field": null, "reason": refusal.code(), "message": message});
                Self::with(Code::Conflict, message.clone(), [entry])
            }
            Trouble::Account(_) | Trouble::Other(_) => Self::new(Code::Conflict, message),
            Trouble::Server(ClientError::Refused { status: 403, .. }) => Self::new(
                Code::Conflict,
                "this invitation was used, or is older than ten minutes; `guillemet account invite` on a machine of the account makes another",
            ),
            Trouble::Server(_)
            | Trouble::Offline(_)
            | Trouble::DeleteOffline(_)
            | Trouble::Unknown
            | Trouble::Crowded => Self::new(Code::Unavailable, message),
        }
    }
}
