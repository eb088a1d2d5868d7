//! Whether a daemon answers, and which home it serves.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The answer of a daemon that can serve requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`.
    pub status: Cow<'static, str>,
    /// The identity of the home's data folder: `DEVICE:INODE` in decimal, as `guillemet_base::files::FileId` writes it.
    pub home: String,
}
