//! Reads an accounts file of baresip (src/conf.c, src/account.c; libre src/fmt/regex.c, src/msg/param.c).
//!
//! A line is an address in `<…>` with a display name before it or none, then `;name=value` parameters. A value ends at
//! the first blank or `;` outside of double quotes; a `\` takes the meaning from the character after it; only a quote at
//! the very beginning together with one at the very end is removed. libre searches for a parameter by its name in the
//! whole line, even inside quotes, so a value that contains `;name=` is an error here, as is a line that would be cut.

use super::{Leaf, error_at, lines};

/// The most bytes of a line, which is read into a buffer of 512.
const LINE_MAX: usize = 511;

pub fn read(text: &str) -> Result<Vec<Leaf>, String> {
    let mut leaves = Vec::new();
    for (start, line) in lines(text).filter(|(_, line)| !line.is_empty()) {
        if line.starts_with('#') {
            leaves.push(Leaf::structure("a comment", line));
        } else {
            read_line(line, &mut leaves).map_err(|problem| error_at(text, start, problem))?;
        }
    }
    Ok(leaves)
}

fn read_line(line: &str, leaves: &mut Vec<Leaf>) -> Result<(), &'static str> {
    if line.len() > LINE_MAX {
        return Err("baresip cuts a line after 511 bytes");
    }
    if line.contains(['\0', '\r']) {
        return Err("a line contains NUL or a carriage return");
    }
    let (display_name, rest) = line.split_once('<').ok_or("`<` is missing before the address")?;
    let (address, mut rest) = rest.split_once('>').ok_or("`>` is missing after the address")?;
    if !display_name.is_empty() {
        leaves.push(Leaf::structure("a display name", display_name));
    }
    read_address(address, leaves)?;
    while let Some(parameter) = rest.trim_start_matches(is_blank).strip_prefix(';') {
        let name_end = parameter.find(|c: char| matches!(c, '=' | ';') || is_blank(c)).unwrap_or(parameter.len());
        let (name, behind) = parameter.split_at(name_end);
        let Some(behind) = behind.strip_prefix('=') else {
            leaves.push(Leaf::structure("a parameter without a value", name));
            rest = behind;
            continue;
        };
        let (value, behind) = split_value(behind)?;
        if value.is_empty() {
            return Err("a parameter is empty");
        }
        if holds_parameter(value) {
            return Err("a value contains `;`, a name and `=`, which baresip reads as another parameter");
        }
        let inner = (value.len() > 1).then(|| value.strip_prefix('"')?.strip_suffix('"')).flatten();
        leaves.push(Leaf::value(&[name], inner.unwrap_or(value)));
        rest = behind;
    }
    if rest.trim_matches(is_blank).is_empty() { Ok(()) } else { Err("text follows the value of a parameter") }
}

/// Reads the address: the scheme, the user and its password are leaves; the rest is structure.
fn read_address(address: &str, leaves: &mut Vec<Leaf>) -> Result<(), &'static str> {
    let (scheme, rest) = address.split_once(':').ok_or("the address has no scheme")?;
    let (user, host) = match rest.split_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, rest),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.!~*'()&=+$,/%".contains(c);
    let (user, password) = match user.and_then(|user| user.split_once(':')) {
        Some((user, password)) => (Some(user), Some(password)),
        None => (user, None),
    };
    for (name, text) in [("user", user), ("password", password)] {
        let Some(text) = text else { continue };
        // RFC 3261, section 25.1.
        if text.is_empty() || !text.chars().all(is_plain) {
            return Err("a part of the address before `@` is empty or has to be percent-encoded");
        }
        leaves.push(Leaf::value(&["address", name], text));
    }
    if host.contains(|c: char| matches!(c, '@' | '"' | '<') || is_blank(c)) {
        return Err("the address contains `@`, a quote or a blank after its host");
    }
    leaves.push(Leaf::structure("the host of an address", format!("{scheme}:{host}")));
    Ok(())
}

/// Splits a text after the value at its beginning.
fn split_value(text: &str) -> Result<(&str, &str), &'static str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            c if !is_quoted && (c == ';' || is_blank(c)) => return Ok(text.split_at(at)),
            _ => {}
        }
    }
    if is_quoted || is_escaped { Err("a quote is not closed") } else { Ok((text, "")) }
}

/// Reports whether `;name=` is in a value, with or without blanks between the three.
fn holds_parameter(value: &str) -> bool {
    value.split(';').skip(1).any(|parameter| {
        let named = parameter.trim_start_matches(is_blank);
        let rest = named.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        rest.len() < named.len() && rest.trim_start_matches(is_blank).starts_with('=')
    })
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}
