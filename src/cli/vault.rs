//! The `vault` commands, which change a vault while no daemon has it open.

use std::os::unix::fs::MetadataExt;

use clap::{Args, Subcommand};

use super::{Done, Failure, no_daemon, output, unlock};
use guillemet_base::home::Home;
use guillemet_base::permissions::TrustedHome;
use guillemet_base::sys::stack::with_wiped_stack;
use guillemet_base::time::now;
use guillemet_vault::audit::{Actor, AuditChange};
use guillemet_vault::event::ChangeKind;
use guillemet_vault::keys::{Method, Needs};
use guillemet_vault::lock::DaemonLock;
use guillemet_vault::store::{self, VaultError};

#[derive(Subcommand)]
pub enum VaultCommand {
    /// Change the passphrase or key file, and re-encrypt every secret under a new key. Stop the daemon first.
    Rekey(VaultRekeyArgs),
}

const AFTER_REKEY: &str = "\
If it is interrupted, either the old or the new key opens the vault, and the next start of the daemon completes or
undoes the change.

Earlier copies of vault.db still open with the old key.";

#[derive(Args)]
#[command(after_help = AFTER_REKEY)]
pub struct VaultRekeyArgs {
    /// The new way to unlock the vault [default: the current way, with a new key file or passphrase].
    #[arg(long, value_parser = unlock::methods())]
    unlock: Option<Method>,
    /// Read the current passphrase from this file descriptor instead of asking.
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<i32>,
    /// Read the new passphrase from this file descriptor instead of asking.
    #[arg(long, value_name = "N")]
    new_passphrase_fd: Option<i32>,
    /// Allow groups write access to the home. Their members can read and change every secret.
    #[arg(long)]
    group_may_write: bool,
}

impl VaultCommand {
    pub fn run(self, home: &Home) -> Done {
        match self {
            Self::Rekey(command) => command.run(home),
        }
    }
}

impl VaultRekeyArgs {
    fn run(self, home: &Home) -> Done {
        if let Some(failure) = no_daemon::no_home(home) {
            return Err(failure);
        }
        guillemet_base::sys::process::make_undumpable()?;
        let home = &TrustedHome::check(home, self.group_may_write)?;
        is_ours(home)?;
        let _lock = DaemonLock::acquire(home).map_err(|error| in_use(home, error))?;
        let previous = store::Vault::method(home)?;
        let next = self.unlock.unwrap_or(previous);
        self.check_descriptors(previous, next)?;
        let present = unlock::for_existing(home, previous, self.passphrase_fd)?;
        let (mut vault, _) = with_wiped_stack(|| store::Vault::open(home, present))?;
        let event = AuditChange::new(ChangeKind::VaultRekeyed, &Actor::this_process(), now())
            .before(previous.name())
            .after(next.name());
        let failed = |vault: &mut store::Vault, code: &str| {
            // If nothing can be written, the failure leaves no event either; the reason is printed all the same.
            let _ = vault.record(&[event.clone().failed(code)]);
        };
        let new =
            unlock::next(home, next, self.new_passphrase_fd).inspect_err(|_| failed(&mut vault, "validation_error"))?;
        with_wiped_stack(|| vault.rekey(&new, event.clone())).map_err(|error| {
            failed(&mut vault, "service_unavailable");
            unwritten(error)
        })?;
        vault.name_new_key(home, &new)?;
        print_change(home, previous, next);
        Ok(())
    }

    /// Refuses descriptors that would not be read, or would be read for both passphrases.
    fn check_descriptors(&self, previous: Method, next: Method) -> Done {
        let name = previous.name();
        if self.passphrase_fd.is_some() && previous.row().needs != Needs::Passphrase {
            return Err(Failure::new(format!(
                "--passphrase-fd is for the current passphrase, but this vault is unlocked by a {name}; pass the new \
                 passphrase with --new-passphrase-fd"
            )));
        }
        if self.new_passphrase_fd.is_some() && next.row().needs != Needs::Passphrase {
            let hint = format!("--unlock {}", Method::Passphrase.name());
            return Err(Failure::new(format!(
                "--new-passphrase-fd is for a new passphrase, but this vault would stay unlocked by a {name}; add \
                 {hint}, or remove it",
                name = next.name()
            )));
        }
        match (self.passphrase_fd, self.new_passphrase_fd) {
            (Some(present), Some(new)) if present == new => Err(Failure::new(format!(
                "both passphrases cannot come from descriptor {new}, because it is read to its end; pass another \
                 descriptor"
            ))),
            _ => Ok(()),
        }
    }
}

/// Checks that the vault belongs to this user. A new key file belongs to the user who runs this, and the daemon has to
/// be able to read it.
fn is_ours(home: &Home) -> Done {
    let path = home.vault_file();
    let owner = path.metadata()?.uid();
    if owner == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(Failure::new(format!("{} belongs to user {owner}; run this as that user. Nothing was changed", path.display())))
}

fn in_use(home: &Home, error: VaultError) -> Failure {
    let VaultError::Locked(pid) = error else { return error.into() };
    let pid = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
    Failure::new(format!(
        "the daemon{pid} is using this vault; nothing was changed. Stop the daemon, run `{}` again, then start the \
         daemon",
        home.command("vault rekey")
    ))
}

fn unwritten(error: VaultError) -> Failure {
    match error {
        VaultError::Database(_) => Failure::new(format!(
            "{error}. At the next start, use the previous key or passphrase; if it is refused, the change did reach \
             the disk: use the new one"
        )),
        error => error.into(),
    }
}

fn print_change(home: &Home, previous: Method, next: Method) {
    let old = match previous.row().needs {
        Needs::KeyFile => "key file",
        Needs::Passphrase => "passphrase",
    };
    match next.row().needs {
        Needs::KeyFile => {
            output::note(&format!("{} contains the new key of this vault", home.key_file().display()));
            output::note(&unlock::backup_advice(home));
        }
        Needs::Passphrase => output::note("from now on, the new passphrase opens this vault"),
    }
    if previous != next && previous.row().needs == Needs::KeyFile {
        let key_file = home.key_file();
        output::note(&format!(
            "{} no longer opens this vault; delete it once no copy of the vault needs it",
            key_file.display()
        ));
    }
    output::note(&format!(
        "earlier copies of vault.db still open with the old {old}: delete them, and make new copies"
    ));
}
