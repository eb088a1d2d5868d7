//! Checks leaves that have a syntax of their own: URLs, and fields of an HTTP header.
//!
//! Knows nothing of plans. A leaf is such a place if it looks like one without its secrets.

use url::Url;

/// Reports whether a filled leaf is still what it was before. `before` is the leaf with harmless words in place of its
/// secrets.
pub fn fits(path: &[String], before: &str, filled: &str) -> bool {
    header(path, filled) && same_url(before, filled)
}

/// Reports whether a text below a member `headers` can be sent in a header (RFC 9110, section 5.5).
fn header(path: &[String], filled: &str) -> bool {
    let Some((_, parents)) = path.split_last() else { return true };
    let is_header = parents.iter().any(|name| name.to_ascii_lowercase().ends_with("headers"));
    let blank = |c: char| matches!(c, ' ' | '\t');
    let fits = !filled.starts_with(blank)
        && !filled.ends_with(blank)
        && filled.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b));
    !is_header || fits
}

/// Reports whether a leaf that is a URL has the same parts as before, whatever the secrets in it are.
fn same_url(before: &str, filled: &str) -> bool {
    let Some(before) = parts(before) else { return true };
    parts(filled).is_some_and(|filled| filled == before)
}

/// Returns the structure of a URL, without the texts of its parts; `None` for other texts.
fn parts(text: &str) -> Option<(String, usize, Vec<usize>, bool)> {
    if !text.get(..4)?.eq_ignore_ascii_case("http") {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let origin = format!("{}://{}@{}", url.scheme(), url.password().is_some(), authority(text));
    let segments = url.path_segments().map_or(0, Iterator::count);
    // A parameter without `=` is different from one with an empty value.
    let query = url.query().map(|query| query.split('&').map(|pair| pair.matches('=').count()).collect());
    Some((origin, segments, query.unwrap_or_default(), url.fragment().is_some()))
}

/// Returns host and port as they are written.
fn authority(text: &str) -> &str {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_url_keeps_its_parts() {
        let fits = |filled: &str| fits(&path(&["url"]), "https://h/a/TOKEN?k=TOKEN", filled);
        assert!(fits("https://h/a/x%2Fy?k=x%26y"));
        for bad in [
            "https://h/a/x/y?k=1",
            "https://h/a/x?k=1&l=2",
            "https://h/a/x?k=1#f",
            "https://h/a/x?k=a=b",
            "https://h/a/x/../..?k=1",
            "https://i/a/x?k=1",
            "not a url",
        ] {
            assert!(!fits(bad), "{bad}");
        }
        assert!(fits_any("TOKEN", "ftp://whatever"), "a secret as a whole is checked by its encoder");
    }

    fn fits_any(before: &str, filled: &str) -> bool {
        fits(&path(&["url"]), before, filled)
    }

    #[test]
    fn what_goes_out_in_a_header_stays_on_its_line() {
        for (names, value, good) in [
            (&["headers", "X-Key"][..], "a b", true),
            (&["headers", "X-Key"], "a\nb", false),
            (&["request_headers", "0", "value"], " a", false),
            (&["Headers", "X"], "é", false),
            (&["headers"], "a\nb", true),
            (&["body", "text"], "a\nb", true),
        ] {
            assert_eq!(fits(&path(names), "TOKEN", value), good, "{names:?} {value:?}");
        }
    }
}
