//! The endpoints of the account: its state, its devices, and joining, repairing and leaving it.

use crate::api::context::RequestContext;
use crate::api::response::{Created, Json};
use crate::app::account;
use crate::app::error::AppError;
use crate::http::error::HttpError;
use crate::sync::JoinRequest;
use guillemet_account::code::AccountCode;
use guillemet_api::Listing;
use guillemet_api::account::{
    AccountStatus, DeviceView, Invitation, LeftAccount, RecoveryCode, RepairPlan, RevokedDevice,
};
use guillemet_base::time::rfc3339;

/// The longest name of a device, in bytes.
const NAME_MAX: usize = 64;

/// `GET /v1/account`: how it stands with the account.
pub async fn show(cx: RequestContext<'_>) -> Result<Json<AccountStatus>, HttpError> {
    cx.url.query([])?;
    Ok(Json(account::status(cx.app).await?))
}

/// `POST /v1/account`: creates an account, or joins this vault to an existing one.
pub async fn begin(mut cx: RequestContext<'_>) -> Result<Created<AccountStatus>, HttpError> {
    cx.url.query([])?;
    let mut fields = cx.administrators_fields().await?;
    let (text, name) = (fields.text("code"), fields.text("name"));
    if name.as_ref().is_some_and(|name| name.trim().is_empty() || name.len() > NAME_MAX) {
        fields.add_error("name", format!("must have 1 to {NAME_MAX} bytes"));
    }
    let request = JoinRequest {
        name: guillemet_base::display::sanitize(name.as_deref().unwrap_or_default().trim(), NAME_MAX),
        url: fields.optional_text("server"),
        same_names: fields.same_names("same_names"),
        default: fields.same_name("all_same_names"),
    };
    let read = text.as_deref().map(AccountCode::parse);
    if let Some(Err(error)) = &read {
        fields.add_error("code", error.to_string());
    }
    fields.finish()?;
    let Some(Ok(code)) = read else {
        return Err(AppError::Internal("a field was read twice").into());
    };
    account::begin(cx.app, &cx.actor(), code, &request).await?;
    Ok(Created(account::status(cx.app).await?))
}

/// `POST /v1/account/invitations`: creates an invitation for another device.
pub async fn invite(cx: RequestContext<'_>) -> Result<Created<Invitation>, HttpError> {
    cx.url.query([])?;
    let (code, expires_in) = account::invite(cx.app, &cx.actor()).await?;
    Ok(Created(Invitation { code: code.to_string(), expires_in }))
}

/// `GET /v1/account/devices`: lists the devices of the account.
pub async fn list_devices(cx: RequestContext<'_>) -> Result<Json<Listing<DeviceView>>, HttpError> {
    cx.url.query([])?;
    let items = account::devices(cx.app).await?;
    Ok(Json(Listing { count: items.len(), items }))
}

/// `DELETE /v1/account/devices/{device}`: revokes a device.
pub async fn revoke_device(cx: RequestContext<'_>) -> Result<Json<RevokedDevice>, HttpError> {
    cx.url.query([])?;
    let (device, secrets) = account::revoke(cx.app, &cx.actor(), &cx.url.param("device")?).await?;
    Ok(Json(RevokedDevice { device: device.to_string(), secrets }))
}

/// `POST /v1/account/recovery`: creates a recovery code.
pub async fn create_recovery_code(cx: RequestContext<'_>) -> Result<Created<RecoveryCode>, HttpError> {
    cx.url.query([])?;
    let printed = account::recovery(cx.app, &cx.actor()).await?;
    let (code, made_at) = (printed.code.to_string(), rfc3339(printed.made_at));
    Ok(Created(RecoveryCode { code, seq: printed.seq, words: printed.words, made_at }))
}

/// `POST /v1/account/repair`: repairs the account after its server was set back.
pub async fn repair(mut cx: RequestContext<'_>) -> Result<Json<RepairPlan>, HttpError> {
    cx.url.query([])?;
    let mut fields = cx.administrators_fields().await?;
    let confirmed = fields.optional_text("confirm");
    fields.finish()?;
    Ok(Json(account::repair(cx.app, &cx.actor(), confirmed.as_deref()).await?))
}

/// `DELETE /v1/account`: removes this device from the account.
pub async fn leave(cx: RequestContext<'_>) -> Result<Json<LeftAccount>, HttpError> {
    cx.url.query([])?;
    Ok(Json(LeftAccount { told: account::leave(cx.app, &cx.actor()).await? }))
}
