//! The daemon's client of the planners: one child for each plugin, started on demand, asked one thing at a time, ended
//! when idle, and killed when it overruns its time.
//!
//! Invariant (promise Isolated): whatever a child does is an error of the request it was given, never of the daemon.
//! The size of its answers is limited before they are read; their content is checked against the contract in `plan`.

mod child;
pub mod confinement;
mod report;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use self::child::{ChildError, read_answer, read_frame};
use self::child::{ExitReason, ExitWatch, RunningChild};
use self::report::usable;
pub use self::report::{named_targets, shown_log, validated};
use guillemet_base::display::sanitize;
use guillemet_base::problem::{Problem, sanitize_problems};
use guillemet_plan::protocol::{
    Description, FORM_MAX, FRAME_MAX, PlanRequest, Planned, PlannerRequest, PlannerResponse, Report, Target,
};

/// The time that loading a plugin may take, in addition to its compilation.
const LOAD_TIME: Duration = Duration::from_secs(10);
/// The time that compiling one MiB of a component may take. An idle machine needs less than a second.
const COMPILE_TIME: Duration = Duration::from_secs(6);
/// The time that making one plan may take.
const PLAN_TIME: Duration = Duration::from_secs(5);
/// How long a child is kept without a request.
const IDLE_TIME: Duration = Duration::from_secs(30);
/// The most characters of a failure's message.
const MESSAGE_MAX: usize = 2_000;

/// A store of compiled forms, by the SHA-256 of the component. A planner deserializes a form as it is, so `get` must
/// not return one that it cannot vouch for.
pub trait CompiledCache: Send + Sync {
    /// Returns the compiled form of this component; `None` if there is none that can be trusted.
    fn get(&self, digest: &[u8; 32]) -> Option<Vec<u8>>;
    /// Stores the compiled form of this component. If that fails, the component is compiled again next time.
    fn put(&self, digest: &[u8; 32], form: &[u8]);
}

/// A cache that stores nothing, so every start compiles.
pub struct NoCache;

impl CompiledCache for NoCache {
    fn get(&self, _: &[u8; 32]) -> Option<Vec<u8>> {
        None
    }

    fn put(&self, _: &[u8; 32], _: &[u8]) {}
}

/// Returns how long a component of this many bytes may take to load. Its compiled form takes far less, but whether that
/// is usable shows only in the attempt.
pub fn load_time(bytes: usize) -> Duration {
    LOAD_TIME + COMPILE_TIME.mul_f64(bytes as f64 / f64::from(1 << 20))
}

/// The reason why a planner gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum PlannerError {
    /// The child could not be started.
    #[error(
        "the planner for {plugin} could not be started: {error}; check that the program is allowed to execute its own \
         file"
    )]
    Start {
        /// The name of the plugin, for messages.
        plugin: String,
        /// The error of the system.
        error: std::io::Error,
    },
    /// The planner cannot work on this machine.
    #[error("the planner for {plugin} cannot work here: {reason}")]
    CannotWork {
        /// The name of the plugin, for messages.
        plugin: String,
        /// What prevents it from working, and what to do.
        reason: String,
    },
    /// It took too long to answer and was killed.
    #[error("the planner for {plugin} took longer than {} s and was stopped; try again, or simplify the template", .limit.as_secs())]
    Timeout {
        /// The name of the plugin, for messages.
        plugin: String,
        /// The time that it was given.
        limit: Duration,
    },
    /// It took too long to load the plugin and was killed.
    #[error(
        "the planner for {plugin} took longer than {} s to load it and was stopped; try again when the machine is less \
         busy, or make the plugin smaller", .limit.as_secs()
    )]
    Slow {
        /// The name of the plugin, for messages.
        plugin: String,
        /// The time that it was given.
        limit: Duration,
    },
    /// It ended before it answered.
    #[error("the planner for {plugin} {reason}; simplify the template, or report this to the plugin's author")]
    Ended {
        /// The name of the plugin, for messages.
        plugin: String,
        /// How it ended, as far as this is known.
        reason: String,
    },
    /// Its answer cannot be read, or does not fit the request.
    #[error("the planner for {plugin} sent an invalid response; replace the plugin if this happens again")]
    Answer {
        /// The name of the plugin, for messages.
        plugin: String,
    },
    /// The request is larger than a planner accepts.
    #[error("the request to the planner for {plugin} is too large; split the template")]
    Request {
        /// The name of the plugin, for messages.
        plugin: String,
    },
    /// The plugin breaks the contract, as the planner reports.
    #[error("{message}")]
    Failed {
        /// What the plugin did wrong, as a sentence for people.
        message: String,
    },
}

/// The reason why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The template is wrong. Holds every problem that was found.
    #[error("the template has {} problems", .0.len())]
    Problems(Vec<Problem>),
    /// The plugin broke a rule of the contract.
    #[error("{rule}; this is a bug in the plugin: report it to its author")]
    Broken {
        /// What it did.
        rule: String,
    },
    /// The plugin or its planner failed in another way.
    #[error("{message}")]
    Failed {
        /// What went wrong, and what to do, for people.
        message: String,
    },
}

impl From<PlannerError> for CompileError {
    fn from(error: PlannerError) -> Self {
        Self::Failed { message: error.to_string() }
    }
}

/// The planner of one plugin. Cheap to clone; clones share the child.
#[derive(Clone)]
pub struct Planner {
    plugin: Arc<PluginComponent>,
    /// Held for a whole request, because a child is asked one thing at a time.
    child_slot: Arc<Mutex<ChildSlot>>,
    /// What the plugin logged during the last plan.
    log: Arc<std::sync::Mutex<Vec<String>>>,
}

struct PluginComponent {
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

/// The slot with its lock, the child that was in it, and its report on the plugin.
type ReadyChild = (OwnedMutexGuard<ChildSlot>, RunningChild, Report);

/// The child between two requests, with the plugin loaded.
#[derive(Default)]
struct ChildSlot {
    ready: Option<(RunningChild, Report)>,
    idle: Option<JoinHandle<()>>,
    /// The end of the child that was started last, even if its request was given up.
    last: Option<ExitWatch>,
}

impl Planner {
    /// Creates a planner for a component, without starting it; `name` is for messages.
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
        let plugin = PluginComponent {
            name: sanitize(&name.into(), 100),
            digest: Sha256::digest(&component).into(),
            component,
            cache,
            options,
        };
        Self { plugin: Arc::new(plugin), child_slot: Arc::default(), log: Arc::default() }
    }

    /// Returns the SHA-256 of the component.
    pub fn digest(&self) -> &[u8; 32] {
        &self.plugin.digest
    }

    /// Returns the bytes of the component.
    pub fn component(&self) -> &[u8] {
        &self.plugin.component
    }

    /// Returns a planner for the same plugin with a separate child.
    #[must_use]
    pub fn with_own_child(&self) -> Self {
        Self { plugin: Arc::clone(&self.plugin), child_slot: Arc::default(), log: Arc::default() }
    }

    /// Ends the child, even one that is still loading the plugin, and waits for its exit, at most a second.
    pub async fn end(&self) {
        let mut child_slot = self.child_slot.lock().await;
        if let Some(idle) = child_slot.idle.take() {
            idle.abort();
        }
        child_slot.ready = None;
        if let Some(mut last) = child_slot.last.take() {
            last.wait().await;
        }
    }

    /// Reports whether a child exists now, working or waiting for work.
    pub fn is_running(&self) -> bool {
        let is_alive = |(running, _): &(RunningChild, Report)| running.is_alive();
        self.child_slot.try_lock().map_or(true, |child_slot| child_slot.ready.as_ref().is_some_and(is_alive))
    }

    /// Loads the plugin if it is not loaded, and returns its description.
    ///
    /// # Errors
    /// Fails with [`PlannerError::Failed`] if the plugin breaks the contract, and with another variant if the planner
    /// gave no answer.
    pub async fn load(&self) -> Result<Description, PlannerError> {
        usable(&self.inspect().await?)
    }

    /// Loads the plugin if it is not loaded, and returns all findings about it, even if it cannot be used.
    ///
    /// # Errors
    /// Fails with [`PlannerError`] if the planner gave no answer.
    pub async fn inspect(&self) -> Result<Report, PlannerError> {
        let (mut child_slot, running, report) = self.acquire_child().await?;
        if report.broken.is_empty() {
            self.keep_child(&mut child_slot, running, report.clone());
        }
        Ok(report)
    }

    /// Makes the plan of a template.
    ///
    /// # Errors
    /// Fails with [`CompileError::Problems`] if the template is wrong, and with [`CompileError::Failed`] if the plugin
    /// or its planner is.
    pub async fn plan(&self, request: PlanRequest) -> Result<Planned, CompileError> {
        let extract = |response, _: &Description| match response {
            PlannerResponse::Planned(planned) => Some(planned),
            _ => None,
        };
        self.request(PlannerRequest::Plan(request), extract).await
    }

    /// Takes the lines that the plugin logged during the last plan, for its author.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks which targets a template names for itself; ignores the target of the request. The plugin has each returned
    /// target, and each is there once. The list is empty if the template names none.
    ///
    /// # Errors
    /// Fails as [`plan`](Self::plan) does; the plugin itself is not called.
    pub async fn targets(&self, request: PlanRequest) -> Result<Vec<Target>, CompileError> {
        let extract = |response, description: &Description| match response {
            PlannerResponse::Targets(ids) => named_targets(&ids, description),
            _ => None,
        };
        self.request(PlannerRequest::Targets(request), extract).await
    }

    /// Sends a request to the child. `extract` extracts the result from an answer that contains it.
    async fn request<T>(
        &self,
        request: PlannerRequest,
        extract: impl FnOnce(PlannerResponse, &Description) -> Option<T>,
    ) -> Result<T, CompileError> {
        let request = self.encode(&request)?;
        let (mut child_slot, mut running, report) = self.acquire_child().await?;
        let description = usable(&report)?;
        // A child whose request is given up (an error, or a caller that left) is dropped here, which kills it.
        let result = with_timeout(&self.plugin.name, PLAN_TIME, async {
            running.send(&request).await?;
            match read_answer(&mut running.output).await? {
                PlannerResponse::Log(log) => Ok((log, read_answer(&mut running.output).await?)),
                response => Ok((Vec::new(), response)),
            }
        });
        let (log, response) = match result.await {
            Ok(answer) => answer,
            Err(error) => return Err(self.explain(error, running).await.into()),
        };
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = shown_log(log);
        let outcome = match response {
            PlannerResponse::Problems(problems) if !problems.is_empty() => {
                Err(CompileError::Problems(sanitize_problems(problems)))
            }
            PlannerResponse::Failed { message } => {
                Err(CompileError::Failed { message: sanitize(&message, MESSAGE_MAX) })
            }
            PlannerResponse::Broken { rule } => Err(CompileError::Broken { rule: sanitize(&rule, MESSAGE_MAX) }),
            response => Ok(extract(response, &description).ok_or_else(|| self.invalid_response())?),
        };
        self.keep_child(&mut child_slot, running, report);
        outcome
    }

    /// Returns the slot and a child with the plugin loaded. Loading continues even if no caller waits for it any more,
    /// so that a compilation that has begun is not started over.
    async fn acquire_child(&self) -> Result<ReadyChild, PlannerError> {
        let mut child_slot = Arc::clone(&self.child_slot).lock_owned().await;
        if let Some(idle) = child_slot.idle.take() {
            idle.abort();
        }
        if let Some((running, report)) = child_slot.ready.take()
            && running.is_fit()
        {
            return Ok((child_slot, running, report));
        }
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let planner = self.clone();
        tokio::spawn(async move {
            let started = planner.start_child(&mut child_slot).await;
            let ready = started.map(|(running, report)| (child_slot, running, report));
            if let Err(Ok((mut child_slot, running, report))) = sender.send(ready)
                && report.broken.is_empty()
            {
                planner.keep_child(&mut child_slot, running, report);
            }
        });
        receiver.await.unwrap_or_else(|_| Err(self.invalid_response()))
    }

    /// Starts a new child and returns its report on the plugin.
    async fn start_child(&self, child_slot: &mut ChildSlot) -> Result<(RunningChild, Report), PlannerError> {
        let mut running = RunningChild::start(&self.plugin.options.program, &self.plugin.name)
            .map_err(|error| PlannerError::Start { plugin: self.plugin.name.clone(), error })?;
        child_slot.last = Some(running.ended());
        let load_limit = load_time(self.plugin.component.len());
        let result = with_timeout(&self.plugin.name, load_limit, self.plugin.load_into(&mut running)).await;
        match result {
            Ok(Ok(report)) => Ok((running, validated(report).ok_or_else(|| self.invalid_response())?)),
            Ok(Err(message)) => Err(PlannerError::Failed { message: sanitize(&message, MESSAGE_MAX) }),
            Err(ChildError::Timeout(limit)) => Err(PlannerError::Slow { plugin: self.plugin.name.clone(), limit }),
            Err(error) => Err(self.explain(error, running).await),
        }
    }

    /// Keeps the child for the next request, until it has been idle for too long.
    fn keep_child(&self, child_slot: &mut ChildSlot, running: RunningChild, report: Report) {
        child_slot.ready = Some((running, report));
        let (weak, idle_time) = (Arc::downgrade(&self.child_slot), self.plugin.options.idle_time);
        child_slot.idle = Some(tokio::spawn(async move {
            tokio::time::sleep(idle_time).await;
            if let Some(child_slot) = weak.upgrade() {
                // A request that holds the slot now restarts the timer when it is done.
                if let Ok(mut child_slot) = child_slot.try_lock() {
                    child_slot.ready = None;
                }
            }
        }));
    }

    fn encode(&self, request: &PlannerRequest) -> Result<Vec<u8>, PlannerError> {
        let bytes = serde_json::to_vec(request).ok().filter(|bytes| bytes.len() <= FRAME_MAX);
        bytes.ok_or_else(|| PlannerError::Request { plugin: self.plugin.name.clone() })
    }

    fn invalid_response(&self) -> PlannerError {
        PlannerError::Answer { plugin: self.plugin.name.clone() }
    }

    async fn explain(&self, error: ChildError, running: RunningChild) -> PlannerError {
        let plugin = self.plugin.name.clone();
        match error {
            ChildError::Timeout(limit) => PlannerError::Timeout { plugin, limit },
            ChildError::Garbage => self.invalid_response(),
            ChildError::Ended => match running.ending().await {
                ExitReason::CannotWork(reason) => PlannerError::CannotWork { plugin, reason },
                ExitReason::Other(reason) => PlannerError::Ended { plugin, reason },
            },
        }
    }
}

impl PluginComponent {
    /// Loads the plugin into a child: in its compiled form if there is one, otherwise from the component. The inner
    /// error is the planner's own refusal.
    async fn load_into(&self, running: &mut RunningChild) -> Result<Result<Report, String>, ChildError> {
        let load = |compiled| serde_json::to_vec(&PlannerRequest::Load { compiled }).map_err(|_| ChildError::Garbage);
        if let Some(form) = self.cached_form().await.filter(|form| form.len() <= FORM_MAX) {
            running.send(&load(true)?).await?;
            running.send(&form).await?;
            match read_answer(&mut running.output).await? {
                PlannerResponse::Loaded(report) => {
                    read_frame(&mut running.output, 0).await?;
                    if report.broken.is_empty() {
                        return Ok(Ok(report));
                    }
                    // Another version has made it, or it is damaged: compile again.
                    tracing::debug!(plugin = self.name, "compiled form rejected");
                }
                PlannerResponse::Failed { message } => return Ok(Err(message)),
                _ => return Err(ChildError::Garbage),
            }
        }
        if self.component.len() > FRAME_MAX {
            return Ok(Err(format!("the component is larger than {} MiB; make it smaller", FRAME_MAX >> 20)));
        }
        running.send(&load(false)?).await?;
        running.send(&self.component).await?;
        match read_answer(&mut running.output).await? {
            PlannerResponse::Loaded(report) => {
                let form = read_frame(&mut running.output, FORM_MAX).await?;
                if report.broken.is_empty() {
                    self.store_form(form).await;
                }
                Ok(Ok(report))
            }
            PlannerResponse::Failed { message } => Ok(Err(message)),
            _ => Err(ChildError::Garbage),
        }
    }

    /// Reads the compiled form, which may be large, on a blocking thread so that nothing else waits for it.
    async fn cached_form(&self) -> Option<Vec<u8>> {
        let (cache, digest) = (Arc::clone(&self.cache), self.digest);
        tokio::task::spawn_blocking(move || cache.get(&digest)).await.ok().flatten()
    }

    /// Stores a compiled form.
    async fn store_form(&self, form: Vec<u8>) {
        let (cache, digest) = (Arc::clone(&self.cache), self.digest);
        // If this fails, it is compiled again.
        let _ = tokio::task::spawn_blocking(move || cache.put(&digest, &form)).await;
    }
}

async fn with_timeout<T>(
    plugin: &str,
    limit: Duration,
    work: impl Future<Output = Result<T, ChildError>>,
) -> Result<T, ChildError> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        tracing::debug!(plugin, ?limit, "planner timed out");
        Err(ChildError::Timeout(limit))
    })
}
