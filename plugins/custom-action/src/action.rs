//! The config of an action, read once for every target. Notes everything that no HTTP client could send. Knows nothing
//! of the targets but what they expand in texts.

use guillemet_plugin::http::{self, Headers, Timeout};
use guillemet_plugin::variables::{self, BRACES, Expansion, Piece};
use guillemet_plugin::{Fields, Map, Text, Value, encode};

use crate::agent::Parameters;
use crate::auth;
use crate::body::RequestBody;

/// An action that has been read and can be written for a target.
pub struct Action<'a> {
    pub config: &'a Fields<'a>,
    /// What the consumer expands in texts.
    pub expansions: &'static [Expansion],
    pub name: Option<Text<'a>>,
    pub description: Option<Text<'a>>,
    pub method: Option<&'static str>,
    pub request: Request<'a>,
    pub body: Option<RequestBody<'a>>,
    /// What a signer needs; `None` if the request is not signed.
    pub signing: Option<Value>,
    /// The parameters that the agent passes.
    pub parameters: Parameters<'a>,
    pub timeout: Timeout<'a>,
}

/// The parts of the request that both the config and its `auth` add to.
pub struct Request<'a> {
    url: Option<Text<'a>>,
    pub headers: Headers,
    /// The query parameters in the order of the config, unencoded.
    pub query: Vec<(String, Text<'a>)>,
    /// The texts that the headers were made from.
    pub header_texts: Vec<Text<'a>>,
}

impl<'a> Action<'a> {
    /// Reads all fields of the config.
    pub fn read(config: &'a Fields<'a>, expansions: &'static [Expansion]) -> Self {
        let tool =
            |name: &str| name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        let name = config.required("name").map(|n| n.check(tool, "must be 1 to 64 letters, digits, `-` or `_`"));
        let description = config.text("description");
        if config.value("method").is_none() {
            config.problem("method", "is required");
        }
        let method = config.choice("method", &["GET", "POST", "PUT", "PATCH", "DELETE"]);
        let mut request = Request::read(config, expansions);
        let body = RequestBody::read(config, method, expansions);
        let signing = config.table("auth").and_then(|auth| auth::apply(&auth, &mut request, expansions));
        let parameters = Parameters::read(config);
        let timeout = Timeout::read(config, 1..=600_000);
        Self { config, expansions, name, description, method, request, body, signing, parameters, timeout }
    }

    /// Returns the URL without what `query_params` add: a secret as a whole, or text that may contain percent-encoded
    /// secrets.
    pub fn url(&self) -> Option<String> {
        let url = self.request.url.as_ref()?;
        if encode::whole_secret(url) {
            return Some(encode::url(&variables::kept(url, self.expansions)));
        }
        Some(if encode::has_secret(url) { encode::url(url) } else { url.get().into() })
    }

    /// Returns the URL with its query, percent-encoded except for the variables that the target fills in.
    pub fn url_with_query(&self) -> Option<String> {
        let url = self.request.url.as_ref()?;
        if self.request.query.is_empty() {
            return self.url();
        }
        if encode::whole_secret(url) {
            let field = if self.config.value("query_params").is_some() { "query_params" } else { "auth" };
            self.config.problem(field, "cannot be added to a `url` that is one secret: put the query into its value");
            return self.url();
        }
        let pair = |(name, value): &(String, Text)| format!("{}={}", encode::url_query(name), self.encoded(value));
        let pairs: Vec<String> = self.request.query.iter().map(pair).collect();
        let url = http::append_query(url, &pairs.join("&"));
        Some(if encode::has_secret(&url) { encode::url(&url) } else { url })
    }

    /// Percent-encodes a query value. A secret in it cannot add a variable, because its braces are encoded.
    fn encoded(&self, value: &Text) -> String {
        if !self.expansions.contains(&BRACES) {
            return encode::url_query(value);
        }
        variables::check(value, self.expansions);
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => encode::url_query(text),
            // `check` has noted this as a problem.
            Piece::Variable(name) if encode::has_secret(name) => encode::url_query(name),
            Piece::Variable(name) => {
                if name.contains(char::is_whitespace) {
                    value.problem("has a space inside `{{…}}`, which a URL cannot contain");
                }
                format!("{{{{{name}}}}}")
            }
        };
        variables::pieces(value).iter().map(piece).collect()
    }

    /// Returns the query by name, unencoded: the client encodes it once it knows its variables.
    pub fn query(&self) -> Option<Map<String, Value>> {
        let entry = |(name, value): &(String, Text)| (name.clone(), variables::kept(value, self.expansions).into());
        let query: Map<_, _> = self.request.query.iter().map(entry).collect();
        (!query.is_empty()).then_some(query)
    }

    /// Returns the headers, with a type for the body if the config gives none.
    pub fn headers_with_type(&self) -> Headers {
        let mut headers = self.request.headers.clone();
        if self.body.is_some() && !headers.has("Content-Type") {
            headers.add(self.config.notes(), "body", "Content-Type", "application/json".into());
        }
        headers
    }

    /// Notes that the target cannot sign, if the config asks for a signature.
    pub fn cannot_sign(&self, why: &str) {
        if self.signing.is_some() {
            let help = "the target `json` holds what a signer needs, in `signing`";
            self.config.notes().problem("auth.type", why, Some(help.into()));
        }
    }
}

impl<'a> Request<'a> {
    fn read(config: &Fields<'a>, expansions: &[Expansion]) -> Self {
        let url = config.required("url");
        if let Some(url) = url.as_ref().filter(|url| !encode::whole_secret(url)) {
            // A variable stands for text that the client will encode.
            http::check_url(url);
            variables::check(url, expansions);
            if http::secret_in_query(url) {
                warn_of_query(url);
            }
        }
        let mut request = Self { url, headers: Headers::default(), query: Vec::new(), header_texts: Vec::new() };
        for (name, value) in config.entries("headers") {
            let encoded = encode::header_value(&variables::kept(&value, expansions));
            request.headers.add(config.notes(), value.path(), name, encoded);
            request.header_texts.push(value);
        }
        for (name, value) in config.entries("query_params") {
            request.add_query(name, value);
        }
        request
    }

    /// Returns the URL as the config has it.
    pub fn url_text(&self) -> Option<&Text<'a>> {
        self.url.as_ref()
    }

    /// Returns the texts that may contain variables, except for those of `auth`.
    pub fn texts(&self) -> impl Iterator<Item = &Text<'a>> {
        self.url.iter().chain(&self.header_texts).chain(self.query.iter().map(|(_, text)| text))
    }

    /// Adds a query parameter. A name that is given twice is noted.
    pub fn add_query(&mut self, name: &str, value: Text<'a>) {
        if encode::has_secret(&value) {
            warn_of_query(&value);
        }
        if self.query.iter().any(|(known, _)| known == name) {
            value.problem(format!("the query parameter `{name}` is given twice"));
        }
        self.query.push((name.into(), value));
    }
}

fn warn_of_query(text: &Text) {
    text.warning("puts a secret into the query of the URL, which servers and proxies log; prefer a header");
}
