//! Prints to standard output and error: tables on a terminal, tab-separated rows in a pipe, and no character that could
//! move a cursor.
//!
//! Printing never panics, and callers do not check whether it worked: the first failure on standard output is kept for
//! [`finish`], which reports it. A failure to write to standard error is ignored.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use comfy_table::{ContentArrangement, Table, TableStyle};
use serde_json::Value;
use serde_json::value::RawValue;

pub use guillemet_base::display::sanitize_multiline;
use guillemet_base::display::{is_hidden, is_unprintable};
use guillemet_base::time;

/// Reports whether a character other than a line break could drive a terminal or change the direction of text.
fn is_unsafe_on_terminal(c: char) -> bool {
    is_unprintable(c) && c != '\n'
}

/// Returns JSON text with such characters escaped. They can occur only inside JSON strings, where an escape has the
/// same meaning, so the result is the same JSON.
fn escaped(json: &str) -> Cow<'_, str> {
    if !json.contains(is_unsafe_on_terminal) {
        return json.into();
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unsafe_on_terminal(c) {
            // Every character that `is_unsafe_on_terminal` accepts is in the Basic Multilingual Plane, so four digits
            // are enough.
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out.into()
}

/// The first error of a write to standard output, if there was one.
static UNWRITTEN: Mutex<Option<io::Error>> = Mutex::new(None);

/// Records the error of a write to standard output, if it is the first.
pub fn record_error(result: io::Result<()>) {
    if let Err(error) = result {
        UNWRITTEN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// Flushes standard output and ends the output.
///
/// # Errors
/// The first error of any write to standard output since the start.
pub fn finish() -> io::Result<()> {
    record_error(io::stdout().flush());
    UNWRITTEN.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
}

/// Prints bytes for programs, unchanged. For text that a person may read, use [`document`].
pub fn bytes(bytes: &[u8]) {
    record_error(io::stdout().write_all(bytes));
}

/// Prints a config or a value.
///
/// Into a pipe or a file, and on a terminal if `raw` is set, the bytes are printed unchanged. Otherwise characters that
/// would drive the terminal or be invisible are printed as escapes, and a note says so.
pub fn document(bytes: &[u8], raw: bool) {
    if raw || !is_terminal() {
        return self::bytes(bytes);
    }
    match write_visibly(bytes, &mut io::stdout().lock()) {
        Ok(true) => {
            // The note goes to standard error, which is not buffered, so the document has to be flushed first.
            record_error(io::stdout().flush());
            let line_break = if bytes.ends_with(b"\n") { "" } else { "\n" };
            note(&format!(
                "{line_break}control characters are shown as escapes such as `\\x1b`; pass --raw to print them \
                 unchanged"
            ));
        }
        Ok(false) => {}
        Err(error) => record_error(Err(error)),
    }
}

/// Writes text with an escape such as `\x1b` or `\u{202e}` in place of each invisible character, except line breaks and
/// tabs, and with one such as `\x9b` in place of each byte that is not UTF-8. Returns whether anything was escaped.
/// Keeps no copy of the text, which may be a value.
fn write_visibly(bytes: &[u8], out: &mut impl Write) -> io::Result<bool> {
    let is_escaped = |c: char| is_hidden(c) && !matches!(c, '\n' | '\t');
    let mut escaped = false;
    for chunk in bytes.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_escaped(*c)) {
            out.write_all(&rest.as_bytes()[..at])?;
            if c.is_ascii() {
                write!(out, "\\x{:02x}", u32::from(c))?
            } else {
                write!(out, "\\u{{{:x}}}", u32::from(c))?
            }
            rest = &rest[at + c.len_utf8()..];
            escaped = true;
        }
        out.write_all(rest.as_bytes())?;
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}")?;
            escaped = true;
        }
    }
    Ok(escaped)
}

/// Prints an error of the command line, or its help or version. The text may quote arguments, which may be file names,
/// so it is cleaned if it has characters that could drive a terminal.
pub fn usage(error: &clap::Error) -> io::Result<()> {
    let text = error.render().to_string();
    if text.contains(is_unsafe_on_terminal) {
        note(text.trim_end_matches('\n'));
        return Ok(());
    }
    error.print().and_then(|()| io::stdout().flush())
}

/// Prints a message to standard error, after a red `error:`.
pub fn error(text: &str) {
    let style = anstyle::Style::new().bold().fg_color(Some(anstyle::AnsiColor::Red.into()));
    let _ = writeln!(anstream::stderr(), "{style}error:{style:#} {}", sanitize_multiline(text));
}

/// Prints a note to standard error.
pub fn note(text: &str) {
    let _ = writeln!(anstream::stderr(), "{}", sanitize_multiline(text));
}

/// Prints a notice of a server that is starting to standard output. A failure to print it is ignored: the server runs
/// without it.
pub fn notice(text: &str) {
    let _ = writeln!(io::stdout(), "{}", sanitize_multiline(text));
}

/// Prints one line of the requested output to standard output.
pub fn line(text: &str) {
    record_error(writeln!(io::stdout(), "{}", sanitize_multiline(text)));
}

/// The color of a line on a terminal.
#[derive(Clone, Copy)]
pub enum Colour {
    /// The terminal's default color.
    None,
    /// Red, for removed lines and for problems.
    Red,
    /// Green, for added lines.
    Green,
}

/// Prints a line as `line` does, in color where the output supports it.
pub fn colored_line(colour: Colour, text: &str) {
    let colour = match colour {
        Colour::None => return line(text),
        Colour::Red => anstyle::AnsiColor::Red,
        Colour::Green => anstyle::AnsiColor::Green,
    };
    let style = anstyle::Style::new().fg_color(Some(colour.into()));
    record_error(writeln!(anstream::stdout(), "{style}{}{style:#}", sanitize_multiline(text)));
}

/// Prints one line of a diff. `sign` is `-` for a removed line, `+` for an added one, and a space for an unchanged one.
pub fn diff(sign: char, text: &str) {
    let colour = match sign {
        '-' => Colour::Red,
        '+' => Colour::Green,
        _ => Colour::None,
    };
    colored_line(colour, &format!("{sign} {text}"));
}

/// Prints a JSON value from the API. Characters that could move a cursor are escaped, which leaves the JSON the same.
pub fn json(value: &Value) {
    record_error(writeln!(io::stdout(), "{}", escaped(&format!("{value:#}"))));
}

/// Prints a long listing from the API as JSON, one item per line. Characters that could move a cursor are escaped.
pub fn json_lines(items: &[Box<RawValue>]) {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut print = || {
        write!(out, "{{\"count\": {}, \"items\": [", items.len())?;
        for (index, item) in items.iter().enumerate() {
            write!(out, "{}\n  {}", if index == 0 { "" } else { "," }, escaped(item.get()))?;
        }
        writeln!(out, "{}]}}", if items.is_empty() { "" } else { "\n" })?;
        out.flush()
    };
    record_error(print());
}

/// Reports whether standard output is a terminal, so that a person is reading.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Prints rows under a header: aligned on a terminal, separated by tabs in a pipe.
pub fn table(header: &[&str], rows: Vec<Vec<String>>) {
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| row.iter().map(|cell| sanitize_multiline(cell).replace(['\n', '\t'], " ")).collect())
        .collect();
    if is_terminal() {
        let mut table = Table::new();
        table.load_style(TableStyle::new()).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(header.iter().copied());
        table.add_rows(rows);
        line(&table.trim_fmt());
    } else {
        // The cells are cleaned of tabs, so every tab in the output separates two cells.
        let mut lines = std::iter::once(header.join("\t")).chain(rows.iter().map(|row| row.join("\t")));
        let mut out = BufWriter::new(io::stdout().lock());
        record_error(lines.try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush()));
    }
}

/// Returns a value from the API as text, `-` if there is none.
pub fn or_dash<T: fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

/// Returns a time from the API for display: as an age ("3 minutes ago") on a terminal, unchanged in a pipe, and `never`
/// if there is none. `now` is in seconds since the epoch.
pub fn ago(time: Option<&str>, now: u64) -> String {
    let Some(text) = time else { return "never".into() };
    if !is_terminal() {
        return text.to_owned();
    }
    time::seconds(text).map_or_else(|| text.to_owned(), |at| time::ago(at, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_shows_what_it_would_have_done() {
        let visible = |bytes: &[u8]| {
            let mut out = Vec::new();
            let escaped = write_visibly(bytes, &mut out).unwrap();
            (String::from_utf8(out).unwrap(), escaped)
        };
        for plain in ["", "a\tb\n", "é€🔑 \\x1b \u{301}"] {
            assert_eq!(visible(plain.as_bytes()), (plain.to_owned(), false));
        }
        for (text, shown) in [
            ("\u{1b}]0;x\u{7}a\r\n\0\u{7f}", "\\x1b]0;x\\x07a\\x0d\n\\x00\\x7f"),
            ("\u{9b}2Jé\u{85}", "\\u{9b}2Jé\\u{85}"),
            ("a\u{202e}b\u{2066}\u{200f}\u{61c}", "a\\u{202e}b\\u{2066}\\u{200f}\\u{61c}"),
            ("a\u{200b}\u{2060}\u{feff}\u{ad}\u{e0041}", "a\\u{200b}\\u{2060}\\u{feff}\\u{ad}\\u{e0041}"),
        ] {
            assert_eq!(visible(text.as_bytes()), (shown.to_owned(), true));
        }
        assert_eq!(visible(b"a\x9b2J\xffb"), ("a\\x9b2J\\xffb".into(), true));
    }

    #[test]
    fn json_is_the_same_without_what_moves_the_cursor() {
        let value = serde_json::json!({"a\u{9b}2J": ["\u{202e}\u{7f}\u{1b}\n", "ü"]});
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let printed = escaped(&pretty);
        assert!(!printed.contains(is_unsafe_on_terminal), "{printed:?}");
        assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), value);
    }
}
