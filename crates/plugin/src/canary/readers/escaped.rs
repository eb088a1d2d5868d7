//! Reads back what the generic encoder `escape` writes, by its own table, because its format is not known.
//!
//! Finds a table that forgets the closing text, or its own escape character. Cannot find what only the format knows.

use guillemet_plan::encode::EscapeTable;

/// Reads the escaped text at the beginning of a document's rest. Returns the value and what follows it.
///
/// Without a closing text, a value ends at `next`, the character that follows it in the document, or at a line feed.
///
/// # Errors
/// Fails with the reason if the text is not one of the table: the opening or closing text is missing, or a character
/// that the table replaces, or begins a replacement with, stands there as it is.
pub fn read_escaped<'d>(
    table: &EscapeTable,
    next: Option<char>,
    rest: &'d str,
) -> Result<(String, &'d str), &'static str> {
    let mut rest = rest.strip_prefix(table.opening.as_str()).ok_or("the opening text is missing")?;
    let mut value = String::new();
    // The longest first: the closing text may begin as a replacement does (`'` and `''`).
    let mut replacements: Vec<&(char, String)> = table.replacements.iter().collect();
    replacements.sort_by_key(|(_, written)| std::cmp::Reverse(written.len()));
    let is_read = |written: &str, rest: &str| !written.is_empty() && rest.starts_with(written);
    loop {
        if let Some((c, written)) = replacements.iter().find(|(_, written)| is_read(written, rest)) {
            value.push(*c);
            rest = &rest[written.len()..];
            continue;
        }
        if is_read(&table.closing, rest) {
            return Ok((value, &rest[table.closing.len()..]));
        }
        let c = rest.chars().next();
        if table.closing.is_empty() && (c.is_none() || c == next || c == Some('\n')) {
            return Ok((value, rest));
        }
        let c = c.ok_or("the closing text is missing")?;
        // One that begins a replacement is the format's escape character.
        if replacements.iter().any(|(replaced, written)| *replaced == c || written.starts_with(c)) {
            return Err("a character that the table replaces, or begins a replacement with, stands there as it is");
        }
        value.push(c);
        rest = &rest[c.len_utf8()..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guillemet_plan::encode;
    use guillemet_plan::expr::Op;

    fn table(opening: &str, closing: &str, replacements: &[(char, &str)]) -> EscapeTable {
        EscapeTable {
            opening: opening.into(),
            closing: closing.into(),
            replacements: replacements.iter().map(|(c, text)| (*c, (*text).into())).collect(),
            refused: Vec::new(),
        }
    }

    /// Returns what the encoder writes with a table, and what is read of that with `;x` behind it.
    fn read(table: &EscapeTable, value: &str) -> Result<(String, String), &'static str> {
        let written = encode::literal(&Op::Escape(table.clone()), &[value]).unwrap();
        read_escaped(table, Some(';'), &format!("{written};x")).map(|(value, rest)| (value, rest.to_owned()))
    }

    #[test]
    fn a_forgotten_escape_shows_when_the_text_is_read_back() {
        let forgets_backslash = table("\"", "\"", &[('"', "\\\"")]);
        assert_eq!(forgets_backslash.check(), Ok(()));
        let wrong = encode::literal(&Op::Escape(forgets_backslash.clone()), &["a\\"]).unwrap();
        assert!(read_escaped(&forgets_backslash, None, &wrong).is_err());
        let with_more = format!("{wrong}, \"b\"");
        assert_eq!(read_escaped(&forgets_backslash, None, &with_more), Ok(("a\", ".into(), "b\"")));
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_sound_table_writes_is_read_back(text in "[ -~é\n\"\\\\$]{0,20}", behind in "[ -~\n]{0,5}") {
            let table = table("\"", "\"", &[('"', "\\\""), ('\\', "\\\\"), ('\n', "\\n"), ('$', "$$")]);
            let written = encode::literal(&Op::Escape(table.clone()), &[&text]).unwrap();
            let document = format!("{written}{behind}");
            proptest::prop_assert_eq!(read_escaped(&table, None, &document), Ok((text, behind.as_str())));
        }
    }

    #[test]
    fn what_a_sound_table_writes_is_read_back() {
        let quoted = table("\"", "\"", &[('"', "\\\""), ('\\', "\\\\"), ('\n', "\\n")]);
        let doubled = table("'", "'", &[('\'', "''")]);
        let bare = table("", "", &[('%', "%25"), (';', "%3B"), ('\n', "%0A"), ('\r', "%0D")]);
        for table in [quoted, doubled, bare] {
            for value in ["", "a", "\"", "'", "''x'", "\\\\\"\n", "%;%25", "é😀"] {
                assert_eq!(read(&table, value), Ok((value.into(), ";x".into())), "{table:?}");
            }
        }
    }

    #[test]
    fn a_table_that_forgets_something_is_found() {
        for (table, value) in [
            // The escape character: a reader of the format takes `\\` for one `\`.
            (table("\"", "\"", &[('"', "\\\"")]), "\\\""),
            (table("", "", &[('"', "&quot;"), ('\n', "&#10;"), ('\r', "&#13;")]), "&quot;"),
            (table("\"", "\"", &[('\\', "\\\\")]), "a\"b"),
            // The character that follows in the document.
            (table("", "", &[('\n', "%0A"), ('\r', "%0D"), ('%', "%25")]), "a;b"),
            // Two characters that are written alike.
            (table("<", ">", &[('>', "_"), ('<', "_")]), "<>"),
        ] {
            assert_ne!(read(&table, value), Ok((value.into(), ";x".into())), "{table:?}");
        }
        let quoted = table("\"", "\"", &[('"', "\\\""), ('\\', "\\\\")]);
        assert!(read_escaped(&quoted, None, "a").is_err());
        assert!(read_escaped(&quoted, None, "\"a").is_err());
    }
}
