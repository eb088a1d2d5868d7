//! Variables of a consumer, `{{variable}}` or `${VARIABLE}`, which it fills in when it reads or calls.
//!
//! The template's own go through untouched. A secret must not bring in one, because its value would be
//! read as syntax; nor may it stand inside of one, where it would be a name. Knows no consumer.

use crate::{Text, encode};

/// What a consumer expands in the texts it reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Expansion {
    open: &'static str,
    close: &'static str,
    reason: &'static str,
}

/// `{{…}}` of agent platforms.
pub const BRACES: Expansion =
    Expansion { open: "{{", close: "}}", reason: "the agent platform would expand `{{…}}` in it" };

/// `{%…%}`, which platforms that render Liquid run as well.
pub const LIQUID_TAGS: Expansion =
    Expansion { open: "{%", close: "%}", reason: "the agent platform would run `{%…%}` in it as Liquid" };

/// `${…}` of MCP clients.
pub const DOLLAR: Expansion =
    Expansion { open: "${", close: "}", reason: "the MCP client would expand `${…}` in it" };

impl Expansion {
    /// Whether the text has a variable.
    pub fn is_in(&self, text: &str) -> bool {
        text.contains(self.open)
    }

    /// How a variable looks, for messages: `{{…}}`.
    pub fn shown(&self) -> String {
        format!("`{}…{}`", self.open, self.close)
    }
}

/// Text whose own variables stay as they are, and whose secrets bring in none.
pub fn kept(text: &Text, expansions: &[Expansion]) -> String {
    check(text, expansions);
    expansions
        .iter()
        .fold(text.get().to_owned(), |text, expansion| encode::forbid_sequence(&text, expansion.open, expansion.reason))
}

/// Refuses a secret inside of a variable, where it would be a name or part of an expression.
pub fn check(text: &Text, expansions: &[Expansion]) {
    for expansion in expansions {
        let mut rest = text.get();
        while let Some((_, after)) = rest.split_once(expansion.open) {
            let (inside, behind) = after.split_once(expansion.close).unwrap_or((after, ""));
            if encode::has_secret(inside) {
                let message = "has a secret inside {}, where it would be read as a variable name";
                text.problem(message.replace("{}", &expansion.shown()));
            }
            rest = behind;
        }
    }
}

/// The name of the variable a text consists of: `{{ name }}`.
pub fn whole(text: &str) -> Option<&str> {
    let inside = text.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
    (!inside.is_empty() && !inside.contains(['{', '}']) && !encode::has_secret(inside)).then_some(inside)
}

/// A piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Text beside variables; may hold secrets.
    Text(&'a str),
    /// What stands between `{{` and `}}`, without outer blanks.
    Variable(&'a str),
}

/// The pieces of a text with `{{…}}`, in order. Braces that do not close are text.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((inside, behind)) = after.split_once("}}") else { break };
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        pieces.push(Piece::Variable(inside.trim()));
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_taken_apart_at_its_variables() {
        use Piece::{Text, Variable};
        assert_eq!(pieces("a{{ b }}c{{d}}"), [Text("a"), Variable("b"), Text("c"), Variable("d")]);
        assert_eq!(pieces("{{a}}"), [Variable("a")]);
        assert_eq!(pieces("a{{b"), [Text("a{{b")]);
        assert_eq!(pieces(""), []);
    }

    #[test]
    fn a_whole_variable_is_nothing_else() {
        assert_eq!(whole("{{ name }}"), Some("name"));
        assert_eq!(whole("{{call.type}}"), Some("call.type"));
        for other in ["{{a}}{{b}}", "x{{a}}", "{{}}", "{a}", "", "{{a}} b"] {
            assert_eq!(whole(other), None, "{other}");
        }
    }
}
