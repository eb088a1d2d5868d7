//! Takes URLs apart: the parameters of their queries, and the other credentials in them.
//!
//! Invariant: whatever is taken out is the same after the plugin puts it back. Whatever would change stays in the URL,
//! or makes the whole URL one secret.

use std::ops::Range;

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use crate::cli::adopt::config::{ConfigLeaf, ConfigTable, Hint};
use crate::cli::adopt::detect;
use crate::cli::adopt::equivalence::Facts;
use crate::cli::adopt::tokens::Spot;
use guillemet_template::ValueFilter;

const CAPABILITY: &str = "its path contains a long random part: anyone who knows the URL can use it";
const UNSPLIT: &str = "its query contains a credential and cannot be split without changing it";
const USERINFO: &str = "it is before the host";
const QUERY: &str = "it is a query parameter that looks like a credential";

/// The user's choice about the field `url`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum UrlChoice {
    /// The user chose nothing, so the URL's look decides.
    Any,
    /// The whole URL becomes one secret.
    Whole,
    /// The URL stays in the clear.
    Plain,
}

/// A URL taken apart into the rest of it and the parameters of its query.
pub struct SplitUrl {
    /// The URL without the parameters that were taken out.
    pub url: ConfigLeaf,
    /// The parameters that were taken out, decoded.
    pub query: ConfigTable,
    /// Whether the whole URL is one secret, including its query.
    pub whole: bool,
}

impl SplitUrl {
    /// Returns a URL that is one secret as a whole, for the reason `why`.
    fn whole(url: &str, spot: Option<&Spot>, why: &'static str) -> Self {
        Self { url: ConfigLeaf::new(url, spot.cloned()).credential("url", why), query: Vec::new(), whole: true }
    }
}

/// The parts of an absolute URL with the scheme http or https.
struct Parts<'a> {
    scheme: &'a str,
    user: Option<&'a str>,
    host: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    fragment: &'a str,
}

fn parts(url: &str) -> Option<Parts<'_>> {
    let scheme_end =
        url.find("://").filter(|end| matches!(url[..*end].to_ascii_lowercase().as_str(), "http" | "https"))? + 3;
    let (whole, fragment) = url.find('#').map_or((url, ""), |at| url.split_at(at));
    let (base, query) = whole.split_once('?').map_or((whole, None), |(base, query)| (base, Some(query)));
    let rest = base.get(scheme_end..)?;
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    Some(Parts { scheme: &url[..scheme_end], user, host, path, query, fragment })
}

/// Returns the host of a URL, without its port. Returns `None` for an IPv6 address.
pub fn host(url: &str) -> Option<String> {
    let host = parts(url)?.host;
    if host.starts_with('[') { None } else { host.split(':').next().map(str::to_owned) }
}

/// Decodes percent-encoded text. Returns `None` for an invalid escape, for bytes that are not UTF-8, and for `+`, which
/// some consumers read as a space.
fn decoded(text: &str) -> Option<Zeroizing<String>> {
    let hex = |rest: &str| rest.as_bytes().get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    if text.contains('+') || !text.split('%').skip(1).all(hex) {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok().map(|text| Zeroizing::new(text.into_owned()))
}

/// A parameter of a query, and its place.
struct Pair<'a> {
    raw: &'a str,
    at: usize,
    /// Name and value, decoded; `None` if taking them out and putting them back would change them.
    split: Option<(Zeroizing<String>, Zeroizing<String>)>,
}

impl Pair<'_> {
    /// Returns the bytes of the URL that hold the value.
    fn value_range(&self) -> Range<usize> {
        let name = self.raw.find('=').map_or(self.raw.len(), |equals| equals + 1);
        self.at + name..self.at + self.raw.len()
    }

    fn is_credential(&self) -> bool {
        let (name, value) = self.raw.split_once('=').unwrap_or((self.raw, ""));
        detect::credential_reason(name, value).is_some()
    }
}

fn pairs(query: &str, at: usize) -> Vec<Pair<'_>> {
    let mut offset = at;
    let mut pairs: Vec<Pair<'_>> = Vec::new();
    for raw in query.split('&') {
        let split = raw.split_once('=').filter(|(name, value)| {
            !name.is_empty() && !value.is_empty() && !raw.contains("${") && !name.contains("{{")
        });
        let split = split.and_then(|(name, value)| Some((decoded(name)?, decoded(value)?)));
        pairs.push(Pair { raw, at: offset, split });
        offset += raw.len() + 1;
    }
    // A table of parameters can have each name only once.
    let name = |pair: &Pair<'_>| {
        let raw = pair.raw.split('=').next().unwrap_or_default();
        decoded(raw).map_or_else(|| raw.to_owned(), |name| (*name).clone())
    };
    let names: Vec<String> = pairs.iter().map(name).collect();
    for (index, pair) in pairs.iter_mut().enumerate() {
        if names.iter().enumerate().any(|(other, name)| other != index && *name == names[index]) {
            pair.split = None;
        }
    }
    pairs
}

/// Takes a URL apart: its query becomes parameters, and each credential in the rest becomes a hint. If the URL as a
/// whole is a credential, it stays one text.
pub fn take_apart(url: &str, spot: Option<&Spot>, choice: UrlChoice) -> SplitUrl {
    let as_secret = |reason| SplitUrl::whole(url, spot, reason);
    if choice == UrlChoice::Whole {
        return as_secret("chosen with --secret");
    }
    let Some(parts) = parts(url) else {
        return SplitUrl { url: ConfigLeaf::new(url, spot.cloned()), query: Vec::new(), whole: false };
    };
    let has_variables = url.contains("{{") || url.contains("${");
    let random = |segment: &&str| detect::credential_reason("", segment).is_some();
    let capability = parts.path.split('/').any(|segment| random(&segment));
    let query_at = url.len() - parts.fragment.len() - parts.query.map_or(0, str::len);
    let pairs = parts.query.map_or_else(Vec::new, |query| pairs(query, query_at));
    let unsplit = |pair: &&Pair<'_>| pair.split.is_none() && pair.is_credential();
    if choice == UrlChoice::Any && !has_variables {
        if capability {
            return as_secret(CAPABILITY);
        }
        let is_decodable = |pair: &Pair<'_>| decoded(&url[pair.value_range()]).is_some();
        if pairs.iter().filter(unsplit).any(|pair| !is_decodable(pair)) {
            return as_secret(UNSPLIT);
        }
    }

    let part = |range: &Range<usize>| spot.map(|spot| spot.part(range));
    let hint = |range: Range<usize>, source: Range<usize>, purpose: String, reason| {
        let value = decoded(&url[source.clone()]).filter(|value| !value.is_empty() && !detect::is_reference(value))?;
        Some(Hint { range, value: Some(value), filter: Some(ValueFilter::Url), spot: part(&source), purpose, reason })
    };
    let mut hints = Vec::new();
    if let (UrlChoice::Any, Some(user)) = (choice, parts.user) {
        let at = parts.scheme.len();
        let colon = user.find(':').map_or(user.len(), |colon| colon + 1);
        let password = at + colon..at + user.len();
        // A single word before the host is a token.
        let (range, purpose) =
            if password.is_empty() { (at..at + user.len(), "token") } else { (password, "password") };
        hints.extend(hint(range.clone(), range, purpose.into(), USERINFO));
    }
    if choice == UrlChoice::Any && capability && has_variables {
        let mut at =
            url.len() - parts.fragment.len() - parts.query.map_or(0, |query| query.len() + 1) - parts.path.len();
        for segment in parts.path.split('/') {
            let range = at..at + segment.len();
            if random(&segment) && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)) {
                hints.extend(hint(range.clone(), range, "token".into(), CAPABILITY));
            }
            at += segment.len() + 1;
        }
    }
    let mut query = ConfigTable::new();
    let mut text = Zeroizing::new(url[..query_at.saturating_sub(usize::from(parts.query.is_some()))].to_owned());
    let mut separator = '?';
    for pair in &pairs {
        let value = pair.value_range();
        if let Some((name, decoded)) = &pair.split {
            let encoded = part(&value).map(|spot| Spot { encoded: true, ..spot });
            let mut leaf = ConfigLeaf::new(decoded, encoded);
            if pair.is_credential() {
                leaf = leaf.credential(&detect::words(name).join("-"), QUERY);
            }
            query.push(((**name).clone(), leaf.into()));
            continue;
        }
        text.push(separator);
        separator = '&';
        let start = text.len();
        text.push_str(pair.raw);
        if choice == UrlChoice::Any && unsplit(&pair) {
            let name = detect::words(pair.raw.split('=').next().unwrap_or_default()).join("-");
            hints.extend(hint(start + (value.start - pair.at)..text.len(), value, name, QUERY));
        }
    }
    text.push_str(parts.fragment);
    let is_unchanged = *text == *url;
    let spot = spot.map(|spot| Spot { encoded: spot.encoded || !is_unchanged, ..spot.clone() });
    SplitUrl { url: ConfigLeaf { text, spot, hints }, query, whole: false }
}

/// Takes apart a query that is given separately from its URL. Returns `None` if a parameter cannot be taken out
/// exactly.
pub fn take_query(query: &str, spot: Option<&Spot>) -> Option<ConfigTable> {
    let parameter = |pair: Pair<'_>| {
        let encoded = spot.map(|spot| Spot { encoded: true, ..spot.part(&pair.value_range()) });
        pair.split.map(|(name, value)| ((*name).clone(), ConfigLeaf::new(&value, encoded).into()))
    };
    pairs(query, 0).into_iter().map(parameter).collect()
}

/// Adds a URL as facts: where it leads, the user, and each parameter of its query, decoded. A URL that is one secret
/// becomes one fact.
pub fn url_facts(facts: &mut Facts, path: &str, url: &str, whole: bool) {
    let Some(parts) = parts(url).filter(|_| !whole) else { return facts.text(path, url) };
    facts.text(path, &Zeroizing::new(format!("{}{}{}{}", parts.scheme, parts.host, parts.path, parts.fragment)));
    if let Some(user) = parts.user {
        let (user, password) = user.split_once(':').map_or((user, None), |(user, password)| (user, Some(password)));
        for (name, text) in [("user", Some(user)), ("password", password)] {
            if let Some(text) = text {
                facts
                    .text(&format!("{path}.{name}"), &decoded(text).unwrap_or_else(|| Zeroizing::new(text.to_owned())));
            }
        }
    }
    for raw in parts.query.into_iter().flat_map(|query| query.split('&')) {
        let (name, value) = raw.split_once('=').map_or((raw, None), |(name, value)| (name, Some(value)));
        match (decoded(name), value.map(|value| (value, decoded(value)))) {
            (Some(name), Some((_, Some(value)))) => facts.text(&format!("{path}?{}", *name), &value),
            // A value that decodes in more than one way differs from one that is written as the decoded text.
            (_, Some((value, _))) => facts.text(&format!("{path}?{name} (encoded)"), value),
            // A name without `=` differs from a name with an empty value.
            (_, None) => facts.tree(&format!("{path}?{name}"), &serde_json::Value::Null),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::adopt::config::ConfigNode;

    fn taken(url: &str, choice: UrlChoice) -> (String, Vec<(String, String)>, Vec<String>) {
        let taken = take_apart(url, None, choice);
        let query = taken.query.iter().map(|(name, node)| match node {
            ConfigNode::Text(leaf) => (name.clone(), (*leaf.text).clone()),
            _ => panic!("no text"),
        });
        let query = query.collect();
        let hints = taken.url.hints.iter().map(|hint| {
            let value = hint.value.as_ref().map_or(&taken.url.text[hint.range.clone()], |value| value.as_str());
            format!("{}={}:{}", hint.purpose, &taken.url.text[hint.range.clone()], value)
        });
        let hints = hints.collect();
        ((*taken.url.text).clone(), query, hints)
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.into(), value.into())
    }

    #[test]
    fn a_query_becomes_parameters() {
        let (url, query, hints) = taken("https://x.example/mcp?tenant=a%20b&token=s%2Fc#f", UrlChoice::Any);
        assert_eq!((url.as_str(), hints.len()), ("https://x.example/mcp#f", 0));
        assert_eq!(query, [pair("tenant", "a b"), pair("token", "s/c")]);
    }

    #[test]
    fn what_cannot_be_taken_out_exactly_stays() {
        let (url, query, hints) = taken("https://x/?q=a+b&flag&n=&v=${V}&a=1&a=2&b=%zz&c=3", UrlChoice::Any);
        assert_eq!(url, "https://x/?q=a+b&flag&n=&v=${V}&a=1&a=2&b=%zz");
        assert_eq!((query, hints.len()), (vec![pair("c", "3")], 0));
        let (url, query, hints) = taken("https://x/?token=a%2Fb&token=c&d=1", UrlChoice::Any);
        assert_eq!(url, "https://x/?token=a%2Fb&token=c");
        assert_eq!((query, hints), (vec![pair("d", "1")], vec!["token=a%2Fb:a/b".into(), "token=c:c".into()]));
    }

    #[test]
    fn a_url_that_is_a_credential_stays_whole() {
        for url in [
            "https://mcp.zapier.example/api/s/k3Jd82mNq0PzX7vLwT5y/mcp?x=1",
            "https://x/?api_key=ab+cd%2f",
            "https://x/?api_key=%zz",
        ] {
            let (text, query, hints) = taken(url, UrlChoice::Any);
            assert_eq!((text.as_str(), query, hints), (url, vec![], vec![format!("url={url}:{url}")]), "{url}");
        }
        let (_, query, hints) = taken("https://x/s/k3Jd82mNq0PzX7vLwT5y?x=1", UrlChoice::Plain);
        assert_eq!((query, hints.len()), (vec![pair("x", "1")], 0));
        let (_, _, hints) = taken("https://x/{{id}}/k3Jd82mNq0PzX7vLwT5y", UrlChoice::Any);
        assert_eq!(hints, ["token=k3Jd82mNq0PzX7vLwT5y:k3Jd82mNq0PzX7vLwT5y"]);
    }

    #[test]
    fn who_stands_before_the_host() {
        let (url, _, hints) = taken("https://me:p%40ss@x/y", UrlChoice::Any);
        assert_eq!((url.as_str(), hints), ("https://me:p%40ss@x/y", vec!["password=p%40ss:p@ss".to_owned()]));
        assert_eq!(taken("https://t0ken@x/y", UrlChoice::Any).2, ["token=t0ken:t0ken"]);
        assert_eq!(taken("${URL}?token=x", UrlChoice::Any).0, "${URL}?token=x");
    }
}
