//! Compiles and fills templates without a daemon and a vault: for commands that check a template, or compare its result
//! before they change anything.
//!
//! The planner gets the text and never a value, as in the daemon. Reads no configuration: the caller names the folders
//! and the variables.

mod check;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use tokio::runtime::Runtime;

pub use self::check::CheckReport;
use crate::fill::{self, Unrepresentable, Values};
use crate::findings;
use crate::plans::{TemplateSource, Variables, plan_once};
use crate::registry::Registry;
use guillemet_base::problem::Problem;
use guillemet_base::sys::memory::Clear;
use guillemet_plan::plan::Plan;
use guillemet_plan::protocol::Description;
use guillemet_secret::memory::SealedValue;
use guillemet_template::Format;
use guillemet_template::lexer::lex;

/// Compiles templates in planners of its own. Uses every plugin in a folder, pinned or not, because no value of a vault
/// is involved.
pub struct OfflineCompiler {
    registry: Registry,
    variables: Variables,
    runtime: Runtime,
}

/// The reasons why templates cannot be compiled or checked at all.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The asynchronous runtime does not start.
    #[error("the runtime cannot be started: {0}")]
    Runtime(#[source] io::Error),
    /// The folder has no template with this id.
    #[error("there is no template `{0}` in the templates folder; an id is FEATURE/NAME, without the extension")]
    NoTemplate(String),
}

impl OfflineCompiler {
    /// Creates a compiler with the plugins of a folder and the variables of a configuration. No planner runs yet.
    ///
    /// # Errors
    /// Fails with [`OfflineError::Runtime`].
    pub fn new(plugins: PathBuf, variables: Variables) -> Result<Self, OfflineError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self { registry: Registry::unpinned(plugins), variables, runtime: runtime.map_err(OfflineError::Runtime)? })
    }

    /// Returns the description of a feature's plugin.
    ///
    /// # Errors
    /// Fails with the reason, for people, if the feature has no usable plugin.
    pub fn describe(&self, feature: &str) -> Result<Description, String> {
        self.runtime.block_on(self.registry.describe(feature))
    }

    /// Compiles the text of a template for a target.
    ///
    /// # Errors
    /// Fails with all problems of the template.
    pub fn compile(&self, feature: &str, format: Format, text: &str, target: &str) -> Result<Plan, Vec<Problem>> {
        let lexed = lex(text)?;
        let source = TemplateSource { feature, format, lexed: &lexed };
        let planned = plan_once(source, Some(target), &self.registry, &self.variables);
        self.runtime.block_on(planned).map_err(findings::problems)
    }
}

/// Fills a plan with values of the caller, by the keys of their names (`SecretName::key`).
///
/// # Errors
/// Fails with a problem for each value that is missing or that its place cannot hold.
pub fn fill(plan: &Plan, values: &BTreeMap<String, &str>) -> Result<Clear, Vec<Problem>> {
    let sealed: BTreeMap<&str, SealedValue> =
        values.iter().map(|(name, value)| (name.as_str(), SealedValue::seal(value))).collect();
    let of_use = |index: usize, message: String| {
        let usage = &plan.uses[index];
        Problem { path: usage.field.clone(), line: Some(usage.line), message, ..Problem::default() }
    };
    let resolved: Vec<Option<&SealedValue>> = plan.uses.iter().map(|usage| sealed.get(&*usage.key)).collect();
    let missing = resolved.iter().enumerate().filter(|(_, value)| value.is_none());
    let mut problems: Vec<Problem> =
        missing.map(|(index, _)| of_use(index, format!("there is no value for `{}`", plan.uses[index].name))).collect();
    match fill::fill(plan, &Values(resolved)) {
        Ok(filled) if problems.is_empty() => return Ok(filled),
        Ok(_) => {}
        Err(unfit) => problems.extend(unfit.into_iter().flat_map(|Unrepresentable { uses, refusal }| {
            uses.into_iter()
                .map(move |index| of_use(index as usize, format!("the value cannot be used here: {refusal}")))
        })),
    }
    Err(problems)
}
