//! The pages, and the files that they load. The only place in the daemon that runs a template engine, and only on these
//! templates, which come with the program (promise Isolated).
//!
//! Invariant: every text in a page goes through one formatter, whatever it is and wherever it comes from. The formatter
//! replaces control characters and characters that change the direction of text, and escapes the text for HTML.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context, escape_formatter};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use sha2::{Digest, Sha256};

use guillemet_base::display::sanitize_multiline;
use guillemet_base::time::{self, now};
use guillemet_vault::usage::EventKind;

/// Everything but the unreserved characters of RFC 3986.
const PART: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

macro_rules! page {
    ($name:literal) => {
        (
            $name,
            concat!(
                include_str!("pages/head.html"),
                include_str!(concat!("pages/", $name)),
                include_str!("pages/foot.html")
            ),
        )
    };
}

/// The name and source of each page. The source includes the head and foot that all pages share.
const PAGES: [(&str, &str); 10] = [
    page!("secrets.html"),
    page!("secret.html"),
    page!("rotate.html"),
    page!("rollback.html"),
    page!("delete.html"),
    page!("templates.html"),
    page!("template.html"),
    page!("plugins.html"),
    page!("audit.html"),
    page!("message.html"),
];

/// The name, media type and content of each asset.
const ASSETS: [(&str, &str, &str); 3] = [
    ("style.css", "text/css; charset=utf-8", include_str!("static/style.css")),
    ("console.js", "text/javascript; charset=utf-8", include_str!("static/console.js")),
    ("icon.svg", "image/svg+xml", include_str!("static/icon.svg")),
];

/// Percent-encodes a text for use in a path or a query.
pub fn percent_encode(text: &str) -> String {
    utf8_percent_encode(text, &PART).to_string()
}

/// Escapes a text for HTML, both between tags and in quoted attributes. The engine's own function escapes slashes too,
/// which makes every path in a page unreadable.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Returns the data for a page from a type that the API serializes.
pub fn data<T: Serialize>(value: T) -> Value {
    Value::from(Serde(value))
}

/// The engine with all pages.
pub struct Pages {
    engine: Environment<'static>,
    /// A digest of all assets, which is part of their paths. It changes with them, so browsers may keep them forever.
    digest: String,
}

impl Pages {
    /// Compiles the templates of all pages.
    pub fn new() -> Self {
        let mut engine = Environment::new();
        engine.set_auto_escape_callback(|_| AutoEscape::Html);
        // A page may test whether something is undefined, but never print it.
        engine.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        engine.set_formatter(|out, state, value| match value.as_str() {
            Some(text) if !value.is_safe() => Ok(out.write_str(&escaped(&sanitize_multiline(text)))?),
            _ if value.is_none() => Ok(()),
            _ => escape_formatter(out, state, value),
        });
        engine.add_filter("part", |text: String| percent_encode(&text));
        engine.add_filter("template_path", |id: String| {
            let (feature, name) = id.split_once('/').unwrap_or((&id, ""));
            format!("/settings/developers/templates/{}/{}", percent_encode(feature), percent_encode(name))
        });
        engine.add_filter("ago", |text: String| time::seconds(&text).map_or(text, |at| time::ago(at, now() / 1000)));
        engine.add_filter("event_text", |name: String| EventKind::from_name(&name).map_or("", |kind| kind.row().text));
        for (name, source) in PAGES {
            let added = engine.add_template(name, source);
            debug_assert!(added.is_ok(), "{name}: {added:?}");
        }
        let mut hash = Sha256::new();
        for (_, _, content) in ASSETS {
            hash.update(content);
        }
        let digest = data_encoding::HEXLOWER.encode(&hash.finalize()[..8]);
        Self { engine, digest }
    }

    /// Renders a page as a response.
    pub fn render(&self, page: &str, status: StatusCode, data: Value) -> Response<Full<Bytes>> {
        let assets = format!("/assets/{}", self.digest);
        let data = context! { assets, guillemet_version => env!("CARGO_PKG_VERSION"), ..data };
        let rendered = self.engine.get_template(page).and_then(|page| page.render(data));
        let (status, html) = match rendered {
            Ok(html) => (status, html),
            Err(error) => {
                debug_assert!(false, "{page}: {error:#}");
                tracing::error!(page, line = error.line(), "a page of the console could not be rendered");
                let html =
                    "<!doctype html><title>Guillemet</title><p>The page could not be rendered; see the daemon's log.";
                (StatusCode::INTERNAL_SERVER_ERROR, html.to_owned())
            }
        };
        let mut response = Response::new(Full::new(html.into()));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        response
    }

    /// Returns a file that pages load, if the path has the current digest.
    pub fn asset(&self, digest: &str, name: &str) -> Option<Response<Full<Bytes>>> {
        let (_, media_type, content) = ASSETS.iter().find(|(file, ..)| digest == self.digest && *file == name)?;
        let mut response = Response::new(Full::new(Bytes::from_static(content.as_bytes())));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
        response.headers_mut().insert(CACHE_CONTROL, forever);
        Some(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_a_template() {
        let pages = Pages::new();
        for (name, _) in PAGES {
            assert!(pages.engine.get_template(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn every_text_is_escaped_and_cleaned() {
        let pages = Pages::new();
        let text = "<b title='\"'>&\u{202e}\u{1b}";
        let shown = pages.engine.render_named_str("x", "{{ text }}", context! { text }).unwrap();
        assert_eq!(shown, "&lt;b title=&#39;&quot;&#39;&gt;&amp;\u{fffd}\u{fffd}");
    }

    /// `safe` would let a text bypass the formatter; a style or script in a page would need a weaker policy.
    #[test]
    fn no_page_has_a_way_around() {
        for (name, source) in PAGES {
            for word in ["safe", "autoescape", " style=", "<style", "<script>", " onclick", "javascript:"] {
                assert!(!source.contains(word), "{name}: {word}");
            }
        }
    }
}
