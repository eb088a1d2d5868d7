//! The encoders as the cases see them: outside a host a secret is only a name, and an operation on it is written down
//! instead of carried out.
//!
//! A text that contains a slot becomes a new slot for `«operation(arguments)»`. Literal text is encoded at once, as a
//! host does it. The state belongs to the thread.

use std::borrow::Cow;
use std::cell::RefCell;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::{Sha256, Sha512, Sha512_256};

pub use crate::bindings::guillemet::feature::encode::{Escaping, Refused, Replacement};

/// What a slot stands for.
pub(crate) struct Slot {
    /// The notation for messages and documents: `«name»` or `«operation(…)»`.
    pub notation: String,
    /// Whether the outermost operation is a terminal encoder, so the slot may be placed in a text document.
    pub terminal: bool,
    /// The slots of the config that it is made of.
    pub secrets: Vec<usize>,
}

#[derive(Default)]
pub(crate) struct State {
    pub slots: Vec<Slot>,
    /// The problems of literal text that an encoder refused.
    pub problems: Vec<String>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// A slot is `Z` and this many digits.
const DIGITS: usize = 39;

/// Starts with an empty state, and returns the former one.
pub(crate) fn reset() -> State {
    STATE.take()
}

/// Makes a slot for a secret of the config.
pub(crate) fn secret(name: &str) -> String {
    STATE.with_borrow_mut(|state| {
        let secrets = vec![state.slots.len()];
        push(state, Slot { notation: format!("«{name}»"), terminal: false, secrets })
    })
}

fn push(state: &mut State, slot: Slot) -> String {
    state.slots.push(slot);
    format!("Z{:0DIGITS$}", state.slots.len() - 1)
}

/// Returns the slots in a text: the position and the number of each.
pub(crate) fn slots(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find('Z').map(|at| from + at) {
        let digits = text.as_bytes().get(at + 1..at + 1 + DIGITS).filter(|d| d.iter().all(u8::is_ascii_digit));
        from = at + 1;
        if digits.is_some() {
            found.push((at, text[at + 1..at + 1 + DIGITS].parse().unwrap_or(usize::MAX)));
            from = at + 1 + DIGITS;
        }
    }
    found
}

/// Returns the text with each slot replaced by its notation.
pub(crate) fn written(state: &State, text: &str) -> String {
    let mut out = String::new();
    let mut from = 0;
    for (at, slot) in slots(text) {
        out.push_str(&text[from..at]);
        out.push_str(state.slots.get(slot).map_or("«forged»", |slot| &slot.notation));
        from = at + 1 + DIGITS;
    }
    out + &text[from..]
}

/// Why an encoder refuses a literal text.
type Reason = Cow<'static, str>;

struct Operation {
    name: &'static str,
    terminal: bool,
}

/// Encodes literal text; for text with slots, writes the operation down in a new slot. `shown` are the arguments that
/// are not text.
fn apply(
    operation: Operation,
    shown: &[&str],
    texts: &[&str],
    literal: impl FnOnce() -> Result<String, Reason>,
) -> String {
    STATE.with_borrow_mut(|state| {
        let secrets: Vec<usize> = texts
            .iter()
            .flat_map(|text| slots(text))
            .flat_map(|(_, slot)| state.slots.get(slot).map_or(Vec::new(), |slot| slot.secrets.clone()))
            .collect();
        if secrets.is_empty() {
            return literal().unwrap_or_else(|reason| {
                state.problems.push(reason.into_owned());
                texts.concat()
            });
        }
        let arguments = shown.iter().map(|&shown| shown.to_owned());
        let arguments: Vec<_> = arguments.chain(texts.iter().map(|text| written(state, text))).collect();
        let notation = format!("«{}({})»", operation.name, arguments.join("; "));
        push(state, Slot { notation, terminal: operation.terminal, secrets })
    })
}

const fn inner(name: &'static str) -> Operation {
    Operation { name, terminal: false }
}

const fn terminal(name: &'static str) -> Operation {
    Operation { name, terminal: true }
}

/// Returns whether the text contains at least one secret.
pub fn has_secret(text: &str) -> bool {
    !slots(text).is_empty()
}

/// Returns whether the text is exactly one secret and nothing else.
pub fn whole_secret(text: &str) -> bool {
    text.len() == 1 + DIGITS && has_secret(text)
}

fn percent(text: &str) -> String {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if unreserved(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
pub fn url_query(text: &str) -> String {
    apply(inner("url-query"), &[], &[text], || Ok(percent(text)))
}

/// Percent-encodes like `url_query`, and refuses the segments `.` and `..`.
pub fn url_path_segment(text: &str) -> String {
    apply(inner("url-path-segment"), &[], &[text], || match text {
        "." | ".." => Err("a path segment must not be `.` or `..`".into()),
        _ => Ok(percent(text)),
    })
}

/// Checks that the text is an absolute http(s) URL, and keeps it as it is. A secret inside a longer URL has to be
/// percent-encoded.
pub fn url(text: &str) -> String {
    let bare = STATE.with_borrow(|state| {
        let encoded = |slot: usize| state.slots.get(slot).is_some_and(|slot| slot.notation.starts_with("«url-"));
        !whole_secret(text) && slots(text).iter().any(|&(_, slot)| !encoded(slot))
    });
    if bare {
        STATE.with_borrow_mut(|state| state.problems.push("a secret inside a URL is not percent-encoded".into()));
        return text.into();
    }
    apply(inner("url"), &[], &[text], || {
        let fits = text.starts_with("https://") || text.starts_with("http://");
        if fits { Ok(text.into()) } else { Err("not an absolute http(s) URL".into()) }
    })
}

/// Checks that the text is a field value of RFC 9110, and keeps it as it is.
pub fn header_value(text: &str) -> String {
    apply(inner("header-value"), &[], &[text], || {
        let blank = |b: &u8| matches!(b, b' ' | b'\t');
        let outer = text.bytes().next().iter().any(blank) || text.bytes().last().iter().any(blank);
        let fits = !outer && text.bytes().all(|b| b.is_ascii_graphic() || blank(&b));
        if fits { Ok(text.into()) } else { Err("not a header value: visible ASCII without blanks at the ends".into()) }
    })
}

/// Encodes as Base64 with padding.
pub fn base64(text: &str) -> String {
    apply(inner("base64"), &[], &[text], || Ok(BASE64.encode(text.as_bytes())))
}

/// Encodes `user:password` as Base64, for basic authentication.
pub fn basic_credentials(user: &str, password: &str) -> String {
    apply(inner("basic-credentials"), &[], &[user, password], || {
        let encoded = BASE64.encode(format!("{user}:{password}").as_bytes());
        if user.contains(':') { Err("a user of basic credentials must not hold `:`".into()) } else { Ok(encoded) }
    })
}

/// Returns the hash of `user:realm:password` (RFC 8760), in lower-case hexadecimal.
pub fn sip_digest_ha1(user: &str, realm: &str, password: &str, algorithm: &str) -> String {
    apply(inner("sip-digest-ha1"), &[algorithm], &[user, realm, password], || {
        let text = format!("{user}:{realm}:{password}");
        match algorithm {
            "MD5" => Ok(HEXLOWER.encode(&Md5::digest(text))),
            "SHA-256" => Ok(HEXLOWER.encode(&Sha256::digest(text))),
            "SHA-512-256" => Ok(HEXLOWER.encode(&Sha512_256::digest(text))),
            _ => Err("there is no such digest".into()),
        }
    })
}

/// Escapes the text for the inside of a JSON string, without its quotes.
pub fn json_string(text: &str) -> String {
    apply(inner("json-string"), &[], &[text], || {
        let quoted = serde_json::Value::from(text).to_string();
        Ok(quoted[1..quoted.len() - 1].into())
    })
}

/// Encodes as lower-case hexadecimal.
pub fn hex(text: &str) -> String {
    apply(inner("hex"), &[], &[text], || Ok(HEXLOWER.encode(text.as_bytes())))
}

/// Encodes as Base64 for URLs, without padding.
pub fn base64url(text: &str) -> String {
    apply(inner("base64url"), &[], &[text], || Ok(BASE64URL_NOPAD.encode(text.as_bytes())))
}

/// Returns the SHA-256 of the text, in lower-case hexadecimal.
pub fn sha256_hex(text: &str) -> String {
    apply(inner("sha256-hex"), &[], &[text], || Ok(HEXLOWER.encode(&Sha256::digest(text))))
}

/// Returns the HMAC of the text (RFC 2104). `algorithm` is `SHA-1`, `SHA-256` or `SHA-512`; `encoding` is `hex`,
/// `base64` or `base64url`.
pub fn hmac(key: &str, text: &str, algorithm: &str, encoding: &str) -> String {
    fn tag<M: Mac + KeyInit>(key: &str, text: &str) -> Vec<u8> {
        let mac = <M as Mac>::new_from_slice(key.as_bytes()).expect("a key of any length will do");
        mac.chain_update(text).finalize().into_bytes().to_vec()
    }
    apply(inner("hmac"), &[&format!("{algorithm}, {encoding}")], &[key, text], || {
        let tag = match algorithm {
            "SHA-1" => tag::<Hmac<Sha1>>(key, text),
            "SHA-256" => tag::<Hmac<Sha256>>(key, text),
            "SHA-512" => tag::<Hmac<Sha512>>(key, text),
            _ => return Err("there is no such algorithm".into()),
        };
        match encoding {
            "hex" => Ok(HEXLOWER.encode(&tag)),
            "base64" => Ok(BASE64.encode(&tag)),
            "base64url" => Ok(BASE64URL_NOPAD.encode(&tag)),
            _ => Err("there is no such encoding".into()),
        }
    })
}

/// Refuses a value that contains any other character than these. `characters` is a set such as `A-Za-z0-9_-`: `x-y` is a
/// range, and a `-` at the beginning or the end is itself.
pub fn allow(text: &str, characters: &str, reason: &str) -> String {
    apply(inner("allow"), &[characters], &[text], || {
        if text.chars().all(|c| in_set(characters, c)) { Ok(text.into()) } else { Err(reason.to_owned().into()) }
    })
}

/// Reports whether a set such as `A-Za-z0-9_-` has the character.
fn in_set(set: &str, character: char) -> bool {
    let set: Vec<char> = set.chars().collect();
    let mut at = 0;
    while let Some(first) = set.get(at) {
        let last = if set.get(at + 1) == Some(&'-') { set.get(at + 2) } else { None };
        if (*first..=*last.unwrap_or(first)).contains(&character) {
            return true;
        }
        at += if last.is_some() { 3 } else { 1 };
    }
    false
}

/// Refuses a value that contains one of the characters.
pub fn forbid(text: &str, characters: &str, _reason: &str) -> String {
    apply(inner("forbid"), &[characters], &[text], || {
        if text.contains(|c| characters.contains(c)) {
            Err("holds a forbidden character".into())
        } else {
            Ok(text.into())
        }
    })
}

/// Refuses a secret's value that contains the sequence. Literal text may contain it.
pub fn forbid_sequence(text: &str, sequence: &str, _reason: &str) -> String {
    apply(inner("forbid-sequence"), &[sequence], &[text], || Ok(text.into()))
}

/// Refuses a text that is longer than this many bytes.
pub fn at_most(text: &str, bytes: u32, _reason: &str) -> String {
    apply(inner("at-most"), &[&bytes.to_string()], &[text], || {
        if text.len() > bytes as usize { Err("is too long".into()) } else { Ok(text.into()) }
    })
}

/// Writes a line for the plugin's author. Outside a host, to standard error.
pub fn log(message: &str) {
    STATE.with_borrow(|state| eprintln!("{}", written(state, message)));
}

/// Reports a panic to the plugin's author. Does nothing here, because the panic itself is visible.
pub fn panic(_message: &str) {}

/// Escapes the text for XML character data or attribute values.
pub fn xml(text: &str) -> String {
    apply(terminal("xml"), &[], &[text], || {
        let escape = |c| match c {
            '&' => "&amp;".into(),
            '<' => "&lt;".into(),
            '>' => "&gt;".into(),
            '"' => "&quot;".into(),
            '\'' => "&#39;".into(),
            '$' => "&#36;".into(),
            c => String::from(c),
        };
        Ok(text.chars().map(escape).collect())
    })
}

/// Writes the value of a dotenv line: without quotes, or in quotes that every reader of such files takes literally. A
/// host accepts some more values.
pub fn dotenv(text: &str) -> String {
    apply(terminal("dotenv"), &[], &[text], || {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_./+=:@%,-".contains(&b);
        let bare = !text.is_empty() && text.bytes().all(plain) && !text.starts_with('=') && !text.contains(":=");
        match text {
            _ if bare => Ok(text.into()),
            _ if text.contains(['\'', '\\', '\r', '\n', '\0']) || text.contains("${") => {
                Err("there is no quoting that every reader of a dotenv file reads back as it".into())
            }
            _ => Ok(format!("'{text}'")),
        }
    })
}

/// Writes the value of a line in an Asterisk configuration file.
pub fn asterisk_value(text: &str) -> String {
    apply(terminal("asterisk-value"), &[], &[text], || {
        let fits = text.trim() == text && !text.contains(['\r', '\n', '\0']);
        if fits { Ok(text.replace(';', "\\;")) } else { Err("Asterisk cannot hold it".into()) }
    })
}

/// Writes a string of a Kamailio configuration, with its quotes.
pub fn kamailio_string(text: &str) -> String {
    apply(terminal("kamailio-string"), &[], &[text], || {
        let fits = !text.contains(['\r', '\n', '\0']);
        if fits { Ok(quoted(text)) } else { Err("a Kamailio string must not hold line breaks".into()) }
    })
}

/// Writes a parameter of a baresip account, in quotes if needed. A host accepts some more values.
pub fn baresip_parameter(text: &str) -> String {
    apply(terminal("baresip-parameter"), &[], &[text], || {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~%+@*!".contains(c);
        let fits = !text.contains(['"', '\\', '\r', '\n', '\0']) && text.len() <= 126;
        match (fits, text.chars().all(plain)) {
            (false, _) => Err("a baresip parameter must not hold quotes, backslashes or line breaks".into()),
            (true, true) => Ok(text.into()),
            (true, false) => Ok(quoted(text)),
        }
    })
}

/// Writes a value for `curl --config`, with its quotes.
pub fn curl_config(text: &str) -> String {
    apply(terminal("curl-config"), &[], &[text], || {
        let lines = quoted(text).replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t").replace('\u{b}', "\\v");
        if text.contains('\0') { Err("curl cannot hold NUL".into()) } else { Ok(lines) }
    })
}

/// Writes a double-quoted scalar of YAML, with its quotes.
pub fn yaml_string(text: &str) -> String {
    apply(terminal("yaml-string"), &[], &[text], || {
        let escape = |c: char| match c {
            '"' | '\\' => format!("\\{c}"),
            '\n' => "\\n".into(),
            '\r' => "\\r".into(),
            '\t' => "\\t".into(),
            c if c.is_control() => format!("\\x{:02x}", u32::from(c)),
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => format!("\\u{:04x}", u32::from(c)),
            c => c.into(),
        };
        Ok(format!("\"{}\"", text.chars().map(escape).collect::<String>()))
    })
}

/// Writes a basic string of TOML, with its quotes.
pub fn toml_string(text: &str) -> String {
    apply(terminal("toml-string"), &[], &[text], || {
        let escape = |c: char| match c {
            '"' | '\\' => format!("\\{c}"),
            '\n' => "\\n".into(),
            '\r' => "\\r".into(),
            '\t' => "\\t".into(),
            c if c.is_ascii_control() => format!("\\u{:04x}", u32::from(c)),
            c => c.into(),
        };
        Ok(format!("\"{}\"", text.chars().map(escape).collect::<String>()))
    })
}

/// Writes the value of a line of an INI file. A host gives the exact reason for a refusal.
pub fn ini_value(text: &str) -> String {
    apply(terminal("ini-value"), &[], &[text], || {
        let fits = !text.is_empty()
            && text.trim() == text
            && !text.contains(|c: char| c.is_control() || ";#%$\\\u{2028}\u{2029}\u{feff}".contains(c))
            && !text.starts_with(['"', '\''])
            && !["true", "false", "null"].contains(&text);
        if fits { Ok(text.into()) } else { Err("the readers of INI files do not agree about it".into()) }
    })
}

/// Writes a word of a POSIX shell, in single quotes.
pub fn shell_word(text: &str) -> String {
    apply(terminal("shell-word"), &[], &[text], || {
        let word = format!("'{}'", text.replace('\'', "'\\''"));
        if text.contains('\0') { Err("a word of a shell cannot contain NUL".into()) } else { Ok(word) }
    })
}

/// Writes the value of a line for systemd's `EnvironmentFile=`, in double quotes.
pub fn systemd_env(text: &str) -> String {
    apply(terminal("systemd-env"), &[], &[text], || {
        let escape = |c: char| if "\"\\`$".contains(c) { format!("\\{c}") } else { c.into() };
        let value = format!("\"{}\"", text.chars().map(escape).collect::<String>());
        if text.contains('\0') { Err("an environment variable cannot contain NUL".into()) } else { Ok(value) }
    })
}

/// Writes the value of a line for `docker run --env-file`, which knows no quotes.
pub fn docker_env(text: &str) -> String {
    apply(terminal("docker-env"), &[], &[text], || {
        let fits = !text.contains(['\n', '\r', '\0']);
        if fits { Ok(text.into()) } else { Err("a line of a Docker env file cannot contain a line break".into()) }
    })
}

/// Writes a token of a netrc file, in double quotes where it needs them.
pub fn netrc_token(text: &str) -> String {
    apply(terminal("netrc-token"), &[], &[text], || {
        let bare = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\')) && !text.starts_with('#');
        match text {
            _ if text.is_empty() || text.contains(char::is_control) => Err("a netrc file cannot hold it".into()),
            _ if bare => Ok(text.into()),
            _ => Ok(quoted(text)),
        }
    })
}

/// Writes the text as the table says, for a format without an encoder of its own.
pub fn escape(text: &str, table: &Escaping) -> String {
    let Escaping { opening, closing, replacements, refused } = table;
    apply(terminal("escape"), &[&format!("{opening}…{closing}")], &[text], || {
        let mut out = opening.clone();
        for c in text.chars() {
            if let Some(refused) = refused.iter().find(|refused| in_set(&refused.characters, c)) {
                return Err(refused.reason.clone().into());
            }
            match replacements.iter().find(|replacement| replacement.character == c) {
                Some(replacement) => out += &replacement.text,
                None => out.push(c),
            }
        }
        Ok(out + closing)
    })
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
