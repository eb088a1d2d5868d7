//! The line with which `guillemet account serve` says that it listens.

use std::io::{self, BufRead};

/// Reads that line. Returns the server's URL and the pin of its certificate in hexadecimal digits; the line itself if
/// it is another one, such as an empty one at the end of the output.
///
/// # Errors
/// If the output cannot be read.
pub fn listening(output: &mut impl BufRead) -> io::Result<Result<(String, String), String>> {
    let mut line = String::new();
    output.read_line(&mut line)?;
    let parts = line.trim().strip_prefix("listening on ").and_then(|rest| rest.split_once(", pin sha256:"));
    let parts = parts.map(|(url, pin)| (url.to_owned(), pin.to_owned()));
    Ok(parts.ok_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_a_url_and_a_pin_and_any_other_is_returned() {
        let mut output = &b"listening on https://[::1]:7, pin sha256:ab12\nmore"[..];
        assert_eq!(listening(&mut output).unwrap(), Ok(("https://[::1]:7".into(), "ab12".into())));
        assert_eq!(listening(&mut output).unwrap(), Err("more".into()));
        assert_eq!(listening(&mut output).unwrap(), Err(String::new()));
    }
}
