//! Gets the key file or passphrase that unlocks a vault, the present one or a new one, from a person or a script.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::Failure;
use super::prompt::{self, AskedPassphrase};
use guillemet_base::home::Home;
use guillemet_base::permissions::TrustedHome;
use guillemet_base::sys::stack::with_wiped_stack;
use guillemet_vault::keys::{METHODS, Method, Needs, NewUnlock, UnlockWith};

/// How the passphrase of an existing or a new vault is asked for.
const PASSPHRASE: AskedPassphrase = AskedPassphrase { question: "Passphrase: ", flag: "--passphrase-fd", twice: false };

/// Returns the parser of an argument that names a way to unlock a vault.
pub fn methods() -> impl TypedValueParser<Value = Method> {
    let values = METHODS.iter().map(|row| PossibleValue::new(row.name).help(row.summary));
    PossibleValuesParser::new(values).try_map(|name| Method::from_name(&name).ok_or("unknown method"))
}

/// Gets the key file or passphrase of an existing vault.
///
/// # Errors
/// When there is no passphrase, or it cannot be read.
pub fn for_existing(home: &TrustedHome, method: Method, passphrase_fd: Option<i32>) -> Result<UnlockWith, Failure> {
    match method.row().needs {
        Needs::KeyFile if home.group_may_write() => Ok(UnlockWith::SharedKeyFile(home.key_file())),
        Needs::KeyFile => Ok(UnlockWith::KeyFile(home.key_file())),
        Needs::Passphrase => passphrase(&PASSPHRASE, passphrase_fd),
    }
}

/// Gets the key file or passphrase for a vault that is being made.
///
/// # Errors
/// As [`for_existing`], and when the passphrase is easy to guess.
pub fn for_new(home: &Home, method: Method, passphrase_fd: Option<i32>) -> Result<NewUnlock, Failure> {
    new(home, method, &AskedPassphrase { twice: true, ..PASSPHRASE }, passphrase_fd)
}

/// Gets the key file or passphrase that replaces the present one.
///
/// # Errors
/// As [`for_new`].
pub fn next(home: &Home, method: Method, passphrase_fd: Option<i32>) -> Result<NewUnlock, Failure> {
    let prompt = AskedPassphrase { question: "New passphrase: ", flag: "--new-passphrase-fd", twice: true };
    new(home, method, &prompt, passphrase_fd)
}

fn new(home: &Home, method: Method, prompt: &AskedPassphrase, fd: Option<i32>) -> Result<NewUnlock, Failure> {
    let unlock = match method.row().needs {
        Needs::KeyFile => UnlockWith::KeyFile(home.key_file()),
        Needs::Passphrase => passphrase(prompt, fd)?,
    };
    Ok(unlock.for_new()?)
}

/// Reads a passphrase and leaves nothing of it on the stack, because the daemon lives long.
fn passphrase(prompt: &AskedPassphrase, fd: Option<i32>) -> Result<UnlockWith, Failure> {
    let passphrase = with_wiped_stack(|| prompt::passphrase(prompt, fd).map(|text| text.as_str().to_owned().into()))?;
    Ok(UnlockWith::Passphrase(passphrase))
}

/// Returns advice to keep a copy of a new key file.
pub fn backup_advice(home: &Home) -> String {
    format!("keep a copy of {} in a safe place: without it, the vault cannot be opened", home.key_file().display())
}
