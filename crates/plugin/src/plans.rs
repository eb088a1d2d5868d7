//! The plans of one version of a template: made once for each target, then shared.
//!
//! Knows no value. A new version of the file, of the variables or of the plugin is a new `Prepared`, so a plan can
//! never outlive what it was made from.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use crate::client::CompileError;
use crate::registry::Registry;
use guillemet_base::problem::Problem;
use guillemet_plan::plan::{self, Plan};
use guillemet_plan::protocol::{PlanReference, PlanRequest, Target};
use guillemet_template::Format;
use guillemet_template::catalog::{Template, TemplateContent};
use guillemet_template::lexer::Lexed;

/// How long a failure of a plugin (not of a template) is remembered before it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The variables that templates can read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variables {
    /// The values of `<< vars.NAME >>`, a JSON object.
    pub vars: serde_json::Value,
    /// The values of `<< env.NAME >>`: the environment variables that are allowed and set.
    pub env: BTreeMap<String, String>,
}

/// The reason why there is no plan.
#[derive(Clone, Debug)]
pub enum PlanError {
    /// The template is wrong. Holds all its problems, which may quote it.
    Problems(Vec<Problem>),
    /// The file is wrong, whatever its content is. The problems do not quote it.
    File(Vec<Problem>),
    /// The plugin failed, or the feature has none. Holds the message.
    Plugin(String),
    /// The feature has no such target. Holds the ids of those it has.
    NoTarget(Vec<String>),
}

/// A template with the plans made from it.
///
/// It is meant for the targets that it names, in its order, or for its feature's default if it names none. Another
/// target's plan is made when a caller asks for it by its id; it does not affect whether the template is good.
pub struct Prepared {
    /// The template as it was read.
    pub template: Arc<Template>,
    targets: OutcomeCell<Targets>,
    cells: Mutex<BTreeMap<String, Arc<OutcomeCell<Arc<Plan>>>>>,
}

/// A value that is made once and then shared.
struct OutcomeCell<T> {
    outcome: ArcSwapOption<CachedOutcome<T>>,
    /// Held by the task that makes the value; others wait for the same outcome.
    making: tokio::sync::Mutex<()>,
}

struct CachedOutcome<T> {
    result: Result<T, PlanError>,
    retry_at: Option<Instant>,
}

impl<T> Default for OutcomeCell<T> {
    fn default() -> Self {
        Self { outcome: ArcSwapOption::default(), making: tokio::sync::Mutex::default() }
    }
}

impl<T: Clone> OutcomeCell<T> {
    fn get(&self) -> Option<Result<T, PlanError>> {
        let outcome = self.outcome.load();
        let outcome = outcome.as_ref()?;
        let is_valid = outcome.retry_at.is_none_or(|at| Instant::now() < at);
        is_valid.then(|| outcome.result.clone())
    }

    async fn get_or_make(&self, make: impl Future<Output = Result<T, PlanError>>) -> Result<T, PlanError> {
        if let Some(cached) = self.get() {
            return cached;
        }
        let _making = self.making.lock().await;
        if let Some(cached) = self.get() {
            return cached;
        }
        let result = make.await;
        let retry_at = matches!(result, Err(PlanError::Plugin(_))).then(|| Instant::now() + RETRY_AFTER);
        self.outcome.store(Some(Arc::new(CachedOutcome { result: result.clone(), retry_at })));
        result
    }
}

/// The targets that a template is meant for.
#[derive(Clone, Debug)]
pub struct Targets {
    /// At least one target; the first is the template's default.
    pub list: Arc<[Target]>,
    /// Whether the template names them. If not, the list is the default of its feature.
    pub are_named: bool,
}

/// The outcome for each target that a template is meant for.
pub type Outcomes = Vec<(Target, Result<Arc<Plan>, PlanError>)>;

impl Prepared {
    /// Wraps a template, without any plans yet.
    pub fn new(template: Arc<Template>) -> Self {
        Self { template, targets: OutcomeCell::default(), cells: Mutex::default() }
    }

    /// Returns the plan for a target, or for the template's first target if `target` is `None`, if it has been made.
    /// Does not wait.
    pub fn plan_if_made(&self, target: Option<&str>) -> Option<Result<Arc<Plan>, PlanError>> {
        match target {
            Some(id) => self.cell_of(id)?.get(),
            None => match self.targets.get()? {
                Ok(targets) => self.cell_of(&targets.list.first()?.id)?.get(),
                Err(error) => Some(Err(error)),
            },
        }
    }

    /// Reports whether the template is good, which means that every target it is meant for has a plan. Returns `None`
    /// if this is not known yet. Does not wait.
    pub fn is_good(&self) -> Option<bool> {
        let Ok(targets) = self.targets.get()? else { return Some(false) };
        let plans: Vec<_> = targets.list.iter().map(|target| self.plan_if_made(Some(&target.id))).collect();
        match plans.iter().any(|plan| matches!(plan, Some(Err(_)))) {
            true => Some(false),
            false => plans.iter().all(Option::is_some).then_some(true),
        }
    }

    /// Returns a plan for one of the template's targets, if one has been made. Does not wait.
    pub fn any_ready(&self) -> Option<Arc<Plan>> {
        let targets = self.targets.get()?.ok()?;
        targets.list.iter().find_map(|target| self.plan_if_made(Some(&target.id))?.ok())
    }

    fn cell_of(&self, target: &str) -> Option<Arc<OutcomeCell<Arc<Plan>>>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner).get(target).cloned()
    }

    /// Returns the targets that the template is meant for: those it names, or its feature's default. Runs the planner
    /// if they are not known yet.
    ///
    /// # Errors
    /// Fails as [`plan`](Self::plan) does.
    pub async fn targets(&self, registry: &Registry, variables: &Variables) -> Result<Targets, PlanError> {
        let compute = async {
            // A missing plugin is reported first: no other advice helps then.
            let of_feature = registry.targets(&self.template.feature).await.map_err(PlanError::Plugin)?;
            named(self.source()?, of_feature, registry, variables).await
        };
        self.targets.get_or_make(compute).await
    }

    /// Returns the plan for a target, or for the template's first target if `target` is `None`. Makes it if there is
    /// none yet.
    ///
    /// # Errors
    /// Fails with [`PlanError`], which is remembered like a plan; only a plugin's failure is tried again, after two
    /// seconds.
    pub async fn plan(
        &self,
        target: Option<&str>,
        registry: &Registry,
        variables: &Variables,
    ) -> Result<Arc<Plan>, PlanError> {
        if let Some(ready) = self.plan_if_made(target) {
            return ready;
        }
        let chosen = match target {
            Some(id) => find_target(&self.template.feature, id, registry).await?,
            None => self.targets(registry, variables).await?.first()?,
        };
        self.plan_for(chosen, registry, variables).await
    }

    async fn plan_for(
        &self,
        target: Target,
        registry: &Registry,
        variables: &Variables,
    ) -> Result<Arc<Plan>, PlanError> {
        let cell = {
            let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
            let cell = Arc::clone(cells.entry(target.id.clone()).or_default());
            for alias in &target.aliases {
                cells.insert(alias.clone(), Arc::clone(&cell));
            }
            cell
        };
        let make = async { Ok(Arc::new(make_plan(self.source()?, target, registry, variables).await?)) };
        cell.get_or_make(make).await
    }

    /// Returns the outcome for every target that the template is meant for. Makes the plans that are missing.
    ///
    /// # Errors
    /// Fails with [`PlanError`] if the targets cannot be determined.
    pub async fn plans(&self, registry: &Registry, variables: &Variables) -> Result<Outcomes, PlanError> {
        let targets = self.targets(registry, variables).await?;
        let mut outcomes = Vec::with_capacity(targets.list.len());
        for target in targets.list.iter() {
            outcomes.push((target.clone(), self.plan_for(target.clone(), registry, variables).await));
        }
        Ok(outcomes)
    }

    fn source(&self) -> Result<TemplateSource<'_>, PlanError> {
        match &self.template.content {
            TemplateContent::Lexed(lexed) => {
                Ok(TemplateSource { feature: &self.template.feature, format: self.template.format, lexed })
            }
            TemplateContent::Broken { problems, is_of_text: true, .. } => Err(PlanError::Problems(problems.clone())),
            TemplateContent::Broken { problems, .. } => Err(PlanError::File(problems.clone())),
        }
    }
}

/// The template text that a plan is made from.
#[derive(Clone, Copy)]
pub struct TemplateSource<'a> {
    /// The feature, whose plugin makes the plan.
    pub feature: &'a str,
    /// The syntax of the text, by the file's extension.
    pub format: Format,
    /// The lexed text with its references.
    pub lexed: &'a Lexed,
}

/// Makes the plan of a text for a target, or for the first target it is meant for if `target` is `None`, and does not
/// store it.
///
/// # Errors
/// Fails with [`PlanError`] if the text, its target or the plugin is wrong.
pub async fn plan_once(
    source: TemplateSource<'_>,
    target: Option<&str>,
    registry: &Registry,
    variables: &Variables,
) -> Result<Plan, PlanError> {
    let chosen = match target {
        Some(id) => find_target(source.feature, id, registry).await?,
        None => {
            let of_feature = registry.targets(source.feature).await.map_err(PlanError::Plugin)?;
            named(source, of_feature, registry, variables).await?.first()?
        }
    };
    make_plan(source, chosen, registry, variables).await
}

/// Returns the targets that a text names; if it names none, the feature's first one, which is the default.
async fn named(
    source: TemplateSource<'_>,
    mut of_feature: Vec<Target>,
    registry: &Registry,
    variables: &Variables,
) -> Result<Targets, PlanError> {
    let response = registry.named_targets(source.feature, request(source, "", variables)).await;
    let targets = response.map_err(plan_error)?;
    if !targets.is_empty() {
        return Ok(Targets { list: targets.into(), are_named: true });
    }
    of_feature.truncate(1);
    Ok(Targets { list: of_feature.into(), are_named: false })
}

impl Targets {
    fn first(&self) -> Result<Target, PlanError> {
        self.list.first().cloned().ok_or_else(|| PlanError::Plugin("the plugin has no targets".into()))
    }
}

/// Returns the target of a feature by its id or an alias.
async fn find_target(feature: &str, id: &str, registry: &Registry) -> Result<Target, PlanError> {
    let mut targets = registry.targets(feature).await.map_err(PlanError::Plugin)?;
    match targets.iter().position(|target| target.names().any(|name| name == id)) {
        Some(index) => Ok(targets.swap_remove(index)),
        None => Err(PlanError::NoTarget(targets.into_iter().map(|target| target.id).collect())),
    }
}

async fn make_plan(
    source: TemplateSource<'_>,
    target: Target,
    registry: &Registry,
    variables: &Variables,
) -> Result<Plan, PlanError> {
    let TemplateSource { feature, lexed, .. } = source;
    let request = request(source, &target.id, variables);
    let planned = registry.plan(feature, request).await.map_err(plan_error)?;
    plan::verify(planned, &lexed.references, target)
        .map_err(|violation| PlanError::Plugin(format!("plugin `{feature}`: {violation}")))
}

fn plan_error(failure: CompileError) -> PlanError {
    match failure {
        CompileError::Problems(mut problems) => {
            problems.sort_by_key(|problem| (problem.line.unwrap_or(u32::MAX), problem.column));
            PlanError::Problems(problems)
        }
        failure => PlanError::Plugin(failure.to_string()),
    }
}

/// Builds the planner's request for a text.
fn request(source: TemplateSource<'_>, target: &str, variables: &Variables) -> PlanRequest {
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
        vars: variables.vars.clone(),
        env: variables.env.clone(),
        target: target.to_owned(),
    }
}
