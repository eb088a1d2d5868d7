//! `{{variable}}`: text of the agent platform, filled in when it calls.

use guillemet_plugin::{Text, encode};

/// Text whose own variables stay as they are, and whose secrets must not bring in one.
pub fn filled(text: &Text) -> String {
    check(text);
    encode::forbid_sequence(text, "{{", "the agent platform would expand `{{…}}` in it")
}

/// Refuses a secret inside of `{{…}}`, where it would be the name of a variable or part of an
/// expression.
pub fn check(text: &Text) {
    let mut rest = text.get();
    while let Some((_, after)) = rest.split_once("{{") {
        let (inside, behind) = after.split_once("}}").unwrap_or((after, ""));
        if encode::has_secret(inside) {
            text.problem("has a secret inside of `{{…}}`, where it would be read as the name of a variable");
        }
        rest = behind;
    }
}

/// Whether the text has a variable.
pub fn has_any(text: &str) -> bool {
    text.contains("{{")
}
