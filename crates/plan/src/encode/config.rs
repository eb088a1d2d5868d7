//! Writes values for configuration files: YAML, TOML, INI, shells, systemd, Docker and netrc.
//!
//! The library for plugins in Rust has the same file (a link), for cases without a host.

use super::text::{breaks_line, escape};
use super::{Clear, Refusal, is_noncharacter, refuse, utf8};

/// Appends text as the content of a double-quoted scalar of YAML (1.2.2, section 5.7), on one line. Escapes what YAML 1.1
/// and 1.2 read differently (U+0085, U+2028 and U+2029 are line breaks in YAML 1.1 only) and what neither can hold as it
/// is.
pub fn yaml_string(text: &[u8], out: &mut Clear) -> Result<(), Refusal> {
    for c in utf8(text)?.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => {
                out.extend_from_slice(format!("\\x{:02x}", u32::from(c)).as_bytes())
            }
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Ok(())
}

/// Appends text as the content of a basic string of TOML 1.0.
pub fn toml_string(text: &[u8], out: &mut Clear) -> Result<(), Refusal> {
    for b in utf8(text)?.bytes() {
        match b {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..b' ' | 0x7f => out.extend_from_slice(format!("\\u{:04x}", u32::from(b)).as_bytes()),
            b => out.push(b),
        }
    }
    Ok(())
}

/// Checks the value of a `key = value` line of an INI file. There is no standard: Python's configparser, with and without
/// interpolation, and npm's `ini` have no quotes and no escapes in common, so only what all of them take as it is passes.
pub fn check_ini_value(text: &[u8]) -> Result<(), Refusal> {
    const WORDS: [&str; 3] = ["true", "false", "null"];
    let text = utf8(text)?;
    // The marks that JavaScript strips as white space, or breaks lines at.
    let is_blank = |c: char| c.is_whitespace() || c == '\u{feff}';
    let is_special = |c: char| matches!(c, ';' | '#' | '%' | '$' | '\\');
    if text.is_empty() {
        refuse("an INI value cannot be empty")
    } else if text.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
        refuse("an INI value cannot contain line breaks or other control characters")
    } else if text.starts_with(is_blank) || text.ends_with(is_blank) {
        refuse("an INI value cannot start or end with a space, which is stripped; use `| trim` if it is not part of it")
    } else if text.contains(is_special) {
        refuse("an INI value cannot contain any of ; # % $ \\, which some of its readers take for syntax")
    } else if text.starts_with(['"', '\'']) {
        refuse("an INI value cannot start with a quote, which some of its readers strip")
    } else if WORDS.contains(&text) {
        refuse("an INI value cannot be the word true, false or null, which some of its readers do not read as text")
    } else {
        Ok(())
    }
}

/// Appends text as the content of a single-quoted string of a POSIX shell (POSIX.1-2024, XCU 2.2.2), in which nothing is
/// special. A `'` ends the string, is written behind a `\`, and begins another one.
pub fn shell_word(text: &[u8], out: &mut Clear) -> Result<(), Refusal> {
    if text.contains(&0) {
        return refuse("a word of a shell cannot contain NUL");
    }
    for b in text {
        match b {
            b'\'' => out.extend_from_slice(b"'\\''"),
            b => out.push(*b),
        }
    }
    Ok(())
}

/// Checks the value of a line in an `EnvironmentFile=` of systemd (src/basic/env-file.c; 246 and newer, which take
/// control characters).
pub fn check_systemd_env(text: &[u8]) -> Result<(), Refusal> {
    let text = utf8(text)?;
    if text.contains('\0') {
        return refuse("an environment variable cannot contain NUL");
    }
    if text.contains(is_noncharacter) {
        return refuse("systemd rejects a file with a Unicode noncharacter (such as U+FFFE)");
    }
    Ok(())
}

/// Appends text as the content of a double-quoted value of an `EnvironmentFile=`: `\` goes before what it escapes there.
pub fn systemd_env(text: &[u8], out: &mut Clear) -> Result<(), Refusal> {
    escape(text, out, |b| matches!(b, b'"' | b'\\' | b'`' | b'$').then_some(b));
    Ok(())
}

/// Checks the value of a line for `docker run --env-file` (opts/envfile.go of docker/cli) and
/// `kubectl create --from-env-file`, which take everything up to the end of the line as it is.
pub fn check_docker_env(text: &[u8]) -> Result<(), Refusal> {
    if breaks_line(text) {
        return refuse("a line of a Docker env file cannot contain a line break or NUL, and has no escape for them");
    }
    Ok(())
}

/// Appends a token of a netrc file, as curl 7.84 and newer (lib/netrc.c) and Python 3.11 and newer (Lib/netrc.py) read
/// it: bare, or in double quotes with `\` before `"` and `\`.
pub fn netrc_token(text: &[u8], out: &mut Clear) -> Result<(), Refusal> {
    /// curl keeps a token in a buffer of 4,096 bytes.
    const TOKEN_MAX: usize = 4_000;
    let text = utf8(text)?;
    if text.is_empty() {
        return refuse("a token of a netrc file cannot be empty");
    }
    if text.contains(char::is_control) {
        return refuse("a token of a netrc file cannot contain a line break or another control character");
    }
    if text.len() > TOKEN_MAX {
        return refuse(format!("a token of a netrc file can have at most {TOKEN_MAX} bytes"));
    }
    if text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\')) && !text.starts_with('#') {
        out.extend_from_slice(text.as_bytes());
        return Ok(());
    }
    out.push(b'"');
    escape(text.as_bytes(), out, |b| matches!(b, b'"' | b'\\').then_some(b));
    out.push(b'"');
    Ok(())
}
