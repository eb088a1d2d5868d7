//! The account this vault is in: what a caller may do about it, with a record of what failed. `sync` does it.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::error::AppError;
use super::{App, audit};
use crate::account::code::Code;
use crate::account::engine::Unprepared;
use crate::account::wire::DeviceId;
use crate::inventory::{AccountError, Inventory};
use crate::sync::{self, SyncError, Wanted};
use crate::vault::audit::{About, Actor, DeviceRef};
use crate::vault::usage::ChangeKind;
use guillemet_api::account::{AccountStatus, DeviceView, RepairPlan};

/// Creates, joins or recovers an account, as the code says. What this vault brings is in the account when this returns,
/// where the server can be reached.
///
/// # Errors
/// `Sync` and `Inventory`; this vault is in no account then.
pub async fn begin(app: &Arc<App>, actor: &Actor, code: Code, request: &Wanted) -> Result<(), AppError> {
    let kind = match &code {
        Code::Creation(_) => ChangeKind::AccountCreated,
        Code::Invite(_) => ChangeKind::AccountJoined,
        Code::Recovery(_) => ChangeKind::AccountRecovered,
    };
    let begin = async {
        match code {
            Code::Creation(code) => sync::create(&app.sync, actor, code, request).await?,
            Code::Invite(code) => sync::join(&app.sync, actor, code, request).await?,
            Code::Recovery(code) => sync::recover(&app.sync, actor, code, request).await?,
        }
        Ok(())
    };
    audit::attempt(app, actor, &[(kind, About::Whole)], begin).await?;
    sync::first_contact(&app.sync).await;
    Ok(())
}

/// Invites a device. Returns the code for it, and for how many seconds that is good.
///
/// # Errors
/// `Sync`: there is no account, or no contact with its server.
pub async fn invite(app: &Arc<App>, actor: &Actor) -> Result<(Zeroizing<String>, u64), AppError> {
    let invite = async { Ok(sync::invite(&app.sync, actor).await?) };
    audit::attempt(app, actor, &[(ChangeKind::DeviceInvited, About::Whole)], invite).await
}

/// Returns the state of sync with the account.
///
/// # Errors
/// `Sync`: the state cannot be read.
pub async fn status(app: &App) -> Result<AccountStatus, AppError> {
    Ok(sync::status(&app.sync).await?)
}

/// Returns the devices of the account.
///
/// # Errors
/// `Sync`: this vault is in none.
pub async fn devices(app: &App) -> Result<Vec<DeviceView>, AppError> {
    Ok(sync::devices(&app.sync).await?)
}

/// Revokes a device. Returns it, and the names of the secrets it could read, which should be rotated.
///
/// # Errors
/// `Sync`: there is no such device, or no contact with the account's server.
pub async fn revoke(app: &Arc<App>, actor: &Actor, device: &str) -> Result<(DeviceId, Vec<String>), AppError> {
    let about = about_device(app, actor, device).await;
    let revoke = async {
        let device: DeviceId =
            device.parse().map_err(|_| SyncError::Account(AccountError::Unprepared(Unprepared::NoDevice)))?;
        Ok((device, sync::revoke(&app.sync, actor, device).await?))
    };
    audit::attempt(app, actor, &[(ChangeKind::DeviceRevoked, about)], revoke).await
}

/// Makes a recovery code.
///
/// # Errors
/// `Sync`: the account has to know of it.
pub async fn recovery(app: &Arc<App>, actor: &Actor) -> Result<sync::Printed, AppError> {
    let print = async { Ok(sync::recovery(&app.sync, actor).await?) };
    audit::attempt(app, actor, &[(ChangeKind::RecoveryCodeMade, About::Whole)], print).await
}

/// Repairs the account after its server was set back. Without the words that confirm it, it is a question, and what it
/// would do is returned.
///
/// # Errors
/// `Sync`.
pub async fn repair(app: &Arc<App>, actor: &Actor, confirmed: Option<&str>) -> Result<RepairPlan, AppError> {
    let repair = async { Ok(sync::repair(&app.sync, actor, confirmed).await?) };
    let whole = [(ChangeKind::AccountRepaired, About::Whole)];
    let recorded = if confirmed.is_some() { whole.as_slice() } else { &[] };
    audit::attempt(app, actor, recorded, repair).await
}

/// Ends the membership of this device. Returns whether the others have been told.
///
/// # Errors
/// `Sync`: this vault is in no account. `Inventory`: the vault cannot be written.
pub async fn leave(app: &Arc<App>, actor: &Actor) -> Result<bool, AppError> {
    let leave = async { Ok(sync::leave(&app.sync, actor).await?) };
    audit::attempt(app, actor, &[(ChangeKind::AccountLeft, About::Whole)], leave).await
}

/// Returns the device that a caller means; one that is none of the account is not recorded as it was typed.
async fn about_device(app: &App, actor: &Actor, id: &str) -> About {
    let state = app.inventory.run(Inventory::account).await.ok().flatten();
    let head = state.and_then(|state| state.head);
    let device = head.and_then(|(head, _)| head.devices.into_iter().find(|device| device.id.to_string() == id));
    match device {
        Some(device) => About::Device(DeviceRef { id: device.id.to_string(), name: device.name }),
        None => audit::unknown(&app.resolver, actor, id),
    }
}
