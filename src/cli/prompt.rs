//! Asking a person, and taking values in: never from an argument.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::terminal::{self, Answer, Refusal, Session, Stop};
use super::{Failure, output};
use crate::secret_reader::{Until, read};
use crate::vault::record::VALUE_MAX;

/// The longest answer to a question, in bytes.
const ANSWER_MAX: usize = 256;
/// The longest code that is read, in bytes.
const CODE_MAX: usize = 8 << 10;
/// The longest passphrase that is read, in bytes.
const PASSPHRASE_MAX: usize = 64 << 10;

/// Asks for a yes. Without a terminal that is a no.
///
/// # Errors
/// When nobody says yes.
pub fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !terminal::is_there() {
        return Err(Failure::new(
            "nobody is there to confirm this; nothing was changed. Pass --yes to go on without asking",
        ));
    }
    match answer(&format!("{question} [y/N] "))?.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::new("nothing was changed")),
    }
}

/// Asks a question whose answer is shown.
///
/// # Errors
/// When there is no answer.
pub fn answer(question: &str) -> Result<Zeroizing<String>, Failure> {
    let question = output::clean(question);
    terminal::talk(|session| session.ask(&question, Answer::Shown, ANSWER_MAX)).map_err(|refusal| refused(refusal, ""))
}

/// Takes a value in: from a file, from standard input (`-`, or where nothing is said), or from a prompt without echo
/// where standard input is a terminal. One line break at the end is taken off.
///
/// # Errors
/// When it cannot be read, is not UTF-8, has more than `VALUE_MAX` bytes, or the two typings differ.
pub fn value(name: &str, from: Option<&PathBuf>) -> Result<Zeroizing<String>, Failure> {
    // And a line break.
    let most = VALUE_MAX + 2;
    let mut bytes = match from {
        Some(path) if path.as_os_str() != "-" => {
            let bytes = File::open(path).and_then(|file| read(file, most, Until::End));
            bytes.map_err(|error| unreadable(&path.display(), &error))?
        }
        _ if terminal::is_there() => return value_typed(&format!("Value of {name}: ")),
        _ => read(io::stdin().as_fd(), most, Until::End).map_err(|error| unreadable(&"standard input", &error))?,
    };
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

/// Takes a new value in as `value` does; blank keeps the one there is.
///
/// # Errors
/// As `value`.
pub fn new_value(name: &str, from: Option<&PathBuf>) -> Result<Option<Zeroizing<String>>, Failure> {
    let value = match from {
        None if terminal::is_there() => value_typed(&format!("New value of {name} (blank keeps it): "))?,
        from => value(name, from)?,
    };
    Ok(Some(value).filter(|value| !value.is_empty()))
}

fn value_typed(question: &str) -> Result<Zeroizing<String>, Failure> {
    typed(question, Answer::Lines, VALUE_MAX, true, "Use --from-file FILE")
}

/// Takes a code of an account in: from a prompt without echo, or from standard input.
///
/// # Errors
/// When there is none.
pub fn code(what: &str) -> Result<Zeroizing<String>, Failure> {
    if terminal::is_there() {
        return typed(&format!("{what}: "), Answer::Line, CODE_MAX, false, "Pipe the code in");
    }
    let bytes = read(io::stdin().as_fd(), CODE_MAX, Until::End);
    let bytes = bytes.map_err(|error| unreadable(&"standard input", &error))?;
    match std::str::from_utf8(&bytes) {
        Ok(text) if !text.trim().is_empty() => Ok(Zeroizing::new(text.to_owned())),
        _ => Err(Failure::new("no code came from standard input; type it at the prompt, or pipe it in")),
    }
}

/// Takes a passphrase in: from a descriptor, or from a prompt; `twice` where a new one is chosen.
///
/// # Errors
/// When there is neither, or the two typings differ.
pub fn passphrase(fd: Option<i32>, twice: bool) -> Result<SecretString, Failure> {
    if let Some(fd) = fd {
        let unreadable =
            |error: io::Error| Failure::new(format!("the passphrase cannot be read from descriptor {fd}: {error}"));
        let bytes = from_descriptor(fd).map_err(unreadable)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| Failure::new("the passphrase is not UTF-8"))?;
        return Ok(text.strip_suffix('\n').unwrap_or(text).to_owned().into());
    }
    if !terminal::is_there() {
        return Err(Failure::new("nobody is there to type the passphrase; pass it with --passphrase-fd N"));
    }
    let text = typed("Passphrase: ", Answer::Line, PASSPHRASE_MAX, twice, "Pass it with --passphrase-fd N")?;
    Ok(text.as_str().to_owned().into())
}

/// Of standard input, which may go on, the first line; of any other descriptor all of it.
fn from_descriptor(fd: i32) -> io::Result<Zeroizing<Vec<u8>>> {
    match fd {
        0 => read(io::stdin().as_fd(), PASSPHRASE_MAX, Until::LineBreak),
        fd => read(crate::sys::process::inherited(fd)?, PASSPHRASE_MAX, Until::End),
    }
}

/// Asks without echo; where it is asked `twice`, again, unless nothing was typed.
fn typed(
    question: &str,
    answer: Answer,
    most: usize,
    twice: bool,
    instead: &str,
) -> Result<Zeroizing<String>, Failure> {
    let question = output::clean(question);
    let both = |session: &mut Session<'_>| -> Result<_, Stop> {
        let first = session.ask(&question, answer, most)?;
        if twice && !first.is_empty() && *first != *session.ask("The same again: ", answer, most)? {
            return Ok(None);
        }
        Ok(Some(first))
    };
    let typed = terminal::talk(both).map_err(|refusal| refused(refusal, instead))?;
    typed.ok_or_else(|| Failure::new("the two differ; nothing was changed"))
}

fn refused(refusal: Refusal, instead: &str) -> Failure {
    match refusal {
        Refusal::Lines | Refusal::Control if !instead.is_empty() => {
            Failure::new(format!("{refusal}; nothing was changed. {instead}"))
        }
        Refusal::NotUtf8 if !instead.is_empty() => {
            Failure::new(format!("{refusal}; nothing was changed. Encode it, with base64 for instance. {instead}"))
        }
        refusal => Failure::new(format!("{refusal}; nothing was changed")),
    }
}

fn unreadable(what: &dyn std::fmt::Display, error: &io::Error) -> Failure {
    Failure::new(format!("{what} cannot be read: {error}"))
}
