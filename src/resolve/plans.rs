//! The plans of one version of a template: made once for each target, then shared.
//!
//! Knows no value. A new version of the file, of the variables or of the plugin is a new `Prepared`, so a
//! plan can never outlive what it was made from.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use crate::config::Config;
use crate::planner::protocol::{PlanReference, PlanRequest, Target};
use crate::plugin::client::PlanFailure;
use crate::plugin::plan::{self, Plan};
use crate::plugin::registry::Registry;
use crate::template::catalog::{Content, Template};
use crate::template::{Format, Problem, lexer::Lexed};

/// How long a failure of a plugin (not of a template) stands before it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Why there is no plan.
#[derive(Clone, Debug)]
pub enum Unplanned {
    /// The template is wrong; all its problems. They may quote it.
    Problems(Vec<Problem>),
    /// Its file is wrong, whatever is in it: nothing of that is told.
    File(Vec<Problem>),
    /// The plugin is wrong, or there is none.
    Plugin(String),
    /// There is no such target; these there are.
    NoTarget(Vec<String>),
}

/// A template with the plans made of it.
///
/// It is for the targets that it names, in its order, or for the default of its feature where it names none. Another
/// target is worked out when it is asked for by its id; whether the template is good has nothing to do with it.
pub struct Prepared {
    /// The file, as it was read.
    pub template: Arc<Template>,
    targets: Cell<Targets>,
    cells: Mutex<BTreeMap<String, Arc<Cell<Arc<Plan>>>>>,
}

/// Something that is worked out once.
struct Cell<T> {
    outcome: ArcSwapOption<Outcome<T>>,
    /// Held by the one who works it out; others wait for the same outcome.
    making: tokio::sync::Mutex<()>,
}

struct Outcome<T> {
    result: Result<T, Unplanned>,
    retry_at: Option<Instant>,
}

impl<T> Default for Cell<T> {
    fn default() -> Self {
        Self { outcome: ArcSwapOption::default(), making: tokio::sync::Mutex::default() }
    }
}

impl<T: Clone> Cell<T> {
    fn get(&self) -> Option<Result<T, Unplanned>> {
        let outcome = self.outcome.load();
        let outcome = outcome.as_ref()?;
        let stands = outcome.retry_at.is_none_or(|at| Instant::now() < at);
        stands.then(|| outcome.result.clone())
    }

    async fn get_or_make(&self, make: impl Future<Output = Result<T, Unplanned>>) -> Result<T, Unplanned> {
        if let Some(made) = self.get() {
            return made;
        }
        let _making = self.making.lock().await;
        if let Some(made) = self.get() {
            return made;
        }
        let result = make.await;
        let retry_at = matches!(result, Err(Unplanned::Plugin(_))).then(|| Instant::now() + RETRY_AFTER);
        self.outcome.store(Some(Arc::new(Outcome { result: result.clone(), retry_at })));
        result
    }
}

/// The targets that a template is for.
#[derive(Clone, Debug)]
pub struct Targets {
    /// At least one; the first is the template's default.
    pub list: Arc<[Target]>,
    /// Whether the template names them; where it does not, it is for the default of its feature.
    pub are_named: bool,
}

/// What came of each target a template is for.
pub type Outcomes = Vec<(Target, Result<Arc<Plan>, Unplanned>)>;

impl Prepared {
    /// Begins without plans.
    pub fn new(template: Arc<Template>) -> Self {
        Self { template, targets: Cell::default(), cells: Mutex::default() }
    }

    /// The plan for a target (the first the template is for when `None`) if it has been made; does not wait.
    pub fn ready(&self, target: Option<&str>) -> Option<Result<Arc<Plan>, Unplanned>> {
        match target {
            Some(id) => self.cell_of(id)?.get(),
            None => match self.targets.get()? {
                Ok(targets) => self.cell_of(&targets.list.first()?.id)?.get(),
                Err(unplanned) => Some(Err(unplanned)),
            },
        }
    }

    /// Whether the template is good: it has a plan for every target it is for. `None` where that is not known yet; does
    /// not wait.
    pub fn is_good(&self) -> Option<bool> {
        let Ok(targets) = self.targets.get()? else { return Some(false) };
        let made: Vec<_> = targets.list.iter().map(|target| self.ready(Some(&target.id))).collect();
        match made.iter().any(|made| matches!(made, Some(Err(_)))) {
            true => Some(false),
            false => made.iter().all(Option::is_some).then_some(true),
        }
    }

    /// A plan for one of the targets it is for, if one has been made; does not wait.
    pub fn any_ready(&self) -> Option<Arc<Plan>> {
        let targets = self.targets.get()?.ok()?;
        targets.list.iter().find_map(|target| self.ready(Some(&target.id))?.ok())
    }

    fn cell_of(&self, target: &str) -> Option<Arc<Cell<Arc<Plan>>>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner).get(target).cloned()
    }

    /// The targets the template is for, found out now if need be: those it names, or its feature's default.
    ///
    /// # Errors
    /// As `plan`.
    pub async fn targets(&self, registry: &Registry, config: &Config) -> Result<Targets, Unplanned> {
        let named = async {
            // That there is no plugin is told first: nothing else helps then.
            let of_feature = registry.targets(&self.template.feature).await.map_err(Unplanned::Plugin)?;
            named(self.source()?, of_feature, registry, config).await
        };
        self.targets.get_or_make(named).await
    }

    /// The plan for a target (the first the template is for when `None`), made now if need be.
    ///
    /// # Errors
    /// `Unplanned`; remembered like a plan, but for failures of a plugin, which are tried again.
    pub async fn plan(
        &self,
        target: Option<&str>,
        registry: &Registry,
        config: &Config,
    ) -> Result<Arc<Plan>, Unplanned> {
        if let Some(ready) = self.ready(target) {
            return ready;
        }
        let chosen = match target {
            Some(id) => choose(&self.template.feature, id, registry).await?,
            None => self.targets(registry, config).await?.first()?,
        };
        self.plan_for(chosen, registry, config).await
    }

    async fn plan_for(&self, target: Target, registry: &Registry, config: &Config) -> Result<Arc<Plan>, Unplanned> {
        let cell = {
            let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
            let cell = Arc::clone(cells.entry(target.id.clone()).or_default());
            for alias in &target.aliases {
                cells.insert(alias.clone(), Arc::clone(&cell));
            }
            cell
        };
        let make = async { Ok(Arc::new(make(self.source()?, target, registry, config).await?)) };
        cell.get_or_make(make).await
    }

    /// What comes of every target the template is for, made now if need be.
    ///
    /// # Errors
    /// Why its targets are not known.
    pub async fn plans(&self, registry: &Registry, config: &Config) -> Result<Outcomes, Unplanned> {
        let targets = self.targets(registry, config).await?;
        let mut outcomes = Vec::with_capacity(targets.list.len());
        for target in targets.list.iter() {
            outcomes.push((target.clone(), self.plan_for(target.clone(), registry, config).await));
        }
        Ok(outcomes)
    }

    fn source(&self) -> Result<Source<'_>, Unplanned> {
        match &self.template.content {
            Content::Lexed(lexed) => {
                Ok(Source { feature: &self.template.feature, format: self.template.format, lexed })
            }
            Content::Broken { problems, is_of_text: true, .. } => Err(Unplanned::Problems(problems.clone())),
            Content::Broken { problems, .. } => Err(Unplanned::File(problems.clone())),
        }
    }
}

/// What a plan is made of.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The feature.
    pub feature: &'a str,
    /// How the text is written.
    pub format: Format,
    /// The text, taken apart.
    pub lexed: &'a Lexed,
}

/// The plan of a text for a target (the first it is for when `None`), remembered nowhere. Of the
/// configuration it reads `vars` and `env`.
///
/// # Errors
/// `Unplanned`.
pub async fn plan_once(
    source: Source<'_>,
    target: Option<&str>,
    registry: &Registry,
    config: &Config,
) -> Result<Plan, Unplanned> {
    let chosen = match target {
        Some(id) => choose(source.feature, id, registry).await?,
        None => {
            let of_feature = registry.targets(source.feature).await.map_err(Unplanned::Plugin)?;
            named(source, of_feature, registry, config).await?.first()?
        }
    };
    make(source, chosen, registry, config).await
}

/// The targets that a text is for: those it names, or the first of its feature's, the default.
async fn named(
    source: Source<'_>,
    mut of_feature: Vec<Target>,
    registry: &Registry,
    config: &Config,
) -> Result<Targets, Unplanned> {
    let asked = registry.named_targets(source.feature, request(source, "", config)).await;
    let named = asked.map_err(unplanned)?;
    if !named.is_empty() {
        return Ok(Targets { list: named.into(), are_named: true });
    }
    of_feature.truncate(1);
    Ok(Targets { list: of_feature.into(), are_named: false })
}

impl Targets {
    fn first(&self) -> Result<Target, Unplanned> {
        self.list.first().cloned().ok_or_else(|| Unplanned::Plugin("the plugin has no targets".into()))
    }
}

/// The target of a feature by its id.
async fn choose(feature: &str, id: &str, registry: &Registry) -> Result<Target, Unplanned> {
    let mut targets = registry.targets(feature).await.map_err(Unplanned::Plugin)?;
    match targets.iter().position(|target| target.names().any(|name| name == id)) {
        Some(index) => Ok(targets.swap_remove(index)),
        None => Err(Unplanned::NoTarget(targets.into_iter().map(|target| target.id).collect())),
    }
}

async fn make(source: Source<'_>, target: Target, registry: &Registry, config: &Config) -> Result<Plan, Unplanned> {
    let Source { feature, lexed, .. } = source;
    let request = request(source, &target.id, config);
    let planned = registry.plan(feature, request).await.map_err(unplanned)?;
    plan::check(planned, &lexed.references, target)
        .map_err(|violation| Unplanned::Plugin(format!("plugin `{feature}`: {violation}")))
}

fn unplanned(failure: PlanFailure) -> Unplanned {
    match failure {
        PlanFailure::Problems(mut problems) => {
            problems.sort_by_key(|problem| (problem.line.unwrap_or(u32::MAX), problem.column));
            Unplanned::Problems(problems)
        }
        failure => Unplanned::Plugin(failure.to_string()),
    }
}

/// What a planner needs to work a text out.
fn request(source: Source<'_>, target: &str, config: &Config) -> PlanRequest {
    let lexed = source.lexed;
    let references = lexed.references.iter().map(|reference| PlanReference {
        name: reference.name.to_string(),
        line: reference.line,
        column: reference.column,
        filters: reference.filters.clone(),
    });
    PlanRequest {
        text: lexed.engine_text.clone(),
        format: source.format,
        call_prefix: lexed.call_prefix.clone(),
        references: references.collect(),
        vars: config.vars.clone(),
        env: config.env.clone(),
        target: target.to_owned(),
    }
}
