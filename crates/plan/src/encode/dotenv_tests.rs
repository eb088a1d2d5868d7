//! Checks the values of dotenv lines against readers written from the programs' documentation.

use proptest::prelude::*;

use super::dotenv::value;
use guillemet_base::sys::memory::Clear;

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
