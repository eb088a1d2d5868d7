//! `init` and `daemon`.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::{Done, Failure, no_daemon, output, prompt};
use crate::home::Home;
use crate::permissions::TrustedHome;
use crate::sys::stack::leaving_nothing;
use crate::vault::keys::{METHODS, Method, Needs, UnlockWith};
use crate::vault::store::Vault;

/// Every way to unlock a vault, by its name.
fn methods() -> impl TypedValueParser<Value = Method> {
    let values = METHODS.iter().map(|row| PossibleValue::new(row.name).help(row.summary));
    PossibleValuesParser::new(values).try_map(|name| Method::named(&name).ok_or("there is no such method"))
}

/// Gets what a method needs; `new` where the vault is being made.
fn unlock(method: Method, home: &TrustedHome, passphrase_fd: Option<i32>, new: bool) -> Result<UnlockWith, Failure> {
    match method.row().needs {
        Needs::KeyFile if home.group_may_write() && !new => Ok(UnlockWith::SharedKeyFile(home.key_file())),
        Needs::KeyFile => Ok(UnlockWith::KeyFile(home.key_file())),
        Needs::Passphrase => {
            // The daemon lives long: nothing of it may stay on the stack.
            leaving_nothing(|| prompt::passphrase(passphrase_fd, new)).map(UnlockWith::Passphrase)
        }
    }
}

#[derive(Args)]
pub struct Init {
    /// What opens the vault.
    #[arg(long, value_parser = methods(), default_value = Method::KeyFile.name())]
    unlock: Method,
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
        crate::daemon::init(home, unlock(self.unlock, home, self.passphrase_fd, true)?)?;
        output::note(&format!("made {}", home.data().display()));
        if self.unlock.row().needs == Needs::KeyFile {
            output::note(&format!(
                "keep a copy of {} in a safe place: without it the vault cannot be opened",
                home.key_file().display()
            ));
        }
        output::note(&format!(
            "\nNext:\n  {} &\n  {}   such as cal-com/frontdesk; it says which secrets to add\n\n\
             A config that holds credentials already becomes a template with `{}`",
            home.command("daemon"),
            home.command("template new FEATURE/NAME"),
            home.command("adopt"),
        ));
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
        if let Some(failure) = no_daemon::no_home(home) {
            return Err(failure);
        }
        let home = &TrustedHome::check(home, self.group_may_write)?;
        let unlock = unlock(Vault::method(home)?, home, self.passphrase_fd, false)?;
        Ok(crate::daemon::run(home, unlock)?)
    }
}
