//! Secrets that come in through a descriptor: read without a buffer in between, into memory that is wiped; and the one
//! rule that says which bytes of a file are the secret in it.
//!
//! The standard library reads standard input through a buffer that lives as long as the process, and lets buffers
//! grow, which leaves copies. Knows nothing of what is read, or what for.

use std::io;
use std::os::fd::AsFd;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use zeroize::Zeroizing;

/// The longest secret, in bytes: a value, a passphrase, the text of a key file, a code of an account.
pub const SECRET_MAX: usize = 64 << 10;
/// The byte order mark of UTF-8, which some editors put in front.
const MARK: &[u8] = "\u{feff}".as_bytes();
/// The most bytes that a file has around its secret: the mark, and CR LF.
const AROUND_MAX: usize = MARK.len() + 2;

/// Which bytes of a file are the secret in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// All but a UTF-8 byte order mark at the beginning and one line break (LF or CR LF) at the end: editors, `echo` and
    /// copying from Windows add them.
    Text,
    /// All of them.
    Exact,
}

/// Why a file is not one secret.
#[derive(Debug, thiserror::Error)]
pub enum NotASecret {
    /// Too long; nothing is cut.
    #[error("more than {SECRET_MAX} bytes, which is the most that one secret can have")]
    TooLong,
    /// Where one line is needed.
    #[error("more than one line")]
    Lines,
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads a descriptor to its end. There is room for `most` bytes from the start, so that nothing is moved.
///
/// # Errors
/// `FileTooLarge` when there is more than `most` bytes: nothing is cut off. The system's.
pub fn read(from: impl AsFd, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // One more, which says that there is too much.
    let mut bytes = Zeroizing::new(Vec::with_capacity(most + 1));
    while bytes.len() <= most {
        match rustix::io::read(&from, spare_capacity(&mut bytes)) {
            Ok(0) => return Ok(bytes),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::ErrorKind::FileTooLarge.into())
}

/// Reads a file that holds one secret, to its end: everything in it. `secret_in` and `line_in` take the secret out.
///
/// # Errors
/// `TooLong` when it has more bytes than any file with one secret; `Io`.
pub fn read_file(from: impl AsFd) -> Result<Zeroizing<Vec<u8>>, NotASecret> {
    read(from, SECRET_MAX + AROUND_MAX).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => NotASecret::TooLong,
        _ => error.into(),
    })
}

/// Returns the secret in what a file holds.
///
/// # Errors
/// `TooLong`.
pub fn secret_in(file: &[u8], reading: Reading) -> Result<&[u8], NotASecret> {
    let secret = match reading {
        Reading::Exact => file,
        Reading::Text => {
            let text = file.strip_prefix(MARK).unwrap_or(file);
            text.strip_suffix(b"\r\n").or_else(|| text.strip_suffix(b"\n")).unwrap_or(text)
        }
    };
    if secret.len() > SECRET_MAX { Err(NotASecret::TooLong) } else { Ok(secret) }
}

/// Returns the secret in what a file holds, where that has to be one line.
///
/// # Errors
/// `Lines`, `TooLong`.
pub fn line_in(file: &[u8]) -> Result<&[u8], NotASecret> {
    let line = secret_in(file, Reading::Text)?;
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
        // More than a pipe holds.
        let mut file = tempfile::tempfile().unwrap();
        let mut put = |bytes: &[u8]| {
            use std::io::Seek;
            file.set_len(0).unwrap();
            file.rewind().unwrap();
            file.write_all(bytes).unwrap();
            file.rewind().unwrap();
            read_file(&file)
        };
        assert_eq!(secret_in(&put(&wide).unwrap(), Reading::Text).unwrap(), longest);
        assert!(matches!(put(&[&wide[..], b"x"].concat()), Err(NotASecret::TooLong)));
        let longer = put(&[&longest[..], b"\r\na"].concat()).unwrap();
        assert!(matches!(secret_in(&longer, Reading::Text), Err(NotASecret::TooLong)));
        let exact = put(&[&longest[..], b"\n"].concat()).unwrap();
        assert!(secret_in(&exact, Reading::Text).is_ok());
        assert!(matches!(secret_in(&exact, Reading::Exact), Err(NotASecret::TooLong)));
        assert!(secret_in(&longest, Reading::Exact).is_ok());
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
            assert_eq!(secret_in(file.as_bytes(), Reading::Text).unwrap(), secret.as_bytes(), "{file:?}");
            assert_eq!(secret_in(file.as_bytes(), Reading::Exact).unwrap(), file.as_bytes());
            match line_in(file.as_bytes()) {
                Ok(line) => assert!(!secret.contains('\n') && line == secret.as_bytes(), "{file:?}"),
                Err(error) => assert!(secret.contains('\n') && matches!(error, NotASecret::Lines), "{file:?}"),
            }
        }
    }
}
