//! Runs the console transcripts of a Markdown file, and compares their output with the file.
//!
//! A block ```` ```console ```` contains `$ command`, lines that continue it (`> …`), `? N` for an exit status other
//! than 0, and the output: stdout and stderr as on a terminal. A block ```` ```FORMAT file=PATH ```` writes a file of
//! the home. Any other block is only for readers. Parts that differ in every run are replaced by `[TIME]`, `[DAY]`,
//! `[ID]`, `[HOME]` and `[BIN]`. `[..]` matches any part of a line, `...` any lines.
//!
//! `TRYCMD=overwrite` writes the actual output into the file, as for the other data files.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::daemon::PROGRAM;

/// A part of the Markdown file.
enum Part {
    /// Text that is not run, kept as it is.
    Text(String),
    /// A file to write: its path and its content.
    File(String, String),
    /// A command to run, with its expected output.
    Step(Step),
}

struct Step {
    /// The line of the command in the file, from 1.
    line: usize,
    /// The command as it is written in the file.
    shown: String,
    command: String,
    code: i32,
    output: Vec<String>,
}

/// Runs a file in a home whose daemon runs.
///
/// # Panics
/// With every step that printed something else, unless the file is overwritten.
pub fn run(file: &Path, home: &Path) {
    run_with(file, home, None);
}

/// Runs a file as [`run`] does, with one more folder of programs, which come first.
///
/// # Panics
/// With every step that printed something else, unless the file is overwritten.
pub fn run_with(file: &Path, home: &Path, programs: Option<&Path>) {
    let text = std::fs::read_to_string(file).unwrap();
    let (wrong, after) = compare_with(&text, home, programs);
    if std::env::var("TRYCMD").is_ok_and(|value| value == "overwrite") {
        if after != text {
            std::fs::write(file, after).unwrap();
        }
        return;
    }
    assert!(wrong.is_empty(), "{}\n{wrong}`TRYCMD=overwrite` takes what is printed now", file.display());
}

/// Returns the differences, and the file's text with the actual output.
pub fn compare(text: &str, home: &Path) -> (String, String) {
    compare_with(text, home, None)
}

fn compare_with(text: &str, home: &Path, programs: Option<&Path>) -> (String, String) {
    let (mut wrong, mut after) = (String::new(), String::new());
    for part in parts(text) {
        match part {
            Part::Text(text) => after.push_str(&text),
            Part::File(path, content) => {
                let path = home.join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, content).unwrap();
            }
            Part::Step(step) => {
                let (code, output) = execute(&step.command, home, programs);
                let fits = code == step.code && fits(&step.output, &output);
                after.push_str(&step.shown);
                if code != 0 {
                    writeln!(after, "? {code}").unwrap();
                }
                // Matching output stays as it is, because a person chose which parts may differ.
                for line in if fits { &step.output } else { &output } {
                    after.push_str(line);
                    after.push('\n');
                }
                if !fits {
                    writeln!(
                        wrong,
                        "line {}: {}\n  expected ({}):\n    {}\n  printed ({code}):\n    {}",
                        step.line,
                        step.command,
                        step.code,
                        step.output.join("\n    "),
                        output.join("\n    ")
                    )
                    .unwrap();
                }
            }
        }
    }
    (wrong, after)
}

fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((_, line)) = lines.next() {
        parts.push(Part::Text(format!("{line}\n")));
        let Some(info) = line.strip_prefix("```").filter(|info| !info.is_empty()) else { continue };
        if let Some((_, path)) = info.split_once(" file=") {
            let mut content = String::new();
            while let Some((_, line)) = lines.next_if(|(_, line)| *line != "```") {
                content.push_str(line);
                content.push('\n');
            }
            parts.push(Part::Text(content.clone()));
            parts.push(Part::File(path.to_owned(), content));
        } else if info == "console" {
            while let Some((number, line)) = lines.next_if(|(_, line)| *line != "```") {
                let command = line.strip_prefix("$ ").unwrap_or_else(|| panic!("line {}: no command", number + 1));
                let mut step = Step {
                    line: number + 1,
                    shown: format!("{line}\n"),
                    command: command.to_owned(),
                    code: 0,
                    output: Vec::new(),
                };
                while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with("> ")) {
                    step.shown.push_str(&format!("{line}\n"));
                    step.command.push_str(&format!("\n{}", &line[2..]));
                }
                if let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with("? ")) {
                    step.code = line[2..].parse().unwrap();
                }
                while let Some((_, line)) = lines.next_if(|(_, line)| *line != "```" && !line.starts_with("$ ")) {
                    step.output.push(line.to_owned());
                }
                parts.push(Part::Step(step));
            }
        } else {
            while let Some((_, line)) = lines.next_if(|(_, line)| *line != "```") {
                parts.push(Part::Text(format!("{line}\n")));
            }
        }
        // This line ends the block and does not begin another one.
        if lines.next_if(|(_, line)| *line == "```").is_some() {
            parts.push(Part::Text("```\n".into()));
        }
    }
    parts
}

/// Runs a command. Returns the exit status and the lines of its output.
fn execute(command: &str, home: &Path, programs: Option<&Path>) -> (i32, Vec<String>) {
    let own = [programs, Path::new(PROGRAM).parent()];
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let path = own.into_iter().flatten().map(Path::to_owned).chain(std::env::split_paths(&inherited));
    let path = std::env::join_paths(path).unwrap();
    let ended = Command::new("sh")
        .arg("-c")
        .arg(format!("exec 2>&1\n{command}"))
        .current_dir(home)
        .env("PATH", path)
        .env("GUILLEMET_HOME", home)
        .env("NO_COLOR", "1")
        .envs(super::authors::environment())
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    let text = text.replace(PROGRAM, "[BIN]").replace(home.to_str().unwrap(), "[HOME]");
    (ended.status.code().unwrap_or(-1), text.lines().map(|line| steady(line).trim_end().to_owned()).collect())
}

/// Returns a line with everything replaced that differs in every run: times, ids, and today's date, which may be
/// yesterday's by now.
fn steady(line: &str) -> String {
    let now = time::OffsetDateTime::now_utc();
    let days = [now, now - time::Duration::DAY].map(|day| day.date().to_string());
    let line = days.iter().fold(line.to_owned(), |line, day| match line.contains(&format!("{day}T")) {
        true => line,
        false => line.replace(day, "[DAY]"),
    });
    const KINDS: [(&str, &str); 2] =
        [("dddd-dd-ddTdd:dd:dd.dddZ", "[TIME]"), ("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "[ID]")];
    let begins = |rest: &str, pattern: &str| {
        let fits = |(byte, wanted): (u8, u8)| match wanted {
            b'd' => byte.is_ascii_digit(),
            b'x' => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            other => byte == other,
        };
        rest.len() >= pattern.len() && rest.bytes().zip(pattern.bytes()).all(fits)
    };
    let mut out = String::new();
    let mut rest = line.as_str();
    while let Some(first) = rest.chars().next() {
        match KINDS.iter().find(|(pattern, _)| begins(rest, pattern)) {
            Some((pattern, name)) => {
                out.push_str(name);
                rest = &rest[pattern.len()..];
            }
            None => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

/// Reports whether lines match the expected ones. `...` matches any lines, `[..]` any part of one.
fn fits(expected: &[String], printed: &[String]) -> bool {
    match expected.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first == "..." => (0..=printed.len()).any(|skipped| fits(rest, &printed[skipped..])),
        Some((first, rest)) => {
            printed.split_first().is_some_and(|(line, others)| line_fits(first, line) && fits(rest, others))
        }
    }
}

fn line_fits(expected: &str, printed: &str) -> bool {
    match expected.split_once("[..]") {
        None => expected == printed,
        Some((before, after)) => printed.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| line_fits(after, &rest[at..]))
        }),
    }
}
