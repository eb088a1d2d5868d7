//! The encoders as the cases see them: outside a host a secret is only a name, and an operation on it is written down
//! instead of carried out.
//!
//! A text that contains a slot becomes a new slot for `«operation(arguments)»`. Literal text is encoded at once, as a
//! host does it: by the same files. The state belongs to the thread.

use std::cell::RefCell;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::{Sha256, Sha512, Sha512_256};

pub use crate::bindings::guillemet::feature::encode::{Escaping, Refused, Replacement};

mod baresip;
mod config;
mod dotenv;
#[allow(dead_code, reason = "a host uses all of it")]
mod escape;
#[allow(dead_code, reason = "a host uses all of them")]
mod http;
mod text;

use self::escape::{CharacterSet, EscapeTable};

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

/// What the shared files write into. Outside a host there are no values, so nothing is wiped.
type Clear = Vec<u8>;

/// Why an encoder refuses a text.
struct Refusal {
    reason: String,
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { reason: reason.into() })
}

fn utf8(bytes: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(bytes).or_else(|_| refuse("the value is not valid UTF-8"))
}

/// Reports whether the character is one of the code points that Unicode reserves for internal use.
fn is_noncharacter(c: char) -> bool {
    matches!(u32::from(c), 0xfdd0..=0xfdef) || u32::from(c) & 0xfffe == 0xfffe
}

/// Returns the text as a shared function writes it.
fn through(write: impl FnOnce(&[u8], &mut Clear) -> Result<(), Refusal>, text: &str) -> Result<String, Reason> {
    let mut out = Clear::new();
    write(text.as_bytes(), &mut out).map_err(|refusal| refusal.reason)?;
    Ok(String::from_utf8(out).expect("encoders write text"))
}

/// Returns the text as it is, if it passes a shared check.
fn checked(check: fn(&[u8]) -> Result<(), Refusal>, text: &str) -> Result<String, Reason> {
    check(text.as_bytes()).map(|()| text.to_owned()).map_err(|refusal| refusal.reason)
}

/// Returns the text between quotes, escaped by a shared function after a shared check.
fn quoted(
    quote: &str,
    check: fn(&[u8]) -> Result<(), Refusal>,
    escape: fn(&[u8], &mut Clear) -> Result<(), Refusal>,
    text: &str,
) -> Result<String, Reason> {
    checked(check, text)?;
    Ok(format!("{quote}{}{quote}", through(escape, text)?))
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
type Reason = String;

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
                state.problems.push(reason);
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

/// Percent-encodes everything but the unreserved characters of RFC 3986.
pub fn url_query(text: &str) -> String {
    apply(inner("url-query"), &[], &[text], || through(http::percent, text))
}

/// Percent-encodes like `url_query`, and refuses the segments `.` and `..`.
pub fn url_path_segment(text: &str) -> String {
    apply(inner("url-path-segment"), &[], &[text], || through(http::path_segment, text))
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
    apply(inner("url"), &[], &[text], || checked(http::check_url, text))
}

/// Checks that the text is a field value of RFC 9110, and keeps it as it is.
pub fn header_value(text: &str) -> String {
    apply(inner("header-value"), &[], &[text], || checked(http::check_header_value, text))
}

/// Encodes as Base64 with padding.
pub fn base64(text: &str) -> String {
    apply(inner("base64"), &[], &[text], || Ok(BASE64.encode(text.as_bytes())))
}

/// Encodes `user:password` as Base64, for basic authentication.
pub fn basic_credentials(user: &str, password: &str) -> String {
    apply(inner("basic-credentials"), &[], &[user, password], || {
        let pair = format!("{user}:{password}");
        if user.contains(':') {
            Err("the user name of basic credentials cannot contain `:` (RFC 7617)".into())
        } else if pair.contains(char::is_control) {
            Err("basic credentials cannot contain control characters (RFC 7617)".into())
        } else {
            Ok(BASE64.encode(pair.as_bytes()))
        }
    })
}

/// Returns the hash of `user:realm:password` (RFC 8760), in lower-case hexadecimal.
pub fn sip_digest_ha1(user: &str, realm: &str, password: &str, algorithm: &str) -> String {
    apply(inner("sip-digest-ha1"), &[algorithm], &[user, realm, password], || {
        let text = format!("{user}:{realm}:{password}");
        if user.contains(':') || realm.contains(':') {
            return Err("the user name and realm of a digest cannot contain `:`, which separates them".into());
        }
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
    apply(inner("json-string"), &[], &[text], || through(self::text::json_string, text))
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
        let set = CharacterSet(characters.to_owned());
        if text.chars().all(|c| set.contains(c)) { Ok(text.into()) } else { Err(reason.to_owned()) }
    })
}

/// Refuses a value that contains one of the characters.
pub fn forbid(text: &str, characters: &str, reason: &str) -> String {
    apply(inner("forbid"), &[characters], &[text], || {
        if text.contains(|c| characters.contains(c)) { Err(reason.to_owned()) } else { Ok(text.into()) }
    })
}

/// Refuses a secret's value that contains the sequence. Literal text may contain it.
pub fn forbid_sequence(text: &str, sequence: &str, _reason: &str) -> String {
    apply(inner("forbid-sequence"), &[sequence], &[text], || Ok(text.into()))
}

/// Refuses a text that is longer than this many bytes.
pub fn at_most(text: &str, bytes: u32, reason: &str) -> String {
    apply(inner("at-most"), &[&bytes.to_string()], &[text], || {
        if text.len() > bytes as usize { Err(reason.to_owned()) } else { Ok(text.into()) }
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
    apply(terminal("xml"), &[], &[text], || through(self::text::xml, text))
}

/// Writes the value of a dotenv line: without quotes, or in quotes that every reader of such files takes literally.
pub fn dotenv(text: &str) -> String {
    apply(terminal("dotenv"), &[], &[text], || through(|text, out| dotenv::value(utf8(text)?, out), text))
}

/// Writes the value of a line in an Asterisk configuration file.
pub fn asterisk_value(text: &str) -> String {
    apply(terminal("asterisk-value"), &[], &[text], || {
        quoted("", self::text::check_asterisk_value, self::text::asterisk_value, text)
    })
}

/// Writes a string of a Kamailio configuration, with its quotes.
pub fn kamailio_string(text: &str) -> String {
    apply(terminal("kamailio-string"), &[], &[text], || {
        quoted("\"", self::text::check_kamailio_string, self::text::kamailio_string, text)
    })
}

/// Writes a parameter of a baresip account, in quotes if needed.
pub fn baresip_parameter(text: &str) -> String {
    apply(terminal("baresip-parameter"), &[], &[text], || through(baresip::parameter, text))
}

/// Writes a value for `curl --config`, with its quotes.
pub fn curl_config(text: &str) -> String {
    apply(terminal("curl-config"), &[], &[text], || quoted("\"", |_| Ok(()), self::text::curl_config, text))
}

/// Writes a double-quoted scalar of YAML, with its quotes.
pub fn yaml_string(text: &str) -> String {
    apply(terminal("yaml-string"), &[], &[text], || quoted("\"", |_| Ok(()), config::yaml_string, text))
}

/// Writes a basic string of TOML, with its quotes.
pub fn toml_string(text: &str) -> String {
    apply(terminal("toml-string"), &[], &[text], || quoted("\"", |_| Ok(()), config::toml_string, text))
}

/// Writes the value of a line of an INI file.
pub fn ini_value(text: &str) -> String {
    apply(terminal("ini-value"), &[], &[text], || checked(config::check_ini_value, text))
}

/// Writes a word of a POSIX shell, in single quotes.
pub fn shell_word(text: &str) -> String {
    apply(terminal("shell-word"), &[], &[text], || quoted("'", |_| Ok(()), config::shell_word, text))
}

/// Writes the value of a line for systemd's `EnvironmentFile=`, in double quotes.
pub fn systemd_env(text: &str) -> String {
    apply(terminal("systemd-env"), &[], &[text], || quoted("\"", config::check_systemd_env, config::systemd_env, text))
}

/// Writes the value of a line for `docker run --env-file`, which knows no quotes.
pub fn docker_env(text: &str) -> String {
    apply(terminal("docker-env"), &[], &[text], || checked(config::check_docker_env, text))
}

/// Writes a token of a netrc file, in double quotes where it needs them.
pub fn netrc_token(text: &str) -> String {
    apply(terminal("netrc-token"), &[], &[text], || through(config::netrc_token, text))
}

/// Writes the text as the table says, for a format without an encoder of its own.
pub fn escape(text: &str, table: &Escaping) -> String {
    let (opening, closing) = (table.opening.clone(), table.closing.clone());
    let shown = format!("{opening}…{closing}");
    let table = EscapeTable {
        opening,
        closing,
        replacements: table.replacements.iter().map(|by| (by.character, by.text.clone())).collect(),
        refused: table.refused.iter().map(|set| (CharacterSet(set.characters.clone()), set.reason.clone())).collect(),
    };
    if let Err(clause) = table.check() {
        STATE.with_borrow_mut(|state| state.problems.push(format!("it called `escape` {clause}")));
        return text.into();
    }
    apply(terminal("escape"), &[&shown], &[text], || through(|text, out| table.write(utf8(text)?, out), text))
}
