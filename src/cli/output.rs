//! How things are printed: tables on a terminal, tabs in a pipe, and nothing that could move a cursor.
//!
//! Printing never panics and needs no look at whether it went well: the first failure on standard output is kept for
//! `finish`. That standard error cannot be written changes nothing.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use comfy_table::{ContentArrangement, Table, TableStyle};
use serde_json::Value;
use serde_json::value::RawValue;

pub use crate::planner::text::clean;
use crate::planner::text::{is_hidden, is_unfit};
use crate::when;

/// Whether a character could move the cursor or turn the direction of writing.
fn moves(c: char) -> bool {
    is_unfit(c) && c != '\n'
}

/// The same JSON without such characters. They can stand in its texts only, where an escape means the same.
fn escaped(json: &str) -> Cow<'_, str> {
    if !json.contains(moves) {
        return json.into();
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if moves(c) {
            // All of them are in the first plane.
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out.into()
}

/// Why something that was asked for could not be written, the first time.
static UNWRITTEN: Mutex<Option<io::Error>> = Mutex::new(None);

/// Keeps why standard output could not be written.
pub fn wrote(result: io::Result<()>) {
    if let Err(error) = result {
        UNWRITTEN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// Ends the output.
///
/// # Errors
/// Why a part of it could not be written.
pub fn finish() -> io::Result<()> {
    wrote(io::stdout().flush());
    UNWRITTEN.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
}

/// Prints bytes for programs, as they are. For what a person may read there is `document`.
pub fn bytes(bytes: &[u8]) {
    wrote(io::stdout().write_all(bytes));
}

/// Prints a config or a value: as it is into a pipe or a file, and to a terminal where `raw` asks for that; otherwise a
/// terminal shows escapes in place of what would drive it or not be seen, and a note says so.
pub fn document(bytes: &[u8], raw: bool) {
    if raw || !is_terminal() {
        return self::bytes(bytes);
    }
    match write_visibly(bytes, &mut io::stdout().lock()) {
        Ok(true) => {
            // Before the note, which is not buffered.
            wrote(io::stdout().flush());
            let line_break = if bytes.ends_with(b"\n") { "" } else { "\n" };
            note(&format!(
                "{line_break}control characters are shown as escapes such as `\\x1b`; pass --raw to print them as they are"
            ));
        }
        Ok(false) => {}
        Err(error) => wrote(Err(error)),
    }
}

/// Writes text with `\x1b` or `\u{202e}` in place of each character that cannot be seen, but for line breaks and tabs,
/// and `\x9b` for a byte that is no text. Whether there was any. Keeps no copy: it may be a value.
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

/// Prints what is wrong with the command line. It may quote arguments, which may be names of files.
pub fn usage(error: &clap::Error) -> io::Result<()> {
    let text = error.render().to_string();
    if text.contains(moves) {
        note(text.trim_end_matches('\n'));
        return Ok(());
    }
    error.print().and_then(|()| io::stdout().flush())
}

/// Prints an error.
pub fn error(text: &str) {
    let style = anstyle::Style::new().bold().fg_color(Some(anstyle::AnsiColor::Red.into()));
    let _ = writeln!(anstream::stderr(), "{style}error:{style:#} {}", clean(text));
}

/// Prints something worth knowing.
pub fn note(text: &str) {
    let _ = writeln!(anstream::stderr(), "{}", clean(text));
}

/// Prints to standard output what whoever started a server may want to know. It serves without.
pub fn notice(text: &str) {
    let _ = writeln!(io::stdout(), "{}", clean(text));
}

/// Prints a line of what was asked for.
pub fn line(text: &str) {
    wrote(writeln!(io::stdout(), "{}", clean(text)));
}

/// How a line looks on a terminal.
#[derive(Clone, Copy)]
pub enum Colour {
    /// As any other.
    None,
    /// What is gone or wrong.
    Red,
    /// What is new.
    Green,
}

/// As `line`, in a colour where there are colours.
pub fn coloured(colour: Colour, text: &str) {
    let colour = match colour {
        Colour::None => return line(text),
        Colour::Red => anstyle::AnsiColor::Red,
        Colour::Green => anstyle::AnsiColor::Green,
    };
    let style = anstyle::Style::new().fg_color(Some(colour.into()));
    wrote(writeln!(anstream::stdout(), "{style}{}{style:#}", clean(text)));
}

/// A line of a difference: `-` before, `+` after, a blank for what stays.
pub fn diff(sign: char, text: &str) {
    let colour = match sign {
        '-' => Colour::Red,
        '+' => Colour::Green,
        _ => Colour::None,
    };
    coloured(colour, &format!("{sign} {text}"));
}

/// Prints JSON as the API gave it; what could move a cursor is escaped, which is the same JSON.
pub fn json(value: &Value) {
    wrote(writeln!(io::stdout(), "{}", escaped(&format!("{value:#}"))));
}

/// Prints a long listing as the API gave it, a line for each item; what could move a cursor is escaped.
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
    wrote(print());
}

/// Whether a person reads along.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Prints rows: aligned on a terminal, divided by tabs in a pipe.
pub fn table(header: &[&str], rows: Vec<Vec<String>>) {
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|row| row.iter().map(|cell| clean(cell).replace(['\n', '\t'], " ")).collect()).collect();
    if is_terminal() {
        let mut table = Table::new();
        table.load_style(TableStyle::new()).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(header.iter().copied());
        table.add_rows(rows);
        line(&table.trim_fmt());
    } else {
        // The cells are clean; the tabs between them are ours.
        let mut lines = std::iter::once(header.join("\t")).chain(rows.iter().map(|row| row.join("\t")));
        let mut out = BufWriter::new(io::stdout().lock());
        wrote(lines.try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush()));
    }
}

/// A text of the API; `-` where there is none.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A time of the API: how long ago on a terminal, as it is in a pipe; `never` where there is none.
pub fn ago(time: Option<&str>, now: u64) -> String {
    let Some(text) = time else { return "never".into() };
    if !is_terminal() {
        return text.to_owned();
    }
    when::seconds(text).map_or_else(|| text.to_owned(), |at| when::ago(at, now))
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
        assert!(!printed.contains(moves), "{printed:?}");
        assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), value);
    }
}
