//! Prompts on a real terminal: what is typed or pasted is kept whole or refused, nothing of it is left for the shell,
//! and the terminal is restored however a prompt ends. Also that the output to a terminal contains nothing that could
//! drive it.

use std::os::unix::process::ExitStatusExt;

use crate::support::daemon::{Guillemet, PROGRAM};
use crate::support::terminal::Terminal;
use rustix::process::Signal;
use rustix::termios::LocalModes;

const KEY: &str = "-----BEGIN KEY-----\nline-one-of-the-key\n\tline-two-of-the-key\n-----END KEY-----";

fn value(guillemet: &Guillemet, name: &str) -> Option<String> {
    let revealed = guillemet.command(&["secret", "reveal", name]);
    revealed.status.success().then(|| String::from_utf8(revealed.stdout).unwrap())
}

/// Returns a paste as a terminal sends it that marks pastes.
fn marked(text: &str) -> String {
    format!("\u{1b}[200~{}\u{1b}[201~", text.replace('\n', "\r"))
}

/// Runs `secret add` until it asks for the value.
fn adding(guillemet: &Guillemet, name: &str) -> Terminal {
    let mut terminal = Terminal::run(guillemet.dir.path(), &["secret", "add", name]);
    terminal.expect(&format!("Value of {name}: "));
    terminal
}

/// A text that would set the terminal's title, clear its screen, change the direction of text, or be invisible.
const DRIVING: &str = "a\u{1b}]0;owned\u{7}\u{9b}2J\r\u{202e}\u{200b}\u{7f}é\tb";
const SHOWN: &str = "a\\x1b]0;owned\\x07\\u{9b}2J\\x0d\\u{202e}\\u{200b}\\x7fé\tb";

/// Returns a command's output to a terminal, with line breaks as in a file.
fn printed(guillemet: &Guillemet, arguments: &[&str]) -> String {
    let mut terminal = Terminal::run(guillemet.dir.path(), arguments);
    terminal.ends();
    terminal.printed().replace("\r\n", "\n")
}

#[test]
fn values_and_configs_do_not_drive_the_terminal() {
    let guillemet = Guillemet::start();
    guillemet.write("cal-com/desk.toml", "api_key = \"<< secret 'a-key' >>\"\nclient_id = 'cl'\n");
    // A dotenv value cannot contain a carriage return.
    let [driving, shown] = [DRIVING.replace('\r', ""), SHOWN.replace("\\x0d", "")];
    guillemet.add("a-key", &driving);
    guillemet.add("with-return", DRIVING);
    let (reveal, render) = (["secret", "reveal", "with-return"], ["render", "cal-com/desk", "--target", "dotenv"]);
    let note = "control characters are shown as escapes such as `\\x1b`; pass --raw to print them unchanged\n";
    for (command, raw, shown) in [
        (&reveal[..], format!("{DRIVING}\n"), format!("{SHOWN}\n{note}")),
        (
            &render[..],
            format!("CAL_API_KEY='{driving}'\nCAL_CLIENT_ID=cl\n"),
            format!("CAL_API_KEY='{shown}'\nCAL_CLIENT_ID=cl\n{note}"),
        ),
    ] {
        assert_eq!(printed(&guillemet, command), shown);
        let asked = [command, &["--raw"]].concat();
        assert_eq!(printed(&guillemet, &asked), raw);
        // A pipe gets the raw bytes, with or without --raw.
        for command in [command, &asked] {
            let output = guillemet.command(command);
            assert_eq!((String::from_utf8(output.stdout).unwrap(), output.stderr), (raw.clone(), Vec::new()));
        }
    }
    guillemet.add("plain", "é\tb\n🔑");
    assert_eq!(printed(&guillemet, &["secret", "reveal", "plain"]), "é\tb\n🔑\n");
}

#[test]
fn texts_of_files_and_names_do_not_drive_the_terminal() {
    let guillemet = Guillemet::start();
    let hostile = "x\u{1b}[2J\u{9b}31m\u{202e}\u{7f}";
    guillemet.add("a-key", "value");
    guillemet.write(&format!("cal-com/{hostile}.toml"), "api_key = \"<< secret 'a-key' >>\"\n");
    guillemet.write("cal-com/broken.toml", &format!("api_key = '<< {hostile} >>'\n"));
    guillemet.write("cal-com/wrong.toml", &format!("\"{}\" = 1 # {hostile}\n", "\\u001b[2J"));
    guillemet.write("cal-com/fine.toml", &format!("api_key = \"<< secret 'a-key' >>{}\"\n", "\\u001b[2J\\u202e"));
    guillemet.write(&format!("{hostile}/other.toml"), "a = '<< secret \"a-key\" >>'\n");
    let plain = guillemet.path(&format!("cal-{hostile}.env"));
    std::fs::write(&plain, format!("CAL_API_KEY='k9{hostile}'\n{hostile}\nCAL_TIMEZONE={hostile}\n")).unwrap();
    let (plain, id) = (plain.to_str().unwrap(), format!("cal-com/{hostile}"));
    let mut seen = String::new();
    for command in [
        &["template", "check"][..],
        &["template", "check", "--json"],
        &["template", "list"],
        &["template", "list", "--json"],
        &["template", "explain", "cal-com/fine", "--target", "dotenv"],
        &["template", "explain", &id],
        &["render", &id],
        &["render", "cal-com/broken"],
        &["render", "cal-com/wrong"],
        &["render", "cal-com/fine", "--target", hostile],
        &["render", "cal-com/fine", "--out", &format!("/nowhere/{hostile}")],
        &["secret", "show", "a-key"],
        &["secret", "delete", "a-key", "--yes"],
        &["secret", "reveal", hostile],
        &["usage"],
        &["status"],
        &["plugin", "add", plain],
        &["adopt", plain, "--feature", "cal-com", "--name", "adopted", "--yes"],
        &["adopt", plain, "--feature", "cal-com", "--name", hostile, "--yes"],
        &["paths", hostile],
        &[hostile],
    ] {
        let printed = printed(&guillemet, command);
        let drives = |c: char| c.is_control() && !matches!(c, '\n' | '\t') || matches!(c, '\u{202e}' | '\u{9b}');
        assert!(!printed.contains(drives), "{command:?}: {printed:?}");
        assert!(!printed.is_empty(), "{command:?}");
        seen.push_str(&printed);
    }
    assert!(seen.matches("x\u{fffd}[2J").count() > 5, "these texts were shown: {seen}");
}

#[test]
fn a_paste_of_several_lines_is_kept_whole() {
    let guillemet = Guillemet::start();
    let before = Terminal::new().modes();
    let mut terminal = Terminal::run(guillemet.dir.path(), &["secret", "add", "a-key"]);
    terminal.expect("\u{1b}[?2004h");
    terminal.expect("Value of a-key: ");
    // As from a file, one line break at the end is removed.
    terminal.types(marked(&format!("{KEY}\n")) + "\r");
    terminal.expect("Repeat: ");
    terminal.types(marked(KEY) + "\r");
    terminal.expect("\u{1b}[?2004l");
    terminal.expect("created a-key");
    assert!(terminal.ends().success());
    assert_eq!(terminal.modes(), before);
    assert_eq!(value(&guillemet, "a-key").unwrap(), format!("{KEY}\n"));

    // The longest possible value, which is larger than a terminal's queue.
    let long = "0123456\n".repeat((64 << 10) / 8 - 1) + "01234567";
    let mut terminal = adding(&guillemet, "long");
    terminal.types(marked(&long) + "\r");
    terminal.expect("Repeat: ");
    terminal.types(marked(&long) + "\r");
    terminal.expect("created long");
    assert!(terminal.ends().success());
    assert_eq!(value(&guillemet, "long").unwrap(), format!("{long}\n"));
}

#[test]
fn what_cannot_be_kept_is_refused_and_nothing_is_left_for_the_shell() {
    let guillemet = Guillemet::start();
    let before = Terminal::new().modes();
    let too_long = "x".repeat(70_000);
    for (keys, refusal) in [
        // The whole key, and one that begins like an answer.
        (format!("{KEY}\n").into_bytes(), "more than one line was entered; nothing was changed. Use --from-file FILE"),
        (b"one\none".to_vec(), "more than one line"),
        (b"left\x1b[Dright\r".to_vec(), "the input contains a control character"),
        (b"\x1b[A".to_vec(), "Use --from-file FILE"),
        (b"a\x00b\r".to_vec(), "the input contains a control character"),
        (marked("one\ntwo\u{3}three").into_bytes(), "the input contains a control character"),
        (b"a\xffb\r".to_vec(), "is not UTF-8; nothing was changed"),
        (b"\xff\xfe\r".to_vec(), "is not UTF-8; nothing was changed"),
        (format!("{too_long}\r").into_bytes(), "has more than 65536 bytes; nothing was changed"),
        (marked(&too_long).into_bytes(), "has more than 65536 bytes; nothing was changed"),
        (b"\x04".to_vec(), "no input; nothing was changed"),
    ] {
        let shown = String::from_utf8_lossy(&keys[..keys.len().min(40)]).escape_debug().to_string();
        let mut terminal = adding(&guillemet, "refused");
        terminal.types(&keys);
        terminal.expect(refusal);
        assert_eq!(terminal.ends().code(), Some(1), "{shown}");
        assert_eq!(terminal.modes(), before, "{shown}");
        assert_eq!(terminal.left_for_the_shell(), "", "{shown}");
        assert_eq!(value(&guillemet, "refused"), None, "{shown}");
    }
}

#[test]
fn what_is_typed_is_edited_and_hidden() {
    let guillemet = Guillemet::start();
    let mut terminal = adding(&guillemet, "typed");
    terminal.types("wrong\u{15}left\trixx\u{7f}\u{8}ght \"ü€\" \r");
    terminal.expect("Repeat: ");
    terminal.types("left\tright \"ü€\" nonsense\u{17}\r");
    terminal.expect("created typed");
    assert!(terminal.ends().success());
    assert_eq!(value(&guillemet, "typed").unwrap(), "left\tright \"ü€\" \n");

    let mut terminal = adding(&guillemet, "hidden");
    terminal.types("not-to-be-seen\r");
    assert_eq!(terminal.expect("Repeat: "), "\r\n");
    terminal.types("something-else\r");
    assert_eq!(terminal.expect("error: the entries do not match; nothing was changed"), "\r\n\u{1b}[?2004l");
    assert_eq!(terminal.ends().code(), Some(1));
}

#[test]
fn a_signal_gives_the_terminal_back_and_takes_effect() {
    let guillemet = Guillemet::start();
    let before = Terminal::new().modes();
    let hidden = LocalModes::ECHO | LocalModes::ICANON;
    for (key, signal) in [
        (Some("\u{3}"), Signal::INT),
        (Some("\u{1c}"), Signal::QUIT),
        (None, Signal::INT),
        (None, Signal::TERM),
        (None, Signal::HUP),
        (None, Signal::QUIT),
    ] {
        // The signal comes at either typing, and in the middle of a paste.
        for (typed, question) in [("abc", None), ("abc\r", Some("Repeat: ")), ("\u{1b}[200~abc", None)] {
            if key.is_some() && typed.contains('\u{1b}') {
                continue;
            }
            let mut terminal = adding(&guillemet, "never");
            assert!(!terminal.modes().local.intersects(hidden), "nothing is hidden");
            terminal.types(typed);
            if let Some(question) = question {
                terminal.expect(question);
            }
            match key {
                Some(key) => terminal.types(format!("{key}rm -r precious\n")),
                None => terminal.signal(signal),
            }
            let ended = terminal.ends();
            assert_eq!(ended.signal(), Some(signal.as_raw()), "{signal:?} at {typed:?}");
            assert_eq!(terminal.modes(), before, "{signal:?} at {typed:?}");
            terminal.expect("\u{1b}[?2004l");
            assert_eq!(terminal.left_for_the_shell(), "", "{signal:?} at {typed:?}");
        }
    }
    assert_eq!(value(&guillemet, "never"), None);
}

#[test]
fn a_stop_gives_the_terminal_back_and_a_continued_prompt_asks_again() {
    let guillemet = Guillemet::start();
    // A shell with job control, with the program as one of its jobs.
    let echo = "stty -a | tr ' ;' '\\n\\n' | grep -x echo";
    let script = format!("set -m; {PROGRAM} secret add stopped; echo \"[stopped: $({echo})]\"; fg; echo \"[done $?]\"");
    let mut terminal = Terminal::run_other(guillemet.dir.path(), "sh", &["-c", &script]);
    let before = Terminal::new().modes();
    terminal.expect("Value of stopped: ");
    assert_ne!(terminal.modes(), before);
    terminal.types("forgotten\u{1a}");
    terminal.expect("[stopped: echo]");
    terminal.expect("Value of stopped: ");
    terminal.types("remembered\r");
    terminal.expect("Repeat: ");
    terminal.types("remembered\r");
    terminal.expect("[done 0]");
    assert!(terminal.ends().success());
    assert_eq!(terminal.modes(), before);
    assert_eq!(value(&guillemet, "stopped").unwrap(), "remembered\n");
}

#[test]
fn a_rotation_takes_the_value_before_it_asks_anything_that_is_shown() {
    let guillemet = Guillemet::start();
    guillemet.add("turned", "old");
    let rotating = || Terminal::run(guillemet.dir.path(), &["secret", "rotate", "turned"]);
    let mut terminal = rotating();
    // The user pastes while the first question is shown.
    terminal.expect("turned: ");
    assert!(!terminal.modes().local.contains(LocalModes::ECHO));
    terminal.types(marked("new-and-secret") + "\r");
    terminal.expect("Repeat: ");
    terminal.types(marked("new-and-secret") + "\r");
    terminal.expect("Replace the value of turned? [y/N] ");
    terminal.types("yes\r");
    terminal.expect("yes\r\n");
    terminal.expect("rotated turned: version 2");
    assert!(terminal.ends().success());
    assert_eq!(value(&guillemet, "turned").unwrap(), "new-and-secret\n");

    // An answer has to be typed: a paste answers nothing, and is neither shown nor left for the shell.
    for (keys, printed) in [
        ("y\nrm -r precious\n".to_owned(), "more than one line was entered; nothing was changed"),
        (marked("yes"), "nothing was changed"),
        ("n\r".to_owned(), "error: nothing was changed"),
        ("\r".to_owned(), "error: nothing was changed"),
        ("\u{4}".to_owned(), "no input; nothing was changed"),
    ] {
        let mut terminal = rotating();
        for question in ["turned: ", "Repeat: "] {
            terminal.expect(question);
            terminal.types("newer\r");
        }
        terminal.expect("[y/N] ");
        terminal.types(&keys);
        terminal.expect(printed);
        assert_eq!(terminal.ends().code(), Some(1), "{keys:?}");
        assert_eq!(terminal.left_for_the_shell(), "", "{keys:?}");
    }
    assert_eq!(value(&guillemet, "turned").unwrap(), "new-and-secret\n");
}

#[test]
fn an_edit_keeps_the_value_where_nothing_is_typed() {
    let guillemet = Guillemet::start();
    guillemet.add("kept", "old");
    let mut terminal = Terminal::run(guillemet.dir.path(), &["secret", "edit", "kept"]);
    terminal.expect("New value of kept (leave blank to keep it): ");
    terminal.types("\r");
    terminal.expect("nothing was changed");
    assert!(terminal.ends().success());
    assert_eq!(value(&guillemet, "kept").unwrap(), "old\n");
    // `-` is standard input, where a person types: hidden.
    let mut terminal = Terminal::run(guillemet.dir.path(), &["secret", "edit", "kept", "--from-file", "-"]);
    for question in ["Value of kept: ", "Repeat: "] {
        terminal.expect(question);
        assert!(!terminal.modes().local.contains(LocalModes::ECHO));
        terminal.types("new\r");
    }
    terminal.expect("version 2");
    assert!(terminal.ends().success());
    assert_eq!(value(&guillemet, "kept").unwrap(), "new\n");
}

#[test]
fn a_passphrase_is_one_line() {
    let guillemet = Guillemet::nowhere();
    let init = || {
        let mut terminal = Terminal::run(guillemet.dir.path(), &["init", "--unlock", "passphrase"]);
        terminal.expect("Passphrase: ");
        terminal
    };
    let mut terminal = init();
    terminal.types(marked("correct horse\nbattery staple nine") + "\r");
    terminal.expect("more than one line was entered; nothing was changed. Pass it with --passphrase-fd N");
    assert_eq!(terminal.ends().code(), Some(1));
    assert!(!guillemet.path("vault.db").exists());
    let mut terminal = init();
    terminal.types(marked("correct horse battery staple nine\n") + "\r");
    terminal.expect("Repeat: ");
    terminal.types("correct horse battery staple nine\r");
    assert!(terminal.ends().success());
    assert!(guillemet.path("vault.db").exists());
}
