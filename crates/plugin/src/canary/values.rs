//! The texts that canaries are made of, which some format or other takes for syntax.
//!
//! Knows nothing of plans.

/// A text that some format takes for syntax.
pub struct Hostile {
    /// The name of the text for people.
    pub name: &'static str,
    /// The hostile text itself, unencoded.
    pub text: &'static str,
    /// The forms that it is tried in, in this order.
    pub forms: &'static [CanaryForm],
}

const fn hostile(name: &'static str, text: &'static str) -> Hostile {
    Hostile { name, text, forms: FORMS }
}

/// A text that is hostile only if it is the whole value.
const fn whole(name: &'static str, text: &'static str) -> Hostile {
    Hostile { name, text, forms: &[|_, text| text.to_owned()] }
}

/// One text for each known way to break out of a value in these formats, and mixtures of them.
pub const HOSTILE: &[Hostile] = &[
    hostile("`\"`", "\""),
    hostile("`'`", "'"),
    hostile("a backtick", "`"),
    hostile("`\\`", "\\"),
    hostile("`\\\\\"`", "\\\\\""),
    hostile("`\\n`", "\\n"),
    hostile("a line break", "\n"),
    hostile("a carriage return", "\r\nX-Injected: 1"),
    hostile("a tab", "\t"),
    hostile("a control character", "\u{1}"),
    hostile("`<`", "<"),
    hostile("`>`", ">"),
    hostile("`&`", "&"),
    hostile("`&amp;`", "&amp;"),
    hostile("`&#10;`", "&#10;"),
    hostile("`</param>`", "</param><x y=\"z\"/>"),
    hostile("`]]>`", "]]>"),
    hostile("`<!--`", "<!-- -->"),
    hostile("`#`", " # "),
    hostile("`;`", ";"),
    hostile("`;--`", ";-- --;"),
    hostile("`=`", "="),
    hostile("`,`", ","),
    hostile("`:`", ":"),
    hostile("`@`", "@"),
    hostile("`/`", "/"),
    hostile("`..`", "/../"),
    hostile("`?`", "?a=b"),
    hostile("`&` and `=`", "&a=b"),
    hostile("`#` without spaces", "#f"),
    hostile("`+`", "+"),
    hostile("`%`", "%"),
    hostile("`%41`", "%41%2f%0a"),
    hostile("a blank", "a b"),
    hostile("`$`", "$"),
    hostile("`${`", "${HOME}"),
    hostile("`$${`", "$${x}"),
    hostile("`{{`", "{{ x }}"),
    hostile("`<<`", "<< secret \"x\" >>"),
    hostile("`[`", "[\n[x]"),
    hostile("`{`", "{\"a\": 1}"),
    hostile("a non-ASCII letter", "é€😀"),
    hostile("a line separator", "\u{2028}\u{85}"),
    hostile("U+0085", "\u{85}"),
    hostile("U+2028", "\u{2028}"),
    hostile("U+2029", "\u{2029}"),
    hostile("U+FEFF", "\u{feff}"),
    hostile("U+007F", "\u{7f}"),
    hostile("U+00A0", "\u{a0}"),
    hostile("`$(`", "$(id)"),
    hostile("`*`", "*"),
    hostile("`~`", "~"),
    hostile("`|`", "| id"),
    hostile("`!`", "!"),
    hostile("text that looks like a slot", "Z000000000000000000000000000000000000000"),
    hostile("all kinds of quotes", "'\"`\\'\\\"\n\\"),
    whole("only digits", "12345678"),
    whole("a number", "1e3"),
    whole("`true`", "true"),
    whole("`yes`", "yes"),
    whole("`null`", "null"),
    whole("`~` alone", "~"),
    whole("a date", "2001-01-01"),
    whole("`-` and a blank", "- a"),
];

fn marker(emission: u32) -> String {
    format!("k{emission}x")
}

/// Makes a canary from its text, for the use of this number.
pub type CanaryForm = fn(emission: u32, text: &str) -> String;

/// In the middle of a value, at both of its ends, and in a value that has to be a URL.
pub const FORMS: &[CanaryForm] = &[
    |emission, text| format!("{text}{}{text}", marker(emission)),
    |emission, text| format!("{0}{text}{0}", marker(emission)),
    |emission, text| format!("https://canary.example/{}?k={text}", marker(emission)),
];

/// Values without anything special: a word, a URL, digits.
pub const PLAIN: &[fn(emission: u32) -> String] =
    &[marker, |emission| format!("https://canary.example/{}", marker(emission)), |emission| format!("1{emission:06}")];
