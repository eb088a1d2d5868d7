//! A text worked out and filled without daemon and vault: what a command compares before it changes anything.
//!
//! Knows nothing of what is compared. As everywhere, the planner gets the text and never a value; values are
//! placed here, as `resolve` places them.

use std::collections::BTreeMap;

use tokio::runtime::Runtime;

use super::{DaemonError, system};
use crate::app::preview;
use crate::config::{self, Config};
use guillemet_base::home::Home;
use guillemet_base::sys::memory::Clear;
use guillemet_plan::plan::{Piece, Plan};
use guillemet_plan::protocol::Description;
use guillemet_plugin::fill::{Unfit, Values};
use guillemet_plugin::plans::{Source, plan_once};
use guillemet_plugin::registry::Registry;
use guillemet_plugin::{fill, findings};
use guillemet_secret::memory::SealedValue;
use guillemet_template::lexer::lex;
use guillemet_template::{Format, Problem};

/// The plugins of a home, each with a planner of its own. Files in the folder of plugins count whether or not
/// they are pinned: no value of the vault is near.
pub struct Trial {
    pub(super) registry: Registry,
    pub(super) config: Config,
    pub(super) runtime: Runtime,
}

impl Trial {
    /// Begins; no planner runs yet.
    ///
    /// # Errors
    /// When the configuration cannot be read.
    pub fn new(home: &Home) -> Result<Self, DaemonError> {
        let (config, _) = config::load(home)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(system("cannot start the async runtime"))?;
        Ok(Self { registry: Registry::unpinned(home.plugins()), config, runtime })
    }

    /// What the plugin of a feature says of itself.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub fn describe(&self, feature: &str) -> Result<Description, String> {
        self.runtime.block_on(self.registry.describe(feature))
    }

    /// Works the text of a template out.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn plan(&self, feature: &str, format: Format, text: &str, target: &str) -> Result<Plan, Vec<Problem>> {
        let lexed = lex(text)?;
        let source = Source { feature, format, lexed: &lexed };
        let planned = plan_once(source, Some(target), &self.registry, &self.config.variables);
        self.runtime.block_on(planned).map_err(findings::problems)
    }
}

/// Fills a plan with values of the caller's, by the key of their names (`SecretName::key`).
///
/// # Errors
/// Every value that its place cannot hold, with its field and the reason; and every one that is not there.
pub fn fill(plan: &Plan, values: &BTreeMap<String, SealedValue>) -> Result<Clear, Vec<Problem>> {
    let of_use = |index: usize, message: String| {
        let usage = &plan.uses[index];
        Problem { path: usage.field.clone(), line: Some(usage.line), message, ..Problem::default() }
    };
    let found: Vec<Option<&SealedValue>> = plan.uses.iter().map(|usage| values.get(&*usage.key)).collect();
    let missing = found.iter().enumerate().filter(|(_, value)| value.is_none());
    let mut problems: Vec<Problem> =
        missing.map(|(index, _)| of_use(index, format!("there is no value for `{}`", plan.uses[index].name))).collect();
    match fill::fill(plan, &Values(found)) {
        Ok(filled) if problems.is_empty() => return Ok(filled),
        Ok(_) => {}
        Err(unfit) => problems.extend(unfit.into_iter().flat_map(|Unfit { uses, refusal }| {
            uses.into_iter()
                .map(move |index| of_use(index as usize, format!("the value cannot be used here: {refusal}")))
        })),
    }
    Err(problems)
}

/// The document with `«name»` where a value will stand.
pub fn marked(plan: &Plan) -> String {
    let piece = |piece: &Piece| match piece {
        Piece::Text(text) => text.clone(),
        Piece::Slot { expr, .. } => preview::shown(expr, plan),
    };
    plan.pieces.iter().map(piece).collect()
}
