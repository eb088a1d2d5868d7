//! The planners as the daemon sees them: one child for each plugin, started on demand, asked one thing at
//! a time, ended when idle, and killed when it overruns.
//!
//! Invariant: whatever a child does is an error of the request it was asked, never of the daemon. Its
//! answers are bounded before they are read; what they say is held to the contract in `plan`.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::planner::description;
use crate::planner::protocol::{
    ANSWER_MAX, Answer, Description, FORM_MAX, FRAME_MAX, Import, PlanRequest, Planned, Report, Request, Rule,
};
use crate::planner::text::{tidy, tidy_problems};
use crate::template::Problem;

/// How long a plugin may take to load, beside what its compilation may take.
const LOAD_TIME: Duration = Duration::from_secs(20);
/// How long a MiB of a component may take to be compiled. A calm machine needs less than a second.
const COMPILE_TIME: Duration = Duration::from_secs(8);
/// How long one plan may take.
const PLAN_TIME: Duration = Duration::from_secs(5);
/// How long a child is kept without a request.
const IDLE_TIME: Duration = Duration::from_secs(30);
/// How long a child that closed its pipe may take to be gone.
const EXIT_TIME: Duration = Duration::from_secs(1);
/// What is kept of a child's standard error, in bytes.
const STDERR_MAX: usize = 4 << 10;
/// Most characters of a failure's message.
const MESSAGE_MAX: usize = 2_000;
/// Most sentences on what stands against a plugin, and most characters of one.
const RULES_MAX: usize = 200;
const RULE_MAX: usize = 500;
/// Most imports of a component, and most functions of one, that are believed.
const NAMES_MAX: usize = 200;
/// Most characters of their names.
const NAME_MAX: usize = 100;

/// Where the daemon keeps compiled forms, under a MAC, by the SHA-256 of the component. A form that comes
/// back is deserialized by a planner as it is, so `get` must answer nothing it cannot vouch for.
pub trait CompiledCache: Send + Sync {
    /// The form kept for this component.
    fn get(&self, digest: &[u8; 32]) -> Option<Vec<u8>>;
    /// Keeps the form of this component; where that fails, it is compiled again next time.
    fn put(&self, digest: &[u8; 32], form: &[u8]);
}

/// Keeps nothing: every start compiles.
pub struct NoCache;

impl CompiledCache for NoCache {
    fn get(&self, _: &[u8; 32]) -> Option<Vec<u8>> {
        None
    }

    fn put(&self, _: &[u8; 32], _: &[u8]) {}
}

/// How long a component of so many bytes may take to load: in its compiled form far less, but whether that is good is
/// known only then.
pub fn load_time(bytes: usize) -> Duration {
    LOAD_TIME + COMPILE_TIME.mul_f64(bytes as f64 / f64::from(1 << 20))
}

/// Why a planner gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum PlannerError {
    /// The child could not be started.
    #[error("the planner for {plugin} could not be started: {error}; see that the program may run its own file")]
    Start {
        /// Which plugin's.
        plugin: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// It took too long and was killed.
    #[error("the planner for {plugin} took longer than {} s and was stopped; try again, or simplify the template", .limit.as_secs())]
    Timeout {
        /// Which plugin's.
        plugin: String,
        /// The time it had.
        limit: Duration,
    },
    /// It ended before it had answered.
    #[error("the planner for {plugin} {reason}; simplify the template, or tell the plugin's author")]
    Ended {
        /// Which plugin's.
        plugin: String,
        /// How, as far as that is known.
        reason: String,
    },
    /// It said something it was not asked, or nothing that can be read.
    #[error(
        "the planner for {plugin} gave an answer that does not fit the request; replace the plugin if this happens again"
    )]
    Answer {
        /// Which plugin's.
        plugin: String,
    },
    /// The request is larger than a planner reads.
    #[error("the request to the planner for {plugin} is too large; split the template")]
    Request {
        /// Which plugin's.
        plugin: String,
    },
    /// The plugin breaks the contract; said by the planner.
    #[error("{message}")]
    Failed {
        /// What it did.
        message: String,
    },
}

/// Why there is no plan.
#[derive(Debug)]
pub enum PlanFailure {
    /// The template is wrong: everything that was found.
    Problems(Vec<Problem>),
    /// The plugin or its planner is wrong.
    Failed {
        /// What it did, and what to do.
        message: String,
    },
}

impl From<PlannerError> for PlanFailure {
    fn from(error: PlannerError) -> Self {
        Self::Failed { message: error.to_string() }
    }
}

/// The planner of one plugin. Cheap to clone; clones share the child.
#[derive(Clone)]
pub struct Planner {
    plugin: Arc<Plugin>,
    /// Held for a whole request: a child is asked one thing at a time.
    seat: Arc<Mutex<Seat>>,
}

struct Plugin {
    name: String,
    component: Arc<[u8]>,
    digest: [u8; 32],
    cache: Arc<dyn CompiledCache>,
    program: PathBuf,
    idle_time: Duration,
}

/// The child between two requests, with the plugin loaded.
#[derive(Default)]
struct Seat {
    ready: Option<(Running, Report)>,
    idle: Option<JoinHandle<()>>,
}

impl Planner {
    /// A planner for a component; `name` is for messages. Starts nothing yet.
    pub fn new(name: impl Into<String>, component: impl Into<Arc<[u8]>>, cache: Arc<dyn CompiledCache>) -> Self {
        let component = component.into();
        let plugin = Plugin {
            name: tidy(&name.into(), 100),
            digest: Sha256::digest(&component).into(),
            component,
            cache,
            program: PathBuf::from("/proc/self/exe"),
            idle_time: IDLE_TIME,
        };
        Self { plugin: Arc::new(plugin), seat: Arc::default() }
    }

    /// The same with another program than this one, which must know the command `planner`.
    #[must_use]
    pub fn with_program(self, program: impl Into<PathBuf>) -> Self {
        self.changed(|plugin| plugin.program = program.into())
    }

    /// The same with another time after which an idle child is ended.
    #[must_use]
    pub fn with_idle_time(self, idle_time: Duration) -> Self {
        self.changed(|plugin| plugin.idle_time = idle_time)
    }

    fn changed(self, change: impl FnOnce(&mut Plugin)) -> Self {
        let Plugin { name, component, digest, cache, program, idle_time } = &*self.plugin;
        let mut plugin = Plugin {
            name: name.clone(),
            component: Arc::clone(component),
            digest: *digest,
            cache: Arc::clone(cache),
            program: program.clone(),
            idle_time: *idle_time,
        };
        change(&mut plugin);
        Self { plugin: Arc::new(plugin), seat: Arc::default() }
    }

    /// The SHA-256 of the component.
    pub fn digest(&self) -> &[u8; 32] {
        &self.plugin.digest
    }

    /// Whether there is a child now: working, or waiting for work.
    pub fn is_running(&self) -> bool {
        self.seat.try_lock().map_or(true, |seat| seat.ready.is_some())
    }

    /// Loads the plugin if it is not loaded, and says what it knows.
    ///
    /// # Errors
    /// A plugin that breaks the contract, or a planner that gave no answer.
    pub async fn load(&self) -> Result<Description, PlannerError> {
        usable(&self.look().await?)
    }

    /// Loads the plugin if it is not loaded, and says all that was found out about it, also when it cannot be used.
    ///
    /// # Errors
    /// A planner that gave no answer.
    pub async fn look(&self) -> Result<Report, PlannerError> {
        let planner = self.clone();
        // Goes on when nobody waits any more: what was begun is not to be compiled from its beginning again.
        let loading = tokio::spawn(async move {
            let mut seat = planner.seat.lock().await;
            let (running, report) = planner.ready(&mut seat).await?;
            if report.broken.is_empty() {
                planner.put_back(&mut seat, running, report.clone());
            }
            Ok(report)
        });
        loading.await.unwrap_or_else(|_| Err(self.unfit()))
    }

    /// Works a template out.
    ///
    /// # Errors
    /// What is wrong with the template, or with the plugin or its planner.
    pub async fn plan(&self, request: PlanRequest) -> Result<Planned, PlanFailure> {
        let request = self.encode(&Request::Plan(request))?;
        let mut seat = self.seat.lock().await;
        if seat.ready.is_none() {
            drop(seat);
            usable(&self.look().await?)?;
            seat = self.seat.lock().await;
        }
        let (mut running, report) = self.ready(&mut seat).await?;
        usable(&report)?;
        // A child whose request is given up on (an error, or a caller gone) is dropped here, and killed.
        let result = within(&self.plugin.name, PLAN_TIME, async {
            running.send(&request).await?;
            read_answer(&mut running.output).await
        });
        let answer = match result.await {
            Ok(answer) => answer,
            Err(lost) => return Err(self.explain(lost, running).await.into()),
        };
        let outcome = match answer {
            Answer::Planned(planned) => Ok(planned),
            Answer::Problems(problems) if !problems.is_empty() => Err(PlanFailure::Problems(tidy_problems(problems))),
            Answer::Failed { message } => Err(PlanFailure::Failed { message: tidy(&message, MESSAGE_MAX) }),
            Answer::Problems(_) | Answer::Loaded(_) => return Err(self.unfit().into()),
        };
        self.put_back(&mut seat, running, report);
        outcome
    }

    /// A child with the plugin loaded, if it can be used, taken out of its seat.
    async fn ready(&self, seat: &mut Seat) -> Result<(Running, Report), PlannerError> {
        if let Some(idle) = seat.idle.take() {
            idle.abort();
        }
        if let Some((mut running, report)) = seat.ready.take()
            && running.is_fit()
        {
            return Ok((running, report));
        }
        let mut running = Running::start(&self.plugin)
            .map_err(|error| PlannerError::Start { plugin: self.plugin.name.clone(), error })?;
        let most = load_time(self.plugin.component.len());
        let result = within(&self.plugin.name, most, self.plugin.load_into(&mut running)).await;
        match result {
            Ok(Ok(report)) => Ok((running, believed(report).ok_or_else(|| self.unfit())?)),
            Ok(Err(message)) => Err(PlannerError::Failed { message: tidy(&message, MESSAGE_MAX) }),
            Err(lost) => Err(self.explain(lost, running).await),
        }
    }

    /// Keeps the child for the next request, but not for ever.
    fn put_back(&self, seat: &mut Seat, running: Running, report: Report) {
        seat.ready = Some((running, report));
        let (weak, idle_time) = (Arc::downgrade(&self.seat), self.plugin.idle_time);
        seat.idle = Some(tokio::spawn(async move {
            tokio::time::sleep(idle_time).await;
            if let Some(seat) = weak.upgrade() {
                // A request that holds the seat now starts the clock anew when it is done.
                if let Ok(mut seat) = seat.try_lock() {
                    seat.ready = None;
                }
            }
        }));
    }

    fn encode(&self, request: &Request) -> Result<Vec<u8>, PlannerError> {
        let bytes = serde_json::to_vec(request).ok().filter(|bytes| bytes.len() <= FRAME_MAX);
        bytes.ok_or_else(|| PlannerError::Request { plugin: self.plugin.name.clone() })
    }

    fn unfit(&self) -> PlannerError {
        PlannerError::Answer { plugin: self.plugin.name.clone() }
    }

    async fn explain(&self, lost: Lost, running: Running) -> PlannerError {
        let plugin = self.plugin.name.clone();
        match lost {
            Lost::Timeout(limit) => PlannerError::Timeout { plugin, limit },
            Lost::Garbage => self.unfit(),
            Lost::Ended => PlannerError::Ended { plugin, reason: running.last_words().await },
        }
    }
}

impl Plugin {
    /// Has a child take the plugin: in its compiled form where one is kept, else the component. The
    /// planner's own refusal is the inner error.
    async fn load_into(&self, running: &mut Running) -> Result<Result<Report, String>, Lost> {
        let load = |compiled| serde_json::to_vec(&Request::Load { compiled }).map_err(|_| Lost::Garbage);
        if let Some(form) = self.cache.get(&self.digest).filter(|form| form.len() <= FORM_MAX) {
            running.send(&load(true)?).await?;
            running.send(&form).await?;
            match read_answer(&mut running.output).await? {
                Answer::Loaded(report) => {
                    read_frame(&mut running.output, 0).await?;
                    if report.broken.is_empty() {
                        return Ok(Ok(report));
                    }
                    // Another version has made it, or it is damaged: compile again.
                    tracing::debug!(plugin = self.name, "compiled form refused");
                }
                Answer::Failed { message } => return Ok(Err(message)),
                Answer::Planned(_) | Answer::Problems(_) => return Err(Lost::Garbage),
            }
        }
        if self.component.len() > FRAME_MAX {
            return Ok(Err(format!("the component is larger than {} MiB; make it smaller", FRAME_MAX >> 20)));
        }
        running.send(&load(false)?).await?;
        running.send(&self.component).await?;
        match read_answer(&mut running.output).await? {
            Answer::Loaded(report) => {
                let form = read_frame(&mut running.output, FORM_MAX).await?;
                if report.broken.is_empty() {
                    self.cache.put(&self.digest, &form);
                }
                Ok(Ok(report))
            }
            Answer::Failed { message } => Ok(Err(message)),
            Answer::Planned(_) | Answer::Problems(_) => Err(Lost::Garbage),
        }
    }
}

/// What a usable plugin says of itself.
fn usable(report: &Report) -> Result<Description, PlannerError> {
    match &report.description {
        Some(description) if report.broken.is_empty() => Ok(description.clone()),
        _ => {
            let broken: Vec<&str> = report.broken.iter().map(|rule| rule.sentence.as_str()).collect();
            Err(PlannerError::Failed { message: tidy(&broken.join("; "), MESSAGE_MAX) })
        }
    }
}

/// A planner's report, as far as it can be believed and shown: a plugin that is said to be usable has a description
/// that keeps every rule.
pub fn believed(report: Report) -> Option<Report> {
    let texts = |texts: Vec<String>, count: usize, max: usize| -> Vec<String> {
        texts.iter().take(count).map(|text| tidy(text, max)).filter(|text| !text.is_empty()).collect()
    };
    let imports = report.imports.into_iter().take(NAMES_MAX).map(|import| Import {
        name: tidy(&import.name, NAME_MAX),
        functions: texts(import.functions, NAMES_MAX, NAME_MAX),
    });
    let broken = report.broken.into_iter().take(RULES_MAX);
    let broken: Vec<Rule> =
        broken.map(|rule| Rule { sentence: tidy(&rule.sentence, RULE_MAX), about: rule.about }).collect();
    let description = if broken.is_empty() {
        Some(description::check(report.description?).ok()?)
    } else {
        report.description.map(description::shown)
    };
    Some(Report { imports: imports.collect(), description, broken, ..report })
}

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

async fn within<T>(plugin: &str, limit: Duration, work: impl Future<Output = Result<T, Lost>>) -> Result<T, Lost> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        tracing::debug!(plugin, ?limit, "planner overran its time");
        Err(Lost::Timeout(limit))
    })
}

/// A child and its pipes. Dropping it kills the child.
struct Running {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    /// The beginning of what it wrote to its standard error.
    words: Arc<SyncMutex<Vec<u8>>>,
    listener: JoinHandle<()>,
}

impl Running {
    fn start(plugin: &Plugin) -> std::io::Result<Self> {
        let mut child = Command::new(&plugin.program)
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
        let listener = tokio::spawn(listen(errors, Arc::clone(&words), plugin.name.clone()));
        Ok(Self { child, input, output, words, listener })
    }

    /// Whether it may be asked again: it lives, and has said nothing that it was not asked.
    fn is_fit(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None)) && matches!(rustix::io::ioctl_fionread(&self.output), Ok(0))
    }

    async fn send(&mut self, frame: &[u8]) -> Result<(), Lost> {
        let length = u32::try_from(frame.len()).map_err(|_| Lost::Garbage)?;
        self.input.write_all(&length.to_le_bytes()).await?;
        self.input.write_all(frame).await?;
        Ok(self.input.flush().await?)
    }

    /// How a child that closed its pipes has ended.
    async fn last_words(mut self) -> String {
        let status = timeout(EXIT_TIME, self.child.wait()).await;
        let _ = timeout(EXIT_TIME, &mut self.listener).await;
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        // What the allocator says before it gives up.
        if words.windows(17).any(|window| window == b"memory allocation") {
            return "needed more memory than it may have".to_owned();
        }
        match status {
            Ok(Ok(status)) => format!("ended before it answered ({status})"),
            _ => "closed its pipe before it answered".to_owned(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Reads a child's standard error to its end, keeps the beginning and logs that.
async fn listen(mut errors: ChildStderr, words: Arc<SyncMutex<Vec<u8>>>, plugin: String) {
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
