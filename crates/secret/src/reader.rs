//! Reads secrets from a descriptor into memory that is wiped, without a buffer in between. Also holds the one rule that
//! says which bytes of a file are the secret in it.
//!
//! The standard library reads standard input through a buffer that lives as long as the process, and lets buffers grow,
//! which leaves copies behind. Knows nothing of the meaning or purpose of a secret.

use std::io;
use std::os::fd::AsFd;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use zeroize::Zeroizing;

/// The longest secret, in bytes: a value, a passphrase, the text of a key file, or a code of an account.
pub const SECRET_MAX: usize = 64 << 10;
/// The UTF-8 byte order mark, which some editors put at the beginning.
const MARK: &[u8] = "\u{feff}".as_bytes();
/// The most bytes that a file can have around its secret: the mark, and CR LF.
const AROUND_MAX: usize = MARK.len() + 2;

/// Which bytes of a file are the secret in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretRule {
    /// All bytes except a UTF-8 byte order mark at the beginning and one line break (LF or CR LF) at the end. Editors,
    /// `echo` and copying from Windows add these.
    Text,
    /// All bytes of the file.
    Exact,
}

/// Why a file does not hold one secret.
#[derive(Debug, thiserror::Error)]
pub enum NotASecret {
    /// The content is longer than [`SECRET_MAX`] bytes; it is never cut off.
    #[error("more than {SECRET_MAX} bytes, the maximum for a secret")]
    TooLong,
    /// The content has several lines, but one line is needed.
    #[error("more than one line")]
    Lines,
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads a descriptor to its end. Memory for `max` bytes is allocated at the start, so that the bytes are never moved.
///
/// # Errors
/// `FileTooLarge` if there are more than `max` bytes, because nothing is cut off; otherwise the error of the operating
/// system.
pub fn read(from: impl AsFd, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // One byte more, to notice that there are too many.
    let mut bytes = Zeroizing::new(Vec::with_capacity(max + 1));
    while bytes.len() <= max {
        match rustix::io::read(&from, spare_capacity(&mut bytes)) {
            Ok(0) => return Ok(bytes),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::ErrorKind::FileTooLarge.into())
}

/// Reads the whole of a file that holds one secret. [`secret_in`] and [`line_in`] then find the secret in it.
///
/// # Errors
/// [`NotASecret::TooLong`] if the file has more bytes than any file with one secret can have, and [`NotASecret::Io`].
pub fn read_file(from: impl AsFd) -> Result<Zeroizing<Vec<u8>>, NotASecret> {
    read(from, SECRET_MAX + AROUND_MAX).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => NotASecret::TooLong,
        _ => error.into(),
    })
}

/// Returns the secret in the content of a file.
///
/// # Errors
/// [`NotASecret::TooLong`] if the secret is longer than [`SECRET_MAX`] bytes.
pub fn secret_in(file: &[u8], reading: SecretRule) -> Result<&[u8], NotASecret> {
    let secret = match reading {
        SecretRule::Exact => file,
        SecretRule::Text => {
            let text = file.strip_prefix(MARK).unwrap_or(file);
            text.strip_suffix(b"\r\n").or_else(|| text.strip_suffix(b"\n")).unwrap_or(text)
        }
    };
    if secret.len() > SECRET_MAX { Err(NotASecret::TooLong) } else { Ok(secret) }
}

/// Returns the secret in the content of a file, if that must be one line.
///
/// # Errors
/// [`NotASecret::Lines`] or [`NotASecret::TooLong`].
pub fn line_in(file: &[u8]) -> Result<&[u8], NotASecret> {
    let line = secret_in(file, SecretRule::Text)?;
    if line.contains(&b'\n') { Err(NotASecret::Lines) } else { Ok(line) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn holding(bytes: &[u8]) -> io::PipeReader {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(bytes).unwrap();
        reader
    }

    #[test]
    fn it_is_read_to_its_end() {
        assert_eq!(*read(holding(b"one\r\ntwo\n"), 9).unwrap(), b"one\r\ntwo\n");
        assert_eq!(*read(holding(b"one"), 3).unwrap(), b"one");
        assert_eq!(*read(holding(b""), 0).unwrap(), b"");
    }

    #[test]
    fn too_much_is_refused_and_not_cut() {
        assert_eq!(read(holding(b"1234"), 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        let longest = vec![b'a'; SECRET_MAX];
        let wide = [MARK, &longest, b"\r\n"].concat();
        // More bytes than a pipe holds.
        let mut file = tempfile::tempfile().unwrap();
        let mut put = |bytes: &[u8]| {
            use std::io::Seek;
            file.set_len(0).unwrap();
            file.rewind().unwrap();
            file.write_all(bytes).unwrap();
            file.rewind().unwrap();
            read_file(&file)
        };
        assert_eq!(secret_in(&put(&wide).unwrap(), SecretRule::Text).unwrap(), longest);
        assert!(matches!(put(&[&wide[..], b"x"].concat()), Err(NotASecret::TooLong)));
        let longer = put(&[&longest[..], b"\r\na"].concat()).unwrap();
        assert!(matches!(secret_in(&longer, SecretRule::Text), Err(NotASecret::TooLong)));
        let exact = put(&[&longest[..], b"\n"].concat()).unwrap();
        assert!(secret_in(&exact, SecretRule::Text).is_ok());
        assert!(matches!(secret_in(&exact, SecretRule::Exact), Err(NotASecret::TooLong)));
        assert!(secret_in(&longest, SecretRule::Exact).is_ok());
    }

    #[test]
    fn a_mark_and_one_line_break_are_around_the_secret() {
        for (file, secret) in [
            ("one", "one"),
            ("one\n", "one"),
            ("one\r\n", "one"),
            ("one\n\n", "one\n"),
            ("one\r\n\r\n", "one\r\n"),
            ("one\r", "one\r"),
            ("one\r\r\n", "one\r"),
            (" one\t\n", " one\t"),
            ("\u{feff}one\r\n", "one"),
            ("\u{feff}\u{feff}one", "\u{feff}one"),
            ("one\u{feff}\n", "one\u{feff}"),
            ("one\ntwo\n", "one\ntwo"),
            ("\u{feff}\r\n", ""),
            ("\n", ""),
            ("", ""),
        ] {
            assert_eq!(secret_in(file.as_bytes(), SecretRule::Text).unwrap(), secret.as_bytes(), "{file:?}");
            assert_eq!(secret_in(file.as_bytes(), SecretRule::Exact).unwrap(), file.as_bytes());
            match line_in(file.as_bytes()) {
                Ok(line) => assert!(!secret.contains('\n') && line == secret.as_bytes(), "{file:?}"),
                Err(error) => assert!(secret.contains('\n') && matches!(error, NotASecret::Lines), "{file:?}"),
            }
        }
    }
}
