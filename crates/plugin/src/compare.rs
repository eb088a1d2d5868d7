//! What changes when another plugin takes the place of the present one: compiles every template of the feature with
//! both, compares, and has what the new one makes read back.
//!
//! Knows nothing of values, nor of who decides. Runs each plugin in a planner of its own, so that it holds up no
//! render. The documents are compared as text and never parsed: a child without keys reads them back.

mod difference;
mod templates;

use std::collections::BTreeSet;
use std::sync::Arc;

use semver::Version;
use serde::Serialize;
use sha2::{Digest, Sha256};

use self::templates::Comparing;
use crate::plans::Variables;
use crate::registry::{PluginCandidate, Registry};
use guillemet_base::problem::Problem;
use guillemet_plan::protocol::{Description, Target};
use guillemet_template::catalog::Template;

/// How the version of a plugin relates to that of the one it replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionOrder {
    /// There is no other plugin to compare with.
    First,
    /// It is newer.
    Newer,
    /// It is older.
    Older,
    /// It has the same version.
    Same,
    /// It has another version, and at least one of them is not a semantic version.
    Unordered,
}

/// Everything that differs between the present plugin of a feature and another one.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// How the versions relate.
    pub version: VersionOrder,
    /// The present default target and the new one, if they differ.
    pub default_target: Option<(String, String)>,
    /// The names of targets, aliases included, that only the new plugin has.
    pub targets_added: Vec<String>,
    /// The names of targets, aliases included, that only the present plugin has.
    pub targets_removed: Vec<String>,
    /// The patterns of secret fields that only the new plugin has.
    pub secret_fields_added: Vec<String>,
    /// The patterns of secret fields that only the present plugin has.
    pub secret_fields_removed: Vec<String>,
    /// The templates that change, each for one target.
    pub templates: Vec<TemplateChange>,
    /// What would break.
    pub breaks: Vec<Break>,
}

/// What happens to one template, for one target.
#[derive(Clone, Debug)]
pub struct TemplateChange {
    /// The id of the template.
    pub template: String,
    /// The id of the target; `None` if the plugin cannot tell the targets of the template.
    pub target: Option<String>,
    /// What happens.
    pub effect: TemplateEffect,
}

/// What happens to a template.
#[derive(Clone, Debug)]
pub enum TemplateEffect {
    /// It gives another document. Holds the difference, as a unified diff with `«name»` in place of secrets.
    Changed(String),
    /// It can be rendered now, and cannot be with the new plugin; or what the new plugin makes of it cannot be read
    /// back, in a way that is not so now. Holds the problems.
    Broken(Vec<Problem>),
    /// It cannot be rendered now, and can be with the new plugin.
    Fixed,
    /// It cannot be rendered or read back with the new plugin, nor now. Holds the problems.
    Failing(Vec<Problem>),
}

/// Something that works now and would not work any more, or a mistake of the new plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Break {
    /// What it is about.
    pub about: BreakSubject,
    /// The id of the template; `None` if it is about the plugin.
    pub template: Option<String>,
    /// The id of the target; `None` if it is about no particular one.
    pub target: Option<String>,
    /// What is wrong.
    pub problem: Problem,
}

/// What a [`Break`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum BreakSubject {
    /// A template.
    Template,
    /// A target that is gone, or is no longer the default.
    Target,
    /// A check of the component.
    Check,
}

impl Break {
    /// Makes what a failed check of the component breaks.
    pub fn of_check(problem: Problem) -> Self {
        Self { about: BreakSubject::Check, template: None, target: None, problem }
    }

    fn of_target(target: &str, message: String) -> Self {
        let problem = Problem { message, ..Problem::default() };
        Self { about: BreakSubject::Target, template: None, target: Some(target.to_owned()), problem }
    }
}

impl Comparison {
    /// Returns a digest of everything that would break, in hexadecimal: who agreed to break one thing has not agreed
    /// to break another.
    pub fn digest(&self) -> String {
        // Every field is a text, a number or absent.
        let breaks = serde_json::to_vec(&self.breaks).unwrap_or_default();
        data_encoding::HEXLOWER.encode(&Sha256::digest(breaks))
    }
}

/// Compares a candidate with the plugin of its feature that is in force. A candidate that is in force already changes
/// nothing. `templates` are those of the feature.
pub async fn compare(
    registry: &Registry,
    candidate: &PluginCandidate,
    templates: Vec<Arc<Template>>,
    variables: &Variables,
) -> Comparison {
    let feature = candidate.feature();
    if registry.digest(feature).as_deref() == Some(candidate.digest()) {
        return of_descriptions(Some(candidate.description()), candidate.description());
    }
    let after = Side { registry: registry.with_only(candidate), description: candidate.description().clone() };
    let before = match registry.with_own_planner(feature).await {
        Ok(isolated) => {
            registry.describe(feature).await.ok().map(|description| Side { registry: isolated, description })
        }
        // A plugin that is refused renders nothing, so nothing can break.
        Err(_) => None,
    };
    let mut comparison = of_descriptions(before.as_ref().map(|side| &side.description), &after.description);
    Comparing::new(before.as_ref(), &after, variables).templates(templates, &mut comparison).await;
    if let Some(before) = before {
        before.registry.end().await;
    }
    comparison
}

/// One of the two plugins, alone in a registry.
struct Side {
    registry: Registry,
    description: Description,
}

impl Side {
    /// Returns the target with this name, which may be a former one.
    fn target(&self, name: &str) -> Option<&Target> {
        find(&self.description, name)
    }
}

fn find<'a>(description: &'a Description, name: &str) -> Option<&'a Target> {
    description.targets.iter().find(|target| target.names().any(|own| own == name))
}

/// Compares what two plugins say of themselves.
fn of_descriptions(before: Option<&Description>, after: &Description) -> Comparison {
    let mut comparison = Comparison {
        version: before.map_or(VersionOrder::First, |before| order(&before.version, &after.version)),
        default_target: None,
        targets_added: Vec::new(),
        targets_removed: Vec::new(),
        secret_fields_added: Vec::new(),
        secret_fields_removed: Vec::new(),
        templates: Vec::new(),
        breaks: Vec::new(),
    };
    let Some(before) = before else { return comparison };
    let names = |description: &Description| -> BTreeSet<String> {
        description.targets.iter().flat_map(|target| target.names().map(str::to_owned)).collect()
    };
    let fields =
        |description: &Description| -> BTreeSet<String> { description.secret_fields.iter().cloned().collect() };
    comparison.targets_added = only(&names(after), &names(before));
    comparison.targets_removed = only(&names(before), &names(after));
    comparison.secret_fields_added = only(&fields(after), &fields(before));
    comparison.secret_fields_removed = only(&fields(before), &fields(after));
    if let (Some(old), Some(new)) = (before.targets.first(), after.targets.first())
        && !new.names().any(|name| name == old.id)
    {
        comparison.default_target = Some((old.id.clone(), new.id.clone()));
        if find(after, &old.id).is_some() {
            let message =
                format!("the default target is `{}` instead of `{}`, for templates that name none", new.id, old.id);
            comparison.breaks.push(Break::of_target(&old.id, message));
        }
    }
    comparison
}

fn only(these: &BTreeSet<String>, others: &BTreeSet<String>) -> Vec<String> {
    these.difference(others).cloned().collect()
}

/// Returns how the version `after` relates to `before`. Without an order, they are no semantic versions.
pub fn order(before: &str, after: &str) -> VersionOrder {
    if before == after {
        return VersionOrder::Same;
    }
    match (Version::parse(before), Version::parse(after)) {
        (Ok(before), Ok(after)) if after.cmp_precedence(&before).is_lt() => VersionOrder::Older,
        (Ok(before), Ok(after)) if after.cmp_precedence(&before).is_gt() => VersionOrder::Newer,
        _ => VersionOrder::Unordered,
    }
}

#[cfg(test)]
mod tests;
