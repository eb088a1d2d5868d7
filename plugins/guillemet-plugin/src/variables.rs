//! Variables of a consumer, `{{variable}}` or `${VARIABLE}`, which the consumer fills in when it reads the config or
//! makes a call.
//!
//! The template's own variables stay as they are. A secret must not add one, because its value would be read as syntax,
//! nor be inside one, where it would be a name. Knows no particular consumer.

use crate::{Text, encode};

/// A form of variables that a consumer expands in texts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Expansion {
    open: &'static str,
    close: &'static str,
    reason: &'static str,
}

/// The `{{…}}` of agent platforms.
pub const BRACES: Expansion =
    Expansion { open: "{{", close: "}}", reason: "the agent platform would expand `{{…}}` in it" };

/// The `{%…%}` of platforms that render Liquid.
pub const LIQUID_TAGS: Expansion =
    Expansion { open: "{%", close: "%}", reason: "the agent platform would run `{%…%}` in it as Liquid" };

/// The `${…}` of MCP clients.
pub const DOLLAR: Expansion =
    Expansion { open: "${", close: "}", reason: "the MCP client would expand `${…}` in it" };

impl Expansion {
    /// Returns whether the text contains a variable.
    pub fn is_in(&self, text: &str) -> bool {
        text.contains(self.open)
    }

    /// Returns the form of a variable for messages: `{{…}}`.
    pub fn shown(&self) -> String {
        format!("`{}…{}`", self.open, self.close)
    }
}

/// Returns the text with its own variables as they are, and refuses secrets whose values would add one.
pub fn kept(text: &Text, expansions: &[Expansion]) -> String {
    check(text, expansions);
    expansions
        .iter()
        .fold(text.get().to_owned(), |text, expansion| encode::forbid_sequence(&text, expansion.open, expansion.reason))
}

/// Notes a problem if a secret is inside a variable, where it would be a name or part of an expression.
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

/// Returns the name of the variable that a text consists of: `{{ name }}`. `None` if there is anything else in it.
pub fn whole(text: &str) -> Option<&str> {
    let inside = text.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
    (!inside.is_empty() && !inside.contains(['{', '}']) && !encode::has_secret(inside)).then_some(inside)
}

/// A piece of a text, split at its variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Text beside variables, which may contain secrets.
    Text(&'a str),
    /// The text between `{{` and `}}`, without outer spaces.
    Variable(&'a str),
}

/// Splits a text at its `{{…}}`. Braces that do not close are text.
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
