//! `init` and `daemon`.

use clap::{Args, ValueEnum};

use super::{Done, output, prompt};
use crate::home::Home;
use crate::permissions::TrustedHome;
use crate::vault::keys::{Method, UnlockWith};
use crate::vault::store::Vault;

/// What opens the vault.
#[derive(Clone, Copy, ValueEnum)]
pub enum Unlock {
    /// A key file, readable by its owner alone.
    Keyfile,
    /// A passphrase.
    Passphrase,
}

#[derive(Args)]
pub struct Init {
    /// What opens the vault.
    #[arg(long, value_enum, default_value = "keyfile")]
    unlock: Unlock,
    /// Read the passphrase from this descriptor instead of asking.
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<i32>,
    /// Allow groups to write the folders that exist. Their members can read and change every secret.
    #[arg(long)]
    group_may_write: bool,
}

impl Init {
    pub fn run(self, home: &Home) -> Done {
        let home = &TrustedHome::check(home, self.group_may_write)?;
        let unlock = match self.unlock {
            Unlock::Keyfile => UnlockWith::KeyFile(home.key_file()),
            Unlock::Passphrase => UnlockWith::Passphrase(prompt::passphrase(self.passphrase_fd, true)?),
        };
        crate::daemon::init(home, unlock)?;
        output::note(&format!("made {}", home.data().display()));
        if matches!(self.unlock, Unlock::Keyfile) {
            output::note(&format!(
                "keep a copy of {} in a safe place: without it the vault cannot be opened",
                home.key_file().display()
            ));
        }
        output::note("next: `guillemet daemon`, then `guillemet secret list` shows what the example templates need");
        Ok(())
    }
}

#[derive(Args)]
pub struct Run {
    /// Read the passphrase from this descriptor instead of asking.
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<i32>,
    /// Allow groups to write the home. Their members can read and change every secret.
    #[arg(long)]
    group_may_write: bool,
}

impl Run {
    pub fn run(self, home: &Home) -> Done {
        let home = &TrustedHome::check(home, self.group_may_write)?;
        let passphrase = match Vault::method(home)? {
            Method::Passphrase => Some(prompt::passphrase(self.passphrase_fd, false)?),
            Method::KeyFile => None,
        };
        Ok(crate::daemon::run(home, passphrase)?)
    }
}
