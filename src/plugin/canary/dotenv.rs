//! Reads an environment file as python-dotenv 1.x does (its parser.py and variables.py).
//!
//! Knows nothing of plans. What python-dotenv would expand is an error here: a value never should.

/// The variables of a file, in order.
///
/// # Errors
/// What is no such file, with the line.
pub fn read(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(blank);
        if rest.is_empty() {
            return Ok(pairs);
        }
        let line = text[..text.len() - rest.len()].matches('\n').count() + 1;
        if rest.starts_with('#') {
            rest = rest.split_once('\n').map_or("", |(_, behind)| behind);
            continue;
        }
        let wrong = |what: &str| format!("line {line}: {what}");
        let (name, behind) = rest.split_once('=').ok_or_else(|| wrong("there is no `=`"))?;
        let name = name.strip_prefix("export ").unwrap_or(name).trim_matches(inner);
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(wrong("what stands before `=` is not the name of a variable"));
        }
        let (value, behind) = value(behind.trim_start_matches(inner)).ok_or_else(|| wrong("a quote is not closed"))?;
        let behind = behind.trim_start_matches(inner);
        if !behind.is_empty() && !behind.starts_with(['\r', '\n', '#']) {
            return Err(wrong("there is text behind the closing quote"));
        }
        if value.contains("${") {
            return Err(wrong("python-dotenv expands `${`"));
        }
        pairs.push((name.to_owned(), value));
        rest = behind.split_once('\n').map_or("", |(_, behind)| behind);
    }
}

/// White space of Python, to which U+001C to U+001F belong too.
fn blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// White space within a line.
fn inner(c: char) -> bool {
    blank(c) && !matches!(c, '\r' | '\n')
}

/// A value and what stands behind it.
fn value(text: &str) -> Option<(String, &str)> {
    let quote = match text.chars().next() {
        Some(quote @ ('\'' | '"')) => quote,
        _ => {
            let end = text.find(['\r', '\n']).unwrap_or(text.len());
            let line = &text[..end];
            // A comment begins behind a blank.
            let comment = line.match_indices('#').find(|(at, _)| line[..*at].ends_with(blank));
            let value = comment.map_or(line, |(at, _)| &line[..at]);
            return Some((value.trim_end_matches(blank).to_owned(), &text[end..]));
        }
    };
    let mut value = String::new();
    let mut chars = text[1..].char_indices();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Some((value, &text[at + 2..]));
        }
        if c != '\\' {
            value.push(c);
            continue;
        }
        let (_, escaped) = chars.next()?;
        match escaped {
            '\\' | '\'' => value.push(escaped),
            '"' if quote == '"' => value.push('"'),
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' if quote == '"' => value.push(control(escaped)),
            other => value.extend(['\\', other]),
        }
    }
    None
}

fn control(letter: char) -> char {
    match letter {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        _ => '\u{b}',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_python_dotenv_reads_them() {
        let file = "# a comment\nA='it\\'s #1'\nexport B = \"x\\ty\" # why\nC= bare # comment\nD=a#b\n\nE=''\nF='two\nlines'\n";
        let expected = [("A", "it's #1"), ("B", "x\ty"), ("C", "bare"), ("D", "a#b"), ("E", ""), ("F", "two\nlines")];
        assert_eq!(read(file).unwrap(), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        for (wrong, line) in [("A='x", 1), ("A=1\nB", 2), ("A='x' y", 1), ("A=1\n\nB-C=1", 3), ("A=\"${HOME}\"", 1)] {
            assert!(read(wrong).unwrap_err().starts_with(&format!("line {line}: ")), "{wrong}");
        }
    }
}
