//! Asking a person, and taking values in: never from an argument.

use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::Failure;
use crate::vault::record::VALUE_MAX;

/// Asks for a yes. Without a terminal that is a no.
///
/// # Errors
/// When nobody says yes.
pub fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            "nobody is there to confirm this; nothing was changed. Pass --yes to go on without asking",
        ));
    }
    eprint!("{question} [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Failure::new("nothing was changed")) }
}

/// Takes a value in: from a file, from standard input (`-`, or where that is no terminal), or from a prompt
/// without echo. One line break at the end is taken off.
///
/// # Errors
/// When it cannot be read, is not UTF-8, or the two typings differ.
pub fn value(name: &str, from: Option<&PathBuf>) -> Result<Zeroizing<String>, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(VALUE_MAX + 2));
    let limit = VALUE_MAX as u64 + 2;
    match from {
        Some(path) if path.as_os_str() != "-" => {
            let file = std::fs::File::open(path);
            let file = file.map_err(|error| Failure::new(format!("{} cannot be read: {error}", path.display())))?;
            file.take(limit).read_to_end(&mut bytes)?;
        }
        None if std::io::stdin().is_terminal() => return twice(format!("Value of {name}: ")),
        _ => {
            std::io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
        }
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(Failure::new("the value is not UTF-8; encode it first, with base64 for instance")),
    }
}

/// Takes a new value in from a prompt without echo; blank keeps the one there is.
///
/// # Errors
/// When it cannot be read, or the two typings differ.
pub fn new_value(name: &str) -> Result<Option<Zeroizing<String>>, Failure> {
    Ok(Some(twice(format!("New value of {name} (blank keeps it): "))?).filter(|value| !value.is_empty()))
}

/// Asks without echo; again, unless nothing was typed.
fn twice(question: String) -> Result<Zeroizing<String>, Failure> {
    let ask = |question: String| rpassword::prompt_password(question).map(Zeroizing::new);
    let first = ask(question)?;
    if !first.is_empty() && *first != *ask("The same again: ".into())? {
        return Err(Failure::new("the two differ; nothing was changed"));
    }
    Ok(first)
}

/// Takes a passphrase in: from a descriptor, or from a prompt; `twice` where a new one is chosen.
///
/// # Errors
/// When there is neither.
pub fn passphrase(fd: Option<i32>, twice: bool) -> Result<SecretString, Failure> {
    if let Some(fd) = fd {
        let mut text = Zeroizing::new(String::new());
        let file = match fd {
            0 => std::io::stdin().read_line(&mut text).map(|_| None),
            fd => crate::sys::process::inherited(fd).map(|fd| Some(std::fs::File::from(fd))),
        };
        let unreadable = |error| Failure::new(format!("the passphrase cannot be read from descriptor {fd}: {error}"));
        if let Some(file) = file.map_err(unreadable)? {
            file.take(64 << 10).read_to_string(&mut text).map_err(unreadable)?;
        }
        return Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned().into());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new("nobody is there to type the passphrase; pass it with --passphrase-fd N"));
    }
    let first = Zeroizing::new(rpassword::prompt_password("Passphrase: ")?);
    if twice && *first != *Zeroizing::new(rpassword::prompt_password("The same again: ")?) {
        return Err(Failure::new("the two differ; nothing was changed"));
    }
    Ok(first.to_string().into())
}
