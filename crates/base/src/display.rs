//! Makes untrusted text safe to show on a terminal, in a log or on a page.

/// Reports whether a character could drive a terminal, or reorder the text that is shown.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Reports whether a character is invisible: it could drive a terminal or reorder the text, or it has no width.
pub fn is_hidden(c: char) -> bool {
    is_unprintable(c)
        || matches!(c, '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}' | '\u{206a}'..='\u{206f}')
        || matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}')
}

/// Replaces every unfit character except line breaks, which makes the text safe for a terminal or a page.
pub fn sanitize_multiline(text: &str) -> String {
    text.replace(|c| is_unprintable(c) && c != '\n', "\u{fffd}")
}

/// Replaces every hidden character, line breaks included, which makes the text safe as a part of one line.
pub fn sanitize_line(text: &str) -> String {
    text.replace(is_hidden, "\u{fffd}")
}

/// Removes control characters and characters that reorder the text, and cuts the text at `max` characters. Line breaks
/// and tabs become spaces.
pub fn sanitize(text: &str, max: usize) -> String {
    let replacement = |c: char| match c {
        '\n' | '\t' => Some(' '),
        c => (!is_unprintable(c)).then_some(c),
    };
    let mut out = String::new();
    for (count, c) in text.chars().filter_map(replacement).enumerate() {
        if count == max {
            out.push('…');
            break;
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor_or_turns_the_text() {
        assert_eq!(
            sanitize_multiline("a\u{1b}[2Jb\u{202e}c\u{9b}d\r\ne"),
            "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\u{fffd}\ne"
        );
    }

    #[test]
    fn a_text_of_one_line_ends_no_line() {
        assert_eq!(sanitize_line("a\nSHA-256\r\u{200b}b\u{2028}"), "a\u{fffd}SHA-256\u{fffd}\u{fffd}b\u{fffd}");
    }

    #[test]
    fn what_could_drive_a_terminal_is_left_out() {
        assert_eq!(sanitize("a\u{1b}[31mb\r\nc\u{202e}d\u{61c}\u{0}", 100), "a[31mb cd");
        assert_eq!(sanitize("abc", 2), "ab…");
        assert_eq!(sanitize("ab", 2), "ab");
    }
}
