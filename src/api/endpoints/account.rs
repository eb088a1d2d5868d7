//! The account over the API: how it stands, how it begins, who is in it. What is done, `membership` does.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::body::Incoming;
use serde_json::json;

use super::endpoints::{Answer, Asked, empty, json_answer};
use super::error::{ApiError, Code};
use super::request;
use super::routes::Endpoint;
use super::{App, audit};
use crate::account::client::ClientError;
use crate::account::code;
use crate::account::engine::Unprepared;
use crate::account::wire::DeviceId;
use crate::inventory::{AccountError, rfc3339};
use crate::membership::{self, Trouble, Wanted};
use crate::vault::audit::{About, Actor, DeviceRef};
use crate::vault::usage::ChangeKind;

/// The longest name of a device, in bytes.
const NAME_MAX: usize = 64;

/// Answers one request about the account.
///
/// # Errors
/// What the caller is told instead.
pub(super) async fn answer(app: &Arc<App>, endpoint: Endpoint, asked: Asked<'_>, body: Incoming) -> Answer {
    let actor = Actor::caller(asked.caller);
    let whole = |kind| [(kind, About::Whole)];
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
            let Some(Ok(code)) = read else {
                return Err(ApiError::new(Code::Internal, "a field was read twice"));
            };
            let kind = match &code {
                code::Code::Creation(_) => ChangeKind::AccountCreated,
                code::Code::Invite(_) => ChangeKind::AccountJoined,
                code::Code::Recovery(_) => ChangeKind::AccountRecovered,
            };
            let begin = async {
                match code {
                    code::Code::Creation(code) => membership::create(app, &actor, code, &wanted).await?,
                    code::Code::Invite(code) => membership::join(app, &actor, code, &wanted).await?,
                    code::Code::Recovery(code) => membership::recover(app, &actor, code, &wanted).await?,
                }
                Ok(())
            };
            audit::attempt(app, &actor, &whole(kind), begin).await?;
            // What this vault brings is in the account when this is answered, where the server can be reached.
            membership::first_contact(app).await;
            Ok(json_answer(StatusCode::CREATED, &membership::status(app)))
        }
        Endpoint::Invite => {
            let invite = async { Ok(membership::invite(app, &actor).await?) };
            let (code, expires_in) = audit::attempt(app, &actor, &whole(ChangeKind::DeviceInvited), invite).await?;
            Ok(json_answer(StatusCode::CREATED, &json!({"code": *code, "expires_in": expires_in})))
        }
        Endpoint::ListDevices => {
            let items = membership::devices(app).map_err(Trouble::from)?;
            Ok(json_answer(StatusCode::OK, &request::Listing { count: items.len(), items }))
        }
        Endpoint::RevokeDevice => {
            let device = request::part(asked.params.get("device").unwrap_or_default())?;
            let about = about_device(app, &actor, &device);
            let revoke = async {
                let device: DeviceId = device.parse().map_err(|_| no_device())?;
                Ok((device, membership::revoke(app, &actor, device).await?))
            };
            let (device, secrets) = audit::attempt(app, &actor, &[(ChangeKind::DeviceRevoked, about)], revoke).await?;
            Ok(json_answer(StatusCode::OK, &json!({"device": device, "secrets": secrets})))
        }
        Endpoint::Recovery => {
            let print = async { Ok(membership::recovery(app, &actor).await?) };
            let printed = audit::attempt(app, &actor, &whole(ChangeKind::RecoveryCodeMade), print).await?;
            let made = json!({"code": *printed.code, "seq": printed.seq, "words": printed.words, "made_at": rfc3339(printed.made_at)});
            Ok(json_answer(StatusCode::CREATED, &made))
        }
        Endpoint::Repair => {
            let mut fields = asked.object(app, body).await?;
            let confirmed = fields.optional_text("confirm");
            fields.finish()?;
            let repair = async { Ok(membership::repair(app, &actor, confirmed.as_deref()).await?) };
            // Without a word of confirmation it is a question.
            let wanted = whole(ChangeKind::AccountRepaired);
            let wanted = if confirmed.is_some() { wanted.as_slice() } else { &[] };
            Ok(json_answer(StatusCode::OK, &audit::attempt(app, &actor, wanted, repair).await?))
        }
        Endpoint::LeaveAccount => {
            let leave = async { Ok(membership::leave(app, &actor).await?) };
            let told = audit::attempt(app, &actor, &whole(ChangeKind::AccountLeft), leave).await?;
            Ok(json_answer(StatusCode::OK, &json!({"told": told})))
        }
        Endpoint::Account => Ok(json_answer(StatusCode::OK, &membership::status(app))),
        _ => Ok(empty(StatusCode::NOT_FOUND)),
    }
}

/// The device that a path means; one that is none of the account is not recorded as it was typed.
fn about_device(app: &App, actor: &Actor, id: &str) -> About {
    let head = app.inventory.account().and_then(|state| state.head);
    let device = head.and_then(|(head, _)| head.devices.into_iter().find(|device| device.id.to_string() == id));
    match device {
        Some(device) => About::Device(DeviceRef { id: device.id.to_string(), name: device.name }),
        None => audit::unknown(&app.resolver, actor, id),
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
