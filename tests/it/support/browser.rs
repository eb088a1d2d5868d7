//! A user of the console without scripts: one connection per request, one cookie, the fields of forms. Also parses
//! pages as a browser does.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use html5gum::{Token, Tokenizer};

use super::daemon::{Answer, Guillemet, receive, receive_head};

pub const SECRETS: &str = "/settings/developers/secrets";

pub struct Browser {
    pub port: u16,
    /// The host name with the port, as in the header `Host`.
    pub host: String,
    pub cookie: Option<String>,
}

/// An HTML start tag with its attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    pub name: String,
    pub attributes: Vec<(String, String)>,
}

impl Element {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The elements of a page in order, and its text.
pub struct Page {
    pub elements: Vec<Element>,
    pub text: String,
}

impl Page {
    pub fn parse(html: &str) -> Self {
        let (mut elements, mut text) = (Vec::new(), String::new());
        let string = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        for token in Tokenizer::new(html) {
            match token.unwrap() {
                Token::StartTag(tag) => elements.push(Element {
                    name: string(&tag.name),
                    attributes: tag.attributes.iter().map(|(name, value)| (string(name), string(value))).collect(),
                }),
                Token::String(part) => text.push_str(&string(&part)),
                Token::Error(error) => panic!("the page is no HTML: {error:?}: {html}"),
                _ => {}
            }
        }
        Self { elements, text }
    }

    /// Returns the elements with a tag name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.elements.iter().filter(move |element| element.name == name)
    }

    /// Returns a form's field by its name.
    pub fn field(&self, name: &str) -> Option<&Element> {
        self.elements.iter().find(|element| {
            ["input", "textarea", "select"].contains(&element.name.as_str()) && element.get("name") == Some(name)
        })
    }

    /// Returns the value of a hidden field or a text field; empty if there is none.
    pub fn value(&self, name: &str) -> &str {
        self.field(name).and_then(|field| field.get("value")).unwrap_or_default()
    }

    /// Reports whether the page contains a text, ignoring how it is broken into lines.
    pub fn says(&self, text: &str) -> bool {
        let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        one_line(&self.text).contains(&one_line(text))
    }
}

/// Splits a link into host with port, port, and path with query.
pub fn apart(url: &str) -> (String, u16, String) {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    (host.to_owned(), host.split_once(':').unwrap().1.parse().unwrap(), format!("/{path}"))
}

/// Returns the link that `guillemet console` prints.
pub fn link(guillemet: &Guillemet) -> String {
    let out = guillemet.command(&["console"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

impl Browser {
    /// Makes a browser for the host of a link, without a session.
    pub fn at(url: &str) -> Self {
        let (host, port, _) = apart(url);
        Self { port, host, cookie: None }
    }

    /// Makes a browser that has opened a new link, and so has a session.
    pub fn open(guillemet: &Guillemet) -> Self {
        let url = link(guillemet);
        let mut browser = Self::at(&url);
        let answer = browser.follow(&url);
        assert_eq!(answer.status, 303, "{}", answer.text());
        assert_eq!(answer.headers["location"], SECRETS);
        browser
    }

    /// Follows a link, and keeps the cookie from the answer.
    pub fn follow(&mut self, url: &str) -> Answer {
        let answer = self.get(&apart(url).2);
        if let Some(cookie) = answer.headers.get("set-cookie") {
            self.cookie = Some(cookie.split(';').next().unwrap().to_owned());
        }
        answer
    }

    /// Sends a request with exactly these headers, which have to include `Host` and the cookie.
    pub fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        if !body.is_empty() || method == "POST" {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        let _ = stream.write_all(body);
        if method == "HEAD" { receive_head(stream).unwrap() } else { receive(stream).unwrap() }
    }

    pub fn ask(&self, method: &str, path: &str, more: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut headers = vec![("host", self.host.as_str())];
        headers.extend(self.cookie.as_deref().map(|cookie| ("cookie", cookie)));
        headers.extend(more);
        self.raw(method, path, &headers, body)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    /// Returns a page. Panics if it does not exist.
    pub fn page(&self, path: &str) -> Page {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        Page::parse(&answer.text())
    }

    /// Returns the token that the forms of this session carry.
    pub fn csrf(&self) -> String {
        self.page("/settings/developers/plugins").value("csrf").to_owned()
    }

    /// Sends a form, as a browser does.
    pub fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = self.csrf();
        let fields = [&[("csrf", csrf.as_str())], fields].concat();
        let origin = format!("http://{}", self.host);
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("origin", origin.as_str()),
            ("sec-fetch-site", "same-origin"),
        ];
        self.ask("POST", path, &headers, encode(&fields).as_bytes())
    }

    /// Sends a form that has to be accepted. Returns the page that follows.
    pub fn done(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        let answer = self.post(path, fields);
        assert_eq!(answer.status, 303, "{path}: {}", Page::parse(&answer.text()).text);
        self.page(&answer.headers["location"])
    }
}

/// Encodes a form as browsers do, with CR LF for line breaks.
pub fn encode(fields: &[(&str, &str)]) -> String {
    let part = |text: &str| -> String {
        let text = text.replace('\n', "\r\n");
        text.bytes()
            .map(|b| if b.is_ascii_alphanumeric() { char::from(b).into() } else { format!("%{b:02X}") })
            .collect()
    };
    fields.iter().map(|(name, value)| format!("{}={}", part(name), part(value))).collect::<Vec<_>>().join("&")
}
