//! Asks questions and reads values, codes and passphrases. Never takes them from an argument.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use clap::Args;
use zeroize::Zeroizing;

use super::terminal::{self, InputKind, PromptError, Stop, TerminalSession};
use super::{Failure, output};
use guillemet_secret::reader::{NotASecret, SECRET_MAX, SecretRule, read_file, secret_in};

/// The longest answer to a question that is not a secret, in bytes.
const ANSWER_MAX: usize = 256;

/// Where a value comes from.
#[derive(Args)]
pub struct ValueFrom {
    /// Read the value from this file, or from standard input with `-`.
    #[arg(long, value_name = "FILE")]
    pub from_file: Option<PathBuf>,
    /// Keep every byte of the file or pipe, including a byte order mark and the final line break.
    #[arg(long)]
    pub exact: bool,
}

impl ValueFrom {
    /// Reports whether a flag says anything about a value.
    pub fn is_given(&self) -> bool {
        self.from_file.is_some() || self.exact
    }
}

/// The help text that explains which bytes of a file are the value.
pub const VALUES: &str = "\
A file or pipe is used as the value, up to 65,536 bytes. Only a UTF-8 byte order mark and one final line break (LF or
CR LF) are removed; --exact keeps them.";

/// Asks the user to confirm with yes. With `yes` set, does not ask. Without a terminal, the answer is no.
///
/// # Errors
/// When the user does not confirm.
pub fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !terminal::is_interactive() {
        return Err(Failure::new(
            "this needs confirmation, but there is no terminal; nothing was changed. Pass --yes to skip the question",
        ));
    }
    match ask(&format!("{question} [y/N] "))?.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::new("nothing was changed")),
    }
}

/// Asks a question and shows the answer as it is typed.
///
/// # Errors
/// When there is no answer.
pub fn ask(question: &str) -> Result<Zeroizing<String>, Failure> {
    let question = output::sanitize_multiline(question);
    terminal::run_session(|session| session.ask(&question, InputKind::Shown, ANSWER_MAX))
        .map_err(|refusal| prompt_failure(refusal, ""))
}

/// Reads a value: from a file, from standard input (with `-`, or by default), or from a prompt without echo if standard
/// input is a terminal. Drops a byte order mark and one line break at the end unless `from.exact` is set.
///
/// # Errors
/// When the value cannot be read, is not UTF-8, is longer than [`SECRET_MAX`] bytes, or is typed differently the second
/// time.
pub fn value(name: &str, from: &ValueFrom) -> Result<Zeroizing<String>, Failure> {
    let reading = if from.exact { SecretRule::Exact } else { SecretRule::Text };
    match &from.from_file {
        Some(path) if path.as_os_str() != "-" => {
            let file = File::open(path).map_err(|error| unreadable(&path.display(), error.into()))?;
            value_of(&path.display(), file.as_fd(), reading)
        }
        _ if terminal::is_interactive() => value_typed(&format!("Value of {name}: "), from),
        _ => value_of(&"standard input", io::stdin().as_fd(), reading),
    }
}

/// Reads a new value as [`value`] does. Returns `None` if it is blank, which keeps the present value.
///
/// # Errors
/// As [`value`].
pub fn new_value(name: &str, from: &ValueFrom) -> Result<Option<Zeroizing<String>>, Failure> {
    let value = match from.from_file {
        None if terminal::is_interactive() => {
            value_typed(&format!("New value of {name} (leave blank to keep it): "), from)?
        }
        _ => value(name, from)?,
    };
    Ok(Some(value).filter(|value| !value.is_empty()))
}

fn value_of(
    subject: &dyn std::fmt::Display,
    from: BorrowedFd<'_>,
    reading: SecretRule,
) -> Result<Zeroizing<String>, Failure> {
    let file = read_file(from).map_err(|error| unreadable(subject, error))?;
    let value = secret_in(&file, reading).map_err(|error| unreadable(subject, error))?;
    match std::str::from_utf8(value) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(Failure::new("the value is not UTF-8; encode it first, for example with base64")),
    }
}

fn value_typed(question: &str, from: &ValueFrom) -> Result<Zeroizing<String>, Failure> {
    if from.exact {
        return Err(Failure::new("--exact needs a value from a file or a pipe; pass --from-file FILE"));
    }
    ask_hidden(question, InputKind::Lines, true, "Use --from-file FILE")
}

/// Reads a code of an account: from a prompt without echo, or from standard input.
///
/// # Errors
/// When no code comes.
pub fn code(label: &str) -> Result<Zeroizing<String>, Failure> {
    if terminal::is_interactive() {
        return ask_hidden(&format!("{label}: "), InputKind::Line, false, "Pipe the code in");
    }
    let file = read_file(io::stdin().as_fd()).map_err(|error| unreadable(&"standard input", error))?;
    let code = secret_in(&file, SecretRule::Text).map_err(|error| unreadable(&"standard input", error))?;
    match std::str::from_utf8(code) {
        Ok(text) if !text.trim().is_empty() => Ok(Zeroizing::new(text.to_owned())),
        _ => Err(Failure::new("standard input contains no code; enter it at the prompt, or pipe it in")),
    }
}

/// Describes how a passphrase is asked for.
#[derive(Clone, Copy)]
pub struct AskedPassphrase {
    /// The text of the prompt, such as `Passphrase: `.
    pub question: &'static str,
    /// The flag that takes the number of a descriptor instead, for messages.
    pub flag: &'static str,
    /// Whether to ask a second time, because a new passphrase is chosen.
    pub twice: bool,
}

/// Reads a passphrase: from a descriptor, which is read to its end, or from a prompt.
///
/// # Errors
/// When there is neither, or it is typed differently the second time.
pub fn passphrase(prompt: &AskedPassphrase, fd: Option<i32>) -> Result<Zeroizing<String>, Failure> {
    let AskedPassphrase { question, flag, twice } = *prompt;
    if let Some(fd) = fd {
        let subject = format!("the passphrase from descriptor {fd}");
        let read_from = |from: BorrowedFd<'_>| {
            // On a terminal the passphrase would be echoed as it is typed, and the read would wait for end-of-file.
            if rustix::termios::isatty(from) {
                return Err(Failure::new(format!(
                    "descriptor {fd} is a terminal; remove {flag} to enter the passphrase at a prompt"
                )));
            }
            read_file(from).map_err(|error| unreadable(&subject, error))
        };
        let file = match fd {
            0 => read_from(io::stdin().as_fd()),
            fd => match guillemet_base::sys::process::take_inherited(fd) {
                Ok(fd) => read_from(fd.as_fd()),
                Err(error) => Err(unreadable(&subject, error.into())),
            },
        }?;
        let text = std::str::from_utf8(&file).map_err(|_| Failure::new("the passphrase is not UTF-8"))?;
        return Ok(Zeroizing::new(text.to_owned()));
    }
    if !terminal::is_interactive() {
        return Err(Failure::new(format!("a passphrase is needed, but there is no terminal; pass it with {flag} N")));
    }
    ask_hidden(question, InputKind::Line, twice, &format!("Pass it with {flag} N"))
}

/// Asks for a secret without echo. With `twice` set, asks for it again unless no input. `alternative` names
/// another way to pass the secret, for messages.
fn ask_hidden(question: &str, kind: InputKind, twice: bool, alternative: &str) -> Result<Zeroizing<String>, Failure> {
    let question = output::sanitize_multiline(question);
    let ask = |session: &mut TerminalSession<'_>| -> Result<_, Stop> {
        let first = session.ask(&question, kind, SECRET_MAX)?;
        if twice && !first.is_empty() && *first != *session.ask("Repeat: ", kind, SECRET_MAX)? {
            return Ok(None);
        }
        Ok(Some(first))
    };
    let typed = terminal::run_session(ask).map_err(|refusal| prompt_failure(refusal, alternative))?;
    typed.ok_or_else(|| Failure::new("the entries do not match; nothing was changed"))
}

fn prompt_failure(refusal: PromptError, alternative: &str) -> Failure {
    match refusal {
        PromptError::Lines | PromptError::Control if !alternative.is_empty() => {
            Failure::new(format!("{refusal}; nothing was changed. {alternative}"))
        }
        PromptError::NotUtf8 if !alternative.is_empty() => {
            Failure::new(format!("{refusal}; nothing was changed. Encode it, for example with base64. {alternative}"))
        }
        refusal => Failure::new(format!("{refusal}; nothing was changed")),
    }
}

fn unreadable(subject: &dyn std::fmt::Display, error: NotASecret) -> Failure {
    match error {
        NotASecret::Io(error) => Failure::new(format!("{subject} cannot be read: {error}")),
        error => Failure::new(format!("{subject} has {error}; nothing was changed")),
    }
}
