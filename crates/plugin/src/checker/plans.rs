//! The documents of templates, filled with hostile values and read back as `template check` does: in one child for many
//! plans, which gets a plan in a line and answers with a line of problems.
//!
//! A plan holds the text of a template and never a value. What the child answers is treated as hostile. Whatever it does
//! is a problem of the plan that it was given.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

use super::{ANSWER_MAX, MESSAGE_MAX, command, last_words};
use guillemet_base::problem::{PROBLEMS_MAX, Problem, sanitize_problems};
use guillemet_plan::plan::Plan;

/// How long one document may take, with the start of a child.
const READ_TIME: Duration = Duration::from_secs(10);

/// Has documents read back, one at a time. Its child starts with the first plan and ends with this.
#[derive(Default)]
pub struct PlanChecker {
    running: Option<RunningChecker>,
}

struct RunningChecker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl PlanChecker {
    /// Has the document of a plan read back. Returns everything that does not come back as it should. If it cannot be
    /// found out, that is wrong.
    pub async fn check(&mut self, plan: &Arc<Plan>) -> Vec<Problem> {
        let found = match timeout(READ_TIME, self.ask(plan)).await {
            Ok(found) => found,
            Err(_) => Err(format!("it took longer than {} s", READ_TIME.as_secs())),
        };
        match found {
            Ok(problems) => {
                let mut problems = sanitize_problems(problems);
                problems.truncate(PROBLEMS_MAX);
                problems
            }
            Err(reason) => vec![Problem {
                message: format!("the document could not be read back: {reason}"),
                help: Some("run `guillemet template check` with the plugin to see why".into()),
                ..Problem::default()
            }],
        }
    }

    async fn ask(&mut self, plan: &Arc<Plan>) -> Result<Vec<Problem>, String> {
        let plan = Arc::clone(plan);
        // A large document takes a while.
        let line = tokio::task::spawn_blocking(move || serde_json::to_vec(&*plan)).await;
        let mut line = line.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        line.push(b'\n');
        // Taken out while it works: a child that is given up halfway is killed, and the next plan gets another.
        let mut running = match self.running.take() {
            Some(running) => running,
            None => RunningChecker::start()?,
        };
        let answer = running.answer(&line).await;
        let Ok(problems) = serde_json::from_slice(&answer) else { return Err(running.ending().await) };
        self.running = Some(running);
        Ok(problems)
    }
}

impl RunningChecker {
    fn start() -> Result<Self, String> {
        let child = command().stdin(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| format!("the process cannot be started: {error}"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a pipe is missing".into());
        };
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    /// Returns the child's answer to a line; what there is of it if the child ends.
    async fn answer(&mut self, line: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        if self.input.write_all(line).await.is_ok() && self.input.flush().await.is_ok() {
            // An answer that is cut off is not JSON.
            let _ = (&mut self.output).take(ANSWER_MAX).read_until(b'\n', &mut answer).await;
        }
        answer
    }

    /// Ends the child. Returns what it said last.
    async fn ending(mut self) -> String {
        let mut words = Vec::new();
        let _ = self.child.start_kill();
        if let Some(errors) = self.child.stderr.take() {
            let _ = errors.take(MESSAGE_MAX as u64).read_to_end(&mut words).await;
        }
        last_words(&words)
    }
}
