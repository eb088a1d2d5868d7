//! Recognizes text that is not a tag but was probably meant as one. docs/templates.md has the rule as a table.
//!
//! Looks at one place at a time: the text after an opening, or after something that looks like one. It returns what was
//! probably meant, as a correct tag; the lexer alone decides whether there is a tag.

use guillemet_base::names::SecretName;

/// The characters before the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagOpening {
    /// `<<` and white space, which open a tag.
    Exact,
    /// Two or more `<` that do not open a tag.
    Almost,
    /// A single `<`, or one of the sequences that [`lookalike`] recognizes.
    Lookalike,
}

/// Words that are never passed over as text after `<<`, bare or in quotes.
const WORDS: [&str; 5] = ["secret", "vars", "env", "raw", "endraw"];
/// The forms that editors, browsers and encoders turn `<<` into.
const LOOKALIKES: [&str; 9] =
    ["«", "≪", "‹‹", "＜＜", "&lt;&lt;", "\\u003c\\u003c", "\\u003C\\u003C", "\\x3c\\x3c", "\\x3C\\x3C"];
/// Characters and entities that count as a quotation mark where a name in quotes was probably meant.
const QUOTES: [&str; 19] = [
    "\"", "'", "`", "“", "”", "„", "‘", "’", "‚", "«", "‹", "″", "′", "＂", "＇", "&quot;", "&#34;", "&#39;", "&apos;",
];
/// The forms that `>>` may have been turned into.
const CLOSERS: [&str; 6] = [">>", "»", "≫", "&gt;&gt;", "\\u003e", "\\u003E"];
/// How far after an opening its end is searched for, in bytes.
const REACH: usize = 256;

/// Returns the length in bytes of a sequence at the beginning of the text that looks like `<<` but is not.
pub fn lookalike(text: &str) -> Option<usize> {
    LOOKALIKES.iter().find(|opener| text.starts_with(**opener)).map(|opener| opener.len())
}

/// Reports whether the text after `<<` and white space begins with a word that makes it a tag, closed or not.
pub fn begins_tag(text: &str) -> bool {
    WORDS.contains(&word(skip(text)).0)
}

/// Returns the tag that the text after an opening was probably meant as, correctly written; `None` if it looks like
/// text.
pub fn intended_tag(text: &str, opener: TagOpening) -> Option<String> {
    let text = skip(text);
    let (word, rest) = word(text);
    let is_almost = opener == TagOpening::Almost;
    let looks_secret = if opener == TagOpening::Lookalike {
        matches!(word.to_ascii_lowercase().as_str(), "secret" | "secrets")
    } else {
        is_nearly_secret(word)
    };
    if (looks_secret && opens_name(skip(rest))) || (is_almost && word == WORDS[0]) {
        return Some(secret(rest));
    }
    if is_almost && WORDS[3..].contains(&word) {
        return Some(format!("<% {word} %>"));
    }
    let kind = match word.to_ascii_lowercase().as_str() {
        "vars" | "var" | "variable" | "variables" => "vars",
        "env" | "envs" | "environ" | "environment" => "env",
        _ => return None,
    };
    let line = rest[..rest.floor_char_boundary(REACH)].lines().next().unwrap_or_default();
    let has_member = line.starts_with(['.', '[']) && CLOSERS.iter().any(|closer| line.contains(closer));
    // `<< var.x >>` is a tag: if nothing has this name, the engine reports it.
    let is_near_miss = match opener {
        TagOpening::Exact => false,
        TagOpening::Almost => has_member || WORDS.contains(&word),
        TagOpening::Lookalike => has_member,
    };
    is_near_miss.then(|| variable(kind, rest))
}

/// Returns the correct tag of a secret, given the text after `secret`.
pub fn secret(rest: &str) -> String {
    let rest = skip(rest).trim_start_matches(['(', ':', '=', '.']);
    let mut rest = skip(rest);
    while let Some(after) = quote(rest) {
        rest = after;
    }
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c))).unwrap_or(rest.len());
    let name = rest[..end].parse::<SecretName>();
    format!("<< secret \"{}\" >>", name.as_ref().map_or("name", |name| name.as_str()))
}

fn variable(kind: &str, rest: &str) -> String {
    let (member, _) = word(rest.trim_start_matches(['.', '[']));
    format!("<< {kind}.{} >>", if member.is_empty() { "name" } else { member })
}

/// Skips white space, invisible characters and the signs that trim.
fn skip(text: &str) -> &str {
    let unseen = |c: char| matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}');
    text.trim_start_matches(|c: char| c.is_whitespace() || unseen(c) || matches!(c, '-' | '~' | '+'))
}

/// Splits off the word at the beginning, bare or in quotes.
fn word(text: &str) -> (&str, &str) {
    let bare = |text: &str| text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    for mark in ["\"", "'", "\\\"", "\\'"] {
        if let Some(text) = text.strip_prefix(mark)
            && let (word, rest) = text.split_at(bare(text))
            && let Some(rest) = rest.strip_prefix(mark)
        {
            return (word, rest);
        }
    }
    text.split_at(bare(text))
}

/// Returns the text after a quotation mark, escaped or not; `None` if there is no mark.
fn quote(text: &str) -> Option<&str> {
    let text = text.trim_start_matches('\\');
    QUOTES.iter().find_map(|quote| text.strip_prefix(quote))
}

/// Reports whether a name in quotes begins here. A quote alone may be the end of a string that contains the text.
fn opens_name(text: &str) -> bool {
    quote(text).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

fn is_nearly_secret(word: &str) -> bool {
    word.len() <= 8 && strsim::osa_distance(&word.to_ascii_lowercase(), WORDS[0]) <= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_written_as_it_should_be() {
        use TagOpening::{Almost, Exact, Lookalike};
        for (text, opener, expected) in [
            ("secret \"x\">>", Almost, Some("<< secret \"x\" >>")),
            ("secret'a.b-c'>>", Almost, Some("<< secret \"a.b-c\" >>")),
            ("-secret x>>", Almost, Some("<< secret \"x\" >>")),
            ("\u{200b}secret \"x\" >>", Almost, Some("<< secret \"x\" >>")),
            ("secret", Almost, Some("<< secret \"name\" >>")),
            ("'secret'\n", Almost, Some("<< secret \"name\" >>")),
            (" secrets \"x\" >>", Exact, Some("<< secret \"x\" >>")),
            (" Secret \\\"x\\\" >>", Exact, Some("<< secret \"x\" >>")),
            (" sercet “x” >>", Exact, Some("<< secret \"x\" >>")),
            (" secret &quot;x&quot;", Lookalike, Some("<< secret \"x\" >>")),
            (" secret »", Lookalike, None),
            ("secret\", \"b\"", Lookalike, None),
            (" select \"x\" >>", Exact, None),
            ("SECRET\n", Almost, None),
            ("secret_file\n", Almost, None),
            ("vars.mcp_url>>", Almost, Some("<< vars.mcp_url >>")),
            ("vars", Almost, Some("<< vars.name >>")),
            ("environment.X >>", Almost, Some("<< env.X >>")),
            ("var.x;", Almost, None),
            (" var.x >>", Exact, None),
            ("ENV >x", Almost, None),
            ("vars.x»", Lookalike, Some("<< vars.x >>")),
            ("hola»", Lookalike, None),
            ("raw>>", Almost, Some("<% raw %>")),
            ("endraw >>", Almost, Some("<% endraw %>")),
            ("SECRETS\\nA=1", Almost, None),
            (": *secret", Almost, None),
            ("EOF", Almost, None),
        ] {
            assert_eq!(intended_tag(text, opener).as_deref(), expected, "{text:?} {opener:?}");
        }
    }
}
