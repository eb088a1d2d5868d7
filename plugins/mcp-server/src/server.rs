//! The config of a server, read once for every target. Knows nothing of the targets but what they expand and how they
//! take the query.

use guillemet_plugin::http::{self, Headers, Timeout};
use guillemet_plugin::variables::{self, DOLLAR, Expansion};
use guillemet_plugin::{Fields, Map, Text, Value, encode};

/// How the consumer of a target reads its texts.
pub struct Consumer {
    /// The variables that it expands.
    pub expansions: &'static [Expansion],
    /// Whether it takes the query separately from the URL, and encodes it.
    pub query_apart: bool,
    /// A warning about what it does with a URL that contains a secret.
    pub url_warning: Option<&'static str>,
}

/// A server that has been read and can be written for a target.
pub struct Server<'a> {
    config: &'a Fields<'a>,
    pub name: String,
    pub url: Option<String>,
    pub headers: Option<Value>,
    /// The query by name; empty if it is part of the URL.
    pub query: Map<String, Value>,
    /// Whether to use server-sent events instead of streamable HTTP.
    pub sse: bool,
    plain: bool,
    pub timeout: Timeout<'a>,
    tools: Vec<String>,
}

impl<'a> Server<'a> {
    /// Reads all fields, and notes what no consumer could use.
    pub fn read(config: &'a Fields<'a>, consumer: &Consumer) -> Self {
        let named =
            |name: &str| name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        let name = config.required("name").map(|n| n.check(named, "must be 1 to 64 letters, digits, `-` or `_`"));
        let timeout = Timeout::read(config, 1000..=86_400_000);
        let tools = config.texts("tools").iter().map(|tool| tool.get().into()).collect();
        let sse = config.choice("transport", &["http", "sse"]) == Some("sse");
        let mut query = Map::new();
        let plain = config.text("url").is_some_and(|url| http::is_plain(&url));
        let url = url(config, consumer, &mut query);
        let headers = headers(config, consumer);
        let name = name.as_deref().unwrap_or_default().into();
        Self { config, name, url, headers, query, sse, plain, timeout, tools }
    }

    /// Returns the allowed tools, for a target that can restrict them; `None` for all.
    pub fn tools(&self) -> Option<&[String]> {
        (!self.tools.is_empty()).then_some(&*self.tools)
    }

    /// Warns that the target does not support a list of tools.
    pub fn without_tools(&self, why: &str) {
        if !self.tools.is_empty() {
            self.config.warning("tools", format!("is left out: {why}"));
        }
    }

    /// Warns that the target does not support `transport: sse`.
    pub fn without_transport(&self, why: &str) {
        if self.sse {
            self.config.warning("transport", format!("is left out: {why}"));
        }
    }

    /// Notes that the target refuses a URL that is not encrypted.
    pub fn needs_https(&self, who: &str) {
        if self.plain {
            self.config.problem("url", format!("must start with https:// for {who}"));
        }
    }
}

/// Returns the URL with its query, or without it if the target takes that separately. A URL that is one secret is kept
/// as it is.
fn url(config: &Fields, consumer: &Consumer, apart: &mut Map<String, Value>) -> Option<String> {
    let query = config.entries("query_params");
    let url = config.required("url")?;
    let is_secret = encode::whole_secret(&url);
    if is_secret && !query.is_empty() {
        config.problem("query_params", "cannot be added to a `url` that is one secret: put them into its value");
    }
    let has_variable = consumer.expansions.iter().any(|expansion| expansion.is_in(&url));
    if !has_variable {
        http::check_url(&url);
    }
    let mut pairs = Vec::new();
    for (name, value) in &query {
        let secret = encode::has_secret(value);
        warn_of_query(value, secret);
        warn_of_url(value, secret, consumer);
        if consumer.query_apart {
            apart.insert((*name).into(), kept(value, consumer).into());
            continue;
        }
        for expansion in consumer.expansions.iter().filter(|expansion| expansion.is_in(value)) {
            let message = format!("is percent-encoded, so {} in it is not filled in", expansion.shown());
            value.warning(message);
        }
        pairs.push(format!("{}={}", encode::url_query(name), encode::url_query(value)));
    }
    warn_of_query(&url, http::secret_in_query(&url));
    warn_of_url(&url, encode::has_secret(&url), consumer);
    if is_secret {
        return Some(encode::url(&kept(&url, consumer)));
    }
    variables::check(&url, consumer.expansions);
    warn_of_dollar(&url, consumer);
    let url = http::append_query(&url, &pairs.join("&"));
    Some(if encode::has_secret(&url) { encode::url(&url) } else { url })
}

fn headers(config: &Fields, consumer: &Consumer) -> Option<Value> {
    let mut headers = Headers::default();
    for (name, value) in config.entries("headers") {
        headers.add(config.notes(), value.path(), name, encode::header_value(&kept(&value, consumer)));
    }
    headers.into_json()
}

/// Returns the text, and refuses secrets whose values the consumer would expand.
fn kept(text: &Text, consumer: &Consumer) -> String {
    warn_of_dollar(text, consumer);
    variables::kept(text, consumer.expansions)
}

/// Warns about `${…}`, which a client expands from its own environment: that is rarely intended.
fn warn_of_dollar(text: &Text, consumer: &Consumer) {
    if consumer.expansions.contains(&DOLLAR) && DOLLAR.is_in(text) {
        text.warning("contains `${…}`, which the MCP client expands from its own environment");
    }
}

fn warn_of_query(text: &Text, secret: bool) {
    if secret {
        text.warning("puts a secret into the query of the URL, which servers and proxies log; prefer a header");
    }
}

fn warn_of_url(text: &Text, secret: bool, consumer: &Consumer) {
    if let Some(warning) = consumer.url_warning.filter(|_| secret) {
        text.warning(warning);
    }
}
