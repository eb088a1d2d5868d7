//! The codes that people carry from one machine to another, or keep on paper: `gc1-…` creates an account, `gi1-…`
//! invites a device into one, `gr1-…` recovers one. docs/account-protocol.md specifies every byte.
//!
//! Knows what a code contains and what can be wrong with one; not what is done with it.

mod layout;
#[cfg(test)]
mod tests;

use std::fmt;

use zeroize::Zeroizing;

use guillemet_base::display::is_unprintable;
use guillemet_base::names::Millis;
use guillemet_secret::crypto::DeviceSecret;
use guillemet_wire::api_key::ApiKey;
use guillemet_wire::{AccountId, DeviceId, HeadRef, PublicKey};

/// The longest address of a server, in bytes.
const URL_MAX: usize = 512;

/// The account and the address of its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountAddress {
    account: AccountId,
    url: String,
    pin: Option<[u8; 32]>,
}

/// The error for an address that does not fit into a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a server's address must have 1 to {URL_MAX} bytes and no spaces; use another address")]
pub struct BadUrl;

impl AccountAddress {
    /// Combines an account with the address of its server. `pin` is the SHA-256 of the only certificate that is
    /// accepted; `None` accepts what this machine trusts.
    ///
    /// # Errors
    /// [`BadUrl`] if the address is empty, too long, or contains blanks or control characters.
    pub fn new(account: AccountId, url: &str, pin: Option<[u8; 32]>) -> Result<Self, BadUrl> {
        let fits =
            (1..=URL_MAX).contains(&url.len()) && !url.contains(|c: char| c.is_whitespace() || is_unprintable(c));
        if fits { Ok(Self { account, url: url.to_owned(), pin }) } else { Err(BadUrl) }
    }

    /// Returns the account's id.
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// Returns the address of the account's server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the SHA-256 of the certificate that the server must show. `None` if the machine's certificate
    /// authorities decide.
    pub fn pin(&self) -> Option<&[u8; 32]> {
        self.pin.as_ref()
    }
}

/// A code that creates an account. It can be used for the account's first head only.
pub struct Creation {
    /// The account to create, and its server.
    pub address: AccountAddress,
    /// The API key for the first push.
    pub api_key: ApiKey,
}

/// A code that invites a device. It can be used once, within [`INVITE_SECONDS`](guillemet_wire::INVITE_SECONDS).
pub struct InvitationCode {
    /// The account to join, and its server.
    pub address: AccountAddress,
    /// The device that made the invitation.
    pub inviter: DeviceId,
    /// The public key of the inviting device.
    pub inviter_key: PublicKey,
    /// The secret that inviter and joiner share. The server never has it.
    pub secret: Zeroizing<[u8; 16]>,
    /// The token that shows the server that the device was invited.
    pub token: Zeroizing<[u8; 32]>,
}

/// A recovery code: a device on paper.
pub struct Recovery {
    /// The account to recover, and its server.
    pub address: AccountAddress,
    /// The id of the device that the code is.
    pub device: DeviceId,
    /// The secret key of that device.
    pub device_secret: DeviceSecret,
    /// The API key of that device.
    pub api_key: ApiKey,
    /// The device that made the code, and wrapped the key of the epoch for it.
    pub sender: DeviceId,
    /// The public key of the device that made the code.
    pub sender_key: PublicKey,
    /// The head that let the device in. The code cannot know anything newer.
    pub head: HeadRef,
    /// The time at which the code was printed.
    pub made_at: Millis,
}

/// A code of any kind.
pub enum AccountCode {
    /// A code with the prefix `gc1-`.
    Creation(Creation),
    /// A code with the prefix `gi1-`.
    Invite(InvitationCode),
    /// A code with the prefix `gr1-`.
    Recovery(Recovery),
}

/// The kinds of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeKind {
    /// It creates an account.
    Creation,
    /// It invites a device.
    Invite,
    /// It recovers an account.
    Recovery,
}

impl CodeKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Creation => "gc1-",
            Self::Invite => "gi1-",
            Self::Recovery => "gr1-",
        }
    }
}

impl fmt::Display for CodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creation => "an account creation code",
            Self::Invite => "an invitation",
            Self::Recovery => "a recovery code",
        })
    }
}

/// The reasons why a code cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCode {
    /// The text does not begin like a code.
    #[error(
        "this is not a Guillemet code: a code starts with gc1-, gi1- or gr1-; copy it again from its first character"
    )]
    NotACode,
    /// The code is of another kind than expected.
    #[error("this is {found}; use {expected}, which starts with {}", .expected.prefix())]
    Another {
        /// The kind that was expected.
        expected: CodeKind,
        /// The kind that was found.
        found: CodeKind,
    },
    /// The code ends too early.
    #[error("this code is incomplete, or has a typo at the end; copy it again, up to its last character")]
    CutOff,
    /// The checksum of the code does not match.
    #[error("this code has a typo; compare it with the printed code and type it again")]
    Mistyped,
    /// The code has a layout that this version does not know.
    #[error("this code was made by a newer version of Guillemet; update Guillemet on this machine")]
    Newer,
}

impl AccountCode {
    /// Reads a code of any kind. Ignores blanks, line breaks and case.
    ///
    /// # Errors
    /// [`BadCode`] for the reason why it cannot be read.
    pub fn parse(text: &str) -> Result<Self, BadCode> {
        layout::parse(text, None)
    }

    /// Returns the kind of this code.
    pub fn kind(&self) -> CodeKind {
        match self {
            Self::Creation(_) => CodeKind::Creation,
            Self::Invite(_) => CodeKind::Invite,
            Self::Recovery(_) => CodeKind::Recovery,
        }
    }

    /// Returns the account of this code, and its server.
    pub fn address(&self) -> &AccountAddress {
        match self {
            Self::Creation(code) => &code.address,
            Self::Invite(code) => &code.address,
            Self::Recovery(code) => &code.address,
        }
    }

    /// Returns the code as text. A recovery code is in groups of five characters, for paper.
    pub fn to_text(&self) -> Zeroizing<String> {
        layout::encode(self)
    }
}

/// Implements `parse` and `Debug` for each of the three types.
macro_rules! codes {
    ($($type:ident $kind:ident),+) => {$(
        impl $type {
            /// Reads a code of this kind. Ignores blanks, line breaks and case.
            ///
            /// # Errors
            /// [`BadCode`] for the reason why it cannot be read: [`BadCode::Another`] if it is a code of another kind.
            pub fn parse(text: &str) -> Result<Self, BadCode> {
                match layout::parse(text, Some(CodeKind::$kind))? {
                    AccountCode::$kind(code) => Ok(code),
                    other => Err(BadCode::Another { expected: CodeKind::$kind, found: other.kind() }),
                }
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($type), "(…)"))
            }
        }
    )+};
}

codes!(Creation Creation, InvitationCode Invite, Recovery Recovery);

impl fmt::Debug for AccountCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}(…)", self.kind())
    }
}
