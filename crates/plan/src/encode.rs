//! Implements the operations of `expr`: one function for literal text and values alike, so that the two can never
//! disagree.
//!
//! Knows nothing of plans or requests. Text is appended to the caller's buffer, which wipes itself; a refusal names the
//! reason, never the text.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use sha2::Digest;

use super::expr::{DigestAlgorithm, Expr, Op, Part, Text};
use guillemet_base::sys::memory::Clear;
use guillemet_template::ValueFilter;

mod baresip;
mod dotenv;

/// The longest text that an expression may produce, in bytes. Nested encoders can double it each time.
pub const TEXT_MAX: usize = 4 << 20;

/// The reason of a refusal when a document exceeds its limit.
pub const TOO_MUCH: &str = "the document would get too long, or need too many encoders";

/// The reason why a place cannot hold a text. Never contains the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// The reason, for the person who has to change the value or the template.
    pub reason: String,
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { reason: reason.into() })
}

/// The source of the values when an expression is evaluated.
pub trait Source {
    /// Appends the value of this emission to `out`.
    fn append(&self, emission: u32, out: &mut Clear);

    /// Counts the bytes of each text that is produced. Returns `false` if the total exceeds what is allowed.
    fn spend(&self, _bytes: usize) -> bool {
        true
    }
}

/// A source for text without secrets, which appends nothing.
struct NoSecrets;

impl Source for NoSecrets {
    fn append(&self, _emission: u32, _out: &mut Clear) {}
}

/// Encodes text without secrets at once.
///
/// `args` are the arguments in the order of `expr::Op`.
///
/// # Errors
/// Fails with [`Refusal`] if the place cannot hold the text.
pub fn literal(op: &Op, args: &[&str]) -> Result<String, Refusal> {
    if let Op::Forbid { characters, reason } = op
        && args.iter().any(|text| text.contains(|c| characters.contains(c)))
    {
        return refuse(reason);
    }
    let args: Vec<Text> = args.iter().map(|text| vec![Part::Literal((*text).into())]).collect();
    let mut out = Clear::new();
    apply(op, &args, &NoSecrets, &mut out)?;
    // Literal text is not secret, so it may leave the wiping buffer.
    String::from_utf8(out.to_vec()).or_else(|_| refuse("the text is not valid UTF-8"))
}

/// Evaluates an expression: appends the encoded text to `out`.
///
/// # Errors
/// Fails with [`Refusal`] if its place cannot hold a value, if `out` gets longer than [`TEXT_MAX`], or if the source's
/// limit is exceeded. `out` then contains a part of the text and must be discarded.
pub fn eval<S: Source>(expr: &Expr, source: &S, out: &mut Clear) -> Result<(), Refusal> {
    let begin = out.len();
    match expr {
        Expr::Secret(emission) => source.append(*emission, out),
        Expr::Apply { op, args } => apply(op, args, source, out)?,
    }
    if out.len() > TEXT_MAX {
        return refuse(format!("it is longer than {} MiB when encoded for its place", TEXT_MAX >> 20));
    }
    if !source.spend(out.len() - begin) {
        return refuse(TOO_MUCH);
    }
    Ok(())
}

/// Appends the parts of a text to `out`.
fn append<S: Source>(text: &Text, source: &S, out: &mut Clear) -> Result<(), Refusal> {
    for part in text {
        match part {
            Part::Literal(literal) => out.extend_from_slice(literal.as_bytes()),
            Part::Expr(expr) => eval(expr, source, out)?,
        }
    }
    Ok(())
}

/// Evaluates an argument into a separate buffer.
fn argument<S: Source>(args: &[Text], index: usize, source: &S) -> Result<Clear, Refusal> {
    let mut out = Clear::new();
    // The number of arguments is checked when a plan is made; a missing one reads as empty.
    if let Some(text) = args.get(index) {
        append(text, source, &mut out)?;
    }
    Ok(out)
}

fn apply<S: Source>(op: &Op, args: &[Text], source: &S, out: &mut Clear) -> Result<(), Refusal> {
    // Operations that only check append first and then check what they appended, which needs no second buffer.
    let begin = out.len();
    match op {
        Op::HeaderValue => {
            append_first(args, source, out)?;
            check_header_value(&out[begin..])
        }
        Op::Url => {
            append_first(args, source, out)?;
            check_url(&out[begin..])
        }
        Op::Forbid { characters, reason } => forbid(args, source, out, |value| {
            std::str::from_utf8(value).is_ok_and(|value| !value.contains(|c| characters.contains(c)))
        })
        .and_then(|fits| if fits { Ok(()) } else { refuse(reason) }),
        Op::ForbidSequence { sequence, reason } => forbid_sequence(args, source, out, sequence.as_bytes(), reason),
        Op::AtMost { bytes, reason } => {
            append_first(args, source, out)?;
            if out.len() - begin > *bytes as usize { refuse(reason) } else { Ok(()) }
        }
        _ => transform(op, args, source, out),
    }
}

/// Applies the operations whose output differs from their input.
fn transform<S: Source>(op: &Op, args: &[Text], source: &S, out: &mut Clear) -> Result<(), Refusal> {
    let text = argument(args, 0, source)?;
    match op {
        Op::UrlQuery | Op::Filter(ValueFilter::Url) => percent(&text, out),
        Op::UrlPathSegment => {
            if matches!(text.as_slice(), b"." | b"..") {
                return refuse("a path segment cannot be `.` or `..`, which would lead to another path");
            }
            percent(&text, out);
        }
        Op::Base64 | Op::Filter(ValueFilter::Base64) => append_encoded(&data_encoding::BASE64, &text, out),
        Op::Filter(ValueFilter::Base64url) => append_encoded(&data_encoding::BASE64URL_NOPAD, &text, out),
        Op::Filter(ValueFilter::Hex) => append_encoded(&data_encoding::HEXLOWER, &text, out),
        Op::Filter(ValueFilter::Trim) => {
            let trimmed = utf8(&text)?.trim();
            if trimmed.is_empty() {
                return refuse("the value is empty after `trim`");
            }
            out.extend_from_slice(trimmed.as_bytes());
        }
        Op::BasicCredentials => {
            let mut pair = text;
            if pair.contains(&b':') {
                return refuse("the user name of basic credentials cannot contain `:` (RFC 7617)");
            }
            pair.push(b':');
            append_argument(args, 1, source, &mut pair)?;
            if utf8(&pair)?.contains(char::is_control) {
                return refuse("basic credentials cannot contain control characters (RFC 7617)");
            }
            append_encoded(&data_encoding::BASE64, &pair, out);
        }
        Op::SipDigestHa1(algorithm) => {
            let mut triple = text;
            let user = triple.len();
            triple.push(b':');
            append_argument(args, 1, source, &mut triple)?;
            if triple[..user].contains(&b':') || triple[user + 1..].contains(&b':') {
                return refuse("the user name and realm of a digest cannot contain `:`, which separates them");
            }
            triple.push(b':');
            append_argument(args, 2, source, &mut triple)?;
            digest(*algorithm, &triple, out);
        }
        Op::JsonString => json_string(utf8(&text)?, out),
        Op::Xml => xml(utf8(&text)?, out)?,
        Op::Dotenv => dotenv::value(utf8(&text)?, out)?,
        Op::AsteriskValue => asterisk_value(&text, out)?,
        Op::KamailioString => kamailio_string(&text, out)?,
        Op::BaresipParameter => baresip::parameter(&text, out)?,
        Op::CurlConfig => curl_config(&text, out)?,
        Op::HeaderValue | Op::Url | Op::Forbid { .. } | Op::ForbidSequence { .. } | Op::AtMost { .. } => {
            unreachable!("`apply` takes the operations that only look")
        }
    }
    Ok(())
}

fn append_first<S: Source>(args: &[Text], source: &S, out: &mut Clear) -> Result<(), Refusal> {
    append_argument(args, 0, source, out)
}

fn append_argument<S: Source>(args: &[Text], index: usize, source: &S, out: &mut Clear) -> Result<(), Refusal> {
    args.get(index).map_or(Ok(()), |text| append(text, source, out))
}

fn utf8(bytes: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(bytes).or_else(|_| refuse("the value is not valid UTF-8"))
}

/// The characters that are percent-encoded: all but the unreserved ones of RFC 3986, section 2.3.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn percent(text: &[u8], out: &mut Clear) {
    for piece in percent_encode(text, &RESERVED) {
        out.extend_from_slice(piece.as_bytes());
    }
}

fn append_encoded(encoding: &data_encoding::Encoding, text: &[u8], out: &mut Clear) {
    let begin = out.len();
    out.resize(begin + encoding.encode_len(text.len()), 0);
    encoding.encode_mut(text, &mut out[begin..]);
}

/// Appends the hash of RFC 8760 (RFC 7616 for HTTP) over `user:realm:password`, in lower-case hexadecimal.
fn digest(algorithm: DigestAlgorithm, text: &[u8], out: &mut Clear) {
    match algorithm {
        DigestAlgorithm::Md5 => append_encoded(&data_encoding::HEXLOWER, &md5::Md5::digest(text), out),
        DigestAlgorithm::Sha256 => append_encoded(&data_encoding::HEXLOWER, &sha2::Sha256::digest(text), out),
        DigestAlgorithm::Sha512_256 => append_encoded(&data_encoding::HEXLOWER, &sha2::Sha512_256::digest(text), out),
    }
}

/// Appends the text; returns whether every value in it passes.
fn forbid<S: Source>(
    args: &[Text],
    source: &S,
    out: &mut Clear,
    passes: impl Fn(&[u8]) -> bool,
) -> Result<bool, Refusal> {
    let mut fits = true;
    for part in args.iter().flatten() {
        match part {
            // Literal text was checked when the plan was made.
            Part::Literal(literal) => out.extend_from_slice(literal.as_bytes()),
            Part::Expr(expr) => {
                let begin = out.len();
                eval(expr, source, out)?;
                fits &= passes(&out[begin..]);
            }
        }
    }
    Ok(fits)
}

/// Appends the text; refuses an occurrence of the sequence that is not completely inside one literal.
fn forbid_sequence<S: Source>(
    args: &[Text],
    source: &S,
    out: &mut Clear,
    sequence: &[u8],
    reason: &str,
) -> Result<(), Refusal> {
    let begin = out.len();
    let mut literals: Vec<std::ops::Range<usize>> = Vec::new();
    for part in args.iter().flatten() {
        let from = out.len();
        match part {
            Part::Literal(literal) => {
                out.extend_from_slice(literal.as_bytes());
                literals.push(from..out.len());
            }
            Part::Expr(expr) => eval(expr, source, out)?,
        }
    }
    if sequence.is_empty() {
        return refuse(reason);
    }
    let ours = |at: usize| literals.iter().any(|range| range.start <= at && at + sequence.len() <= range.end);
    let found = out[begin..].windows(sequence.len()).enumerate();
    // Compares the first byte alone first: nearly every window differs there.
    let same = |window: &[u8]| window[0] == sequence[0] && window == sequence;
    if found.into_iter().any(|(at, window)| same(window) && !ours(begin + at)) {
        return refuse(reason);
    }
    Ok(())
}

/// Checks a field value of RFC 9110, section 5.5, without obs-text: what every client and server accepts.
fn check_header_value(text: &[u8]) -> Result<(), Refusal> {
    let blank = |b: Option<&u8>| b.is_some_and(|b| matches!(b, b' ' | b'\t'));
    if text.iter().all(|b| matches!(b, b' '..=b'~' | b'\t')) && !blank(text.first()) && !blank(text.last()) {
        Ok(())
    } else if text.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        refuse("a header value cannot contain a line break or NUL")
    } else if !text.is_ascii() {
        refuse("a header value can only contain ASCII characters")
    } else if text.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
        refuse("a header value cannot contain control characters")
    } else {
        refuse("a header value cannot start or end with a space or tab; use `| trim` if it is not part of the value")
    }
}

/// The characters that a URL may contain.
const URL: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0x21;
    while b < 0x7f {
        table[b] = !matches!(b as u8, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'|');
        b += 1;
    }
    table
};

/// Checks an absolute http(s) URL of RFC 3986. Braces pass, for the variables of platforms that expand them.
fn check_url(text: &[u8]) -> Result<(), Refusal> {
    let rest = [&b"https://"[..], b"http://"]
        .iter()
        .find(|scheme| text.len() >= scheme.len() && text[..scheme.len()].eq_ignore_ascii_case(scheme))
        .map(|scheme| &text[scheme.len()..]);
    let Some(rest) = rest else {
        return refuse("not an absolute URL: it must start with https:// or http://");
    };
    if !text.iter().all(|b| URL[usize::from(*b)]) {
        return refuse(
            "a URL cannot contain spaces, control characters, non-ASCII characters or any of \" < > \\ ^ ` |",
        );
    }
    let bad_escape = |behind: &[u8]| !behind.get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    if text.split(|b| *b == b'%').skip(1).any(bad_escape) {
        return refuse("a URL can contain `%` only before two hexadecimal digits");
    }
    let authority_end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(authority_end);
    let host = authority.rsplit(|b| *b == b'@').next().unwrap_or_default();
    if host.is_empty() || host.starts_with(b":") {
        return refuse("the URL has no host");
    }
    let path = tail.split(|b| matches!(b, b'?' | b'#')).next().unwrap_or_default();
    // A dot may be written as `%2e`, in either case.
    let dots = |mut segment: &[u8]| {
        let mut count = 0;
        while let Some(first) = segment.first() {
            let len = match segment.get(..3) {
                _ if *first == b'.' => 1,
                Some(escape) if escape.eq_ignore_ascii_case(b"%2e") => 3,
                _ => return false,
            };
            segment = &segment[len..];
            count += 1;
        }
        matches!(count, 1 | 2)
    };
    if path.split(|b| *b == b'/').any(dots) {
        return refuse("a path segment of a URL cannot be `.` or `..`, which would lead to another path");
    }
    Ok(())
}

/// Appends text as the content of a JSON string (RFC 8259, section 7).
fn json_string(text: &str, out: &mut Clear) {
    for b in text.bytes() {
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
}

/// Appends text as character data or an attribute value of XML 1.0, section 2.2. White space other than the blank is
/// written by number, because an attribute would lose it. FreeSWITCH processes the lines before it parses the XML
/// (preprocess in switch_xml.c): it expands `$${…}` and drops a line that contains `X-PRE-PROCESS` in any case, so `$`
/// and that `X` are written by number too.
fn xml(text: &str, out: &mut Clear) -> Result<(), Refusal> {
    const COMMAND: &[u8] = b"x-pre-process";
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

/// The longest value in bytes, so that a line stays below the 8,000 bytes that Asterisk reads whole.
const ASTERISK_VALUE_MAX: usize = 7_900;

/// Appends a value of Asterisk's `key = value` (main/config.c): `\` goes before every `;`, and nothing else is an
/// escape. Asterisk strips characters up to the blank from both ends, so values that begin or end with one are refused.
fn asterisk_value(text: &[u8], out: &mut Clear) -> Result<(), Refusal> {
    let stripped = |b: Option<&u8>| b.is_some_and(|b| *b <= b' ');
    if text.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return refuse("an Asterisk value cannot contain a line break or NUL");
    }
    if stripped(text.first()) || stripped(text.last()) {
        return refuse(
            "an Asterisk value cannot start or end with a space or a control character, which Asterisk strips",
        );
    }
    let begin = out.len();
    for b in text {
        if *b == b';' {
            out.push(b'\\');
        }
        out.push(*b);
    }
    if out.len() - begin > ASTERISK_VALUE_MAX {
        return refuse(format!("an Asterisk value can have at most {ASTERISK_VALUE_MAX} bytes"));
    }
    Ok(())
}

/// Appends a string of Kamailio's configuration (state STRING1 of src/core/cfg.lex, 5.6.3): `\` goes before `"` and
/// `\`, because every other escape begins with a `\`. Line breaks could be read, but would count as lines of the file.
fn kamailio_string(text: &[u8], out: &mut Clear) -> Result<(), Refusal> {
    if text.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return refuse("a string of a Kamailio configuration cannot contain a line break or NUL");
    }
    quoted(text, out, |b| matches!(b, b'"' | b'\\').then_some(b));
    Ok(())
}

/// Appends a quoted value of `curl --config` (src/tool_parsecfg.c).
fn curl_config(text: &[u8], out: &mut Clear) -> Result<(), Refusal> {
    if text.contains(&0) {
        return refuse("a value of a curl configuration cannot contain NUL");
    }
    quoted(text, out, |b| match b {
        b'"' | b'\\' => Some(b),
        b'\n' => Some(b'n'),
        b'\r' => Some(b'r'),
        b'\t' => Some(b't'),
        0x0b => Some(b'v'),
        _ => None,
    });
    Ok(())
}

/// Appends the text between double quotes; `escape` returns the character to write after a `\` in place of a byte.
fn quoted(text: &[u8], out: &mut Clear, escape: impl Fn(u8) -> Option<u8>) {
    out.push(b'"');
    for b in text {
        match escape(*b) {
            Some(escaped) => out.extend_from_slice(&[b'\\', escaped]),
            None => out.push(*b),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests;
