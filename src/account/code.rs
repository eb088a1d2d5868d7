//! The codes that people carry from one machine to another, or keep on paper: `gc1-…` creates an account,
//! `gi1-…` invites into one, `gr1-…` brings one back. docs/account-protocol.md has every byte.
//!
//! Knows what stands in a code and what may be wrong with one; not what is done with it.

mod layout;
#[cfg(test)]
mod tests;

use std::fmt;

use zeroize::Zeroizing;

use super::api_key::ApiKey;
use super::wire::{AccountId, DeviceId, Newest, PublicKey};
use crate::names::Millis;
use crate::planner::text::is_unfit;
use crate::vault::crypto::DeviceSecret;

/// Most bytes of a server's address.
const URL_MAX: usize = 512;

/// Where an account is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    account: AccountId,
    url: String,
    pin: Option<[u8; 32]>,
}

/// An address that fits no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a server's address has 1 to {URL_MAX} bytes and no blanks; give another address")]
pub struct BadUrl;

impl Place {
    /// At this address; with a pin, the server must show that key.
    ///
    /// # Errors
    /// `BadUrl`.
    pub fn new(account: AccountId, url: &str, pin: Option<[u8; 32]>) -> Result<Self, BadUrl> {
        let fits = (1..=URL_MAX).contains(&url.len()) && !url.contains(|c: char| c.is_whitespace() || is_unfit(c));
        if fits { Ok(Self { account, url: url.to_owned(), pin }) } else { Err(BadUrl) }
    }

    /// Which account.
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// Where its server is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What the server's key must be, where certificates are not asked.
    pub fn pin(&self) -> Option<&[u8; 32]> {
        self.pin.as_ref()
    }
}

/// Creates an account: good for its first head.
pub struct Creation {
    /// Where.
    pub place: Place,
    /// The key for the first head.
    pub api_key: ApiKey,
}

/// Invites a device: good once, for `wire::INVITE_SECONDS`.
pub struct Invitation {
    /// Where.
    pub place: Place,
    /// Who invites.
    pub inviter: DeviceId,
    /// Its public key.
    pub inviter_key: PublicKey,
    /// Shared by inviter and joiner; the server never has it.
    pub secret: Zeroizing<[u8; 16]>,
    /// For the server.
    pub token: Zeroizing<[u8; 32]>,
}

/// A device on paper.
pub struct Recovery {
    /// Where.
    pub place: Place,
    /// Which device it is.
    pub device: DeviceId,
    /// Its secret key.
    pub device_secret: DeviceSecret,
    /// Its API key.
    pub api_key: ApiKey,
    /// The newest head when it was printed: it can know nothing newer.
    pub head: Newest,
    /// When it was printed.
    pub made_at: Millis,
}

/// Any code.
pub enum Code {
    /// `gc1-…`
    Creation(Creation),
    /// `gi1-…`
    Invite(Invitation),
    /// `gr1-…`
    Recovery(Recovery),
}

/// Which kind of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeKind {
    /// Creates an account.
    Creation,
    /// Invites a device.
    Invite,
    /// Brings an account back.
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
            Self::Creation => "a code that creates an account",
            Self::Invite => "an invitation",
            Self::Recovery => "a recovery code",
        })
    }
}

/// What is wrong with a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCode {
    /// It does not begin like one.
    #[error("this is no code of guillemet: one begins with gc1-, gi1- or gr1-; copy it again from its first character")]
    NotACode,
    /// Another kind than the one that is wanted.
    #[error("this is {found}; {wanted} is wanted, which begins with {}", .wanted.prefix())]
    Another {
        /// The one that is wanted.
        wanted: CodeKind,
        /// The one it is.
        found: CodeKind,
    },
    /// It ends too early.
    #[error("this code was cut off, or mistyped where it ends; copy it again, to its last character")]
    CutOff,
    /// Its checksum does not match.
    #[error("this code was mistyped; compare it with the one that was printed and type it again")]
    Mistyped,
    /// It is of a form this program does not know.
    #[error("this code was made by a newer guillemet; update guillemet on this machine")]
    Newer,
}

impl Code {
    /// Reads a code. Blanks, line breaks and upper case do no harm.
    ///
    /// # Errors
    /// `BadCode`.
    pub fn parse(text: &str) -> Result<Self, BadCode> {
        layout::parse(text, None)
    }

    /// Which kind it is.
    pub fn kind(&self) -> CodeKind {
        match self {
            Self::Creation(_) => CodeKind::Creation,
            Self::Invite(_) => CodeKind::Invite,
            Self::Recovery(_) => CodeKind::Recovery,
        }
    }

    /// Where its account is.
    pub fn place(&self) -> &Place {
        match self {
            Self::Creation(code) => &code.place,
            Self::Invite(code) => &code.place,
            Self::Recovery(code) => &code.place,
        }
    }

    /// As it is shown; a recovery code in groups of five characters, for paper.
    pub fn text(&self) -> Zeroizing<String> {
        layout::text(self)
    }
}

/// What each of the three can do.
macro_rules! codes {
    ($($type:ident $kind:ident),+) => {$(
        impl $type {
            /// Reads a code of this kind. Blanks, line breaks and upper case do no harm.
            ///
            /// # Errors
            /// `BadCode`; `Another` for a code of another kind.
            pub fn parse(text: &str) -> Result<Self, BadCode> {
                match layout::parse(text, Some(CodeKind::$kind))? {
                    Code::$kind(code) => Ok(code),
                    other => Err(BadCode::Another { wanted: CodeKind::$kind, found: other.kind() }),
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

codes!(Creation Creation, Invitation Invite, Recovery Recovery);

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}(…)", self.kind())
    }
}
