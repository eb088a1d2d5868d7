//! The log, on standard error. Logging never fails: a line that cannot be written is dropped and counted.
//!
//! Standard error can be a full disk, a pipe whose reader has closed it, or a terminal that is gone. None of these may
//! end a process that serves others, or the task that logs. Knows nothing of the content of the log.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing_subscriber::EnvFilter;

static LOG: Log = Log::new();

/// Starts logging. `RUST_LOG` sets the filter; without it, `level` does.
pub fn start(level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // The subscriber must not report its own errors: it would print them to standard error, and panic if it cannot.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).log_internal_errors(false);
    let _ = log.with_writer(|| LineWriter).try_init();
}

/// Returns how many lines this process could not write to its log.
pub fn dropped_lines() -> u64 {
    LOG.dropped.load(Ordering::Relaxed)
}

/// A writer that gets one whole line at a time from the subscriber.
struct LineWriter;

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        LOG.write(&mut io::stderr(), line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Log {
    dropped: AtomicU64,
    gap: Mutex<Gap>,
}

/// What is missing at the end of the log.
struct Gap {
    /// The number of lines dropped since the last one that was written.
    lines: u64,
    /// Whether the last line was written only in part.
    torn: bool,
}

impl Log {
    const fn new() -> Self {
        Self { dropped: AtomicU64::new(0), gap: Mutex::new(Gap { lines: 0, torn: false }) }
    }

    /// Writes a line. If lines were dropped before it, writes a line that says so first.
    fn write(&self, out: &mut impl Write, line: &[u8]) {
        let mut gap = self.gap.lock().unwrap_or_else(PoisonError::into_inner);
        let unreported = gap.lines;
        let is_reported = unreported == 0 || gap.put(out, gap_line(unreported).as_bytes());
        if is_reported {
            gap.lines = 0;
        }
        let written = is_reported && gap.put(out, line);
        if !written {
            gap.lines += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Gap {
    /// Writes a line and returns whether that succeeded.
    fn put(&mut self, out: &mut impl Write, line: &[u8]) -> bool {
        if self.torn && !put(out, b"\n", &mut self.torn) {
            return false;
        }
        self.torn = false;
        put(out, line, &mut self.torn)
    }
}

/// Writes these bytes and returns whether that succeeded. Sets `torn` if only a part of them was written.
fn put(out: &mut impl Write, bytes: &[u8], torn: &mut bool) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(count @ 1..) => {
                *torn = true;
                rest = &rest[count..];
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return false,
        }
    }
    *torn = false;
    true
}

fn gap_line(lines: u64) -> String {
    let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
    let s = if lines == 1 { "" } else { "s" };
    format!("{now}  WARN {}: {lines} log line{s} could not be written here\n", module_path!())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes this many bytes and then fails.
    struct Disk {
        content: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let len = bytes.len().min(self.room);
            if len == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.room -= len;
            self.content.extend_from_slice(&bytes[..len]);
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_dropped_is_counted_and_told_once_writing_works_again() {
        let (log, mut disk) = (Log::new(), Disk { content: Vec::new(), room: 8 });
        for line in ["first\n", "second\n", "third\n"] {
            log.write(&mut disk, line.as_bytes());
        }
        assert_eq!((log.dropped.load(Ordering::Relaxed), disk.content.as_slice()), (2, b"first\nse".as_slice()));
        // There is no room for the line about dropped lines either.
        disk.room = 3;
        log.write(&mut disk, b"fourth\n");
        disk.room = 1000;
        log.write(&mut disk, b"fifth\n");
        log.write(&mut disk, b"sixth\n");
        assert_eq!(log.dropped.load(Ordering::Relaxed), 3);
        let text = String::from_utf8(disk.content).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[0], lines[1], lines.len()), ("first", "se", 6), "{text}");
        assert!(lines[3].ends_with("3 log lines could not be written here"), "{text}");
        assert_eq!(lines[4..], ["fifth", "sixth"]);
    }
}
