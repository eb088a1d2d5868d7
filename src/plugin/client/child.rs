//! One child: how it is started, what is read of its pipes, and how it has ended.
//!
//! Knows nothing of plans. What a child says is bounded before it is read.

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

use crate::planner::protocol::CANNOT_WORK;
use crate::planner::protocol::{ANSWER_MAX, Answer};
use crate::planner::text::tidy;

/// How long a child that closed its pipe may take to be gone.
const EXIT_TIME: Duration = Duration::from_secs(1);
/// What is kept of a child's standard error, in bytes.
const STDERR_MAX: usize = 4 << 10;

/// How a child was lost in the middle of a request.
#[derive(Debug)]
pub enum Lost {
    /// It took longer than this.
    Timeout(Duration),
    /// What it said is no answer.
    Garbage,
    /// Its pipe was closed.
    Ended,
}

impl From<std::io::Error> for Lost {
    fn from(_: std::io::Error) -> Self {
        Self::Ended
    }
}

/// Reads a frame of at most `max` bytes.
///
/// # Errors
/// `Garbage` where it announces more, `Ended` where it breaks off.
pub async fn read_frame(pipe: &mut (impl AsyncRead + Unpin), max: usize) -> Result<Vec<u8>, Lost> {
    let length = pipe.read_u32_le().await? as usize;
    if length > max {
        return Err(Lost::Garbage);
    }
    let mut frame = vec![0; length];
    pipe.read_exact(&mut frame).await?;
    Ok(frame)
}

/// Reads an answer: one frame of JSON.
///
/// # Errors
/// As `read_frame`, and `Garbage` where the frame holds something else.
pub async fn read_answer(pipe: &mut (impl AsyncRead + Unpin)) -> Result<Answer, Lost> {
    let frame = read_frame(pipe, ANSWER_MAX).await?;
    serde_json::from_slice(&frame).map_err(|_| Lost::Garbage)
}

/// How a child that closed its pipes has ended.
pub enum Ending {
    /// This machine does not let it work; why.
    CannotWork(String),
    /// Something else; in words.
    Other(String),
}

/// A child and its pipes. Dropping it kills the child; one that ends by itself is waited for at once.
pub struct Running {
    child: Arc<Mutex<Child>>,
    input: ChildStdin,
    /// Its answers.
    pub output: ChildStdout,
    /// The beginning of what it wrote to its standard error.
    words: Arc<Mutex<Vec<u8>>>,
    listener: JoinHandle<()>,
    ended: Ended,
}

/// Tells how a child has ended, once it has and was waited for.
#[derive(Clone)]
pub struct Ended(watch::Receiver<Option<ExitStatus>>);

impl Ended {
    /// Waits until the child is gone, but no longer than a moment; how it has ended.
    pub async fn wait(&mut self) -> Option<ExitStatus> {
        match timeout(EXIT_TIME, self.0.wait_for(Option::is_some)).await {
            Ok(Ok(status)) => *status,
            _ => None,
        }
    }
}

impl Running {
    /// Starts a planner: this program or another that knows the command. `plugin` is a name, for the log.
    ///
    /// # Errors
    /// The system's.
    pub fn start(program: &Path, plugin: &str) -> std::io::Result<Self> {
        // Before there is a child: its end is not missed.
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
        let (told, ended) = watch::channel(None);
        tokio::spawn(reap(Arc::clone(&child), ends, told));
        Ok(Self { child, input, output, words, listener, ended: Ended(ended) })
    }

    /// Whether it may be asked again: it lives, and has said nothing that it was not asked.
    pub fn is_fit(&self) -> bool {
        self.is_alive() && matches!(rustix::io::ioctl_fionread(&self.output), Ok(0))
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&self) -> bool {
        matches!(status(&self.child), Ok(None))
    }

    /// Tells when it has ended, also after this is dropped.
    pub fn ended(&self) -> Ended {
        self.ended.clone()
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// `Ended` where nobody reads it.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), Lost> {
        let length = u32::try_from(frame.len()).map_err(|_| Lost::Garbage)?;
        self.input.write_all(&length.to_le_bytes()).await?;
        self.input.write_all(frame).await?;
        Ok(self.input.flush().await?)
    }

    /// Waits a moment for a child that closed its pipes, and says how it has ended.
    pub async fn ending(mut self) -> Ending {
        let status = self.ended.wait().await;
        let _ = timeout(EXIT_TIME, &mut self.listener).await;
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        // What the allocator says before it gives up.
        if words.windows(17).any(|window| window == b"memory allocation") {
            return Ending::Other("needed more memory than it may have".to_owned());
        }
        match status {
            Some(status) if status.code() == Some(CANNOT_WORK.into()) => {
                Ending::CannotWork(tidy(&String::from_utf8_lossy(&words), STDERR_MAX))
            }
            Some(status) => Ending::Other(format!("ended before it answered ({status})")),
            None => Ending::Other("closed its pipe before it answered".to_owned()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.listener.abort();
        // An error says that it has ended already.
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).start_kill();
    }
}

/// How a child has ended, if it has; it is waited for then.
fn status(child: &Mutex<Child>) -> std::io::Result<Option<ExitStatus>> {
    child.lock().unwrap_or_else(PoisonError::into_inner).try_wait()
}

/// Waits for a child as soon as it has ended: nobody may ask it anything for a long time, and until then it would be a
/// zombie. `ends` are the ends of any children.
async fn reap(child: Arc<Mutex<Child>>, mut ends: Signal, told: watch::Sender<Option<ExitStatus>>) {
    while ends.recv().await.is_some() {
        if let Ok(Some(status)) = status(&child) {
            told.send_replace(Some(status));
            return;
        }
    }
}

/// Reads a child's standard error to its end, keeps the beginning and logs that.
async fn listen(mut errors: ChildStderr, words: Arc<Mutex<Vec<u8>>>, plugin: String) {
    let mut chunk = [0; 1024];
    while let Ok(count @ 1..) = errors.read(&mut chunk).await {
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        let room = STDERR_MAX.saturating_sub(words.len()).min(count);
        words.extend_from_slice(&chunk[..room]);
        if room > 0 {
            let said = tidy(&String::from_utf8_lossy(&chunk[..room]), STDERR_MAX);
            tracing::debug!(plugin, said, "planner wrote to its standard error");
        }
    }
}
