//! The planners as the daemon sees them: one child for each plugin, started on demand, asked one thing at
//! a time, ended when idle, and killed when it overruns.
//!
//! Invariant: whatever a child does is an error of the request it was asked, never of the daemon. Its
//! answers are bounded before they are read; what they say is held to the contract in `plan`.

mod child;
mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::child::{Ended, Ending, Running};
pub use self::child::{Lost, read_answer, read_frame};
use self::report::usable;
pub use self::report::{believed, named};
use crate::planner::protocol::{
    Answer, Description, FORM_MAX, FRAME_MAX, PlanRequest, Planned, Report, Request, Target,
};
use crate::planner::text::{tidy, tidy_problems};
use crate::template::Problem;

/// How long a plugin may take to load, beside what its compilation may take.
const LOAD_TIME: Duration = Duration::from_secs(10);
/// How long a MiB of a component may take to be compiled. A calm machine needs less than a second.
const COMPILE_TIME: Duration = Duration::from_secs(6);
/// How long one plan may take.
const PLAN_TIME: Duration = Duration::from_secs(5);
/// How long a child is kept without a request.
const IDLE_TIME: Duration = Duration::from_secs(30);
/// Most characters of a failure's message.
const MESSAGE_MAX: usize = 2_000;

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
    /// This machine does not let it work.
    #[error("the planner for {plugin} cannot work here: {reason}")]
    CannotWork {
        /// Which plugin's.
        plugin: String,
        /// What is in its way, and what to do.
        reason: String,
    },
    /// It took too long and was killed.
    #[error("the planner for {plugin} took longer than {} s and was stopped; try again, or simplify the template", .limit.as_secs())]
    Timeout {
        /// Which plugin's.
        plugin: String,
        /// The time it had.
        limit: Duration,
    },
    /// It took too long to load the plugin, and was killed.
    #[error(
        "the planner for {plugin} needed more than {} s to load it and was stopped; try again when the machine is less \
         busy, or make the plugin smaller", .limit.as_secs()
    )]
    Slow {
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
#[derive(Debug, thiserror::Error)]
pub enum PlanFailure {
    /// The template is wrong: everything that was found.
    #[error("the template has {} problems", .0.len())]
    Problems(Vec<Problem>),
    /// The plugin breaks a rule of the contract.
    #[error("{rule}; this is a mistake of the plugin: tell its author")]
    Broken {
        /// What it did.
        rule: String,
    },
    /// The plugin or its planner is wrong in another way.
    #[error("{message}")]
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
    options: PlannerOptions,
}

/// How a planner's child is started and kept. The default is what the daemon and the command line use.
#[derive(Clone, Debug)]
pub struct PlannerOptions {
    /// The program, which must know the command `planner`; this one by default.
    pub program: PathBuf,
    /// After how long a child without a request is ended: 30 seconds by default.
    pub idle_time: Duration,
}

impl Default for PlannerOptions {
    fn default() -> Self {
        Self { program: PathBuf::from("/proc/self/exe"), idle_time: IDLE_TIME }
    }
}

/// Who holds the seat, the child that sat there, and what it said of the plugin.
type Ready = (OwnedMutexGuard<Seat>, Running, Report);

/// The child between two requests, with the plugin loaded.
#[derive(Default)]
struct Seat {
    ready: Option<(Running, Report)>,
    idle: Option<JoinHandle<()>>,
    /// Of the child that was started last, also where its request was given up on.
    last: Option<Ended>,
}

impl Planner {
    /// A planner for a component; `name` is for messages. Starts nothing yet.
    pub fn new(name: impl Into<String>, component: impl Into<Arc<[u8]>>, cache: Arc<dyn CompiledCache>) -> Self {
        Self::with_options(name, component, cache, PlannerOptions::default())
    }

    /// The same with other options.
    pub fn with_options(
        name: impl Into<String>,
        component: impl Into<Arc<[u8]>>,
        cache: Arc<dyn CompiledCache>,
        options: PlannerOptions,
    ) -> Self {
        let component = component.into();
        let plugin = Plugin {
            name: tidy(&name.into(), 100),
            digest: Sha256::digest(&component).into(),
            component,
            cache,
            options,
        };
        Self { plugin: Arc::new(plugin), seat: Arc::default() }
    }

    /// The SHA-256 of the component.
    pub fn digest(&self) -> &[u8; 32] {
        &self.plugin.digest
    }

    /// The same plugin with a child of its own, which nobody else asks.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { plugin: Arc::clone(&self.plugin), seat: Arc::default() }
    }

    /// Ends the child, also one that is still loading the plugin, and waits until it is gone.
    pub async fn end(&self) {
        let mut seat = self.seat.lock().await;
        if let Some(idle) = seat.idle.take() {
            idle.abort();
        }
        seat.ready = None;
        if let Some(mut last) = seat.last.take() {
            last.wait().await;
        }
    }

    /// Whether there is a child now: working, or waiting for work.
    pub fn is_running(&self) -> bool {
        let is_alive = |(running, _): &(Running, Report)| running.is_alive();
        self.seat.try_lock().map_or(true, |seat| seat.ready.as_ref().is_some_and(is_alive))
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
        let (mut seat, running, report) = self.ready().await?;
        if report.broken.is_empty() {
            self.put_back(&mut seat, running, report.clone());
        }
        Ok(report)
    }

    /// Works a template out.
    ///
    /// # Errors
    /// What is wrong with the template, or with the plugin or its planner.
    pub async fn plan(&self, request: PlanRequest) -> Result<Planned, PlanFailure> {
        let wanted = |answer, _: &Description| match answer {
            Answer::Planned(planned) => Some(planned),
            _ => None,
        };
        self.ask(Request::Plan(request), wanted).await
    }

    /// Asks which targets a template names for itself. The target of the request counts for nothing. What comes back is
    /// known to the plugin, each target once; it is empty where the template names none.
    ///
    /// # Errors
    /// As `plan`; the plugin is not called for it.
    pub async fn targets(&self, request: PlanRequest) -> Result<Vec<Target>, PlanFailure> {
        let wanted = |answer, description: &Description| match answer {
            Answer::Targets(ids) => named(&ids, description),
            _ => None,
        };
        self.ask(Request::Targets(request), wanted).await
    }

    /// Asks the child something. `wanted` takes what was asked for out of an answer that has it.
    async fn ask<T>(
        &self,
        request: Request,
        wanted: impl FnOnce(Answer, &Description) -> Option<T>,
    ) -> Result<T, PlanFailure> {
        let request = self.encode(&request)?;
        let (mut seat, mut running, report) = self.ready().await?;
        let description = usable(&report)?;
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
            Answer::Problems(problems) if !problems.is_empty() => Err(PlanFailure::Problems(tidy_problems(problems))),
            Answer::Failed { message } => Err(PlanFailure::Failed { message: tidy(&message, MESSAGE_MAX) }),
            Answer::Broken { rule } => Err(PlanFailure::Broken { rule: tidy(&rule, MESSAGE_MAX) }),
            answer => Ok(wanted(answer, &description).ok_or_else(|| self.unfit())?),
        };
        self.put_back(&mut seat, running, report);
        outcome
    }

    /// The seat, and a child with the plugin loaded, if it can be used. Loading goes on when nobody waits for it any
    /// more: what was begun is not to be compiled from its beginning again.
    async fn ready(&self) -> Result<Ready, PlannerError> {
        let mut seat = Arc::clone(&self.seat).lock_owned().await;
        if let Some(idle) = seat.idle.take() {
            idle.abort();
        }
        if let Some((running, report)) = seat.ready.take()
            && running.is_fit()
        {
            return Ok((seat, running, report));
        }
        let (loaded, wanted) = tokio::sync::oneshot::channel();
        let planner = self.clone();
        tokio::spawn(async move {
            let started = planner.start(&mut seat).await;
            let ready = started.map(|(running, report)| (seat, running, report));
            if let Err(Ok((mut seat, running, report))) = loaded.send(ready)
                && report.broken.is_empty()
            {
                planner.put_back(&mut seat, running, report);
            }
        });
        wanted.await.unwrap_or_else(|_| Err(self.unfit()))
    }

    /// A new child, and what it says of the plugin.
    async fn start(&self, seat: &mut Seat) -> Result<(Running, Report), PlannerError> {
        let mut running = Running::start(&self.plugin.options.program, &self.plugin.name)
            .map_err(|error| PlannerError::Start { plugin: self.plugin.name.clone(), error })?;
        seat.last = Some(running.ended());
        let most = load_time(self.plugin.component.len());
        let result = within(&self.plugin.name, most, self.plugin.load_into(&mut running)).await;
        match result {
            Ok(Ok(report)) => Ok((running, believed(report).ok_or_else(|| self.unfit())?)),
            Ok(Err(message)) => Err(PlannerError::Failed { message: tidy(&message, MESSAGE_MAX) }),
            Err(Lost::Timeout(limit)) => Err(PlannerError::Slow { plugin: self.plugin.name.clone(), limit }),
            Err(lost) => Err(self.explain(lost, running).await),
        }
    }

    /// Keeps the child for the next request, but not for ever.
    fn put_back(&self, seat: &mut Seat, running: Running, report: Report) {
        seat.ready = Some((running, report));
        let (weak, idle_time) = (Arc::downgrade(&self.seat), self.plugin.options.idle_time);
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
            Lost::Ended => match running.ending().await {
                Ending::CannotWork(reason) => PlannerError::CannotWork { plugin, reason },
                Ending::Other(reason) => PlannerError::Ended { plugin, reason },
            },
        }
    }
}

impl Plugin {
    /// Has a child take the plugin: in its compiled form where one is kept, else the component. The
    /// planner's own refusal is the inner error.
    async fn load_into(&self, running: &mut Running) -> Result<Result<Report, String>, Lost> {
        let load = |compiled| serde_json::to_vec(&Request::Load { compiled }).map_err(|_| Lost::Garbage);
        if let Some(form) = self.kept().await.filter(|form| form.len() <= FORM_MAX) {
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
                _ => return Err(Lost::Garbage),
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
                    self.keep(form).await;
                }
                Ok(Ok(report))
            }
            Answer::Failed { message } => Ok(Err(message)),
            _ => Err(Lost::Garbage),
        }
    }

    /// The compiled form that is kept. It may be large: nobody else is to wait while it is read.
    async fn kept(&self) -> Option<Vec<u8>> {
        let (cache, digest) = (Arc::clone(&self.cache), self.digest);
        tokio::task::spawn_blocking(move || cache.get(&digest)).await.ok().flatten()
    }

    /// Keeps a compiled form.
    async fn keep(&self, form: Vec<u8>) {
        let (cache, digest) = (Arc::clone(&self.cache), self.digest);
        // Where that fails, it is compiled again.
        let _ = tokio::task::spawn_blocking(move || cache.put(&digest, &form)).await;
    }
}

async fn within<T>(plugin: &str, limit: Duration, work: impl Future<Output = Result<T, Lost>>) -> Result<T, Lost> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        tracing::debug!(plugin, ?limit, "planner overran its time");
        Err(Lost::Timeout(limit))
    })
}
