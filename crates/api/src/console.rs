//! Links to the console.

use serde::{Deserialize, Serialize};

/// A link to the console, for one login. Cannot be printed, because whoever has it can log in.
#[derive(Serialize, Deserialize)]
pub struct ConsoleLink {
    /// The address to open in a browser.
    pub url: String,
    /// The seconds for which the link is valid.
    pub expires_in: u64,
}
