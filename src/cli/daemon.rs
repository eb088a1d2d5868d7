//! The `init` and `daemon` commands: make a home, and run the daemon.

use clap::Args;

use super::{Done, no_daemon, output, unlock};
use guillemet_base::home::Home;
use guillemet_base::permissions::TrustedHome;
use guillemet_vault::keys::{Method, Needs};
use guillemet_vault::store::Vault;

#[derive(Args)]
pub struct InitArgs {
    /// What unlocks the vault.
    #[arg(long, value_parser = unlock::methods(), default_value = Method::KeyFile.name())]
    unlock: Method,
    /// Read the passphrase from this file descriptor instead of asking.
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<i32>,
    /// Allow groups write access to existing folders. Their members can read and change every secret.
    #[arg(long)]
    group_may_write: bool,
}

impl InitArgs {
    pub fn run(self, home: &Home) -> Done {
        let home = &TrustedHome::check(home, self.group_may_write)?;
        guillemet_daemon::init(home, &unlock::for_new(home, self.unlock, self.passphrase_fd)?)?;
        output::note(&format!("created {}", home.data().display()));
        if self.unlock.row().needs == Needs::KeyFile {
            output::note(&unlock::backup_advice(home));
        }
        output::note(&format!(
            "\nNext:\n  {} &\n  {}   such as cal-com/frontdesk; lists the secrets to add\n\nTo turn a config with \
             credentials into a template, run `{}`",
            home.command("daemon"),
            home.command("template new FEATURE/NAME"),
            home.command("adopt"),
        ));
        Ok(())
    }
}

#[derive(Args)]
pub struct RunArgs {
    /// Read the passphrase from this file descriptor instead of asking.
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<i32>,
    /// Allow groups write access to the home. Their members can read and change every secret.
    #[arg(long)]
    group_may_write: bool,
}

impl RunArgs {
    pub fn run(self, home: &Home) -> Done {
        if let Some(failure) = no_daemon::no_home(home) {
            return Err(failure);
        }
        let home = &TrustedHome::check(home, self.group_may_write)?;
        let unlock = unlock::for_existing(home, Vault::method(home)?, self.passphrase_fd)?;
        Ok(guillemet_daemon::run(home, unlock)?)
    }
}
