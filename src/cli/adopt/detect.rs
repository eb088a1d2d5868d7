//! Judges whether a text looks like a credential, from its field's name and from the text itself.
//!
//! Knows nothing of formats and features. Names are judged generously and texts strictly, because every finding is
//! shown before anything happens.

/// Words that mark a name as that of a credential.
const SECRET_WORDS: [&str; 17] = [
    "apikey",
    "auth",
    "authorization",
    "bearer",
    "cookie",
    "credential",
    "credentials",
    "jwt",
    "key",
    "passphrase",
    "passwd",
    "password",
    "pwd",
    "secret",
    "sig",
    "signature",
    "token",
];
/// Endings of joined words that do the same: `hapikey`, `accesstoken`.
const JOINED: [&str; 5] = ["key", "password", "pwd", "secret", "token"];
/// Words with such an ending that mean something else.
const NO_KEYS: [&str; 7] = ["donkey", "hockey", "jockey", "monkey", "turkey", "whiskey", "hotkey"];
/// Words at the end of a name that make it a fact about a credential.
const ABOUT: [&str; 17] = [
    "algorithm",
    "count",
    "expires",
    "expiry",
    "field",
    "format",
    "header",
    "id",
    "ids",
    "length",
    "limit",
    "method",
    "name",
    "type",
    "url",
    "uri",
    "version",
];
/// Prefixes of credentials from well-known issuers.
const ISSUED: [&str; 29] = [
    "AIza",
    "AKIA",
    "ASIA",
    "EAAG",
    "SG.",
    "cal_live_",
    "cal_test_",
    "dop_v1_",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "hf_",
    "key-",
    "lin_api_",
    "npm_",
    "pat-",
    "rk_live_",
    "rk_test_",
    "shpat_",
    "sk-",
    "sk_",
    "whsec_",
    "xapp-",
    "xoxb-",
    "xoxp-",
    "ya29.",
];
/// The shortest text that can look random, in bytes.
const RANDOM_MIN: usize = 20;

/// Returns why a text in a field of this name looks like a credential, or `None` if it does not.
pub fn credential_reason(name: &str, value: &str) -> Option<&'static str> {
    if value.trim().is_empty() || is_reference(value) || matches!(value, "true" | "false" | "null" | "none") {
        None
    } else if has_credential_name(name) {
        Some("its name says so")
    } else if ISSUED.iter().any(|prefix| value.len() > prefix.len() + 8 && value.starts_with(prefix)) {
        Some("it starts like an API key")
    } else if is_jwt(value) {
        Some("it is a JSON Web Token")
    } else if is_random(value) {
        Some("it looks random")
    } else {
        None
    }
}

/// Reports whether a name is that of a credential, such as `X-API-Key`, `accessToken` or `webhook_secret`.
pub fn has_credential_name(name: &str) -> bool {
    let words = words(name);
    if words.last().is_some_and(|last| ABOUT.contains(&last.as_str()) || last == "public") {
        return false;
    }
    let secret = |word: &String| {
        let singular = word.strip_suffix('s').unwrap_or(word);
        let is_joined = JOINED.iter().any(|end| singular.len() > end.len() && singular.ends_with(end))
            && !NO_KEYS.contains(&singular);
        SECRET_WORDS.contains(&word.as_str()) || SECRET_WORDS.contains(&singular) || is_joined
    };
    let public = words.windows(2).any(|pair| pair[0] == "public" && pair[1] == "key");
    // In `max_tokens`, for example, the word counts something.
    let counts = words.first().is_some_and(|first| matches!(first.as_str(), "max" | "min" | "num"));
    !public && !counts && words.iter().any(secret)
}

/// Returns the words of a name in lower case, split at punctuation and at capitals.
pub fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut before = '-';
    for c in name.chars() {
        let joins = c.is_ascii_alphanumeric() && before.is_ascii_alphanumeric();
        let camel = c.is_ascii_uppercase() && before.is_ascii_lowercase();
        if c.is_ascii_alphanumeric() {
            match words.last_mut() {
                Some(word) if joins && !camel => word.push(c.to_ascii_lowercase()),
                _ => words.push(c.to_ascii_lowercase().to_string()),
            }
        }
        before = c;
    }
    words
}

/// Reports whether the consumer or the platform replaces the text by something else: `${TOKEN}`, `Bearer ${input:key}`,
/// `{{token}}`.
pub fn is_reference(value: &str) -> bool {
    let variable = |name: &str| {
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        begins && name.contains('}')
    };
    let braces = value.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
    value.split("${").skip(1).any(variable) || braces.is_some_and(|inner| !inner.contains("{{"))
}

fn is_jwt(value: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    value.starts_with("eyJ") && value.split('.').count() == 3 && value.split('.').all(part)
}

/// Reports whether a text looks random: letters and digits in one piece, with about as many different characters as
/// chance gives. An identifier that is made to be read (a UUID, a date, a host) does not.
pub fn is_random(value: &str) -> bool {
    let token = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_+/=.~".contains(&b));
    // A word followed by a number, as people name things, has no piece that mixes letters and digits.
    let is_mixed = |piece: &str| {
        let digits = piece.bytes().any(|b| b.is_ascii_digit());
        piece.len() >= RANDOM_MIN / 2 && digits && piece.bytes().any(|b| b.is_ascii_alphabetic())
    };
    let pieces = value.split(|c: char| !c.is_ascii_alphanumeric());
    value.len() >= RANDOM_MIN && token && pieces.into_iter().any(is_mixed) && !is_uuid(value) && entropy(value) >= 3.2
}

fn is_uuid(value: &str) -> bool {
    let parts: Vec<usize> = value.split('-').map(str::len).collect();
    parts == [8, 4, 4, 4, 12] && value.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// Returns the Shannon entropy, in bits per byte.
fn entropy(value: &str) -> f64 {
    let mut counts = [0_u32; 256];
    value.bytes().for_each(|b| counts[usize::from(b)] += 1);
    let len = value.len() as f64;
    counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / len).map(|p| -p * p.log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_credentials_and_names_about_them() {
        for name in [
            "Authorization",
            "X-API-Key",
            "x-api-key",
            "apiKey",
            "api_key",
            "accessToken",
            "webhook_secret",
            "Cookie",
            "password",
            "sip_auth_password",
            "key",
            "sig",
            "X-Auth-Tokens",
            "client-secret",
            "APIKEY",
            "hapikey",
            "accesstokens",
        ] {
            assert!(has_credential_name(name), "{name}");
        }
        for name in [
            "Content-Type",
            "token_type",
            "max_tokens",
            "key_id",
            "username",
            "realm",
            "name",
            "public_key",
            "keyboard",
            "Accept",
            "client_id",
            "event_type_id",
            "tokenizer",
            "X-Signature-Algorithm",
            "authority",
            "monkey",
        ] {
            assert!(!has_credential_name(name), "{name}");
        }
    }

    #[test]
    fn values_that_look_like_credentials_and_values_that_do_not() {
        for value in [
            "sk-proj-0123456789",
            "ghp_abcdefghijklmnop",
            "cal_live_0123456789ab",
            "eyJhbGciOi.eyJzdWIi.c2ln",
            "9f86d081884c7d659a2feaa0c55ad015",
            "k3Jd82mNq0PzX7vLwT5y",
            "dGhpcyBpcyBhIHRva2VuIDEyMw==",
        ] {
            assert!(credential_reason("x", value).is_some(), "{value}");
        }
        for value in [
            "",
            "https://mcp.example.com/v1",
            "en-GB, en;q=0.8",
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            "2024-09-04",
            "frontdesk-berlin",
            "guillemet voice agent, front desk",
            "Europe/Berlin",
            "application/json",
            "${API_KEY}",
            "crm.contacts.read crm.contacts.write",
            "aaaaaaaaaaaaaaaaaaaaaaaa1",
            "production-calendar-server-01",
        ] {
            assert!(credential_reason("x", value).is_none(), "{value}");
        }
        for value in ["", "  ", "${TOKEN}", "{{token}}", "Bearer ${TOKEN}", "x${input:key}y", "false"] {
            assert!(credential_reason("token", value).is_none(), "{value}");
        }
        for value in ["{{a}} and {{b}}", "a${b", "a${ b}", "$TOKEN"] {
            assert!(credential_reason("token", value).is_some(), "{value}");
        }
    }
}
