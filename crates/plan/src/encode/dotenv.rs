//! Writes the value of a `NAME=value` line so that every program that reads such a file gets the same value.
//!
//! The readers disagree on almost everything, so nothing is ever escaped: no escape means the same to all of them. A
//! value is bare where all of them agree, including `docker --env-file` and `kubectl --from-env-file`, which know no
//! quotes. Otherwise it is written between the first quotes that every reader of the target takes as they are; if there
//! are none, it is refused, and the refusal names the reader that prevents it. tests/it/consumers_dotenv.rs checks the
//! table with the programs themselves.

use super::{Refusal, is_noncharacter, refuse};
use guillemet_base::sys::memory::Clear;

/// Returns the reason, with the reader's name, why a reader does not read a text back as it is; `None` if it does.
type ReaderRule = fn(&str) -> Option<&'static str>;

/// A program that reads `NAME=value` files.
struct DotenvReader {
    /// The rule for the text however it is written.
    always: ReaderRule,
    /// The rule for the text between `'` and `'`.
    single: ReaderRule,
    /// The rule for the text between `"` and `"`.
    double: ReaderRule,
}

/// The readers of what the target `dotenv` writes. The one with the fewest escapes comes first, because refusals name
/// the first.
const DOTENV: [DotenvReader; 4] = [NODE, PYTHON_DOTENV, SYSTEMD, SHELL];

/// Node's `--env-file` and `util.parseEnv` (20.12 to 24).
const NODE: DotenvReader = DotenvReader {
    always: |text| text.contains('\r').then_some("a carriage return, which Node's --env-file drops"),
    single: |text| text.contains('\'').then_some("Node's --env-file has no escape for `'`"),
    double: |text| {
        if text.contains('"') {
            Some("Node's --env-file has no escape for `\"`")
        } else {
            text.contains("\\n").then_some("Node's --env-file reads `\\n` as a line break")
        }
    },
};

/// python-dotenv 1.x (parser.py, variables.py).
const PYTHON_DOTENV: DotenvReader = DotenvReader {
    // An expansion that is not closed stays as it is today, but that is not guaranteed.
    always: |text| {
        if text.contains("${") {
            Some("`${`, which python-dotenv expands in any quotes")
        } else {
            text.contains('\r').then_some("a carriage return, which python-dotenv reads as a line break")
        }
    },
    single: |text| {
        let escapes = text.contains('\'') || text.contains("\\\\") || text.ends_with('\\');
        escapes.then_some("python-dotenv reads `\\\\` and `\\'` as escapes")
    },
    double: |text| {
        let escaped = |c| matches!(c, '\\' | '\'' | '"' | 'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v');
        (text.contains('"') || has_escape(text, escaped)).then_some("python-dotenv reads some `\\` as escapes")
    },
};

/// `EnvironmentFile=` of systemd (env-file.c, env-util.c; 246 and newer, which take control characters).
const SYSTEMD: DotenvReader = DotenvReader {
    always: |text| {
        text.contains(is_noncharacter)
            .then_some("a Unicode noncharacter (such as U+FFFE), which makes systemd reject the file")
    },
    single: |text| text.contains('\'').then_some("systemd has no escape for `'`"),
    double: |text| {
        let escaped = |c| matches!(c, '"' | '\\' | '`' | '$' | '\n');
        (text.contains('"') || has_escape(text, escaped)).then_some("systemd reads some `\\` as escapes")
    },
};

/// A shell that sources the file (POSIX; dash, bash and zsh).
const SHELL: DotenvReader = DotenvReader {
    always: |text| text.contains('\0').then_some("NUL, which an environment variable cannot contain"),
    single: |text| text.contains('\'').then_some("a shell has no escape for `'`"),
    double: |text| {
        if text.contains(['$', '`']) {
            return Some("a shell expands `$` and `` ` ``");
        }
        let escaped = |c| matches!(c, '"' | '\\' | '\n');
        (text.contains('"') || has_escape(text, escaped)).then_some("a shell reads some `\\` as escapes")
    },
};

/// Reports whether a `\` precedes one of these characters, or the quote that ends the text.
fn has_escape(text: &str, escaped: impl Fn(char) -> bool) -> bool {
    text.split('\\').skip(1).any(|rest| match rest.chars().next() {
        Some(c) => escaped(c),
        // Another `\`, or the end.
        None => true,
    })
}

/// Reports whether every reader takes the text as it is, without quotes. zsh searches for a command after a `=` at the
/// beginning or after a `:`.
fn is_bare(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_./+=:@%,-".contains(&b);
    !text.is_empty() && text.bytes().all(plain) && !text.starts_with('=') && !text.contains(":=")
}

/// Appends the text in a form that all readers of `dotenv` read back unchanged.
///
/// # Errors
/// Fails with [`Refusal`] if there is no such form; it names a reader that prevents it.
pub fn value(text: &str, out: &mut Clear) -> Result<(), Refusal> {
    if is_bare(text) {
        out.extend_from_slice(text.as_bytes());
        return Ok(());
    }
    let first = |rule: fn(&DotenvReader) -> ReaderRule| DOTENV.iter().find_map(|reader| rule(reader)(text));
    if let Some(name) = first(|reader| reader.always) {
        return refuse(format!("a dotenv value cannot contain {name}"));
    }
    let quote = match (first(|reader| reader.single), first(|reader| reader.double)) {
        (None, _) => b"'",
        (_, None) => b"\"",
        (Some(single), Some(double)) => {
            return refuse(format!(
                "no quotes make every reader of a dotenv file read this value back: in single quotes, {single}; in \
                 double quotes, {double}"
            ));
        }
    };
    for part in [quote, text.as_bytes(), quote] {
        out.extend_from_slice(part);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(text: &str) -> Result<String, String> {
        let mut out = Clear::new();
        value(text, &mut out).map_err(|refusal| refusal.reason)?;
        Ok(String::from_utf8(out.to_vec()).unwrap())
    }

    #[test]
    fn a_value_is_bare_then_in_single_quotes_then_in_double_quotes() {
        for (text, expected) in [
            ("cal_live_0123", "cal_live_0123"),
            ("https://h.example:80/a+b,c@d=100%-_.", "https://h.example:80/a+b,c@d=100%-_."),
            ("", "''"),
            ("a b", "'a b'"),
            (" a\t", "' a\t'"),
            ("a#b", "'a#b'"),
            ("a\nb", "'a\nb'"),
            ("$(id) `id` \"a\"", "'$(id) `id` \"a\"'"),
            ("é\u{202e}\u{1b}", "'é\u{202e}\u{1b}'"),
            ("a\\b", "'a\\b'"),
            ("=ls", "'=ls'"),
            ("a:=ls", "'a:=ls'"),
            ("~", "'~'"),
            ("it's", "\"it's\""),
            ("it's\nC:\\x #", "\"it's\nC:\\x #\""),
        ] {
            assert_eq!(written(text).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn a_refusal_names_the_reader() {
        for (text, words) in [
            ("a${b", &["`${`, which python-dotenv expands"][..]),
            ("a\rb", &["a carriage return, which Node"]),
            ("a\0", &["NUL, which an environment variable"]),
            ("a\u{fdd0}", &["systemd reject the file"]),
            ("a\u{1ffff}", &["systemd reject the file"]),
            ("it's $x", &["single quotes, Node's --env-file has no escape for `'`; in double quotes, a shell expands"]),
            ("it's `x`", &["a shell expands"]),
            ("'\"", &["no escape for `'`; in double quotes, Node's --env-file has no escape for `\"`"]),
            ("'\\n", &["Node's --env-file reads `\\n` as a line break"]),
            ("'\\t", &["in double quotes, python-dotenv reads"]),
            ("tail\\", &["in single quotes, python-dotenv reads `\\\\` and `\\'` as escapes"]),
            ("a\\\\b", &["in single quotes, python-dotenv reads", "in double quotes, python-dotenv reads"]),
            ("'\\\nx", &["in double quotes, systemd reads"]),
        ] {
            let reason = written(text).unwrap_err();
            assert!(words.iter().all(|words| reason.contains(words)), "{text:?}: {reason}");
        }
    }

    /// Returns how each reader reads the text after `K=`, if that is one word or one quoted text; `None` if it is
    /// anything else.
    fn read(reader: &str, form: &str) -> Option<String> {
        let quote = form.chars().next().filter(|c| matches!(c, '\'' | '"' | '`'));
        let inner = quote.map(|quote| {
            let inner = form.strip_prefix(quote)?.strip_suffix(quote)?;
            (form.len() > 1).then_some((quote, inner))
        });
        match (reader, inner) {
            // To the end of the line, whatever it contains.
            ("docker", _) => (!form.contains('\n')).then(|| form.to_owned()),
            (_, Some(None)) => None,
            ("node", Some(Some((quote, inner)))) => {
                let inner = inner.replace('\r', "");
                (!inner.contains(quote)).then(|| if quote == '"' { inner.replace("\\n", "\n") } else { inner })
            }
            ("node", None) => Some(form.lines().next()?.split('#').next()?.trim().replace('\r', "")),
            ("python-dotenv", Some(Some((quote @ ('\'' | '"'), inner)))) => {
                let of_single = |c| matches!(c, '\\' | '\'').then_some(c);
                let of_double = |c| match c {
                    '\\' | '\'' | '"' => Some(c),
                    'n' => Some('\n'),
                    'r' => Some('\r'),
                    't' => Some('\t'),
                    'a' | 'b' | 'f' | 'v' => Some('\u{7}'),
                    _ => None,
                };
                let text = unescape(inner, quote, &|c| if quote == '"' { of_double(c) } else { of_single(c) })?;
                (!text.contains("${") && !text.contains('\r')).then_some(text)
            }
            ("systemd" | "shell", Some(Some(('\'', inner)))) => (!inner.contains('\'')).then(|| inner.to_owned()),
            ("systemd", Some(Some(('"', inner)))) => unescape(inner, '"', &|c| "\"\\`$".contains(c).then_some(c)),
            ("shell", Some(Some(('"', inner)))) => {
                let text = unescape(inner, '"', &|c| "\"\\`$".contains(c).then_some(c))?;
                // None of the values has an escaped `$`, or a backtick that is not active.
                (!text.contains(['$', '`'])).then_some(text)
            }
            // Of bare texts, only those that no reader changes.
            _ => form.bytes().all(|b| b.is_ascii_alphanumeric() || b"_./+=:@%,-".contains(&b)).then(|| form.to_owned()),
        }
    }

    fn unescape(inner: &str, quote: char, escape: &dyn Fn(char) -> Option<char>) -> Option<String> {
        let mut text = String::new();
        let mut chars = inner.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => match chars.next()? {
                    // A line continuation for systemd and a shell; python-dotenv keeps it.
                    '\n' if escape('$').is_some() => {}
                    c => match escape(c) {
                        Some(c) => text.push(c),
                        None => text.extend(['\\', c]),
                    },
                },
                c if c == quote => return None,
                c => text.push(c),
            }
        }
        Some(text)
    }

    const READERS: [&str; 4] = ["python-dotenv", "node", "systemd", "shell"];

    proptest! {
        #[test]
        fn all_readers_read_the_value_or_none_of_its_forms_will_do(text in "[ -~é'\"\\\\#$`\n\rabn]{0,12}") {
            match written(&text) {
                Ok(form) => {
                    for reader in READERS {
                        prop_assert_eq!(read(reader, &form), Some(text.clone()), "{}", reader);
                    }
                    if !form.starts_with(['\'', '"']) {
                        prop_assert_eq!(read("docker", &form), Some(text.clone()));
                    }
                }
                // Refused whether it is closed or not.
                Err(_) if text.contains("${") => {}
                Err(reason) => for form in [format!("'{text}'"), format!("\"{text}\"")] {
                    prop_assert!(READERS.iter().any(|reader| read(reader, &form).as_ref() != Some(&text)), "{form:?}: {reason}");
                },
            }
        }
    }
}
