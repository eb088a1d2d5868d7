//! Headers of HTTP configs, and the credentials in them.

use data_encoding::BASE64;
use zeroize::Zeroizing;

use crate::cli::adopt::config::{ConfigLeaf, ConfigNode, ConfigTable, Hint};
use crate::cli::adopt::detect;
use crate::cli::adopt::equivalence::Facts;
use crate::cli::adopt::tokens::Spot;
use guillemet_template::ValueFilter;

const SCHEME: &str = "it is the credential of an `Authorization` header";

/// Decodes the Base64 of Basic credentials (RFC 7617). Returns `None` unless they encode back to the same text.
pub fn decode_basic(encoded: &str) -> Option<Zeroizing<String>> {
    let bytes = Zeroizing::new(BASE64.decode(encoded.as_bytes()).ok()?);
    let text = std::str::from_utf8(&bytes).ok()?;
    (text.contains(':') && !text.contains(char::is_control)).then(|| Zeroizing::new(text.to_owned()))
}

/// Adds a header as a fact: its name in lower case, and Basic credentials decoded.
pub fn header_fact(facts: &mut Facts, path: &str, name: &str, value: &str) {
    let path = format!("{path}.{}", name.to_ascii_lowercase());
    match value.strip_prefix("Basic ").and_then(decode_basic) {
        Some(basic) => facts.text(&path, &Zeroizing::new(format!("Basic {}", *basic))),
        None => facts.text(&path, value),
    }
}

fn is_authorization(name: &str) -> bool {
    name.eq_ignore_ascii_case("authorization") || name.eq_ignore_ascii_case("proxy-authorization")
}

/// Splits the value of an authorization header into its scheme and the byte at which the credential begins.
fn scheme(value: &str) -> Option<(&str, usize)> {
    let (scheme, rest) = value.split_once(' ')?;
    let word = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let credential = rest.trim_start();
    (word && !credential.is_empty()).then_some((scheme, value.len() - credential.len()))
}

/// Returns the value of a header with its credential as a hint. The scheme of an authorization header stays in the
/// clear.
pub fn header(name: &str, value: &str, spot: Option<Spot>) -> ConfigLeaf {
    let mut leaf = ConfigLeaf::new(value, spot);
    if !is_authorization(name) || detect::is_reference(value) {
        return leaf;
    }
    let Some((scheme, at)) = scheme(value) else { return leaf };
    let basic = if scheme.eq_ignore_ascii_case("basic") { decode_basic(&value[at..]) } else { None };
    leaf.hints.push(Hint {
        range: at..value.len(),
        filter: basic.is_some().then_some(ValueFilter::Base64),
        value: basic,
        spot: None,
        purpose: if scheme.eq_ignore_ascii_case("basic") { "login".into() } else { "token".into() },
        reason: SCHEME,
    });
    leaf
}

/// Returns the `auth` of a custom action that makes the same header, or `None` if none does.
pub fn auth(value: &str, spot: Option<&Spot>) -> Option<ConfigTable> {
    let kind = |kind: &str| ("type".to_owned(), ConfigNode::from(kind));
    if let Some(token) = value.strip_prefix("Bearer ") {
        let range = value.len() - token.len()..value.len();
        let leaf = ConfigLeaf::new(token, spot.map(|spot| spot.part(&range)));
        return match token.is_empty() || detect::is_reference(token) {
            true => None,
            false => Some(vec![kind("bearer"), ("token".into(), leaf.credential("token", SCHEME).into())]),
        };
    }
    let encoded = value.strip_prefix("Basic ")?;
    let pair = decode_basic(encoded)?;
    let range = value.len() - encoded.len()..value.len();
    basic(&pair, spot.map(|spot| Spot { encoded: true, ..spot.part(&range) }))
}

/// Returns the `auth` for `user:password`, neither of which can be empty in a config.
pub fn basic(pair: &str, spot: Option<Spot>) -> Option<ConfigTable> {
    let (user, password) = pair.split_once(':').filter(|(user, password)| !user.is_empty() && !password.is_empty())?;
    Some(vec![
        ("type".into(), "basic".into()),
        ("username".into(), ConfigLeaf::new(user, spot.clone()).into()),
        ("password".into(), ConfigLeaf::new(password, spot).credential("password", SCHEME).into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorizations_keep_their_scheme() {
        let spans = |value: &str| {
            let leaf = header("Authorization", value, None);
            leaf.hints.iter().map(|hint| (hint.range.clone(), hint.filter.is_some())).collect::<Vec<_>>()
        };
        assert_eq!(spans("Bearer abc"), [(7..10, false)]);
        assert_eq!(spans("Token  abc"), [(7..10, false)]);
        assert_eq!(spans("Basic dTpw"), [(6..10, true)]);
        assert_eq!(spans("Basic dTpw="), [(6..11, false)], "it would not come back the same");
        assert!(spans("abc").is_empty() && spans("Bearer ${TOKEN}").is_empty());
        assert!(auth("Basic dTo=", None).is_none() && auth("Bearer ${X}", None).is_none());
        assert_eq!(auth("Basic dTpw", None).map(|auth| auth.len()), Some(3));
    }
}
