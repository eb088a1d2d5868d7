//! One child: starts it, reads its pipes, and reports how it ended.
//!
//! Knows nothing of plans. The size of what a child sends is limited before it is read.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use guillemet_base::display::sanitize;
use guillemet_plan::protocol::{ANSWER_MAX, CANNOT_WORK, PlannerResponse};

/// How long a child that closed its pipe may take to exit.
const EXIT_TIME: Duration = Duration::from_secs(1);
/// How much of a child's standard error is kept, in bytes.
const STDERR_MAX: usize = 4 << 10;

/// The way in which a child was lost during a request.
#[derive(Debug)]
pub enum ChildError {
    /// It took longer than this.
    Timeout(Duration),
    /// What it sent is not an answer.
    Garbage,
    /// Its pipe was closed.
    Ended,
}

impl From<std::io::Error> for ChildError {
    fn from(_: std::io::Error) -> Self {
        Self::Ended
    }
}

/// Reads a frame of at most `max` bytes.
///
/// # Errors
/// Fails with `Garbage` if the frame is longer, and with `Ended` if the pipe is closed before its end.
pub async fn read_frame(pipe: &mut (impl AsyncRead + Unpin), max: usize) -> Result<Vec<u8>, ChildError> {
    let length = pipe.read_u32_le().await? as usize;
    if length > max {
        return Err(ChildError::Garbage);
    }
    let mut frame = vec![0; length];
    pipe.read_exact(&mut frame).await?;
    Ok(frame)
}

/// Reads an answer: one frame of JSON.
///
/// # Errors
/// Fails as [`read_frame`] does, and with `Garbage` if the frame contains anything else.
pub async fn read_answer(pipe: &mut (impl AsyncRead + Unpin)) -> Result<PlannerResponse, ChildError> {
    let frame = read_frame(pipe, ANSWER_MAX).await?;
    serde_json::from_slice(&frame).map_err(|_| ChildError::Garbage)
}

/// How a child that closed its pipes has ended.
pub enum ExitReason {
    /// It cannot work on this machine, for this reason.
    CannotWork(String),
    /// Anything else, described in words.
    Other(String),
}

/// A child and its pipes. Dropping it kills the child. A child that ends by itself is reaped at once.
pub struct RunningChild {
    child: Arc<Mutex<Child>>,
    input: ChildStdin,
    /// The pipe that its answers arrive on.
    pub output: ChildStdout,
    /// The beginning of what it wrote to its standard error.
    words: Arc<Mutex<Vec<u8>>>,
    listener: JoinHandle<()>,
    ended: ExitWatch,
}

/// Reports how a child has ended, once it has been reaped.
#[derive(Clone)]
pub struct ExitWatch(watch::Receiver<Option<ExitStatus>>);

impl ExitWatch {
    /// Waits at most a second for the child to exit; returns its exit status, or `None` if it is still running.
    pub async fn wait(&mut self) -> Option<ExitStatus> {
        match timeout(EXIT_TIME, self.0.wait_for(Option::is_some)).await {
            Ok(Ok(status)) => *status,
            _ => None,
        }
    }
}

impl RunningChild {
    /// Starts a planner: this program, or another one that has the command. `plugin` is a name for the log.
    ///
    /// # Errors
    /// Fails if the system cannot start the process.
    pub fn start(program: &Path, plugin: &str) -> std::io::Result<Self> {
        // Registered before there is a child, so that its end is not missed.
        let ends = signal(SignalKind::child())?;
        let mut child = Command::new(program)
            .arg("planner")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let missing = || std::io::Error::other("a pipe is missing");
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        let errors = child.stderr.take().ok_or_else(missing)?;
        let words = Arc::default();
        let listener = tokio::spawn(listen(errors, Arc::clone(&words), plugin.to_owned()));
        let child = Arc::new(Mutex::new(child));
        let (sender, ended) = watch::channel(None);
        tokio::spawn(reap(Arc::clone(&child), ends, sender));
        Ok(Self { child, input, output, words, listener, ended: ExitWatch(ended) })
    }

    /// Reports whether it can be asked again: it is running, and has sent nothing without a request.
    pub fn is_fit(&self) -> bool {
        self.is_alive() && matches!(rustix::io::ioctl_fionread(&self.output), Ok(0))
    }

    /// Reports whether it is still running.
    pub fn is_alive(&self) -> bool {
        matches!(status(&self.child), Ok(None))
    }

    /// Returns a handle that reports its end, even after this is dropped.
    pub fn ended(&self) -> ExitWatch {
        self.ended.clone()
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// Fails with `Ended` if the pipe is closed.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), ChildError> {
        let length = u32::try_from(frame.len()).map_err(|_| ChildError::Garbage)?;
        self.input.write_all(&length.to_le_bytes()).await?;
        self.input.write_all(frame).await?;
        Ok(self.input.flush().await?)
    }

    /// Waits a moment for a child that closed its pipes, and returns how it has ended.
    pub async fn ending(mut self) -> ExitReason {
        let status = self.ended.wait().await;
        let _ = timeout(EXIT_TIME, &mut self.listener).await;
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        // The allocator writes this before it aborts.
        if words.windows(17).any(|window| window == b"memory allocation") {
            return ExitReason::Other("exceeded its memory limit".to_owned());
        }
        match status {
            Some(status) if status.code() == Some(CANNOT_WORK.into()) => {
                ExitReason::CannotWork(sanitize(&String::from_utf8_lossy(&words), STDERR_MAX))
            }
            Some(status) => ExitReason::Other(format!("exited before it responded ({status})")),
            None => ExitReason::Other("closed its pipe before it responded".to_owned()),
        }
    }
}

impl Drop for RunningChild {
    fn drop(&mut self) {
        self.listener.abort();
        // An error means that it has already ended.
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).start_kill();
    }
}

/// Returns the exit status of a child that has ended, and reaps it.
fn status(child: &Mutex<Child>) -> std::io::Result<Option<ExitStatus>> {
    child.lock().unwrap_or_else(PoisonError::into_inner).try_wait()
}

/// Reaps a child as soon as it has ended. No request may come for a long time, and until then it would be a zombie.
/// `ends` signals the end of any child.
async fn reap(child: Arc<Mutex<Child>>, mut ends: Signal, sender: watch::Sender<Option<ExitStatus>>) {
    while ends.recv().await.is_some() {
        if let Ok(Some(status)) = status(&child) {
            sender.send_replace(Some(status));
            return;
        }
    }
}

/// Reads a child's standard error to its end; keeps and logs the beginning.
async fn listen(mut errors: ChildStderr, words: Arc<Mutex<Vec<u8>>>, plugin: String) {
    let mut chunk = [0; 1024];
    while let Ok(count @ 1..) = errors.read(&mut chunk).await {
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = STDERR_MAX.saturating_sub(words.len()).min(count);
        words.extend_from_slice(&chunk[..taken]);
        if taken > 0 {
            let said = sanitize(&String::from_utf8_lossy(&chunk[..taken]), STDERR_MAX);
            tracing::debug!(plugin, said, "planner wrote to standard error");
        }
    }
}
