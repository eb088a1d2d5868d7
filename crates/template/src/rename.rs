//! Renames a secret in the text of a template: the bytes of the name change, and nothing else.

use super::lexer::{Reference, lex};
use guillemet_base::names::SecretName;
use guillemet_base::problem::Problem;

/// Returns the text with every reference to one of `from` changed to `to`; `None` if nothing changes.
///
/// # Errors
/// Returns every problem of a text that cannot be lexed, or the reference whose name is not found at its place.
pub fn rename(text: &str, from: &[&SecretName], to: &SecretName) -> Result<Option<String>, Vec<Problem>> {
    let lexed = lex(text)?;
    let mut out = String::with_capacity(text.len() + 64);
    let mut done = 0;
    for reference in &lexed.references {
        if !from.iter().any(|name| **name == reference.name) || reference.name.as_str() == to.as_str() {
            continue;
        }
        let Some(at) = name_at(text, done, reference) else {
            return Err(vec![misplaced(reference)]);
        };
        out.push_str(&text[done..at]);
        out.push_str(to.as_str());
        done = at + reference.name.as_str().len();
    }
    if done == 0 {
        return Ok(None);
    }
    out.push_str(&text[done..]);
    Ok(Some(out))
}

/// Returns the offset of a reference's name, in bytes. Searches from `from` on, because references are in the order of
/// the text.
fn name_at(text: &str, from: usize, reference: &Reference) -> Option<usize> {
    let start = offset(text, reference.line, reference.column)?.max(from);
    let quote = start + text[start..].find(['"', '\''])?;
    let at = quote + 1;
    text[at..].starts_with(reference.name.as_str()).then_some(at)
}

/// Returns the byte offset of a line and column, both counted from 1. A byte order mark counts as no column.
fn offset(text: &str, line: u32, column: u32) -> Option<usize> {
    let mark = text.len() - text.strip_prefix('\u{feff}').unwrap_or(text).len();
    let mut at = mark;
    for _ in 1..line {
        at += text[at..].find('\n')? + 1;
    }
    Some(at + text[at..].char_indices().nth(column as usize - 1)?.0)
}

/// Reports that the lexer and this module disagree about the place of a reference.
fn misplaced(reference: &Reference) -> Problem {
    Problem {
        line: Some(reference.line),
        column: Some(reference.column),
        message: format!("the name `{}` is no longer where it was read", reference.name),
        help: Some("change the name there by hand".into()),
        ..Problem::default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> SecretName {
        text.parse().unwrap()
    }

    fn renamed(text: &str) -> Option<String> {
        rename(text, &[&name("old"), &name("older")], &name("new.name")).unwrap()
    }

    #[test]
    fn only_the_bytes_of_the_name_change() {
        let text = "\u{feff}ä: \"<<-  secret\t'OLD' | base64 ->>\"\r\nb: '<< secret \"older\" >> << secret \"other\" >>'\n\
                    <# << secret \"old\" >> #><% raw %><< secret \"old\" >><% endraw %>  old";
        let expected = "\u{feff}ä: \"<<-  secret\t'new.name' | base64 ->>\"\r\nb: '<< secret \"new.name\" >> << secret \"other\" >>'\n\
                    <# << secret \"old\" >> #><% raw %><< secret \"old\" >><% endraw %>  old";
        assert_eq!(renamed(text).as_deref(), Some(expected));
        assert_eq!(renamed("a: << secret \"other\" >>"), None);
        assert!(rename("<< secret >>", &[&name("old")], &name("new")).is_err());
    }

    #[test]
    fn a_name_that_differs_in_case_only_is_written_as_it_is_now() {
        let text = "a: << secret \"Key\" >> << secret \"kEY\" >>";
        let out = rename(text, &[&name("key")], &name("KEY")).unwrap();
        assert_eq!(out.as_deref(), Some("a: << secret \"KEY\" >> << secret \"KEY\" >>"));
        assert_eq!(rename("<< secret \"KEY\" >>", &[&name("key")], &name("KEY")).unwrap(), None);
    }

    fn part() -> impl Strategy<Value = String> {
        let tag = (
            prop_oneof!["<<", "<<-"],
            "[ \t\n]{1,2}",
            prop_oneof!["'", "\""],
            prop_oneof!["old", "OLD", "older", "other"],
            prop_oneof!["", " \\| base64"],
            prop_oneof![" >>", "\n->>"],
        );
        let tag = tag.prop_map(|(open, blank, quote, name, filter, close)| {
            format!("{open}{blank}secret{blank}{quote}{name}{quote}{}{close}", filter.replace('\\', ""))
        });
        prop_oneof![tag, "[a-zä: \n'\"<>-]{0,12}", Just("<# << secret 'old' >> #>".to_owned())]
    }

    proptest! {
        /// The text between the names stays the same, and so do the references but for the name.
        #[test]
        fn the_rest_stays(parts in proptest::collection::vec(part(), 0..8)) {
            let text = parts.concat();
            let Ok(before) = lex(&text) else { return Ok(()) };
            let wanted = |name: &SecretName| matches!(name.key().as_str(), "old" | "older");
            let out = renamed(&text);
            prop_assert_eq!(out.is_some(), before.references.iter().any(|reference| wanted(&reference.name)));
            let out = out.unwrap_or_else(|| text.clone());
            let after = lex(&out).unwrap();
            prop_assert_eq!(before.references.len(), after.references.len());
            for (was, is) in before.references.iter().zip(&after.references) {
                let name = if wanted(&was.name) { "new.name" } else { was.name.as_str() };
                prop_assert_eq!((is.name.as_str(), is.line, &is.filters), (name, was.line, &was.filters));
            }
            prop_assert_eq!(before.engine_text.replace(&before.call_prefix, ""), after.engine_text.replace(&after.call_prefix, ""));
        }
    }
}
