//! Asks a person at a terminal, and reads what is typed or pasted, hidden or shown.
//!
//! Every byte goes straight from the terminal into memory that wipes itself: nothing is buffered or lost on the way,
//! and nothing is left for the shell. However a session ends (an answer, an error, a signal, a panic), the terminal's
//! modes are restored. Knows nothing of what is asked for, or of how the answer is used.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use rustix::process::{Signal, getpgrp, kill_current_process_group};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, tcflush, tcgetattr, tcgetpgrp,
    tcsetattr,
};
use zeroize::Zeroizing;

use guillemet_base::sys::signals::CaughtSignals;

/// Bytes that arrive this soon after others belong to them: the rest of a paste or of an escape sequence. Nobody types
/// this fast, and nobody notices the wait.
const GRACE: Duration = Duration::from_millis(100);
/// The longest time to wait for a terminal that keeps sending.
const ENDLESS: Duration = Duration::from_secs(5);

/// Asks the terminal to mark the start and end of a paste (DEC private mode 2004), and to stop doing so.
const MARKS_ON: &[u8] = b"\x1b[?2004h";
const MARKS_OFF: &[u8] = b"\x1b[?2004l";
const ESCAPE: u8 = 0x1b;
/// The marks of a paste, without their leading escape.
const PASTE_BEGINS: &[u8] = b"[200~";
const PASTE_ENDS: &[u8] = b"[201~";

/// The kind of answer that a question accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// Typed text that is shown. A paste is refused, because what was copied may be a secret.
    Shown,
    /// A single line that is hidden.
    Line,
    /// Hidden text, with several lines if they are pasted.
    Lines,
}

/// The reason there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The input ended before anything was typed.
    #[error("no input")]
    Nothing,
    /// More lines than the answer accepts, or lines without the marks of a paste around them.
    #[error("more than one line was entered")]
    Lines,
    /// A control character that is neither text nor a key the prompt handles.
    #[error(
        "the input contains a control character (from Escape or an arrow key, for example), which a prompt does not \
         accept"
    )]
    Control,
    /// Bytes that are not UTF-8.
    #[error("the input is not UTF-8")]
    NotUtf8,
    /// More bytes than the limit it holds.
    #[error("the input has more than {0} bytes")]
    TooLong(usize),
    /// The system reports an error on the terminal.
    #[error("the terminal cannot be used: {0}")]
    Terminal(#[from] io::Error),
}

/// The reason a session ends early.
pub enum Stop {
    /// The question gets no answer, for this reason.
    Refused(PromptError),
    /// A signal arrived, which takes effect once the session has ended.
    Signal,
}

impl<E: Into<io::Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Refused(PromptError::Terminal(error.into()))
    }
}

/// Reports whether standard input is a terminal, so that there is somebody to ask.
pub fn is_interactive() -> bool {
    io::stdin().is_terminal()
}

/// Runs a session with the person at the terminal that is standard input. Does not look for `/dev/tty`: a user who
/// redirects standard input has said where answers come from. Questions go to the same terminal, wherever standard
/// error goes.
///
/// Drops what was typed before the session and what comes after its answers, so that it neither answers a question nor
/// reaches the shell. A signal takes effect after the terminal is restored. If it does not end the process, the session
/// starts again.
///
/// # Errors
/// [`PromptError`].
pub fn run_session<T>(session: impl FnMut(&mut TerminalSession<'_>) -> Result<T, Stop>) -> Result<T, PromptError> {
    let (stdin, stderr) = (io::stdin(), io::stderr());
    let input = stdin.as_fd();
    // A shell opens its terminal for reading and writing.
    let is_read_write = fcntl_getfl(input).is_ok_and(|flags| flags & OFlags::ACCMODE == OFlags::RDWR);
    let marks = std::env::var_os("TERM").is_some_and(|term| term != "dumb" && !term.is_empty());
    run_session_on(input, if is_read_write { input } else { stderr.as_fd() }, marks, session)
}

fn run_session_on<T>(
    input: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
    marks: bool,
    mut session: impl FnMut(&mut TerminalSession<'_>) -> Result<T, Stop>,
) -> Result<T, PromptError> {
    loop {
        let outcome = TerminalSession::begin(input, output, marks).and_then(|mut terminal| {
            let result = session(&mut terminal);
            if result.is_err() {
                let _ = terminal.print(b"\n");
                terminal.discard();
            }
            result
        });
        match outcome {
            Ok(value) => return Ok(value),
            Err(Stop::Refused(refusal)) => return Err(refusal),
            // The signal took effect when the session was dropped.
            Err(Stop::Signal) => {}
        }
    }
}

/// A terminal that hands over each byte as it arrives and echoes none.
pub struct TerminalSession<'fd> {
    input: BorrowedFd<'fd>,
    output: BorrowedFd<'fd>,
    marks: bool,
    before: Termios,
    /// The bytes that were read but not yet processed: those from `at` on.
    chunk: Zeroizing<Vec<u8>>,
    at: usize,
    // Last field, so that it is dropped after `Drop` has restored the terminal.
    signals: CaughtSignals,
}

impl<'fd> TerminalSession<'fd> {
    fn begin(input: BorrowedFd<'fd>, output: BorrowedFd<'fd>, marks: bool) -> Result<Self, Stop> {
        let signals = CaughtSignals::catch()?;
        let before = tcgetattr(input)?;
        let mut modes = before.clone();
        // Keys that send signals arrive as bytes too, because inside a paste they are not keys.
        modes.local_modes &=
            !(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::IEXTEN | LocalModes::ISIG);
        modes.input_modes &= !(InputModes::IGNBRK
            | InputModes::BRKINT
            | InputModes::PARMRK
            | InputModes::ISTRIP
            | InputModes::INLCR
            | InputModes::IGNCR
            | InputModes::ICRNL
            | InputModes::IXON);
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        let chunk = Zeroizing::new(Vec::with_capacity(4096));
        let session = Self { input, output, marks, before, chunk, at: 0, signals };
        tcsetattr(input, OptionalActions::Now, &modes)?;
        tcflush(input, QueueSelector::IFlush)?;
        if marks {
            session.print(MARKS_ON)?;
        }
        Ok(session)
    }

    /// Asks one question and returns its answer, of at most `max` bytes.
    ///
    /// Removes one line break at the end of a paste, as from a file. Any other line break becomes `\n`, whatever the
    /// terminal sends.
    ///
    /// # Errors
    /// [`Stop`].
    pub fn ask(&mut self, question: &str, kind: InputKind, max: usize) -> Result<Zeroizing<String>, Stop> {
        self.print(question.as_bytes())?;
        // One byte more for the line break that is removed. The buffer never grows, because moving it would leave a
        // copy.
        let mut typed = Typed { bytes: Zeroizing::new(Vec::with_capacity(max + 1)), max };
        loop {
            let Some(byte) = self.byte(None)? else { continue };
            if let Some(signal) = self.signal_of(byte) {
                // As the terminal would do, send the signal to the process group and drop the input that came with it.
                // The signal comes back here too, and takes effect when the terminal is restored.
                self.drop_chunk();
                kill_current_process_group(signal)?;
                continue;
            }
            match byte {
                b'\r' | b'\n' => break,
                ESCAPE if kind == InputKind::Shown => return Err(Stop::Refused(PromptError::Control)),
                ESCAPE => self.paste(&mut typed)?,
                0x08 | 0x7f => self.erase(typed.erase(), kind)?,
                _ if self.is_key(SpecialCodeIndex::VERASE, byte) => self.erase(typed.erase(), kind)?,
                _ if self.is_key(SpecialCodeIndex::VKILL, byte) => self.erase(typed.erase_all(), kind)?,
                _ if self.is_key(SpecialCodeIndex::VWERASE, byte) => self.erase(typed.erase_word(), kind)?,
                _ if self.is_key(SpecialCodeIndex::VEOF, byte) && typed.bytes.is_empty() => {
                    return Err(Stop::Refused(PromptError::Nothing));
                }
                _ => {
                    typed.push(byte)?;
                    if kind == InputKind::Shown {
                        // One column per character. Non-ASCII characters are shown as `?`, which is enough to see what
                        // one types.
                        match byte {
                            b'\t' => self.print(b" ")?,
                            0x20..=0x7e => self.print(&[byte])?,
                            0xc0.. => self.print(b"?")?,
                            _ => {}
                        }
                    }
                }
            }
        }
        // Nobody types this soon after Enter. These bytes are the rest of a paste without marks, which would answer the
        // next question or go to the shell.
        if self.byte(Some(GRACE))?.is_some() {
            return Err(Stop::Refused(PromptError::Lines));
        }
        self.print(b"\n")?;
        typed.text(kind)
    }

    /// Reports whether the terminal's owner has assigned this meaning to a byte.
    fn is_key(&self, meaning: SpecialCodeIndex, byte: u8) -> bool {
        byte != 0 && self.before.special_codes[meaning] == byte
    }

    /// Returns the signal that the terminal would have sent for a byte.
    fn signal_of(&self, byte: u8) -> Option<Signal> {
        let signals = [
            (SpecialCodeIndex::VINTR, Signal::INT),
            (SpecialCodeIndex::VQUIT, Signal::QUIT),
            (SpecialCodeIndex::VSUSP, Signal::TSTP),
        ];
        let found = signals.into_iter().find(|(meaning, _)| self.is_key(*meaning, byte));
        found.filter(|_| self.before.local_modes.contains(LocalModes::ISIG)).map(|(_, signal)| signal)
    }

    /// Reads a paste, after the escape of its first mark.
    fn paste(&mut self, typed: &mut Typed) -> Result<(), Stop> {
        self.expect(PASTE_BEGINS)?;
        let mut after_return = false;
        loop {
            let Some(byte) = self.byte(None)? else { continue };
            match byte {
                ESCAPE => return self.expect(PASTE_ENDS),
                // For a line break, terminals send either a carriage return or the copied bytes.
                b'\n' if after_return => {}
                b'\r' | b'\n' => typed.push_line_break()?,
                byte => typed.push(byte)?,
            }
            after_return = byte == b'\r';
        }
    }

    /// Reads exactly the bytes that must follow an escape.
    fn expect(&mut self, sequence: &[u8]) -> Result<(), Stop> {
        for expected in sequence {
            if self.byte(Some(GRACE))? != Some(*expected) {
                return Err(Stop::Refused(PromptError::Control));
            }
        }
        Ok(())
    }

    fn erase(&self, characters: usize, kind: InputKind) -> Result<(), Stop> {
        (0..characters).filter(|_| kind == InputKind::Shown).try_for_each(|_| self.print(b"\x08 \x08"))
    }

    /// Returns the next byte, or `None` if none arrives within `timeout`. With `None` for `timeout`, waits without a
    /// limit.
    fn byte(&mut self, timeout: Option<Duration>) -> Result<Option<u8>, Stop> {
        while self.at == self.chunk.len() {
            if !self.wait_for_input(timeout)? {
                return Ok(None);
            }
            self.read()?;
        }
        let byte = std::mem::take(&mut self.chunk[self.at]);
        self.at += 1;
        Ok(Some(byte))
    }

    /// Waits for input and returns whether some has arrived within `timeout`.
    fn wait_for_input(&self, timeout: Option<Duration>) -> Result<bool, Stop> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        loop {
            let mut fds =
                [PollFd::new(&self.signals, PollFlags::IN), PollFd::from_borrowed_fd(self.input, PollFlags::IN)];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) if !fds[0].revents().is_empty() => return Err(Stop::Signal),
                Ok(_) => return Ok(!fds[1].revents().is_empty()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn drop_chunk(&mut self) {
        self.chunk.clear();
        self.at = 0;
    }

    fn read(&mut self) -> Result<(), Stop> {
        self.drop_chunk();
        match rustix::io::read(self.input, rustix::buffer::spare_capacity(&mut self.chunk)) {
            // The terminal has hung up.
            Ok(0) | Err(Errno::IO) => Err(Stop::Refused(PromptError::Nothing)),
            Ok(_) | Err(Errno::INTR | Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Drops what was typed or pasted, and what is still arriving.
    fn discard(&mut self) {
        let until = Instant::now() + ENDLESS;
        let grace = Timespec::try_from(GRACE).ok();
        loop {
            let _ = tcflush(self.input, QueueSelector::IFlush);
            let mut input = [PollFd::from_borrowed_fd(self.input, PollFlags::IN)];
            // A signal that arrives meanwhile waits for the end of this.
            let has_input = match poll(&mut input, grace.as_ref()) {
                Ok(ready) => ready > 0,
                Err(error) => error == Errno::INTR,
            };
            if !has_input || input[0].revents().contains(PollFlags::HUP) || Instant::now() > until {
                break;
            }
        }
        self.drop_chunk();
    }

    fn print(&self, mut text: &[u8]) -> Result<(), Stop> {
        while !text.is_empty() {
            match rustix::io::write(self.output, text) {
                Ok(count) => text = &text[count..],
                // A terminal that accepts no output must not keep a signal from taking effect.
                Err(Errno::INTR | Errno::AGAIN) => {
                    self.wait_for_input(Some(Duration::ZERO))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reports whether this process may change the terminal: not if a shell has put it into the background.
    fn is_ours(&self) -> bool {
        tcgetpgrp(self.input).map_or(true, |foreground| foreground == getpgrp())
    }
}

impl Drop for TerminalSession<'_> {
    fn drop(&mut self) {
        if !self.is_ours() {
            return;
        }
        let _ = tcflush(self.input, QueueSelector::IFlush);
        let _ = tcsetattr(self.input, OptionalActions::Now, &self.before);
        if self.marks {
            let _ = rustix::io::write(self.output, MARKS_OFF);
        }
    }
}

/// The text typed so far.
struct Typed {
    /// Has room for `max` bytes and one more.
    bytes: Zeroizing<Vec<u8>>,
    max: usize,
}

impl Typed {
    fn push(&mut self, byte: u8) -> Result<(), Stop> {
        match byte {
            b'\t' | 0x20..=0x7e | 0x80.. => self.put(byte),
            _ => Err(Stop::Refused(PromptError::Control)),
        }
    }

    fn push_line_break(&mut self) -> Result<(), Stop> {
        self.put(b'\n')
    }

    fn put(&mut self, byte: u8) -> Result<(), Stop> {
        if self.bytes.len() > self.max {
            return Err(Stop::Refused(PromptError::TooLong(self.max)));
        }
        self.bytes.push(byte);
        Ok(())
    }

    /// Removes the last character. Returns the number of characters removed, 0 or 1.
    fn erase(&mut self) -> usize {
        while let Some(byte) = self.bytes.pop() {
            if byte & 0xc0 != 0x80 {
                return 1;
            }
        }
        0
    }

    fn erase_all(&mut self) -> usize {
        self.erase_while(|_| true)
    }

    /// Removes the last word and the blanks after it. Returns the number of characters removed.
    fn erase_word(&mut self) -> usize {
        let is_blank = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n');
        self.erase_while(is_blank) + self.erase_while(|byte| !is_blank(byte))
    }

    fn erase_while(&mut self, matches: impl Fn(u8) -> bool) -> usize {
        let mut erased = 0;
        while self.bytes.last().is_some_and(|last| matches(*last)) {
            erased += self.erase();
        }
        erased
    }

    /// Converts the bytes to the text of the answer, and checks that the text is acceptable.
    fn text(mut self, kind: InputKind) -> Result<Zeroizing<String>, Stop> {
        if self.bytes.last() == Some(&b'\n') {
            self.bytes.pop();
        }
        if self.bytes.len() > self.max {
            return Err(Stop::Refused(PromptError::TooLong(self.max)));
        }
        let text = match String::from_utf8(std::mem::take(&mut *self.bytes)) {
            Ok(text) => Zeroizing::new(text),
            Err(error) => {
                drop(Zeroizing::new(error.into_bytes()));
                return Err(Stop::Refused(PromptError::NotUtf8));
            }
        };
        if kind != InputKind::Lines && text.contains('\n') {
            return Err(Stop::Refused(PromptError::Lines));
        }
        // These are the C1 control characters, which have two bytes in UTF-8.
        if text.contains(|c: char| c.is_control() && !matches!(c, '\t' | '\n')) {
            return Err(Stop::Refused(PromptError::Control));
        }
        Ok(text)
    }
}

#[cfg(test)]
#[path = "terminal_tests.rs"]
mod tests;
