//! Secrets that come in through a descriptor: read without a buffer in between, into memory that is wiped.
//!
//! The standard library reads standard input through a buffer that lives as long as the process, and lets buffers
//! grow, which leaves copies. Knows nothing of what is read.

use std::io;
use std::os::fd::AsFd;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use zeroize::Zeroizing;

/// How far a descriptor is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// To its end.
    End,
    /// To the first line break, which is kept, or its end. What came along behind it is dropped.
    LineBreak,
}

/// Reads a descriptor. There is room for `most` bytes from the start, so that nothing is moved.
///
/// # Errors
/// `InvalidData` when there is more than `most` bytes: nothing is cut off. The system's.
pub fn read(from: impl AsFd, most: usize, until: Until) -> io::Result<Zeroizing<Vec<u8>>> {
    // One more, which says that there is too much.
    let mut bytes = Zeroizing::new(Vec::with_capacity(most + 1));
    loop {
        let before = bytes.len();
        match rustix::io::read(&from, spare_capacity(&mut bytes)) {
            Ok(0) => break,
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if until == Until::LineBreak
            && let Some(at) = bytes[before..].iter().position(|byte| *byte == b'\n')
        {
            bytes.truncate(before + at + 1);
            break;
        }
        if bytes.len() > most {
            break;
        }
    }
    if bytes.len() > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {most} bytes")));
    }
    Ok(bytes)
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
    fn it_is_read_to_its_end_or_to_a_line_break() {
        assert_eq!(*read(holding(b"one\r\ntwo\n"), 9, Until::End).unwrap(), b"one\r\ntwo\n");
        assert_eq!(*read(holding(b"one\r\ntwo\n"), 9, Until::LineBreak).unwrap(), b"one\r\n");
        assert_eq!(*read(holding(b"one"), 3, Until::LineBreak).unwrap(), b"one");
        assert_eq!(*read(holding(b""), 0, Until::End).unwrap(), b"");
    }

    #[test]
    fn a_line_does_not_wait_for_the_end() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"one\n").unwrap();
        assert_eq!(*read(&reader, 100, Until::LineBreak).unwrap(), b"one\n");
        drop(writer);
    }

    #[test]
    fn too_much_is_refused_and_not_cut() {
        for until in [Until::End, Until::LineBreak] {
            assert_eq!(read(holding(b"1234"), 3, until).unwrap_err().kind(), io::ErrorKind::InvalidData);
            assert_eq!(*read(holding(b"123"), 3, until).unwrap(), b"123");
        }
    }
}
