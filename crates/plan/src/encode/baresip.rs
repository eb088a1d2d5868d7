//! Writes a parameter of a baresip accounts line so that libre reads the value back.
//!
//! Facts [baresip 1.0.0 and later: src/account.c, modules/account/account.c; libre 1.1.0 and later: src/fmt/regex.c,
//! src/msg/param.c; read 2026-11, and tried with Debian's baresip by tests/it/consumers_sip.rs]:
//! - A value ends at the first blank or `;` outside of double quotes. A quote opens or closes wherever it is; a `\`
//!   takes the meaning from the character after it. Both stay in the value: there is no escape. Only a quote at the
//!   very beginning together with one at the very end is removed.
//! - A parameter is searched for by its name in the whole line, even inside quotes.
//! - A line is cut after 511 bytes.
//!
//! Knows nothing of expressions or secrets.
//!
//! The library for plugins in Rust has the same file (a link), for cases without a host.

use super::text::breaks_line;
use super::{Clear, Refusal, refuse};

/// The most bytes of a value with its quotes, so that an address, a user and a password fit in one line.
pub const MOST: usize = 128;

/// Appends the value: bare if it needs no quotes, so that it can be inside an address too.
///
/// # Errors
/// Fails with [`Refusal`] if baresip would read something else.
pub fn parameter(text: &[u8], out: &mut Clear) -> Result<(), Refusal> {
    if text.is_empty() {
        return refuse("a parameter of a baresip account cannot be empty");
    }
    if breaks_line(text) {
        return refuse("a parameter of a baresip account cannot contain a line break or NUL");
    }
    if holds_parameter(text) {
        return refuse(
            "a parameter of a baresip account cannot contain `;`, a name and `=`: baresip would read them as another \
             parameter, even in quotes",
        );
    }
    let plain = text.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~%+@*!".contains(b));
    let quoted = || std::iter::once(&b'"').chain(text).chain(std::iter::once(&b'"'));
    let stripped = text.len() > 1 && text.starts_with(b"\"") && text.ends_with(b"\"");
    let start = out.len();
    if !plain && is_whole(quoted()) {
        quoted().for_each(|b| out.push(*b));
    } else if plain || is_whole(text.iter()) && !stripped {
        out.extend_from_slice(text);
    } else if text.contains(&b'"') {
        return refuse(
            "baresip cannot read this value back: its accounts file has no escape for `\"`, so quotes must be in \
             pairs, with no space or `;` outside of them",
        );
    } else {
        return refuse("a parameter of a baresip account cannot end with `\\`, which would escape the closing quote");
    }
    if out.len() - start > MOST {
        return refuse(format!(
            "a parameter of a baresip account can have at most {MOST} bytes with its quotes: baresip cuts a line \
             after 511"
        ));
    }
    Ok(())
}

/// Reports whether the written text is read to its end and no further, whatever follows it.
fn is_whole<'a>(written: impl Iterator<Item = &'a u8>) -> bool {
    let (mut quoted, mut is_escaped) = (false, false);
    for b in written {
        match b {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => quoted = !quoted,
            b' ' | b'\t' | b';' if !quoted => return false,
            _ => {}
        }
    }
    !quoted && !is_escaped
}

/// Reports whether `;name=` is in the text, with or without blanks between the three.
fn holds_parameter(text: &[u8]) -> bool {
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let name = |b: &u8| b.is_ascii_alphanumeric() || b"_-".contains(b);
    text.split(|b| *b == b';').skip(1).any(|parameter| {
        let named = parameter.trim_ascii_start();
        let rest = &named[named.iter().take_while(|b| name(b)).count()..];
        let rest_begins = rest.iter().find(|b| !blank(b));
        rest.len() < named.len() && rest_begins == Some(&b'=')
    })
}
