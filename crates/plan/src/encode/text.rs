//! Writes text for JSON, XML, Asterisk, Kamailio and curl.
//!
//! The library for plugins in Rust has the same file (a link), for cases without a host.

use super::{Clear, Refusal, refuse, utf8};

/// Appends text as the content of a JSON string (RFC 8259, section 7).
pub fn json_string(text: &[u8], out: &mut Clear) -> Result<(), Refusal> {
    for b in utf8(text)?.bytes() {
        match b {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..b' ' => {
                let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(b >> 4), digit(b & 15)]);
            }
            b => out.push(b),
        }
    }
    Ok(())
}

/// Appends text as character data or an attribute value of XML 1.0, section 2.2. White space other than the blank is
/// written by number, because an attribute would lose it. FreeSWITCH processes the lines before it parses the XML
/// (preprocess in switch_xml.c): it expands `$${…}` and drops a line that contains `X-PRE-PROCESS` in any case, so `$`
/// and that `X` are written by number too.
pub fn xml(text: &[u8], out: &mut Clear) -> Result<(), Refusal> {
    const COMMAND: &[u8] = b"x-pre-process";
    let text = utf8(text)?;
    for (at, c) in text.char_indices() {
        match c {
            'x' | 'X'
                if text.as_bytes()[at..].get(..COMMAND.len()).is_some_and(|b| b.eq_ignore_ascii_case(COMMAND)) =>
            {
                out.extend_from_slice(if c == 'x' { b"&#120;" } else { b"&#88;" });
            }
            '&' => out.extend_from_slice(b"&amp;"),
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '"' => out.extend_from_slice(b"&quot;"),
            '\'' => out.extend_from_slice(b"&#39;"),
            '$' => out.extend_from_slice(b"&#36;"),
            '\t' => out.extend_from_slice(b"&#9;"),
            '\n' => out.extend_from_slice(b"&#10;"),
            '\r' => out.extend_from_slice(b"&#13;"),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {
                return refuse("XML cannot hold control characters or U+FFFE and U+FFFF");
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Ok(())
}

/// Reports whether a text has a line break or NUL, which no line of a configuration can hold as it is.
pub fn breaks_line(text: &[u8]) -> bool {
    text.iter().any(|b| matches!(b, b'\r' | b'\n' | 0))
}

/// The longest value in bytes, so that a line stays below the 8,000 bytes that Asterisk reads whole.
const ASTERISK_VALUE_MAX: usize = 7_900;

/// Checks a value of Asterisk's `key = value` (main/config.c). Asterisk strips characters up to the blank from both
/// ends, so values that begin or end with one are refused.
pub fn check_asterisk_value(text: &[u8]) -> Result<(), Refusal> {
    let stripped = |b: Option<&u8>| b.is_some_and(|b| *b <= b' ');
    if breaks_line(text) {
        return refuse("an Asterisk value cannot contain a line break or NUL");
    }
    if stripped(text.first()) || stripped(text.last()) {
        return refuse(
            "an Asterisk value cannot start or end with a space or a control character, which Asterisk strips",
        );
    }
    if text.len() + text.iter().filter(|b| **b == b';').count() > ASTERISK_VALUE_MAX {
        return refuse(format!("an Asterisk value can have at most {ASTERISK_VALUE_MAX} bytes"));
    }
    Ok(())
}

/// Appends text of an Asterisk value: `\` goes before every `;`, and nothing else is an escape.
pub fn asterisk_value(text: &[u8], out: &mut Clear) -> Result<(), Refusal> {
    escape(text, out, |b| (b == b';').then_some(b));
    Ok(())
}

/// Checks a string of Kamailio's configuration. Line breaks could be read, but would count as lines of the file.
pub fn check_kamailio_string(text: &[u8]) -> Result<(), Refusal> {
    if breaks_line(text) {
        return refuse("a string of a Kamailio configuration cannot contain a line break or NUL");
    }
    Ok(())
}

/// Appends text of a string of Kamailio's configuration (state STRING1 of src/core/cfg.lex, 5.6.3): `\` goes before `"`
/// and `\`, because every other escape begins with a `\`.
pub fn kamailio_string(text: &[u8], out: &mut Clear) -> Result<(), Refusal> {
    escape(text, out, |b| matches!(b, b'"' | b'\\').then_some(b));
    Ok(())
}

/// Appends text of a quoted value of `curl --config` (src/tool_parsecfg.c).
pub fn curl_config(text: &[u8], out: &mut Clear) -> Result<(), Refusal> {
    if text.contains(&0) {
        return refuse("a value of a curl configuration cannot contain NUL");
    }
    escape(text, out, |b| match b {
        b'"' | b'\\' => Some(b),
        b'\n' => Some(b'n'),
        b'\r' => Some(b'r'),
        b'\t' => Some(b't'),
        0x0b => Some(b'v'),
        _ => None,
    });
    Ok(())
}

/// Appends the text; `escaped` returns the character to write after a `\` in place of a byte.
pub fn escape(text: &[u8], out: &mut Clear, escaped: impl Fn(u8) -> Option<u8>) {
    for b in text {
        match escaped(*b) {
            Some(escaped) => out.extend_from_slice(&[b'\\', escaped]),
            None => out.push(*b),
        }
    }
}
