//! Reads and writes frames on the planner's side of the pipe: a length and that many bytes.

use std::io::{self, Read, Write};

/// Reads the next frame. Returns `None` if the input ends between two frames.
///
/// # Errors
/// Fails if the frame is longer than `max` bytes, or if the input ends inside it.
pub fn read(input: &mut impl Read, max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let mut filled = 0;
    while filled < length.len() {
        match input.read(&mut length[filled..])? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => filled += n,
        }
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the frame is too long"));
    }
    let mut frame = vec![0; length];
    input.read_exact(&mut frame)?;
    Ok(Some(frame))
}

/// Writes one frame and flushes the output.
///
/// # Errors
/// Fails if the output is closed, or if the length of the frame does not fit a `u32`.
pub fn write(output: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    output.write_all(&length.to_le_bytes())?;
    output.write_all(frame)?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_written_and_never_beyond_the_limit() {
        let mut pipe = Vec::new();
        write(&mut pipe, b"abc").unwrap();
        write(&mut pipe, b"").unwrap();
        let mut input = pipe.as_slice();
        assert_eq!(read(&mut input, 3).unwrap().unwrap(), b"abc");
        assert_eq!(read(&mut input, 3).unwrap().unwrap(), b"");
        assert!(read(&mut input, 3).unwrap().is_none());
        assert!(read(&mut pipe.as_slice(), 2).is_err());
        assert!(read(&mut &pipe[..5], 3).is_err());
        assert!(read(&mut &u32::MAX.to_le_bytes()[..], 64).is_err());
    }
}
