//! The account over the API: how it stands, how it begins, who is in it. What is done, `sync` does.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::body::Incoming;
use serde_json::json;

use super::endpoints::{Answer, Asked, empty, json_answer};
use super::error::{ApiError, Code};
use super::routes::Endpoint;
use super::{App, audit, request};
use crate::account::client::ClientError;
use crate::account::code;
use crate::account::engine::Unprepared;
use crate::account::wire::DeviceId;
use crate::inventory::{AccountError, Inventory};
use crate::sync::{self, SyncError, Wanted};
use crate::vault::audit::{About, Actor, DeviceRef};
use crate::vault::usage::ChangeKind;
use guillemet_base::time::rfc3339;

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
                name: guillemet_base::display::tidy(name.as_deref().unwrap_or_default().trim(), NAME_MAX),
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
                    code::Code::Creation(code) => sync::create(&app.sync, &actor, code, &wanted).await?,
                    code::Code::Invite(code) => sync::join(&app.sync, &actor, code, &wanted).await?,
                    code::Code::Recovery(code) => sync::recover(&app.sync, &actor, code, &wanted).await?,
                }
                Ok(())
            };
            audit::attempt(app, &actor, &whole(kind), begin).await?;
            // What this vault brings is in the account when this is answered, where the server can be reached.
            sync::first_contact(&app.sync).await;
            Ok(json_answer(StatusCode::CREATED, &sync::status(&app.sync).await?))
        }
        Endpoint::Invite => {
            let invite = async { Ok(sync::invite(&app.sync, &actor).await?) };
            let (code, expires_in) = audit::attempt(app, &actor, &whole(ChangeKind::DeviceInvited), invite).await?;
            Ok(json_answer(StatusCode::CREATED, &json!({"code": *code, "expires_in": expires_in})))
        }
        Endpoint::ListDevices => {
            let items = sync::devices(&app.sync).await?;
            Ok(json_answer(StatusCode::OK, &request::Listing { count: items.len(), items }))
        }
        Endpoint::RevokeDevice => {
            let device = request::part(asked.params.get("device").unwrap_or_default())?;
            let about = about_device(app, &actor, &device).await;
            let revoke = async {
                let device: DeviceId = device.parse().map_err(|_| no_device())?;
                Ok((device, sync::revoke(&app.sync, &actor, device).await?))
            };
            let (device, secrets) = audit::attempt(app, &actor, &[(ChangeKind::DeviceRevoked, about)], revoke).await?;
            Ok(json_answer(StatusCode::OK, &json!({"device": device, "secrets": secrets})))
        }
        Endpoint::Recovery => {
            let print = async { Ok(sync::recovery(&app.sync, &actor).await?) };
            let printed = audit::attempt(app, &actor, &whole(ChangeKind::RecoveryCodeMade), print).await?;
            let made = json!({"code": *printed.code, "seq": printed.seq, "words": printed.words, "made_at": rfc3339(printed.made_at)});
            Ok(json_answer(StatusCode::CREATED, &made))
        }
        Endpoint::Repair => {
            let mut fields = asked.object(app, body).await?;
            let confirmed = fields.optional_text("confirm");
            fields.finish()?;
            let repair = async { Ok(sync::repair(&app.sync, &actor, confirmed.as_deref()).await?) };
            // Without a word of confirmation it is a question.
            let wanted = whole(ChangeKind::AccountRepaired);
            let wanted = if confirmed.is_some() { wanted.as_slice() } else { &[] };
            Ok(json_answer(StatusCode::OK, &audit::attempt(app, &actor, wanted, repair).await?))
        }
        Endpoint::LeaveAccount => {
            let leave = async { Ok(sync::leave(&app.sync, &actor).await?) };
            let told = audit::attempt(app, &actor, &whole(ChangeKind::AccountLeft), leave).await?;
            Ok(json_answer(StatusCode::OK, &json!({"told": told})))
        }
        Endpoint::Account => Ok(json_answer(StatusCode::OK, &sync::status(&app.sync).await?)),
        _ => Ok(empty(StatusCode::NOT_FOUND)),
    }
}

/// The device that a path means; one that is none of the account is not recorded as it was typed.
async fn about_device(app: &App, actor: &Actor, id: &str) -> About {
    let state = app.inventory.run(Inventory::account).await.ok().flatten();
    let head = state.and_then(|state| state.head);
    let device = head.and_then(|(head, _)| head.devices.into_iter().find(|device| device.id.to_string() == id));
    match device {
        Some(device) => About::Device(DeviceRef { id: device.id.to_string(), name: device.name }),
        None => audit::unknown(&app.resolver, actor, id),
    }
}

fn no_device() -> ApiError {
    ApiError::new(Code::NotFound, Unprepared::NoDevice.to_string())
}

impl From<SyncError> for ApiError {
    fn from(trouble: SyncError) -> Self {
        let message = trouble.to_string();
        match trouble {
            SyncError::Account(AccountError::Inventory(error)) => error.into(),
            SyncError::Account(AccountError::Unprepared(Unprepared::NoDevice)) => no_device(),
            SyncError::Account(AccountError::Unprepared(Unprepared::NoSecret)) => Self::new(Code::NotFound, message),
            SyncError::Account(AccountError::SameNames(names)) => {
                let entry = |name: String| {
                    let said = format!("`{name}` is in this vault and in the account; both, account or mine?");
                    json!({"field": format!("same_names.{name}"), "name": name, "message": said})
                };
                Self::with(Code::Conflict, message, names.into_iter().map(entry))
            }
            SyncError::Account(AccountError::Refused(refusal)) => {
                let entry = json!({"field": null, "reason": refusal.code(), "message": message});
                Self::with(Code::Conflict, message.clone(), [entry])
            }
            SyncError::Account(_) | SyncError::Panicked(_) | SyncError::Other(_) => Self::new(Code::Conflict, message),
            SyncError::Server(ClientError::Refused { status: 403, .. }) => Self::new(
                Code::Conflict,
                "this invitation was used, or is older than ten minutes; `guillemet account invite` on a machine of the account makes another",
            ),
            SyncError::Server(_)
            | SyncError::Offline(_)
            | SyncError::DeleteOffline(_)
            | SyncError::Unknown
            | SyncError::Crowded => Self::new(Code::Unavailable, message),
        }
    }
}
