//! The proof that a device was invited: an HMAC under the secret of an invitation, over the account and both public
//! keys, so that the server cannot replace either key with its own.
//!
//! Does no I/O. Knows no vault and no network. Whether an invitation is still valid is known to the server and the
//! inviter.

#[cfg(test)]
mod tests;

use sha2::{Digest, Sha256};

use super::code::InvitationCode;
use super::seal::{pad, unpad};
use guillemet_base::display::sanitize;
use guillemet_base::random::random;
use guillemet_secret::crypto::{self, Key};
use guillemet_wire::api_key::{ApiKey, is_id};
use guillemet_wire::{AccountId, DeviceId, DeviceKey, Enrolment, Hash, PublicKey, Sealed};

/// The prefix of what is hashed for the key, and of what the HMAC covers.
const PREFIX: &[u8] = b"guillemet join 1\0";
/// The longest name of a device, in characters.
const NAME_MAX: usize = 64;
/// The name that replaces an empty one.
const UNNAMED: &str = "unnamed";

/// The reasons why a device that asks to join is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotInvited {
    /// The device does not have the invitation's secret, or the server changed what it sent.
    #[error(
        "a device that was not invited with this code wants to join, or the server changed its request; reject it and \
         create a new invitation"
    )]
    Forged,
    /// The device has the secret, but sends something that guillemet does not send.
    #[error(
        "an invited device sent a request that this version of Guillemet does not understand; update Guillemet on both \
         machines and invite the device again"
    )]
    Malformed,
}

/// Derives the key that inviter and joiner share from the invitation's secret, which the server never has.
fn join_key(secret: &[u8; 16]) -> Key {
    let mut bytes = Sha256::new().chain_update(PREFIX).chain_update(secret).finalize().into();
    Key::from_bytes(&mut bytes)
}

/// Makes the request of a device that asks to join.
pub fn enrolment_request(
    invitation: &InvitationCode,
    joiner: DeviceId,
    public_key: PublicKey,
    name: &str,
    api_key: &ApiKey,
) -> Enrolment {
    enrolment_request_with(&random(), invitation, joiner, public_key, name, api_key)
}

fn enrolment_request_with(
    nonce: &[u8; crypto::NONCE_LEN],
    invitation: &InvitationCode,
    joiner: DeviceId,
    public_key: PublicKey,
    name: &str,
    api_key: &ApiKey,
) -> Enrolment {
    let (key, account) = (join_key(&invitation.secret), invitation.address.account());
    let device_key = api_key.device_key(joiner);
    let message = signed_bytes(account, &invitation.inviter_key, &device_key, &public_key);
    let mac = Hash(key.subkey("account-join-mac").mac(&message));
    let bound = name_bound(account, joiner);
    let padded = pad(display_name(name).as_bytes());
    let name = Sealed(crypto::seal_with(&key.subkey("account-join-name"), nonce, &bound, &padded));
    Enrolment { key: device_key, public_key, mac, name }
}

/// Verifies that a device was invited with this secret, to this account, by the device with this public key. Returns
/// the device's name, safe to display.
///
/// # Errors
/// [`NotInvited::Forged`] if the HMAC does not match or the name does not open; [`NotInvited::Malformed`] for a key id
/// of another form, a public key of low order, or a name that is not padded text.
pub fn verify(
    secret: &[u8; 16],
    account: AccountId,
    inviter_key: &PublicKey,
    enrolment: &Enrolment,
) -> Result<String, NotInvited> {
    let key = join_key(secret);
    let message = signed_bytes(account, inviter_key, &enrolment.key, &enrolment.public_key);
    if !key.subkey("account-join-mac").verify_mac(&message, &enrolment.mac.0) {
        return Err(NotInvited::Forged);
    }
    let bound = name_bound(account, enrolment.key.device);
    let name = crypto::open(&key.subkey("account-join-name"), &bound, &enrolment.name.0);
    let name = name.map_err(|_| NotInvited::Forged)?;
    if !is_id(&enrolment.key.key_id) || crypto::is_weak(&enrolment.public_key.0) {
        return Err(NotInvited::Malformed);
    }
    let name = unpad(name).map_err(|_| NotInvited::Malformed)?;
    std::str::from_utf8(&name).map(display_name).map_err(|_| NotInvited::Malformed)
}

/// Returns the bytes that the HMAC covers.
fn signed_bytes(account: AccountId, inviter_key: &PublicKey, key: &DeviceKey, public_key: &PublicKey) -> Vec<u8> {
    let joiner = [key.device.0.as_slice(), &public_key.0].concat();
    [PREFIX, &account.0, &inviter_key.0, &joiner, key.key_id.as_bytes(), &key.key_hash.0].concat()
}

/// Returns the bytes that the box of a name is bound to.
fn name_bound(account: AccountId, joiner: DeviceId) -> Vec<u8> {
    [b"guillemet join name 1\0".as_slice(), &account.0, &joiner.0].concat()
}

/// Returns a name that is safe to display, whatever was entered.
fn display_name(name: &str) -> String {
    // `tidy` adds one character as a sign that the name was cut off.
    let name = sanitize(name.trim(), NAME_MAX - 1);
    let name = name.trim();
    if name.is_empty() { UNNAMED.to_owned() } else { name.to_owned() }
}
