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
pub struct Prepared {
    /// The file, as it was read.
    pub template: Arc<Template>,
    cells: Mutex<BTreeMap<String, Arc<Cell>>>,
}

#[derive(Default)]
struct Cell {
    outcome: ArcSwapOption<Outcome>,
    /// Held by the one who makes the plan; others wait for the same plan.
    making: tokio::sync::Mutex<()>,
}

struct Outcome {
    result: Result<Arc<Plan>, Unplanned>,
    retry_at: Option<Instant>,
}

impl Cell {
    fn get(&self) -> Option<Result<Arc<Plan>, Unplanned>> {
        let outcome = self.outcome.load();
        let outcome = outcome.as_ref()?;
        let stands = outcome.retry_at.is_none_or(|at| Instant::now() < at);
        stands.then(|| outcome.result.clone())
    }
}

/// The key of the default target in `cells`.
const DEFAULT_TARGET: &str = "";

impl Prepared {
    /// Begins without plans.
    pub fn new(template: Arc<Template>) -> Self {
        Self { template, cells: Mutex::default() }
    }

    /// The plan for a target (the default when `None`) if it has been made; does not wait.
    pub fn ready(&self, target: Option<&str>) -> Option<Result<Arc<Plan>, Unplanned>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner).get(target.unwrap_or(DEFAULT_TARGET))?.get()
    }

    /// The plan for a target, made now if need be.
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
        let chosen = self.target(target, registry).await?;
        let cell = {
            let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
            let cell = Arc::clone(cells.entry(chosen.target.id.clone()).or_default());
            if chosen.is_default {
                cells.insert(DEFAULT_TARGET.into(), Arc::clone(&cell));
            }
            for alias in &chosen.target.aliases {
                cells.insert(alias.clone(), Arc::clone(&cell));
            }
            cell
        };
        let _making = cell.making.lock().await;
        if let Some(made) = cell.get() {
            return made;
        }
        let result = self.make(chosen.target, registry, config).await.map(Arc::new);
        let retry_at = matches!(result, Err(Unplanned::Plugin(_))).then(|| Instant::now() + RETRY_AFTER);
        cell.outcome.store(Some(Arc::new(Outcome { result: result.clone(), retry_at })));
        result
    }

    /// The wanted target of the template's feature.
    async fn target(&self, wanted: Option<&str>, registry: &Registry) -> Result<Chosen, Unplanned> {
        choose(&self.template.feature, wanted, registry).await
    }

    async fn make(&self, target: Target, registry: &Registry, config: &Config) -> Result<Plan, Unplanned> {
        let lexed = match &self.template.content {
            Content::Lexed(lexed) => lexed,
            Content::Broken { problems, is_of_text: true, .. } => return Err(Unplanned::Problems(problems.clone())),
            Content::Broken { problems, .. } => return Err(Unplanned::File(problems.clone())),
        };
        make(Source { feature: &self.template.feature, format: self.template.format, lexed }, target, registry, config)
            .await
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

/// The plan of a text for a target (the feature's default when `None`), remembered nowhere. Of the
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
    let chosen = choose(source.feature, target, registry).await?;
    make(source, chosen.target, registry, config).await
}

struct Chosen {
    target: Target,
    is_default: bool,
}

async fn choose(feature: &str, wanted: Option<&str>, registry: &Registry) -> Result<Chosen, Unplanned> {
    let mut targets = registry.targets(feature).await.map_err(Unplanned::Plugin)?;
    let index = match wanted {
        None => 0,
        Some(id) => match targets.iter().position(|target| target.names().any(|name| name == id)) {
            Some(index) => index,
            None => return Err(Unplanned::NoTarget(targets.into_iter().map(|target| target.id).collect())),
        },
    };
    if index >= targets.len() {
        return Err(Unplanned::Plugin("the plugin has no targets".into()));
    }
    Ok(Chosen { is_default: index == 0, target: targets.swap_remove(index) })
}

async fn make(source: Source<'_>, target: Target, registry: &Registry, config: &Config) -> Result<Plan, Unplanned> {
    let Source { feature, lexed, .. } = source;
    let request = request(source, &target.id, config);
    let planned = registry.plan(feature, request).await.map_err(|failure| match failure {
        PlanFailure::Problems(mut problems) => {
            locate_names(&mut problems, lexed);
            problems.sort_by_key(|problem| (problem.line.unwrap_or(u32::MAX), problem.column));
            Unplanned::Problems(problems)
        }
        PlanFailure::Failed { message } => Unplanned::Plugin(message),
    })?;
    plan::check(planned, &lexed.references, target)
        .map_err(|violation| Unplanned::Plugin(format!("plugin `{feature}`: {violation}")))
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

/// Gives problems about an unknown name the place where the name first stands.
fn locate_names(problems: &mut [Problem], lexed: &Lexed) {
    for problem in problems.iter_mut().filter(|problem| problem.line.is_none()) {
        if let Some(root) = lexed.roots.iter().find(|root| problem.message.contains(&format!("`{}`", root.name))) {
            problem.line = Some(root.line);
            problem.column = Some(root.column);
        }
    }
}
