//! Reads a curl command line as the request that it makes [curl 8, its manual].
//!
//! Ignores options about the output. Options about the transfer that a request has no place for are compared and
//! reported. An option that would make a different request is an error that names the option.

mod options;

use zeroize::Zeroizing;

use options::OPTIONS;
use options::OptionEffect::{
    self, Agent, Bearer, Cookie, Data, DataEncoded, Get, Header as Head, Json, Method, Not, NotWith, Output, OutputTo,
    Referer, Seconds, Transfer, TransferBy, Url, UrlQuery, User,
};

use super::http::decode_basic;
use super::request::{ActionRequest, JsonBody, RequestHeader, RequestText};
use super::shell::{self, Word};
use crate::cli::adopt::source::{Problems, SourceFile};
use crate::cli::adopt::tokens::{Quoting, Spot, Tokens};
use guillemet_plan::encode::percent_encoded;

/// The request, while it is put together from the options.
struct Curl<'p, 's> {
    problems: &'p mut Problems<'s>,
    tokens: Tokens,
    request: ActionRequest,
    urls: Vec<RequestText>,
    method: Option<String>,
    /// The pieces of the body, in order.
    data: Vec<RequestText>,
    json: bool,
    get: bool,
    query: Vec<RequestText>,
    /// The byte of the file at which the body begins.
    data_at: Option<usize>,
    /// Whether an unknown option was found, so that the words after it may be its value.
    unsure: bool,
}

/// Reads the only command of the file.
pub fn read(source: &SourceFile, problems: &mut Problems<'_>) -> Option<(ActionRequest, Tokens)> {
    let words = shell::words(&source.text, problems);
    let mut words = words.into_iter().peekable();
    // Manuals print the prompt, which is copied with the command.
    words.next_if(|word| *word.text == "$");
    let first = words.next()?;
    if *first.text != "curl" && !first.text.ends_with("/curl") {
        problems.add(
            Some(first.range.start),
            "",
            "is not a curl command",
            Some("the file must contain one curl command"),
        );
        return None;
    }
    let mut curl = Curl {
        problems,
        tokens: Tokens::default(),
        request: ActionRequest::default(),
        urls: Vec::new(),
        method: None,
        data: Vec::new(),
        json: false,
        get: false,
        query: Vec::new(),
        data_at: None,
        unsure: false,
    };
    let mut only_urls = false;
    while let Some(word) = words.next() {
        if only_urls || !word.text.starts_with('-') || word.text.len() == 1 {
            let value = curl.value(&word, 0);
            curl.urls.push(value);
        } else if *word.text == "--" {
            only_urls = true;
        } else if let Some(name) = word.text.strip_prefix("--") {
            curl.long(&word, name, &mut words);
        } else {
            curl.short(&word, &mut words);
        }
    }
    curl.finish(first.range.start)
}

impl Curl<'_, '_> {
    /// Returns a word's text from a byte on, with its place.
    fn value(&mut self, word: &Word, from: usize) -> RequestText {
        let token = self.tokens.add(None, word.range.clone(), &word.text, Quoting::Single);
        let full = self.tokens.spot(token);
        let spot = full.part(&(from..word.text.len()));
        RequestText { text: Zeroizing::new(word.text[from..].to_owned()), spot: Some(spot), at: Some(word.range.start) }
    }

    fn long(&mut self, word: &Word, name: &str, words: &mut impl Iterator<Item = Word>) {
        let Some((_, _, effect)) = OPTIONS.iter().find(|(long, ..)| *long == name) else {
            let option = name.split(['=', ' ']).next().unwrap_or_default().to_owned();
            return self.unknown(word, &format!("--{option}"));
        };
        let value = if effect.takes_value() { self.next_value(word, &format!("--{name}"), words) } else { None };
        self.option(word, &format!("--{name}"), *effect, value);
    }

    /// Reads the short options of a word: `-sSL`, `-XPOST`, `-u user:password`.
    fn short(&mut self, word: &Word, words: &mut impl Iterator<Item = Word>) {
        for (at, c) in word.text.char_indices().skip(1) {
            let Some((_, _, effect)) = OPTIONS.iter().find(|(_, short, _)| *short == c && c != '\0') else {
                return self.unknown(word, &format!("-{c}"));
            };
            let value_start = at + c.len_utf8();
            let name = format!("-{c}");
            if !effect.takes_value() {
                self.option(word, &name, *effect, None);
                continue;
            }
            let value = match value_start < word.text.len() {
                true => Some(self.value(word, value_start)),
                false => self.next_value(word, &name, words),
            };
            return self.option(word, &name, *effect, value);
        }
    }

    fn next_value(&mut self, word: &Word, name: &str, words: &mut impl Iterator<Item = Word>) -> Option<RequestText> {
        let next = words.next();
        if next.is_none() {
            self.problem(word, name, "has no value", None);
        }
        next.map(|next| self.value(&next, 0))
    }

    fn unknown(&mut self, word: &Word, name: &str) {
        self.unsure = true;
        self.problem(word, name, "is not supported", Some("remove it, if the request is the same without it"));
    }

    fn problem(&mut self, word: &Word, name: &str, message: &str, help: Option<&str>) {
        self.problems.add(Some(word.range.start), name, message, help);
    }

    fn option(&mut self, word: &Word, name: &str, effect: OptionEffect, value: Option<RequestText>) {
        match (effect, value) {
            (Not(reason) | NotWith(reason), _) => {
                self.problem(word, name, reason, Some("remove it, or write the template by hand"))
            }
            (Output | OutputTo, _) => {}
            (Transfer, _) => self.request.options.push((name.to_owned(), true.into())),
            (TransferBy, Some(value)) => self.request.options.push((name.to_owned(), value.text.as_str().into())),
            (Get, _) => self.get = true,
            (Head, Some(value)) => self.header(word, &value),
            (User, Some(value)) => self.user(word, name, &value),
            (Bearer, Some(value)) => self.authorize(word, "Bearer ", &value),
            (Method, Some(value)) => self.method = Some((*value.text).clone()),
            (Url, Some(value)) => self.urls.push(value),
            (UrlQuery, Some(value)) => self.encoded(word, name, value, true),
            (Agent, Some(value)) => self.push_header("User-Agent", value),
            (Referer, Some(value)) => self.push_header("Referer", value),
            (Cookie, Some(value)) if value.text.contains('=') => self.push_header("Cookie", value),
            (Cookie, Some(_)) => {
                self.problem(word, name, "reads cookies from a file", Some("write them as name=value"))
            }
            (Data(false), Some(value)) => self.body(word, value),
            (Data(true), Some(value)) if !value.text.starts_with('@') => self.body(word, value),
            (Json, Some(value)) if !value.text.starts_with('@') => {
                self.json = true;
                self.body(word, value);
            }
            (Data(true) | Json, Some(_)) => {
                self.problem(word, name, "reads the body from a file", Some("write the body itself, in single quotes"));
            }
            (DataEncoded, Some(value)) => self.encoded(word, name, value, false),
            (Seconds, Some(value)) => match value.text.parse::<f64>() {
                Ok(seconds) if (0.001..=600.0).contains(&seconds) => {
                    self.request.timeout_ms = Some((seconds * 1000.0).round() as u64);
                }
                _ => self.problem(word, name, "must be a time between a millisecond and ten minutes, in seconds", None),
            },
            // The problem was added when the value was looked for.
            (_, None) => {}
        }
    }

    fn header(&mut self, word: &Word, value: &RequestText) {
        let Some((name, text)) = value.text.split_once(':') else {
            let message = match value.text.starts_with('@') {
                true => "reads headers from a file",
                false => "is not a header: write `Name: value`",
            };
            return self.problem(word, "-H", message, None);
        };
        let content = text.trim_start();
        if content.trim_end().is_empty() {
            let name = name.to_owned();
            return self.problem(word, &name, "removes a header that curl would send", Some("remove it"));
        }
        let start = value.text.len() - content.len();
        let range = start..start + content.trim_end().len();
        let name = name.trim_end().to_owned();
        let part = value.part(range);
        self.push_header(&name, part);
    }

    fn push_header(&mut self, name: &str, value: RequestText) {
        self.request.headers.push(RequestHeader { name: name.to_owned(), value });
    }

    fn user(&mut self, word: &Word, name: &str, value: &RequestText) {
        if !value.text.contains(':') {
            return self.problem(
                word,
                name,
                "has no password, so curl would prompt for it",
                Some("write user:password"),
            );
        }
        let encoded = Zeroizing::new(data_encoding::BASE64.encode(value.text.as_bytes()));
        if decode_basic(&encoded).is_none() {
            return self.problem(word, name, "contains a control character", None);
        }
        let value = RequestText { text: encoded, spot: value.encoded_spot(), at: value.at };
        self.authorize(word, "Basic ", &value);
    }

    fn authorize(&mut self, word: &Word, scheme: &str, value: &RequestText) {
        if self.request.header("authorization").is_some() {
            return self.problem(word, "Authorization", "is given twice", Some("remove one of them"));
        }
        let text = Zeroizing::new(format!("{scheme}{}", *value.text));
        // The scheme is not in the file, so the text is another form of the word.
        let spot = value.spot.clone().map(|spot| Spot { encoded: true, ..spot });
        self.push_header("Authorization", RequestText { text, spot, at: value.at });
    }

    fn body(&mut self, word: &Word, value: RequestText) {
        self.data_at.get_or_insert(word.range.start);
        self.data.push(value);
    }

    /// Encodes a value given as `content`, `=content` or `name=content`. Only the content is encoded.
    fn encoded(&mut self, word: &Word, name: &str, value: RequestText, to_query: bool) {
        let (key, content) = match value.text.split_once('=') {
            Some((key, content)) if !key.contains('@') => (key, content),
            None if !value.text.contains('@') => ("", value.text.as_str()),
            _ => return self.problem(word, name, "reads from a file", Some("write name=value")),
        };
        let raw = to_query && value.text.starts_with('+');
        let encode = |text: &str| Zeroizing::new(percent_encoded(text));
        let text = match (raw, key) {
            (true, _) => Zeroizing::new(value.text[1..].to_owned()),
            (false, "") => encode(content),
            (false, key) => Zeroizing::new(format!("{key}={}", *encode(content))),
        };
        let value = RequestText { text, spot: value.encoded_spot(), at: value.at };
        if to_query { self.query.push(value) } else { self.body(word, value) }
    }

    fn finish(mut self, at: usize) -> Option<(ActionRequest, Tokens)> {
        let mut urls = std::mem::take(&mut self.urls);
        if urls.len() != 1 {
            if self.unsure {
                return None;
            }
            let message = if urls.is_empty() { "names no URL" } else { "names more than one URL" };
            self.problems.add(Some(at), "", message, Some("a custom action is one request"));
            return None;
        }
        let mut url = urls.remove(0);
        if !url.text.contains("://") {
            // curl assumes http too.
            url = RequestText {
                text: Zeroizing::new(format!("http://{}", *url.text)),
                spot: url.encoded_spot(),
                at: url.at,
            };
        }
        self.take_credentials(&mut url);
        let data = std::mem::take(&mut self.data);
        let has_data = !data.is_empty();
        let mut query = std::mem::take(&mut self.query);
        if self.get {
            query.extend(data);
        } else if has_data {
            self.set_body(data);
        }
        self.request.query_texts = query;
        self.request.url = url;
        let usual = if has_data && !self.get { "POST" } else { "GET" };
        let method = self.method.take().unwrap_or_else(|| usual.into());
        if !["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str()) {
            let message = "is a method that custom actions do not support";
            self.problems.add(Some(at), "method", message, Some("use GET, POST, PUT, PATCH or DELETE"));
        }
        self.request.method = method;
        Some((self.request, self.tokens))
    }

    /// Turns a URL's `user:password@` before the host into the header that `-u` would make.
    fn take_credentials(&mut self, url: &mut RequestText) {
        let Some(start) = url.text.find("://").map(|scheme| scheme + 3) else { return };
        let end = url.text[start..].find(['/', '?', '#']).map_or(url.text.len(), |end| start + end);
        let Some(at) = url.text[start..end].rfind('@') else { return };
        let raw = Zeroizing::new(url.text[start..start + at].to_owned());
        let decoded = percent_encoding::percent_decode_str(&raw).decode_utf8().ok();
        let Some(pair) = decoded.filter(|pair| pair.contains(':')).map(|pair| Zeroizing::new(pair.into_owned())) else {
            self.problems.add(url.at, "url", "has a user name but no password before the host", Some("remove it"));
            return;
        };
        if self.request.header("authorization").is_none() {
            let encoded = Zeroizing::new(data_encoding::BASE64.encode(pair.as_bytes()));
            let text = Zeroizing::new(format!("Basic {}", *encoded));
            let spot = url.spot.as_ref().map(|spot| Spot { encoded: true, ..spot.part(&(start..start + at)) });
            self.push_header("Authorization", RequestText { text, spot, at: url.at });
        }
        let text = Zeroizing::new(format!("{}{}", &url.text[..start], &url.text[start + at + 1..]));
        *url = RequestText { text, spot: url.encoded_spot(), at: url.at };
    }

    fn set_body(&mut self, data: Vec<RequestText>) {
        let content_type = self.request.header("content-type").map(|header| (*header.value.text).clone());
        if self.json {
            for name in ["Content-Type", "Accept"] {
                if self.request.header(name).is_none() {
                    self.push_header(name, RequestText::plain("application/json"));
                }
            }
        } else if content_type.is_none() {
            // curl sends this type if the command gives none.
            self.push_header("Content-Type", RequestText::plain("application/x-www-form-urlencoded"));
        }
        let separator = if self.json { "" } else { "&" };
        let body = match data.len() {
            1 => data.into_iter().next(),
            _ => {
                let texts: Vec<&str> = data.iter().map(|value| value.text.as_str()).collect();
                Some(RequestText { text: Zeroizing::new(texts.join(separator)), spot: None, at: self.data_at })
            }
        };
        let Some(value) = body else { return };
        match JsonBody::read(&value, &mut self.tokens) {
            Ok(body) => self.request.body = Some(body),
            Err(reason) => {
                let message = format!("is not a JSON object or list, and a custom action only sends these: {reason}");
                self.problems.add(self.data_at, "body", message, None);
            }
        }
    }
}
