//! An HTTP request, as the readers of custom actions find it, and the config that makes the same request.

use std::ops::Range;

use serde_json::Value as Json;
use zeroize::Zeroizing;

use super::document::ParsedDocument;
use super::http;
use super::url::{self, SplitUrl, UrlChoice};
use crate::cli::adopt::config::{ConfigLeaf, ConfigNode, ConfigTable};
use crate::cli::adopt::equivalence::Facts;
use crate::cli::adopt::source::Problems;
use crate::cli::adopt::tokens::{Quoting, Spot, Tokens};
use guillemet_plan::encode::percent_encoded;

/// A text of the request, with its place.
#[derive(Clone, Default)]
pub struct RequestText {
    /// The text as the request sends it.
    pub text: Zeroizing<String>,
    /// The place in the file; `None` if it cannot be replaced there.
    pub spot: Option<Spot>,
    /// A byte of the file, for messages about the text.
    pub at: Option<usize>,
}

impl RequestText {
    /// Makes a text that has no place in the file.
    pub fn plain(text: &str) -> Self {
        Self { text: Zeroizing::new(text.to_owned()), spot: None, at: None }
    }

    /// Returns a part of the text, with its place.
    pub fn part(&self, range: Range<usize>) -> Self {
        let spot = self.spot.as_ref().map(|spot| spot.part(&range));
        Self { text: Zeroizing::new(self.text[range].to_owned()), spot, at: self.at }
    }

    /// Returns the text's place, marked as that of another form of the text.
    pub fn encoded_spot(&self) -> Option<Spot> {
        self.spot.clone().map(|spot| Spot { encoded: true, ..spot })
    }

    fn leaf(&self) -> ConfigLeaf {
        ConfigLeaf::new(&self.text, self.spot.clone())
    }
}

/// Adds a part to the query of a URL.
fn append_query(url: &mut Zeroizing<String>, text: &str) {
    let separator = if url.contains('?') { '&' } else { '?' };
    url.push(separator);
    url.push_str(text);
}

/// A header of the request.
pub struct RequestHeader {
    /// The name as the file spells it.
    pub name: String,
    /// The header's value with its place.
    pub value: RequestText,
}

/// A body in JSON.
pub struct JsonBody {
    /// The body as a plain tree.
    pub tree: Json,
    /// The same tree, with the places of its texts.
    pub node: ConfigNode,
}

impl JsonBody {
    /// Parses a text as a body.
    ///
    /// # Errors
    /// With the reason it is neither an object nor a list.
    pub fn read(value: &RequestText, tokens: &mut Tokens) -> Result<Self, String> {
        if !value.text.trim_start().starts_with(['{', '[']) {
            return Err("it does not start with `{` or `[`".into());
        }
        let spot = value.spot.clone();
        let token = match &spot {
            Some(spot) => tokens.add(Some(spot.token), spot.at.clone(), &value.text, Quoting::Plain),
            None => tokens.add(None, 0..0, &value.text, Quoting::Plain),
        };
        let document = ParsedDocument::within(&value.text, token)?;
        let tree = document.root.get("").cloned().unwrap_or_default();
        // A body without a place cannot have places for its parts.
        let node = if spot.is_some() { document.node("", &tree, tokens) } else { node(&tree) };
        Ok(Self { tree, node })
    }
}

/// Returns a tree as a node whose texts have no place.
pub fn node(value: &Json) -> ConfigNode {
    match value {
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => ConfigNode::List(items.iter().map(node).collect()),
        Json::Object(map) => ConfigNode::Table(map.iter().map(|(name, value)| (name.clone(), node(value))).collect()),
        other => ConfigNode::Other(other.clone()),
    }
}

/// A request that a custom action makes.
#[derive(Default)]
pub struct ActionRequest {
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`, or another method that was reported as a problem.
    pub method: String,
    /// The URL, with the part of the query it contains.
    pub url: RequestText,
    /// Further parts of the query, already encoded.
    pub query_texts: Vec<RequestText>,
    /// Further parameters of the query, not encoded.
    pub query: Vec<(String, RequestText)>,
    /// The headers, in the file's order.
    pub headers: Vec<RequestHeader>,
    /// The body; `None` for a request without one.
    pub body: Option<JsonBody>,
    /// The timeout in milliseconds; `None` if the file sets none.
    pub timeout_ms: Option<u64>,
    /// Options that a config has no place for, by name, to compare and report.
    pub options: Vec<(String, Json)>,
    /// Further fields of the config, beside those of the request.
    pub fields: ConfigTable,
    /// The same fields as a document of the target `json` has them.
    pub facts: Vec<(String, Json)>,
}

impl ActionRequest {
    /// Returns the header of this name, ignoring case.
    pub fn header(&self, name: &str) -> Option<&RequestHeader> {
        self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))
    }

    /// Returns the URL with every part of its query.
    fn full_url(&self) -> Zeroizing<String> {
        let mut url = self.url.text.clone();
        for extra in &self.query_texts {
            append_query(&mut url, &extra.text);
        }
        for (name, value) in &self.query {
            append_query(
                &mut url,
                &Zeroizing::new(format!("{}={}", percent_encoded(name), percent_encoded(&value.text))),
            );
        }
        url
    }

    /// Returns the meaning of the request. `whole` says that its URL is one secret.
    pub fn facts(&self, whole: bool) -> Facts {
        let mut facts = Facts::default();
        facts.text("method", &self.method);
        url::url_facts(&mut facts, "url", &self.full_url(), whole);
        for header in &self.headers {
            http::header_fact(&mut facts, "headers", &header.name, &header.value.text);
        }
        if let Some(body) = &self.body {
            facts.tree("body", &body.tree);
        }
        if let Some(timeout) = self.timeout_ms {
            facts.tree("timeout_ms", &timeout.into());
        }
        for (name, value) in self.options.iter().chain(&self.facts) {
            facts.tree(name, value);
        }
        facts
    }

    /// Returns the config that makes this request. The tool gets the name `name` if `fields` has none.
    pub fn config(mut self, name: &str, taken: SplitUrl, problems: &mut Problems<'_>) -> ConfigTable {
        let mut config = std::mem::take(&mut self.fields);
        if !config.iter().any(|(field, _)| field == "name") {
            config.insert(0, ("name".into(), name.into()));
        }
        config.push(("method".into(), self.method.as_str().into()));
        config.push(("url".into(), taken.url.into()));
        for (index, header) in self.headers.iter().enumerate() {
            if self.headers[..index].iter().any(|other| other.name.eq_ignore_ascii_case(&header.name)) {
                problems.add(header.value.at, &header.name, "is given twice", Some("remove one of the two"));
            }
        }
        let signed = config.iter().any(|(field, _)| field == "auth");
        let mut headers = ConfigTable::new();
        for RequestHeader { name, value } in std::mem::take(&mut self.headers) {
            let auth = name.eq_ignore_ascii_case("authorization") && !signed;
            match auth.then(|| http::auth(&value.text, value.spot.as_ref())).flatten() {
                Some(auth) => config.push(("auth".into(), ConfigNode::Table(auth))),
                None => {
                    let leaf = http::header(&name, &value.text, value.spot.clone());
                    headers.push((name, leaf.into()));
                }
            }
        }
        for (field, table) in [("headers", headers), ("query_params", taken.query)] {
            if !table.is_empty() {
                config.push((field.into(), ConfigNode::Table(table)));
            }
        }
        if let Some(body) = self.body.take() {
            config.push(("body".into(), body.node));
        }
        if let Some(timeout) = self.timeout_ms {
            config.push(("timeout_ms".into(), ConfigNode::Other(timeout.into())));
        }
        config
    }

    /// Takes the URL and its query apart. If a further part of the query cannot be taken apart, all parts go into the
    /// URL.
    pub fn take_url_apart(&self, choice: UrlChoice) -> SplitUrl {
        let explicit: ConfigTable =
            self.query.iter().map(|(name, value)| (name.clone(), value.leaf().into())).collect();
        let parsed: Option<Vec<ConfigTable>> =
            self.query_texts.iter().map(|text| url::take_query(&text.text, text.spot.as_ref())).collect();
        let mut taken = url::take_apart(&self.url.text, self.url.spot.as_ref(), choice);
        let is_parsed = parsed.is_some();
        let extra: ConfigTable = parsed.unwrap_or_default().into_iter().flatten().chain(explicit).collect();
        let mut names: Vec<&str> = taken.query.iter().chain(&extra).map(|(name, _)| name.as_str()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        let unique = names.len() == count;
        // If the URL is one secret, its query is a part of it.
        if unique && is_parsed && (!taken.whole || extra.is_empty()) {
            taken.query.extend(extra);
            return taken;
        }
        url::take_apart(&self.full_url(), None, choice)
    }
}
