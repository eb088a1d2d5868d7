//! Writes the value of a `NAME=value` line so that every program that reads such a file gets the same value.
//!
//! The readers disagree on almost everything, so nothing is ever escaped: no escape means the same to all of them. A
//! value is bare where all of them agree, including `docker --env-file` and `kubectl --from-env-file`, which know no
//! quotes. Otherwise it is written between the first quotes that every reader of the target takes as they are; if there
//! are none, it is refused, and the refusal names the reader that prevents it. tests/it/consumers_dotenv.rs checks the
//! table with the programs themselves.
//!
//! The library for plugins in Rust has the same file (a link), for cases without a host.

use super::{Clear, Refusal, is_noncharacter, refuse};

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
