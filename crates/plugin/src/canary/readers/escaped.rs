//! Reads back what the generic encoder `escape` writes, by its own table, because its format is not known.
//!
//! Finds a table that forgets the closing text, or its own escape character. Cannot find what only the format knows.

/// The table of an escaped text.
#[derive(Clone, Copy, Debug)]
pub struct EscapeTable<'a> {
    /// The text that is written before the value.
    pub opening: &'a str,
    /// The text that is written after the value; empty if the format has no closing quote.
    pub closing: &'a str,
    /// The characters that are replaced, each with what is written in its place.
    pub replacements: &'a [(char, &'a str)],
}

/// Reads the escaped text at the beginning of a document's rest. Returns the value and what follows it.
///
/// Without a closing text, a value ends at `next`, the character that follows it in the document, or at a line feed.
///
/// # Errors
/// Fails with the reason if the text is not one of the table: the opening or closing text is missing, or a character
/// that the table replaces, or begins a replacement with, stands there as it is.
pub fn read_escaped<'d>(
    table: EscapeTable<'_>,
    next: Option<char>,
    rest: &'d str,
) -> Result<(String, &'d str), &'static str> {
    let mut rest = rest.strip_prefix(table.opening).ok_or("the opening text is missing")?;
    let mut value = String::new();
    // The longest first: the closing text may begin as a replacement does (`'` and `''`).
    let mut replacements: Vec<(char, &str)> = table.replacements.to_vec();
    replacements.sort_by_key(|(_, written)| std::cmp::Reverse(written.len()));
    let is_read = |written: &str, rest: &str| !written.is_empty() && rest.starts_with(written);
    loop {
        if let Some((c, written)) = replacements.iter().find(|(_, written)| is_read(written, rest)) {
            value.push(*c);
            rest = &rest[written.len()..];
            continue;
        }
        if is_read(table.closing, rest) {
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

    const QUOTED: EscapeTable<'_> =
        EscapeTable { opening: "\"", closing: "\"", replacements: &[('"', "\\\""), ('\\', "\\\\"), ('\n', "\\n")] };
    const DOUBLED: EscapeTable<'_> = EscapeTable { opening: "'", closing: "'", replacements: &[('\'', "''")] };
    const BARE: EscapeTable<'_> = EscapeTable { opening: "", closing: "", replacements: &[('%', "%25"), (';', "%3B")] };

    fn written(table: EscapeTable<'_>, value: &str) -> String {
        let written = |c: char| {
            let found = table.replacements.iter().find(|(replaced, _)| *replaced == c);
            found.map_or_else(|| c.to_string(), |(_, written)| (*written).to_owned())
        };
        format!("{}{}{}", table.opening, value.chars().map(written).collect::<String>(), table.closing)
    }

    #[test]
    fn what_a_sound_table_writes_is_read_back() {
        for table in [QUOTED, DOUBLED, BARE] {
            for value in ["", "a", "\"", "'", "''x'", "\\\\\"\n", "%;%25", "é😀"] {
                if table.closing.is_empty() && value.contains('\n') {
                    continue;
                }
                let document = format!("{};x", written(table, value));
                assert_eq!(read_escaped(table, Some(';'), &document), Ok((value.to_owned(), ";x")), "{document}");
            }
        }
    }

    #[test]
    fn a_table_that_forgets_something_is_found() {
        let forgets_escape = EscapeTable { replacements: &[('"', "\\\"")], ..QUOTED };
        let forgets_closing = EscapeTable { replacements: &[('\\', "\\\\")], ..QUOTED };
        let forgets_end = EscapeTable { replacements: &[('%', "%25")], ..BARE };
        for (table, value) in [(forgets_escape, "\\\""), (forgets_closing, "a\"b"), (forgets_end, "a;b")] {
            let document = format!("{};x", written(table, value));
            let read = read_escaped(table, Some(';'), &document);
            assert_ne!(read, Ok((value.to_owned(), ";x")), "{document}");
        }
        assert!(read_escaped(QUOTED, None, "a").is_err());
        assert!(read_escaped(QUOTED, None, "\"a").is_err());
        assert!(read_escaped(BARE, None, "a;").is_err());
    }
}
