//! Helpers for plugins whose consumers use HTTP: names of headers, URLs, queries, timeouts.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::{Fields, Notes, Text, encode};

/// The headers of a request, in the order of the config. No name occurs twice, ignoring case.
#[derive(Clone, Default)]
pub struct Headers(Map<String, Value>);

impl Headers {
    /// Adds a header that the config gives at `path`. `value` has to be encoded already.
    pub fn add(&mut self, notes: &Notes, path: &str, name: &str, value: String) {
        if !is_token(name) {
            let help = "use letters, digits and !#$%&'*+-.^_`|~";
            notes.problem(path, "is not the name of a header", Some(help.into()));
        }
        if self.has(name) {
            notes.problem(path, format!("the header `{name}` is given twice; case makes no difference"), None);
        }
        self.0.insert(name.into(), value.into());
    }

    /// Returns whether there is a header of this name, ignoring case.
    pub fn has(&self, name: &str) -> bool {
        self.0.keys().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Returns the headers as a JSON object; `None` if there are none.
    pub fn into_json(self) -> Option<Value> {
        (!self.0.is_empty()).then_some(Value::Object(self.0))
    }
}

/// Returns whether the text is a token (RFC 9110, section 5.6.2), as names of headers have to be.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Checks that a literal URL is one that HTTP clients accept: absolute, http or https, without spaces and without
/// `user:password@`. Warns if it is not encrypted and leaves the machine. Secrets inside it are checked when their
/// values are filled in.
pub fn check_url(url: &Text) {
    let Some((scheme, rest)) = url.split_once("://").filter(|(scheme, _)| is_http(scheme)) else {
        // If it begins with a secret, its scheme is not known yet.
        if !encode::has_secret(url) {
            url.problem("must be an absolute URL that starts with https:// or http://");
        }
        return;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || authority.starts_with(':') {
        url.problem("has no host");
    }
    if authority.contains('@') {
        url.problem("must not contain a user or password: HTTP clients reject it; use a header");
    }
    if !url.bytes().all(|b| b.is_ascii_graphic()) {
        url.problem("must be percent-encoded: it contains a space or a non-ASCII character");
    }
    if scheme.eq_ignore_ascii_case("http") && !is_loopback(authority) {
        url.warning("is not encrypted: anyone on the network path can read the secrets in the request");
    }
}

/// Returns whether the literal text says that the URL is not encrypted.
pub fn is_plain(url: &str) -> bool {
    url.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("http"))
}

fn is_http(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http")
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Returns whether the query of the URL contains a secret.
pub fn secret_in_query(url: &str) -> bool {
    let url = url.split('#').next().unwrap_or_default();
    url.split_once('?').is_some_and(|(_, query)| encode::has_secret(query))
}

/// Appends `query`, which has to be encoded, to a URL that may already have a query and a fragment.
pub fn append_query(url: &str, query: &str) -> String {
    if query.is_empty() {
        return url.into();
    }
    let (base, fragment) = url.find('#').map_or((url, ""), |at| url.split_at(at));
    let joint = match base.split_once('?') {
        None => "?",
        Some((_, before)) if before.is_empty() || before.ends_with('&') => "",
        Some(_) => "&",
    };
    format!("{base}{joint}{query}{fragment}")
}

/// The field with a timeout in milliseconds.
const TIMEOUT: &str = "timeout_ms";

/// The `timeout_ms` of a config, for consumers that accept only some timeouts or none.
#[derive(Clone, Copy)]
pub struct Timeout<'a> {
    config: &'a Fields<'a>,
    milliseconds: Option<u64>,
}

impl<'a> Timeout<'a> {
    /// Reads the field. `bounds` are those of the feature, in milliseconds.
    pub fn read(config: &'a Fields<'a>, bounds: RangeInclusive<u64>) -> Self {
        Self { config, milliseconds: config.number(TIMEOUT, bounds) }
    }

    /// Returns the milliseconds, for a consumer that accepts any timeout.
    pub fn milliseconds(&self) -> Option<u64> {
        self.milliseconds
    }

    /// Returns the milliseconds, for a consumer (`who`) that accepts only these bounds.
    pub fn within(&self, bounds: RangeInclusive<u64>, who: &str) -> Option<u64> {
        let milliseconds = self.milliseconds?;
        if !bounds.contains(&milliseconds) {
            let message = format!("must be a whole number from {} to {} for {who}", bounds.start(), bounds.end());
            self.config.problem(TIMEOUT, message);
        }
        Some(milliseconds)
    }

    /// Returns the timeout in whole seconds, rounded up. `bounds` are in milliseconds.
    pub fn seconds_within(&self, bounds: RangeInclusive<u64>, who: &str) -> Option<u64> {
        let milliseconds = self.within(bounds, who)?;
        let seconds = milliseconds.div_ceil(1000);
        if seconds * 1000 != milliseconds {
            self.config.warning(TIMEOUT, format!("is rounded up to {seconds} s: {who} only supports whole seconds"));
        }
        Some(seconds)
    }

    /// Warns that the timeout is left out, for a consumer that does not support one.
    pub fn without(&self, why: &str) {
        if self.milliseconds.is_some() {
            self.config.warning(TIMEOUT, format!("is left out: {why}"));
        }
    }
}

/// Returns a time in seconds: a whole number if possible, or else a fraction.
pub fn seconds(milliseconds: u64) -> Value {
    if milliseconds.is_multiple_of(1000) {
        Value::from(milliseconds / 1000)
    } else {
        Value::from(milliseconds as f64 / 1000.0)
    }
}
