//! Sessions on a real pseudo-terminal, in this process: tests that need access to a session's inside.

use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::fs::{Mode, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::*;

/// Returns both ends of a terminal: the person's and the program's.
fn terminal() -> (File, File) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let name = ptsname(&person, Vec::new()).unwrap();
    let program = open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    (person.into(), program.into())
}

fn modes(terminal: &File) -> (LocalModes, InputModes) {
    let modes = tcgetattr(terminal).unwrap();
    (modes.local_modes, modes.input_modes)
}

/// Returns the answer, or the refusal's text, for keys that are pressed once the question is shown.
fn pressed(keys: &[u8], kind: InputKind, max: usize) -> Result<String, String> {
    let (mut person, program) = terminal();
    let before = modes(&program);
    let answered = run_session_on(program.as_fd(), program.as_fd(), false, |session| {
        person.write_all(keys)?;
        session.ask("? ", kind, max).map(|text| text.to_string())
    });
    assert_eq!(modes(&program), before);
    answered.map_err(|refusal| refusal.to_string())
}

#[test]
fn keys_edit_a_line() {
    for (keys, expected) in [
        ("abc\n", "abc"),
        ("abc\r", "abc"),
        ("ab\u{7f}c\n", "ac"),
        ("ab\u{8}\u{8}\u{8}c\n", "c"),
        ("aü€\u{7f}\n", "aü"),
        ("aü€\u{7f}\u{7f}\n", "a"),
        ("a b\u{15}c\n", "c"),
        ("one two \u{17}three\n", "one three"),
        ("one\u{17}\u{17}\n", ""),
        ("a\tb\n", "a\tb"),
        ("\n", ""),
    ] {
        for kind in [InputKind::Line, InputKind::Lines, InputKind::Shown] {
            assert_eq!(pressed(keys.as_bytes(), kind, 20).as_deref(), Ok(expected), "{keys:?} for {kind:?}");
        }
    }
}

#[test]
fn a_paste_is_kept_whole_where_lines_fit() {
    for (paste, expected) in [
        ("one\rtwo", "one\ntwo"),
        ("one\ntwo\n", "one\ntwo"),
        ("one\r\ntwo\r\n\r\n", "one\ntwo\n"),
        ("one\r\r\ttwo\r", "one\n\n\ttwo"),
        ("one", "one"),
        ("", ""),
    ] {
        let keys = format!("\u{1b}[200~{paste}\u{1b}[201~\r");
        assert_eq!(pressed(keys.as_bytes(), InputKind::Lines, 20).as_deref(), Ok(expected), "{paste:?}");
        let as_line = pressed(keys.as_bytes(), InputKind::Line, 20);
        match expected.contains('\n') {
            true => assert_eq!(as_line, Err(PromptError::Lines.to_string()), "{paste:?}"),
            false => assert_eq!(as_line.as_deref(), Ok(expected), "{paste:?}"),
        }
        assert_eq!(pressed(keys.as_bytes(), InputKind::Shown, 20), Err(PromptError::Control.to_string()), "{paste:?}");
    }
    assert_eq!(pressed(b"a\x1b[200~b\x1b[201~c\n", InputKind::Line, 20).as_deref(), Ok("abc"));
}

#[test]
fn what_cannot_be_kept_is_refused() {
    for (keys, refusal) in [
        (&b"one\ntwo\n"[..], PromptError::Lines),
        (b"one\ntwo", PromptError::Lines),
        (b"a\x1b[Db\n", PromptError::Control),
        (b"a\x1b", PromptError::Control),
        (b"a\x01b\n", PromptError::Control),
        (b"a\0b\n", PromptError::Control),
        (b"a\x13b\n", PromptError::Control),
        (b"a\x16b\n", PromptError::Control),
        ("a\u{85}b\n".as_bytes(), PromptError::Control),
        // Inside a paste these bytes are not keys.
        (b"\x1b[200~a\x03b\x1b[201~\n", PromptError::Control),
        (b"\x1b[200~a\x7fb\x1b[201~\n", PromptError::Control),
        (b"\x1b[200~a\x1b[Db\x1b[201~\n", PromptError::Control),
        (b"a\xffb\n", PromptError::NotUtf8),
        (b"\xc3\n", PromptError::NotUtf8),
        (b"0123456789\n", PromptError::TooLong(9)),
        (b"01234567890123456789\n", PromptError::TooLong(9)),
        (b"\x04", PromptError::Nothing),
        (b"a\x04", PromptError::Control),
    ] {
        let shown = String::from_utf8_lossy(keys).escape_debug().to_string();
        assert_eq!(pressed(keys, InputKind::Lines, 9), Err(refusal.to_string()), "{shown}");
    }
    assert_eq!(pressed(b"012345678\n", InputKind::Line, 9).as_deref(), Ok("012345678"));
}

#[test]
fn a_panic_gives_the_terminal_back() {
    let (_person, program) = terminal();
    let before = modes(&program);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        run_session_on(program.as_fd(), program.as_fd(), false, |_| -> Result<(), Stop> {
            assert!(!modes(&program).0.contains(LocalModes::ECHO));
            panic!("on purpose")
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(modes(&program), before);
}

#[test]
fn nobody_at_the_other_end_is_an_error() {
    let (person, program) = terminal();
    let mut person = Some(person);
    let refused = run_session_on(program.as_fd(), program.as_fd(), false, |session| {
        person.take();
        session.byte(None)
    });
    assert_eq!(refused.unwrap_err().to_string(), PromptError::Nothing.to_string());
}

#[test]
fn an_answer_that_is_shown_looks_as_it_was_typed() {
    let (mut person, program) = terminal();
    run_session_on(program.as_fd(), program.as_fd(), true, |session| {
        person.write_all("nü\u{7f}o\r".as_bytes())?;
        session.ask("Sure? ", InputKind::Shown, 9)
    })
    .unwrap();
    let mut printed = Vec::new();
    while !printed.ends_with(MARKS_OFF) {
        let mut part = [0; 200];
        let count = rustix::io::read(&person, &mut part).unwrap();
        printed.extend_from_slice(&part[..count]);
    }
    assert_eq!(String::from_utf8_lossy(&printed), "\u{1b}[?2004hSure? n?\u{8} \u{8}o\r\n\u{1b}[?2004l");
}
