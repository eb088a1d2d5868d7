//! The checks of a component before it is added, as `plugin check` makes them.
//!
//! They fill documents with hostile values and parse them, so they run in a child process without keys: this program,
//! with the command `checker`. Its answer is treated as hostile, like that of a planner. `plans` has the documents of
//! templates read back the same way.

pub mod plans;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::client::load_time;
use guillemet_base::display::sanitize;
use guillemet_base::problem::{PROBLEMS_MAX, Problem, sanitize_problems};

/// How long the checks may take, besides loading the component.
const CHECK_TIME: Duration = Duration::from_secs(30);
/// The most bytes of an answer.
const ANSWER_MAX: u64 = 4 << 20;
/// The most characters that are shown of a checker's last words.
const MESSAGE_MAX: usize = 500;
/// The number of results that are kept for the confirmation that follows an inspection.
const KEPT_MAX: usize = 16;
/// The environment that a checker keeps: where the cache of compiled forms is.
const ENVIRONMENT: [&str; 2] = ["HOME", "XDG_CACHE_HOME"];

/// What a checker prints, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub struct CheckerAnswer {
    /// The SHA-256 of the component that was checked, in hexadecimal.
    pub digest: String,
    /// Everything that is wrong with it.
    pub problems: Vec<Problem>,
}

/// The digest of a component and the path of its file.
type CheckedFile = (String, PathBuf);

/// Checks components, and remembers the results of the last ones.
#[derive(Default)]
pub struct Checker {
    /// The results by digest and path: the cases beside a component are a part of its checks.
    kept: Mutex<Vec<(CheckedFile, Vec<Problem>)>>,
}

impl Checker {
    /// Checks the component in a file, which has this digest and so many bytes. Returns everything that is wrong. If
    /// the checks cannot be made, that is wrong.
    pub async fn check(&self, file: &Path, digest: &str, len: usize) -> Vec<Problem> {
        let checked = timeout(CHECK_TIME + load_time(len), ask(file)).await;
        let problems = match checked {
            Ok(Ok(answer)) if answer.digest == digest => {
                let mut problems = sanitize_problems(answer.problems);
                problems.truncate(PROBLEMS_MAX);
                problems
            }
            Ok(Ok(_)) => vec![unchecked("the file was changed meanwhile")],
            Ok(Err(reason)) => vec![unchecked(&reason)],
            Err(_) => vec![unchecked("they took too long and were stopped")],
        };
        let key = (digest.to_owned(), file.to_owned());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(existing, _)| *existing != key);
        if kept.len() == KEPT_MAX {
            kept.remove(0);
        }
        kept.push((key, problems.clone()));
        problems
    }

    /// Returns the result of the last check of this component in this file; makes the check if there is none.
    pub async fn checked(&self, file: &Path, digest: &str, len: usize) -> Vec<Problem> {
        let of_file = |((of, path), _): &&(CheckedFile, Vec<Problem>)| of == digest && path == file;
        let kept = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.iter().find(of_file).map(|(_, problems)| problems.clone())
        };
        match kept {
            Some(problems) => problems,
            None => self.check(file, digest, len).await,
        }
    }
}

fn unchecked(reason: &str) -> Problem {
    Problem {
        message: format!("the checks could not be made: {reason}"),
        help: Some("run `guillemet plugin check FILE` to see them".into()),
        ..Problem::default()
    }
}

/// Returns the command of a checker, without an environment. It is killed when its child is dropped.
fn command() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg("checker").env_clear().current_dir("/").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts a checker for a file and reads its answer.
async fn ask(file: &Path) -> Result<CheckerAnswer, String> {
    let environment = ENVIRONMENT.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut child = command()
        .arg(file)
        .envs(environment)
        .spawn()
        .map_err(|error| format!("the process cannot be started: {error}"))?;
    let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("a pipe is missing".into());
    };
    let (mut answer, mut words) = (Vec::new(), Vec::new());
    let (mut output, mut errors) = (output.take(ANSWER_MAX), errors.take(ANSWER_MAX));
    let (read, heard) = tokio::join!(output.read_to_end(&mut answer), errors.read_to_end(&mut words));
    read.and(heard).map_err(|error| error.to_string())?;
    // An answer that was cut off leaves the child waiting; dropping the pipes ends it.
    drop((output, errors));
    child.wait().await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&answer).map_err(|_| last_words(&words))
}

/// Returns what a process without an answer said, as a part of a sentence.
fn last_words(words: &[u8]) -> String {
    match sanitize(&String::from_utf8_lossy(words), MESSAGE_MAX) {
        words if words.is_empty() => "the process ended without an answer".into(),
        words => words,
    }
}
