//! One rule for a secret from a file or a pipe: its bytes, without a byte order mark and without one line break at the
//! end. It is never truncated, and the rule is the same for every command and every descriptor.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use crate::support::daemon::Guillemet;
use crate::support::terminal::Terminal;
use crate::support::tier;
use serde_json::json;

const MOST: usize = 65_536;
const GOOD: &str = "correct horse battery staple nine";

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the value of a secret, byte by byte.
fn value(guillemet: &Guillemet, name: &str) -> Option<String> {
    let answer = guillemet.post("/v1/resolve", &json!({"secrets": [name]})).json();
    answer["secrets"][name].as_str().map(str::to_owned)
}

/// A folder for files outside of the home.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

/// Runs a command that gets its value in one of the possible ways.
fn by_way(guillemet: &Guillemet, way: usize, command: &[&str], bytes: &[u8]) -> Output {
    let files = Files::new();
    let path = files.write("value", bytes);
    match way {
        0 => guillemet.command(&[command, &["--from-file", path.to_str().unwrap()]].concat()),
        1 => guillemet.command_with(&[command, &["--from-file", "-"]].concat(), bytes),
        2 => guillemet.command_with(command, bytes),
        // `--from-file <(command)`.
        _ => {
            let by_way_of = ["sh", "-c", "cat | \"$@\" --from-file /dev/stdin", "sh"].map(str::to_owned);
            guillemet.command_by(&by_way_of, command, bytes)
        }
    }
}

const WAYS: usize = 4;

#[test]
fn a_value_is_the_bytes_of_its_file_but_for_what_is_around_it() {
    let guillemet = Guillemet::start();
    for (number, (file, expected)) in [
        ("value", "value"),
        ("value\n", "value"),
        ("value\r\n", "value"),
        ("value\n\n", "value\n"),
        ("value\r\n\r\n", "value\r\n"),
        ("value\r", "value\r"),
        ("\u{feff}value\r\n", "value"),
        ("\u{feff}\u{feff}value", "\u{feff}value"),
        (
            "  -----BEGIN KEY-----\r\n\tline\r\n-----END KEY-----\r\n",
            "  -----BEGIN KEY-----\r\n\tline\r\n-----END KEY-----",
        ),
        ("\0\u{1}\u{7f}\u{2028} \n", "\0\u{1}\u{7f}\u{2028} "),
    ]
    .into_iter()
    .enumerate()
    {
        // The rule is one for all ways: each file is tried in one of them, and in `make soak` in every one.
        for way in (0..WAYS).filter(|way| tier::rounds(0, 1) == 1 || *way == number % WAYS) {
            let name = format!("secret-{number}-{way}");
            let stored = || value(&guillemet, &name).unwrap();
            let done = by_way(&guillemet, way, &["secret", "add", &name], file.as_bytes());
            assert!(done.status.success() && stored() == expected, "{file:?} in way {way}: {}", said(&done));
            let done = by_way(&guillemet, way, &["secret", "rotate", &name, "--yes", "--exact"], file.as_bytes());
            assert!(done.status.success() && stored() == file, "{file:?} in way {way}: {}", said(&done));
            let done = by_way(&guillemet, way, &["secret", "edit", &name], file.as_bytes());
            assert!(done.status.success() && stored() == expected, "{file:?} in way {way}: {}", said(&done));
            let done = by_way(&guillemet, way, &["secret", "edit", &name, "--exact"], file.as_bytes());
            assert!(done.status.success() && stored() == file, "{file:?} in way {way}: {}", said(&done));
            let name = format!("exact-{number}-{way}");
            let done = by_way(&guillemet, way, &["secret", "add", &name, "--exact"], file.as_bytes());
            assert_eq!(value(&guillemet, &name).as_deref(), Some(file), "{}", said(&done));
        }
    }
    for way in 0..WAYS {
        for (nothing, exact) in [("", true), ("", false), ("\n", false), ("\r\n", false), ("\u{feff}", false)] {
            let command = if exact { &["secret", "add", "empty", "--exact"][..] } else { &["secret", "add", "empty"] };
            let refused = by_way(&guillemet, way, command, nothing.as_bytes());
            assert!(
                refused.status.code() == Some(1) && said(&refused).contains("cannot be empty"),
                "{}",
                said(&refused)
            );
        }
        let refused = by_way(&guillemet, way, &["secret", "add", "empty"], b"\xff\xfea\0");
        assert!(refused.status.code() == Some(1) && said(&refused).contains("not UTF-8"), "{}", said(&refused));
    }
    assert_eq!(value(&guillemet, "empty"), None);
}

#[test]
fn a_value_that_is_too_long_is_refused_and_never_cut() {
    let guillemet = Guillemet::start();
    guillemet.add("kept", "as it is");
    let most = "a".repeat(MOST);
    let numbers: String = (0..100).map(|number| format!("{number}\n")).collect();
    for way in 0..WAYS {
        for (number, (file, exact)) in [
            (most.clone(), false),
            (format!("{most}\n"), false),
            (format!("\u{feff}{most}\r\n"), false),
            (most.clone(), true),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("longest-{way}-{number}");
            let command = ["secret", "add", &name, "--exact"];
            let command = if exact { &command[..] } else { &command[..3] };
            let done = by_way(&guillemet, way, command, file.as_bytes());
            assert!(value(&guillemet, &name).is_some_and(|value| value == most), "{name}: {}", said(&done));
        }
        for (file, exact) in [
            // The bytes after the last one that fits look like its line break.
            (format!("{most}\r\n{numbers}"), false),
            (format!("{most}\n{numbers}"), false),
            (format!("{most}b"), false),
            (format!("{most}\n\n"), false),
            (format!("{most}\r\r\n"), false),
            (format!("\u{feff}{most}b\r\n"), false),
            (format!("{most}\n"), true),
            ("a".repeat(3 << 20), false),
        ] {
            for command in [
                &["secret", "add", "too-long"][..],
                &["secret", "rotate", "kept", "--yes"],
                &["secret", "edit", "kept"],
            ] {
                let command = if exact { [command, &["--exact"]].concat() } else { command.to_vec() };
                let refused = by_way(&guillemet, way, &command, file.as_bytes());
                assert_eq!(refused.status.code(), Some(1), "{} bytes in way {way}", file.len());
                assert!(said(&refused).contains("more than 65536 bytes"), "{}", said(&refused));
            }
        }
    }
    assert_eq!(value(&guillemet, "too-long"), None);
    assert_eq!(value(&guillemet, "kept").unwrap(), "as it is");
    let endless = guillemet.command(&["secret", "add", "too-long", "--from-file", "/dev/zero"]);
    assert!(said(&endless).contains("more than 65536 bytes"), "{}", said(&endless));
}

#[test]
fn exact_bytes_do_not_come_from_a_prompt() {
    let guillemet = Guillemet::start();
    let mut terminal = Terminal::run(guillemet.dir.path(), &["secret", "add", "typed", "--exact"]);
    terminal.expect("--exact needs a value from a file or a pipe");
    assert_eq!(terminal.ends().code(), Some(1));
}

/// The descriptors by which a file is handed over.
const DESCRIPTORS: [&str; 3] = ["0", "3", "7"];

/// Returns the words that redirect standard input to a descriptor.
fn at_descriptor(number: &str) -> Vec<String> {
    match number {
        "0" => Vec::new(),
        number => ["sh", "-c", &format!("exec \"$@\" {number}<&0 </dev/null"), "sh"].map(str::to_owned).to_vec(),
    }
}

/// Runs the daemon with this passphrase file. Returns whether it starts.
fn starts(guillemet: &mut Guillemet, descriptor: &str, file: &[u8]) -> bool {
    let files = Files::new();
    let file = Stdio::from(File::open(files.write("passphrase", file)).unwrap());
    guillemet.try_run_with(&at_descriptor(descriptor), &["--passphrase-fd", descriptor], file)
}

#[test]
fn a_passphrase_is_the_same_whatever_ends_its_line_and_wherever_it_comes_from() {
    let marked = format!("\u{feff}{GOOD}\r\n");
    let good = [GOOD.to_owned(), format!("{GOOD}\n"), format!("{GOOD}\r\n"), marked];
    for (made_by, file) in good.iter().enumerate() {
        let mut guillemet = Guillemet::nowhere();
        guillemet.log_level = "info";
        let descriptor = DESCRIPTORS[made_by % 3];
        let init = ["init", "--unlock", "passphrase", "--passphrase-fd", descriptor];
        let two_lines = guillemet.command_by(&at_descriptor(descriptor), &init, format!("{file}\nsecond\n").as_bytes());
        assert!(said(&two_lines).contains("more than one line"), "{}", said(&two_lines));
        let made = guillemet.command_by(&at_descriptor(descriptor), &init, file.as_bytes());
        assert!(made.status.success(), "{}", said(&made));
        for number in [made_by + 1, made_by + 2] {
            let (file, descriptor) = (&good[number % good.len()], DESCRIPTORS[number % 3]);
            assert!(starts(&mut guillemet, descriptor, file.as_bytes()), "{file:?}: {}", guillemet.log());
            assert_eq!(guillemet.get("/v1/status").json()["warnings"].to_string().matches("passphrase").count(), 0);
            assert!(guillemet.stop());
        }
        if made_by > 0 {
            continue;
        }
        for descriptor in DESCRIPTORS {
            let before = guillemet.log().len();
            assert!(!starts(&mut guillemet, descriptor, format!("{GOOD}\r\nsecond\n").as_bytes()));
            assert!(guillemet.log()[before..].contains("more than one line"), "{}", guillemet.log());
        }
        assert!(!starts(&mut guillemet, "0", format!("{GOOD} \n").as_bytes()));
        assert!(!starts(&mut guillemet, "3", format!("{}\n", "x".repeat(MOST + 1)).as_bytes()));
        assert!(guillemet.log().contains("more than 65536 bytes"), "{}", guillemet.log());
    }
}

#[test]
fn a_vault_that_took_a_carriage_return_for_its_passphrase_opens_with_a_warning() {
    let mut guillemet = Guillemet::nowhere();
    guillemet.log_level = "info";
    // One line break is dropped. The rest is what earlier versions read from a file with CR LF.
    let taken = format!("{GOOD}\r\r\n");
    let init = ["init", "--unlock", "passphrase", "--passphrase-fd", "0"];
    assert!(guillemet.command_with(&init, taken.as_bytes()).status.success());
    let crlf = format!("{GOOD}\r\n");
    let warned =
        |guillemet: &Guillemet| guillemet.get("/v1/status").json()["warnings"].to_string().contains("vault rekey");
    for descriptor in DESCRIPTORS {
        assert!(starts(&mut guillemet, descriptor, crlf.as_bytes()), "{}", guillemet.log());
        assert!(warned(&guillemet) && guillemet.log().contains("vault rekey"), "{}", guillemet.log());
        assert!(guillemet.stop());
    }
    assert!(!starts(&mut guillemet, "0", format!("{GOOD}\n").as_bytes()));
    // The same passphrase, read by the present rule.
    let files = Files::new();
    let path = files.write("passphrase", crlf.as_bytes());
    let redirect = format!("exec \"$@\" 3<'{0}' 4<'{0}'", path.display());
    let redirect = ["sh", "-c", &redirect, "sh"].map(str::to_owned);
    let rekey = ["vault", "rekey", "--passphrase-fd", "3", "--new-passphrase-fd", "4"];
    let rekeyed = guillemet.command_by(&redirect, &rekey, b"");
    assert!(rekeyed.status.success(), "{}", said(&rekeyed));
    for file in [crlf, format!("{GOOD}\n")] {
        assert!(starts(&mut guillemet, "0", file.as_bytes()), "{}", guillemet.log());
        assert!(!warned(&guillemet));
        assert!(guillemet.stop());
    }
}

#[test]
fn a_terminal_is_no_descriptor_for_a_passphrase() {
    let home = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::run(home.path(), &["init", "--unlock", "passphrase", "--passphrase-fd", "0"]);
    terminal.expect("descriptor 0 is a terminal; remove --passphrase-fd");
    assert_eq!(terminal.ends().code(), Some(1));
}
