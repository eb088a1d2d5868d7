//! Plugins and comparisons as the API shows them.

use guillemet_api::plugins::{
    BreakSubject, ChangedDefault, ChangedTemplate, FormerPlugin, PluginBreak, PluginComparison, PluginSource,
    PluginStatus, PluginTarget, PluginView, ReplacedPlugin, TemplateEffect, VersionOrder,
};
use guillemet_base::time::rfc3339;
use guillemet_plan::protocol::Target;
use guillemet_plugin::compare::{self, Break, Comparison, TemplateChange};
use guillemet_plugin::registry::{FormerInfo, PluginInfo, PluginOrigin, ReplacedInfo};

/// Returns a plugin as listings show it.
pub(super) fn plugin(plugin: PluginInfo) -> PluginView {
    let target = |target: Target| PluginTarget {
        id: target.id,
        title: target.title,
        media_type: target.media_type,
        file_name: target.file_name,
        aliases: target.aliases,
    };
    let replaced = |replaced: ReplacedInfo| ReplacedPlugin {
        source: origin(replaced.source),
        version: replaced.version,
        digest: replaced.digest,
    };
    let former = |former: FormerInfo| FormerPlugin {
        source: origin(former.source),
        version: former.version,
        digest: former.digest,
        problem: former.problem,
    };
    PluginView {
        feature: plugin.feature,
        title: plugin.title,
        version: plugin.version,
        source: origin(plugin.source),
        digest: plugin.digest,
        targets: plugin.targets.into_iter().map(target).collect(),
        secret_fields: plugin.secret_fields,
        schema: plugin.schema,
        status: if plugin.problem.is_none() { PluginStatus::Ok } else { PluginStatus::Refused },
        problem: plugin.problem,
        replaces: plugin.replaces.map(replaced),
        stands_in_since: plugin.stands_in_since.map(rfc3339),
        former: plugin.former.map(former),
        comparison: None,
    }
}

fn origin(source: PluginOrigin) -> PluginSource {
    match source {
        PluginOrigin::BuiltIn => PluginSource::BuiltIn,
        PluginOrigin::Added => PluginSource::Added,
        PluginOrigin::StandIn => PluginSource::StandIn,
    }
}

/// Returns what another plugin would change.
pub(super) fn comparison(comparison: Comparison) -> PluginComparison {
    let digest = comparison.digest();
    PluginComparison {
        version: match comparison.version {
            compare::VersionOrder::First => VersionOrder::First,
            compare::VersionOrder::Newer => VersionOrder::Newer,
            compare::VersionOrder::Older => VersionOrder::Older,
            compare::VersionOrder::Same => VersionOrder::Same,
            compare::VersionOrder::Unordered => VersionOrder::Unordered,
        },
        default_target: comparison.default_target.map(|(before, after)| ChangedDefault { before, after }),
        targets_added: comparison.targets_added,
        targets_removed: comparison.targets_removed,
        secret_fields_added: comparison.secret_fields_added,
        secret_fields_removed: comparison.secret_fields_removed,
        templates: comparison.templates.into_iter().map(template).collect(),
        breaks: comparison.breaks.into_iter().map(broken).collect(),
        digest,
    }
}

fn template(change: TemplateChange) -> ChangedTemplate {
    let (effect, diff, problems) = match change.effect {
        compare::TemplateEffect::Changed(diff) => (TemplateEffect::Changed, Some(diff), Vec::new()),
        compare::TemplateEffect::Broken(problems) => (TemplateEffect::Broken, None, problems),
        compare::TemplateEffect::Fixed => (TemplateEffect::Fixed, None, Vec::new()),
        compare::TemplateEffect::Failing(problems) => (TemplateEffect::Failing, None, problems),
    };
    ChangedTemplate { template: change.template, target: change.target, effect, diff, problems }
}

fn broken(broken: Break) -> PluginBreak {
    let about = match broken.about {
        compare::BreakSubject::Template => BreakSubject::Template,
        compare::BreakSubject::Target => BreakSubject::Target,
        compare::BreakSubject::Check => BreakSubject::Check,
    };
    PluginBreak { about, template: broken.template, target: broken.target, problem: broken.problem }
}
