//! The services for the account that this vault is in: each calls `sync`, and records the changes that fail.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::error::AppError;
use super::{App, audit};
use crate::inventory::{AccountError, Inventory};
use crate::sync::{self, JoinRequest, SyncError};
use guillemet_account::code::AccountCode;
use guillemet_account::engine::PushError;
use guillemet_api::account::{AccountStatus, DeviceView, RepairPlan};
use guillemet_vault::audit::{Actor, ChangeSubject, DeviceRef};
use guillemet_vault::usage::ChangeKind;
use guillemet_wire::DeviceId;

/// Creates, joins or recovers an account, depending on the code. If the server can be reached, the account has this
/// vault's secrets when this returns.
///
/// # Errors
/// [`AppError::Sync`] and [`AppError::Inventory`]. This vault is then in no account.
pub async fn begin(app: &Arc<App>, actor: &Actor, code: AccountCode, request: &JoinRequest) -> Result<(), AppError> {
    let kind = match &code {
        AccountCode::Creation(_) => ChangeKind::AccountCreated,
        AccountCode::Invite(_) => ChangeKind::AccountJoined,
        AccountCode::Recovery(_) => ChangeKind::AccountRecovered,
    };
    let begin = async {
        match code {
            AccountCode::Creation(code) => sync::create(&app.sync, actor, code, request).await?,
            AccountCode::Invite(code) => sync::join(&app.sync, actor, code, request).await?,
            AccountCode::Recovery(code) => sync::recover(&app.sync, actor, code, request).await?,
        }
        Ok(())
    };
    audit::attempt(app, actor, &[(kind, ChangeSubject::Whole)], begin).await?;
    sync::first_contact(&app.sync).await;
    Ok(())
}

/// Invites a device. Returns the code for it, and for how many seconds the code is valid.
///
/// # Errors
/// [`AppError::Sync`] if the vault is in no account, or there is no contact with the account's server.
pub async fn invite(app: &Arc<App>, actor: &Actor) -> Result<(Zeroizing<String>, u64), AppError> {
    let invite = async { Ok(sync::invite(&app.sync, actor).await?) };
    audit::attempt(app, actor, &[(ChangeKind::DeviceInvited, ChangeSubject::Whole)], invite).await
}

/// Returns the state of sync with the account.
///
/// # Errors
/// [`AppError::Sync`] if the state cannot be read.
pub async fn status(app: &App) -> Result<AccountStatus, AppError> {
    Ok(sync::status(&app.sync).await?)
}

/// Returns the devices of the account.
///
/// # Errors
/// [`AppError::Sync`] if this vault is in no account.
pub async fn devices(app: &App) -> Result<Vec<DeviceView>, AppError> {
    Ok(sync::devices(&app.sync).await?)
}

/// Revokes a device. Returns its id and the names of the secrets it could read, which should be rotated.
///
/// # Errors
/// [`AppError::Sync`] if there is no such device, or no contact with the account's server.
pub async fn revoke(app: &Arc<App>, actor: &Actor, device: &str) -> Result<(DeviceId, Vec<String>), AppError> {
    let subject = about_device(app, actor, device).await;
    let revoke = async {
        let device: DeviceId =
            device.parse().map_err(|_| SyncError::Account(AccountError::Unprepared(PushError::NoDevice)))?;
        Ok((device, sync::revoke(&app.sync, actor, device).await?))
    };
    audit::attempt(app, actor, &[(ChangeKind::DeviceRevoked, subject)], revoke).await
}

/// Makes a recovery code for the account.
///
/// # Errors
/// [`AppError::Sync`] if there is no contact with the account's server, which has to learn of the code.
pub async fn recovery(app: &Arc<App>, actor: &Actor) -> Result<sync::NewRecoveryCode, AppError> {
    let print = async { Ok(sync::create_recovery_code(&app.sync, actor).await?) };
    audit::attempt(app, actor, &[(ChangeKind::RecoveryCodeMade, ChangeSubject::Whole)], print).await
}

/// Repairs the account after its server was set back to an older state. Without the words that confirm it, nothing is
/// changed: the plan that is returned says what the repair would do.
///
/// # Errors
/// [`AppError::Sync`].
pub async fn repair(app: &Arc<App>, actor: &Actor, confirmed: Option<&str>) -> Result<RepairPlan, AppError> {
    let repair = async { Ok(sync::repair(&app.sync, actor, confirmed).await?) };
    let changes = [(ChangeKind::AccountRepaired, ChangeSubject::Whole)];
    let recorded = if confirmed.is_some() { changes.as_slice() } else { &[] };
    audit::attempt(app, actor, recorded, repair).await
}

/// Removes this device from the account. Returns whether the other devices have been told.
///
/// # Errors
/// [`AppError::Sync`] if this vault is in no account. [`AppError::Inventory`] if the vault cannot be written.
pub async fn leave(app: &Arc<App>, actor: &Actor) -> Result<bool, AppError> {
    let leave = async { Ok(sync::leave(&app.sync, actor).await?) };
    audit::attempt(app, actor, &[(ChangeKind::AccountLeft, ChangeSubject::Whole)], leave).await
}

/// Returns the device for the audit trail. An id that no device of the account has is not recorded as it was typed.
async fn about_device(app: &App, actor: &Actor, id: &str) -> ChangeSubject {
    let state = app.inventory.run(Inventory::account).await.ok().flatten();
    let head = state.and_then(|state| state.head);
    let device = head.and_then(|(head, _)| head.devices.into_iter().find(|device| device.id.to_string() == id));
    match device {
        Some(device) => ChangeSubject::Device(DeviceRef { id: device.id.to_string(), name: device.name }),
        None => audit::unknown_subject(&app.resolver, actor, id),
    }
}
