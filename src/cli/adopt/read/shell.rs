//! Splits one shell command into words, with their places.
//!
//! Removes quotes as POSIX shells and bash do. Adds a problem for whatever a shell would insert (`$TOKEN`, `` `…` ``)
//! and for whatever would begin another command, because neither is a part of the text.

use std::ops::Range;

use zeroize::Zeroizing;

use crate::cli::adopt::source::Problems;

/// A word of the command, with its place.
pub struct Word {
    /// The text without quotes and escapes.
    pub text: Zeroizing<String>,
    /// The bytes of the file that hold the word, with its quotes.
    pub range: Range<usize>,
}

/// Splits a command that may span lines into words. `#` begins a comment.
pub fn words(text: &str, problems: &mut Problems<'_>) -> Vec<Word> {
    let mut shell = Shell { text, at: 0, words: Vec::new(), word: None, problems };
    shell.run();
    shell.words
}

struct Shell<'a, 'p, 's> {
    text: &'a str,
    at: usize,
    words: Vec<Word>,
    word: Option<Word>,
    problems: &'p mut Problems<'s>,
}

const VALUE_HELP: &str = "write the value itself, in single quotes";

impl Shell<'_, '_, '_> {
    fn run(&mut self) {
        while let Some(c) = self.peek() {
            let start = self.at;
            match c {
                ' ' | '\t' | '\r' => {
                    self.end_word(start);
                    self.at += 1;
                }
                '\n' => {
                    self.end_word(start);
                    self.at += 1;
                    if !self.words.is_empty() {
                        return self.expect_end();
                    }
                }
                '#' if self.word.is_none() => self.at += self.rest().find('\n').unwrap_or(self.rest().len()),
                '\\' => {
                    self.at += 1;
                    match self.take() {
                        Some('\n') => {}
                        Some('\r') if self.rest().starts_with('\n') => self.at += 1,
                        Some(c) => self.push(start, c),
                        None => self.push(start, '\\'),
                    }
                }
                '\'' => self.single(start),
                '"' => self.double(start),
                '$' if self.rest().starts_with("$'") => self.ansi(start),
                '$' if self.rest().starts_with("$\"") => self.at += 1,
                '$' if self.expands() => self.reject_expansion(start, VALUE_HELP),
                '`' => self.reject_expansion(start, VALUE_HELP),
                '|' | '&' | ';' | '<' | '>' | '(' | ')' => {
                    self.end_word(start);
                    let message = format!("`{c}` starts something other than the command");
                    let help = "remove it; in a URL, put the word in quotes";
                    self.problems.add(Some(start), "", message, Some(help));
                    return;
                }
                c => {
                    self.at += c.len_utf8();
                    self.push(start, c);
                }
            }
        }
        self.end_word(self.at);
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Returns the text of the present word. Starts a word at `start` if there is none.
    fn word(&mut self, start: usize) -> &mut Zeroizing<String> {
        let capacity = self.text.len() - start;
        let new = || Word { text: Zeroizing::new(String::with_capacity(capacity)), range: start..start };
        &mut self.word.get_or_insert_with(new).text
    }

    fn push(&mut self, start: usize, c: char) {
        self.word(start).push(c);
    }

    fn end_word(&mut self, end: usize) {
        if let Some(mut word) = self.word.take() {
            word.range.end = end;
            self.words.push(word);
        }
    }

    /// Checks that only comments follow the line break that ends the command.
    fn expect_end(&mut self) {
        let mut at = self.at;
        for line in self.rest().split_inclusive('\n') {
            if !line.trim().is_empty() && !line.trim_start().starts_with('#') {
                let help = "a file can contain only one; end a line with \\ to continue it";
                self.problems.add(Some(at), "", "is a second command", Some(help));
                return;
            }
            at += line.len();
        }
    }

    fn single(&mut self, start: usize) {
        self.at += 1;
        let Some(len) = self.rest().find('\'') else { return self.unclosed(start) };
        let text = Zeroizing::new(self.rest()[..len].to_owned());
        self.word(start).push_str(&text);
        self.at += len + 1;
    }

    fn double(&mut self, start: usize) {
        self.at += 1;
        self.word(start);
        loop {
            let at = self.at;
            match self.take() {
                None => return self.unclosed(start),
                Some('"') => return,
                Some('\\') => match self.take() {
                    Some('\n') => {}
                    Some(c @ ('$' | '`' | '"' | '\\')) => self.push(start, c),
                    Some(c) => {
                        self.push(start, '\\');
                        self.push(start, c);
                    }
                    None => return self.unclosed(start),
                },
                Some('`') => {
                    self.at = at;
                    self.reject_expansion(start, VALUE_HELP);
                }
                Some('$') => {
                    self.at = at;
                    if self.expands() {
                        self.reject_expansion(start, VALUE_HELP);
                    } else {
                        self.at += 1;
                        self.push(start, '$');
                    }
                }
                Some(c) => self.push(start, c),
            }
        }
    }

    /// Reads a `$'…'` of bash, which browsers use when they copy a request as curl.
    fn ansi(&mut self, start: usize) {
        self.at += 2;
        self.word(start);
        loop {
            match self.take() {
                None => return self.unclosed(start),
                Some('\'') => return,
                Some('\\') => {
                    let Some(c) = self.take() else { return self.unclosed(start) };
                    let plain = match c {
                        'a' => '\u{7}',
                        'b' => '\u{8}',
                        'e' | 'E' => '\u{1b}',
                        'f' => '\u{c}',
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        'v' => '\u{b}',
                        '\\' | '\'' | '"' | '?' => c,
                        'x' | 'u' | 'U' => match self.number(start, c) {
                            Some(c) => c,
                            None => continue,
                        },
                        _ => {
                            self.problems.add(Some(self.at - 1), "", "is an escape that is not supported", None);
                            continue;
                        }
                    };
                    self.push(start, plain);
                }
                Some(c) => self.push(start, c),
            }
        }
    }

    /// Reads `\xHH`, `\uHHHH` or `\UHHHHHHHH`. A byte above ASCII is refused, because it would be only a part of a
    /// character.
    fn number(&mut self, start: usize, kind: char) -> Option<char> {
        let max = match kind {
            'x' => 2,
            'u' => 4,
            _ => 8,
        };
        let len = self.rest().bytes().take(max).take_while(u8::is_ascii_hexdigit).count();
        let number = u32::from_str_radix(&self.rest()[..len], 16).ok();
        self.at += len;
        let c = number.filter(|number| *number > 0 && (kind != 'x' || *number < 0x80)).and_then(char::from_u32);
        if c.is_none() {
            self.problems.add(
                Some(start),
                "",
                "contains an escape that is not a character",
                Some("write the character itself"),
            );
        }
        c
    }

    /// Reports whether the `$` here begins an expansion.
    fn expands(&self) -> bool {
        let next = self.rest()[1..].chars().next();
        next.is_some_and(|c| {
            c.is_ascii_alphanumeric() || matches!(c, '_' | '{' | '(' | '[' | '@' | '*' | '#' | '?' | '!' | '$' | '-')
        })
    }

    /// Adds a problem for text that the shell would insert, and skips it.
    fn reject_expansion(&mut self, start: usize, help: &str) {
        let at = self.at;
        self.at += 1;
        let name = self.rest().len() - self.rest().trim_start_matches(['{', '(']).len();
        let len = self.rest()[name..].bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        // The name of a variable is not a value, so it can be shown.
        let expansion = self.rest()[name..name + len].to_owned();
        self.at += name + len;
        let message = match expansion.as_str() {
            "" => "is expanded by the shell".to_owned(),
            name => format!("`{name}` is expanded by the shell"),
        };
        self.problems.add(Some(at), "", message, Some(help));
        // The word gets a text, so that nothing else seems to be missing.
        self.word(start).push_str(&format!("${expansion}"));
    }

    fn unclosed(&mut self, start: usize) {
        self.problems.add(Some(start), "", "has a quote that is not closed", None);
        self.at = self.text.len();
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;
    use crate::cli::adopt::source::SourceFile;

    fn read(text: &str) -> (Vec<String>, bool) {
        let source = SourceFile::of(text);
        let mut problems = Problems::new(&source);
        let words = words(text, &mut problems).into_iter().map(|word| {
            assert!(word.range.end <= text.len());
            (*word.text).clone()
        });
        (words.collect(), problems.is_empty())
    }

    /// Returns the words that bash makes of a text.
    fn bash(text: &str) -> Vec<String> {
        let output =
            Command::new("bash").args(["-c", &format!("printf '%s\\0' {text}")]).env("LC_ALL", "C.UTF-8").output();
        let output = output.unwrap();
        assert!(output.status.success(), "{text}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    #[test]
    fn words_are_those_of_bash() {
        for text in [
            "a 'b c' \"d \\\"e\\\" \\x $\" f\\ g",
            "a\\\n b \\\n  'c'\\''d'",
            "$'a\\n\\t\\x41\\u00e9\\'\\\\b' \"'\"",
            "'' \"\" a''b \"a\\\nb\"",
            "a#b 'x' # c",
            "-H 'Authorization: Bearer x' --data-raw $'{\"a\": \"\\u0021\"}'",
        ] {
            assert_eq!(read(text), (bash(text), true), "{text}");
        }
    }

    #[test]
    fn what_a_shell_would_put_in_is_told() {
        for text in [
            "a \"$TOKEN\"",
            "a $TOKEN",
            "a ${TOKEN}",
            "a $(cat x)",
            "a `cat x`",
            "a | b",
            "a && b",
            "a; b",
            "a > b",
            "a 'b",
            "a \"b",
            "a\nb",
            "a $'\\xff'",
            "x?a=b&c=d",
        ] {
            assert!(!read(text).1, "{text}");
        }
        assert_eq!(read("# c\n\na b\n# d\n\n"), (vec!["a".into(), "b".into()], true));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Any text, quoted in either way, is read as bash reads it.
        #[test]
        fn any_word_is_read_as_bash_reads_it(word in "[ -~\n\u{e9}]{0,12}", bare in "[a-zA-Z0-9%/:.,@+=_-]{1,8}") {
            let single = format!("'{}'", word.replace('\'', "'\\''"));
            let escaped: String = word.chars().flat_map(|c| match c {
                '$' | '`' | '"' | '\\' => vec!['\\', c],
                c => vec![c],
            }).collect();
            let text = format!("{single} \"{escaped}\" {bare}{single}");
            // An exclamation mark is special only at an interactive prompt.
            prop_assert_eq!(read(&text), (bash(&text), true));
        }
    }
}
