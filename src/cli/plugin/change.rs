//! What `plugin add` and `plugin rollback` share: they show what another plugin changes, and ask for it.

use std::path::Path;

use clap::Args;

use super::super::{Failure, client, output, prompt};
use guillemet_api::plugins::{
    ChangedTemplate, ConfirmPlugin, PluginBreak, PluginComparison, PluginSource, PluginView, ReplacedPlugin,
    TemplateEffect, VersionOrder,
};
use guillemet_base::home::Home;

/// What a user agrees to.
#[derive(Args)]
pub struct Consent {
    /// Accept that templates, targets or checks break. The output says which.
    #[arg(long = "break")]
    breaks: bool,
    /// Do not ask for confirmation. Accepts nothing that breaks.
    #[arg(long)]
    yes: bool,
}

impl Consent {
    /// Refuses what breaks unless the user accepted it, then asks.
    ///
    /// # Errors
    /// When something breaks that the user did not accept, or the user does not confirm.
    pub fn ask(&self, home: &Home, plugin: &PluginView, question: &str) -> Result<(), Failure> {
        let breaks = comparison(plugin).map_or(&[][..], |comparison| &comparison.breaks);
        if breaks.is_empty() {
            return prompt::confirm(question, self.yes);
        }
        let templates = client::templates(home);
        let listed = breaks.iter().map(|broken| text(templates.as_deref(), broken)).collect::<String>();
        if !self.breaks {
            return Err(Failure::new(format!(
                "this breaks what works now; nothing was changed. Fix the plugin or the templates, or pass --break to \
                 accept it:{listed}"
            )));
        }
        output::note(&format!("This breaks, and you accept it with --break:{listed}"));
        prompt::confirm(question, self.yes)
    }

    /// Returns the confirmation of exactly what was shown.
    pub fn confirmation<'a>(&self, plugin: &'a PluginView) -> ConfirmPlugin<'a> {
        ConfirmPlugin {
            confirm: true,
            digest: &plugin.digest,
            replaces: plugin.replaces.as_ref().map(|replaced| replaced.digest.as_str()),
            breaks: self.breaks,
            comparison: comparison(plugin).map(|comparison| comparison.digest.as_str()),
        }
    }
}

fn comparison(plugin: &PluginView) -> Option<&PluginComparison> {
    plugin.comparison.as_ref()
}

/// Returns the words for a plugin that is replaced.
pub fn name(replaced: &ReplacedPlugin) -> String {
    let version = replaced.version.as_ref().map_or_else(String::new, |version| format!(" {version}"));
    match replaced.source {
        PluginSource::BuiltIn => format!("the built-in plugin{version}"),
        PluginSource::Added => format!("the added plugin{version}"),
        PluginSource::StandIn => format!("the component under development{version}"),
    }
}

/// Returns the question before a plugin takes the place of another one.
pub fn question(verb: &str, plugin: &PluginView, replaced: &ReplacedPlugin) -> String {
    let (name, feature) = (name(replaced), &plugin.feature);
    match comparison(plugin).map(|comparison| comparison.version) {
        Some(VersionOrder::Older) => {
            format!("{verb} {name} for `{feature}` with the older version {}?", plugin.version)
        }
        _ => format!("{verb} {name} for `{feature}`?"),
    }
}

/// Prints what the plugin changes.
pub fn print(home: &Home, plugin: &PluginView) {
    let Some(comparison) = comparison(plugin) else { return };
    let folder = if comparison.templates.is_empty() { None } else { client::templates(home) };
    let print_templates = || comparison.templates.iter().for_each(|changed| template(folder.as_deref(), changed));
    let Some(replaced) = &plugin.replaces else { return print_templates() };
    let (now, next) = (replaced.version.as_deref().unwrap_or("an unknown version"), &plugin.version);
    match comparison.version {
        VersionOrder::Newer => output::note(&format!("Version        {now} -> {next}, newer")),
        VersionOrder::Same => output::note(&format!("Version        {next} again, with other content")),
        VersionOrder::Unordered => output::note(&format!("Version        {now} -> {next}")),
        VersionOrder::Older => {
            output::note(&format!("warning: this is an OLDER version: {next} takes the place of {now}"));
        }
        VersionOrder::First => {
            output::note("Version        the present plugin is refused, so there is nothing to compare")
        }
    }
    changes("Targets", &comparison.targets_added, &comparison.targets_removed);
    if let Some(default) = &comparison.default_target {
        output::note(&format!("Default target {} -> {}", default.before, default.after));
    }
    changes("Secret fields", &comparison.secret_fields_added, &comparison.secret_fields_removed);
    print_templates();
    if comparison.version != VersionOrder::First && comparison.templates.is_empty() {
        output::note("No template changes.");
    }
}

/// Prints what is added and removed, if anything is.
fn changes(what: &str, added: &[String], removed: &[String]) {
    let added = added.iter().map(|name| format!("+ {name}"));
    let all: Vec<String> = added.chain(removed.iter().map(|name| format!("- {name}"))).collect();
    if !all.is_empty() {
        output::note(&format!("{what:<14} {}", all.join(", ")));
    }
}

/// Prints what happens to a template. `folder` is the folder of the templates, if their lines can be shown.
fn template(folder: Option<&Path>, changed: &ChangedTemplate) {
    let target = changed.target.as_ref().map_or_else(String::new, |target| format!(" (target {target})"));
    let subject = format!("{}{target}", changed.template);
    match changed.effect {
        TemplateEffect::Changed => {
            output::note(&format!("{subject}: the document changes; - now, + then"));
            let diff = changed.diff.as_deref().unwrap_or_default();
            diff.lines().for_each(|line| output::note(&format!("    {line}")));
        }
        // The reasons follow with everything else that breaks.
        TemplateEffect::Broken => output::note(&format!("{subject}: breaks")),
        TemplateEffect::Fixed => output::note(&format!("{subject}: cannot be rendered now, and can be with it")),
        TemplateEffect::Failing => {
            output::note(&format!("{subject}: cannot be rendered correctly with it"));
            for problem in &changed.problems {
                output::note(&format!("  {}", client::problem_text(folder, &changed.template, "", problem)));
            }
        }
    }
}

/// Returns something that breaks, on lines of its own. `folder` is the folder of the templates, if their lines can be
/// shown.
fn text(folder: Option<&Path>, broken: &PluginBreak) -> String {
    let Some(template) = &broken.template else {
        let help = broken.problem.help.as_ref().map_or_else(String::new, |help| format!("\n    help: {help}"));
        return format!("\n  {}{help}", broken.problem.message);
    };
    let mut problem = broken.problem.clone();
    if let Some(target) = &broken.target {
        let suffix = format!(" (target `{target}`)");
        // What does not read back names its target itself.
        if !problem.message.ends_with(&suffix) {
            problem.message += &suffix;
        }
    }
    format!("\n  {}", client::problem_text(folder, template, "", &problem).trim_start())
}

/// Says how to undo the change, if there is something to go back to.
pub fn note_former(plugin: &PluginView) {
    let is_usable = comparison(plugin).is_some_and(|comparison| comparison.version != VersionOrder::First);
    if let Some(replaced) = plugin.replaces.as_ref().filter(|_| is_usable) {
        output::note(&format!("{} is kept: `guillemet plugin rollback {}`", name(replaced), plugin.feature));
    }
}
