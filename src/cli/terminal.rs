//! A person at a terminal: asks, and takes in what is typed or pasted, hidden or shown.
//!
//! Every byte comes straight from the terminal into memory that wipes itself: nothing is buffered on the way, dropped
//! on the way, or left behind for the shell. However this ends (an answer, an error, a signal, a panic), the terminal
//! is as it was. Must not know what is asked for, or what becomes of it.

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

/// What comes this soon after something belongs to it: the rest of a paste, or of an escape sequence. Nobody types as
/// fast, and nobody notices the wait.
const GRACE: Duration = Duration::from_millis(100);
/// A terminal that goes on sending is not waited for longer.
const ENDLESS: Duration = Duration::from_secs(5);

/// Asks the terminal to put marks around a paste (DEC private mode 2004), and to stop doing so.
const MARKS_ON: &[u8] = b"\x1b[?2004h";
const MARKS_OFF: &[u8] = b"\x1b[?2004l";
const ESCAPE: u8 = 0x1b;
/// The marks, behind their escape.
const PASTE_BEGINS: &[u8] = b"[200~";
const PASTE_ENDS: &[u8] = b"[201~";

/// What fits the answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Something typed, which is shown. Pastes are refused: what was copied may be a secret.
    Shown,
    /// One line, hidden.
    Line,
    /// Hidden; several lines where they are pasted.
    Lines,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The input ended.
    #[error("nothing was typed")]
    Nothing,
    /// More lines than fit, or lines that nothing holds together.
    #[error("more than one line came at once")]
    Lines,
    /// Neither text nor a key that does something here.
    #[error("a control character came, which a prompt cannot keep (Escape and the arrow keys send some)")]
    Control,
    /// No text.
    #[error("what was typed or pasted is not UTF-8")]
    NotUtf8,
    /// More bytes than fit.
    #[error("what was typed or pasted has more than {0} bytes")]
    TooLong(usize),
    /// The system's.
    #[error("the terminal cannot be used: {0}")]
    Terminal(#[from] io::Error),
}

/// What ends a session early.
pub enum Stop {
    /// There is no answer.
    Refused(Refusal),
    /// A signal came.
    Signal,
}

impl<E: Into<io::Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Refused(Refusal::Terminal(error.into()))
    }
}

/// Whether there is somebody to ask: whether standard input is a terminal.
pub fn is_there() -> bool {
    io::stdin().is_terminal()
}

/// Has a talk with whoever sits at the terminal that standard input is. `/dev/tty` is not looked for: who directs
/// standard input elsewhere has said where answers come from. Questions go to the same terminal, wherever standard
/// error goes.
///
/// What was typed before is dropped, and so is what comes behind the answers: neither answers a question, nor reaches
/// the shell. A signal takes effect when the terminal is as it was; if that does not end the process, the talk begins
/// anew.
///
/// # Errors
/// `Refusal`.
pub fn talk<T>(talk: impl FnMut(&mut Session<'_>) -> Result<T, Stop>) -> Result<T, Refusal> {
    let (stdin, stderr) = (io::stdin(), io::stderr());
    let input = stdin.as_fd();
    // A shell opens its terminal for both.
    let both = fcntl_getfl(input).is_ok_and(|flags| flags & OFlags::ACCMODE == OFlags::RDWR);
    let marks = std::env::var_os("TERM").is_some_and(|term| term != "dumb" && !term.is_empty());
    talk_on(input, if both { input } else { stderr.as_fd() }, marks, talk)
}

fn talk_on<T>(
    input: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
    marks: bool,
    mut talk: impl FnMut(&mut Session<'_>) -> Result<T, Stop>,
) -> Result<T, Refusal> {
    loop {
        let ended = Session::begin(input, output, marks).and_then(|mut session| {
            let result = talk(&mut session);
            if result.is_err() {
                let _ = session.say(b"\n");
                session.discard();
            }
            result
        });
        match ended {
            Ok(answer) => return Ok(answer),
            Err(Stop::Refused(refusal)) => return Err(refusal),
            // It has taken effect when the session ended.
            Err(Stop::Signal) => {}
        }
    }
}

/// A terminal that hands over every byte as it comes, and shows none.
pub struct Session<'fd> {
    input: BorrowedFd<'fd>,
    output: BorrowedFd<'fd>,
    marks: bool,
    before: Termios,
    /// What was read and not yet looked at: from `at` on.
    chunk: Zeroizing<Vec<u8>>,
    at: usize,
    // Dropped last, when the terminal is as it was.
    signals: CaughtSignals,
}

impl<'fd> Session<'fd> {
    fn begin(input: BorrowedFd<'fd>, output: BorrowedFd<'fd>, marks: bool) -> Result<Self, Stop> {
        let signals = CaughtSignals::catch()?;
        let before = tcgetattr(input)?;
        let mut modes = before.clone();
        // Keys that send signals come as bytes too: in the middle of a paste they are none.
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
            session.say(MARKS_ON)?;
        }
        Ok(session)
    }

    /// Asks one question. The answer has at most `most` bytes.
    ///
    /// One line break at the end of a paste is taken off, as from a file; others are `\n`, whatever the terminal sends.
    ///
    /// # Errors
    /// `Stop`.
    pub fn ask(&mut self, question: &str, answer: Answer, most: usize) -> Result<Zeroizing<String>, Stop> {
        self.say(question.as_bytes())?;
        // And the line break that is taken off. What is typed never moves: it would leave a copy.
        let mut typed = Typed { bytes: Zeroizing::new(Vec::with_capacity(most + 1)), most };
        loop {
            let Some(byte) = self.byte(None)? else { continue };
            if let Some(signal) = self.signal_of(byte) {
                // To the group, and without what came along, as the terminal does. It comes back here too, and takes
                // effect when the terminal is as it was.
                self.drop_chunk();
                kill_current_process_group(signal)?;
                continue;
            }
            match byte {
                b'\r' | b'\n' => break,
                ESCAPE if answer == Answer::Shown => return Err(Stop::Refused(Refusal::Control)),
                ESCAPE => self.paste(&mut typed)?,
                0x08 | 0x7f => self.erase(typed.erase(), answer)?,
                _ if self.is(SpecialCodeIndex::VERASE, byte) => self.erase(typed.erase(), answer)?,
                _ if self.is(SpecialCodeIndex::VKILL, byte) => self.erase(typed.erase_all(), answer)?,
                _ if self.is(SpecialCodeIndex::VWERASE, byte) => self.erase(typed.erase_word(), answer)?,
                _ if self.is(SpecialCodeIndex::VEOF, byte) && typed.bytes.is_empty() => {
                    return Err(Stop::Refused(Refusal::Nothing));
                }
                _ => {
                    typed.push(byte)?;
                    if answer == Answer::Shown {
                        // One column for each character; what is no ASCII is not needed to see what one types.
                        match byte {
                            b'\t' => self.say(b" ")?,
                            0x20..=0x7e => self.say(&[byte])?,
                            0xc0.. => self.say(b"?")?,
                            _ => {}
                        }
                    }
                }
            }
        }
        // Nobody types on this soon after Enter: the rest of a paste without marks, which would answer what is asked
        // next, or go to the shell.
        if self.byte(Some(GRACE))?.is_some() {
            return Err(Stop::Refused(Refusal::Lines));
        }
        self.say(b"\n")?;
        typed.text(answer)
    }

    /// Whether a byte is what the terminal's owner has given this meaning.
    fn is(&self, meaning: SpecialCodeIndex, byte: u8) -> bool {
        byte != 0 && self.before.special_codes[meaning] == byte
    }

    /// The signal that the terminal would have sent for a byte.
    fn signal_of(&self, byte: u8) -> Option<Signal> {
        let signals = [
            (SpecialCodeIndex::VINTR, Signal::INT),
            (SpecialCodeIndex::VQUIT, Signal::QUIT),
            (SpecialCodeIndex::VSUSP, Signal::TSTP),
        ];
        let found = signals.into_iter().find(|(meaning, _)| self.is(*meaning, byte));
        found.filter(|_| self.before.local_modes.contains(LocalModes::ISIG)).map(|(_, signal)| signal)
    }

    /// Takes a paste in, behind the escape of its first mark.
    fn paste(&mut self, typed: &mut Typed) -> Result<(), Stop> {
        self.expect(PASTE_BEGINS)?;
        let mut after_return = false;
        loop {
            let Some(byte) = self.byte(None)? else { continue };
            match byte {
                ESCAPE => return self.expect(PASTE_ENDS),
                // Terminals send a carriage return for a line break, or what was copied.
                b'\n' if after_return => {}
                b'\r' | b'\n' => typed.push_line_break()?,
                byte => typed.push(byte)?,
            }
            after_return = byte == b'\r';
        }
    }

    /// Takes in what has to come behind an escape.
    fn expect(&mut self, sequence: &[u8]) -> Result<(), Stop> {
        for expected in sequence {
            if self.byte(Some(GRACE))? != Some(*expected) {
                return Err(Stop::Refused(Refusal::Control));
            }
        }
        Ok(())
    }

    fn erase(&self, characters: usize, answer: Answer) -> Result<(), Stop> {
        (0..characters).filter(|_| answer == Answer::Shown).try_for_each(|_| self.say(b"\x08 \x08"))
    }

    /// The next byte; none if there is none for so long.
    fn byte(&mut self, patience: Option<Duration>) -> Result<Option<u8>, Stop> {
        while self.at == self.chunk.len() {
            if !self.comes(patience)? {
                return Ok(None);
            }
            self.read()?;
        }
        let byte = std::mem::take(&mut self.chunk[self.at]);
        self.at += 1;
        Ok(Some(byte))
    }

    /// Waits for input.
    fn comes(&self, patience: Option<Duration>) -> Result<bool, Stop> {
        let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
        loop {
            let mut both =
                [PollFd::new(&self.signals, PollFlags::IN), PollFd::from_borrowed_fd(self.input, PollFlags::IN)];
            match poll(&mut both, patience.as_ref()) {
                Ok(_) if !both[0].revents().is_empty() => return Err(Stop::Signal),
                Ok(_) => return Ok(!both[1].revents().is_empty()),
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
            // Nobody is there any more.
            Ok(0) | Err(Errno::IO) => Err(Stop::Refused(Refusal::Nothing)),
            Ok(_) | Err(Errno::INTR | Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Drops what was typed or pasted, and what is on its way.
    fn discard(&mut self) {
        let until = Instant::now() + ENDLESS;
        let grace = Timespec::try_from(GRACE).ok();
        loop {
            let _ = tcflush(self.input, QueueSelector::IFlush);
            let mut input = [PollFd::from_borrowed_fd(self.input, PollFlags::IN)];
            // A signal that comes meanwhile waits for the end of this.
            let comes = match poll(&mut input, grace.as_ref()) {
                Ok(ready) => ready > 0,
                Err(error) => error == Errno::INTR,
            };
            if !comes || input[0].revents().contains(PollFlags::HUP) || Instant::now() > until {
                break;
            }
        }
        self.drop_chunk();
    }

    fn say(&self, mut text: &[u8]) -> Result<(), Stop> {
        while !text.is_empty() {
            match rustix::io::write(self.output, text) {
                Ok(count) => text = &text[count..],
                // A terminal that takes nothing must not keep a signal from taking effect.
                Err(Errno::INTR | Errno::AGAIN) => {
                    self.comes(Some(Duration::ZERO))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether the terminal is this process's to change: not when a shell has put it into the background.
    fn is_ours(&self) -> bool {
        tcgetpgrp(self.input).map_or(true, |foreground| foreground == getpgrp())
    }
}

impl Drop for Session<'_> {
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

/// What has been typed so far.
struct Typed {
    /// Room for `most` and one more.
    bytes: Zeroizing<Vec<u8>>,
    most: usize,
}

impl Typed {
    fn push(&mut self, byte: u8) -> Result<(), Stop> {
        match byte {
            b'\t' | 0x20..=0x7e | 0x80.. => self.put(byte),
            _ => Err(Stop::Refused(Refusal::Control)),
        }
    }

    fn push_line_break(&mut self) -> Result<(), Stop> {
        self.put(b'\n')
    }

    fn put(&mut self, byte: u8) -> Result<(), Stop> {
        if self.bytes.len() > self.most {
            return Err(Stop::Refused(Refusal::TooLong(self.most)));
        }
        self.bytes.push(byte);
        Ok(())
    }

    /// Takes the last character off; returns how many it has taken off.
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

    /// Takes the last word off, and what is behind it.
    fn erase_word(&mut self) -> usize {
        let is_blank = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n');
        self.erase_while(is_blank) + self.erase_while(|byte| !is_blank(byte))
    }

    fn erase_while(&mut self, fits: impl Fn(u8) -> bool) -> usize {
        let mut erased = 0;
        while self.bytes.last().is_some_and(|last| fits(*last)) {
            erased += self.erase();
        }
        erased
    }

    /// What an answer is made of it.
    fn text(mut self, answer: Answer) -> Result<Zeroizing<String>, Stop> {
        if self.bytes.last() == Some(&b'\n') {
            self.bytes.pop();
        }
        if self.bytes.len() > self.most {
            return Err(Stop::Refused(Refusal::TooLong(self.most)));
        }
        let text = match String::from_utf8(std::mem::take(&mut *self.bytes)) {
            Ok(text) => Zeroizing::new(text),
            Err(error) => {
                drop(Zeroizing::new(error.into_bytes()));
                return Err(Stop::Refused(Refusal::NotUtf8));
            }
        };
        if answer != Answer::Lines && text.contains('\n') {
            return Err(Stop::Refused(Refusal::Lines));
        }
        // Those of Latin-1, which have two bytes.
        if text.contains(|c: char| c.is_control() && !matches!(c, '\t' | '\n')) {
            return Err(Stop::Refused(Refusal::Control));
        }
        Ok(text)
    }
}

#[cfg(test)]
#[path = "terminal_tests.rs"]
mod tests;
