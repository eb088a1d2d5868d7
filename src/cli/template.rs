//! The `template` commands.

mod new;
mod starter;
use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::Value;

use super::client::{percent_encode, template_path};
use super::{Done, Failure, client, offline, output};
use guillemet_api::Listing;
use guillemet_api::status::DaemonStatus;
use guillemet_api::templates::{ExplainedUse, Explanation, Strays, TemplateListing, TemplateView};
use guillemet_base::home::Home;
use guillemet_plugin::offline::CheckReport;

#[derive(Subcommand)]
pub enum TemplateCommand {
    /// List templates with their problems, and files that are not templates.
    List(TemplateListArgs),
    /// Create a template for a feature, with comments, as a starting point.
    New(new::TemplateNewArgs),
    /// Check templates. Needs no daemon or vault.
    Check(TemplateCheckArgs),
    /// Show the document with «name» in place of each secret, and how secrets are encoded.
    Explain(TemplateExplainArgs),
}

#[derive(Args)]
pub struct TemplateListArgs {
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct TemplateCheckArgs {
    /// FEATURE/NAME [default: all templates].
    ids: Vec<String>,
    /// Check only this target [default: the template's `targets`, or the default of its feature].
    #[arg(long, requires = "ids")]
    target: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct TemplateExplainArgs {
    /// FEATURE/NAME.
    id: String,
    /// The consumer's format [default: the first of the template's `targets`, or the default of its feature].
    #[arg(long)]
    target: Option<String>,
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

impl TemplateCommand {
    pub fn run(self, home: &Home) -> Done {
        match self {
            Self::List(command) => command.run(home),
            Self::New(command) => command.run(home),
            Self::Check(command) => command.run(home),
            Self::Explain(command) => command.run(home),
        }
    }
}

/// Returns a warning if the daemon of this home has another configuration in force than the file that templates were
/// checked with. Returns `None` if no daemon runs, or it does not say.
fn other_configuration(home: &Home) -> Option<String> {
    // A daemon that `GUILLEMET_SOCKET` names may serve another home.
    client::daemon_serves_home(home).ok().filter(|is_own| *is_own)?;
    let DaemonStatus { configuration: active, .. } = client::get(home, "/v1/status").ok()?;
    if active.digest == offline::configuration_digest(home)? {
        return None;
    }
    let reason = active.problems.first().map_or_else(String::new, |problem| format!(": {}", problem.message));
    Some(format!(
        "warning: checked with {}, but the daemon uses the configuration it loaded at {}{reason}. Run `{}` to see what \
         is wrong",
        home.config_file().display(),
        active.loaded_at,
        home.command("reload")
    ))
}

/// Prints a note for each file that is not a template, as the API lists them.
fn note_strays(strays: &Strays) {
    for stray in &strays.items {
        output::note(&format!("  {}: {}", stray.path, stray.message));
    }
    let more = strays.count.saturating_sub(strays.items.len());
    if more > 0 {
        output::note(&format!("  and {more} more"));
    }
}

impl TemplateListArgs {
    fn run(self, home: &Home) -> Done {
        if self.json {
            output::json(&serde_json::to_value(client::all_templates::<Value>(home)?)?);
            return Ok(());
        }
        let TemplateListing { page: Listing { items: templates, .. }, strays } = client::all_templates(home)?;
        let row = |template: &TemplateView| {
            vec![
                template.id.clone(),
                template.format.to_string(),
                template.status.name().to_owned(),
                template.references.len().to_string(),
                template.targets.join(", "),
            ]
        };
        output::table(&["Template", "Format", "Status", "References", "Targets"], templates.iter().map(row).collect());
        let is_good = templates.iter().all(|template| template.problems.is_empty());
        let folder = if is_good { None } else { client::templates(home) };
        for template in &templates {
            for problem in &template.problems {
                output::note(&client::problem_text(folder.as_deref(), &template.id, "", problem));
            }
        }
        note_strays(&strays);
        Ok(())
    }
}

impl TemplateCheckArgs {
    fn run(self, home: &Home) -> Done {
        let compiler = offline::compiler(home).map_err(|Failure(error)| {
            Failure::new(format!(
                "{error}\nno template was checked. A running daemon keeps using the configuration it loaded \
                     before; run `{}` to see which",
                home.command("status")
            ))
        })?;
        let CheckReport { templates: checked, strays, unreadable } =
            compiler.check(home.templates(), &self.ids, self.target.as_deref())?;
        let strays = offline::strays(&strays);
        if let Some(note) = other_configuration(home) {
            output::note(&note);
        }
        let broken = checked.iter().filter(|template| template.is_broken()).count();
        if self.json {
            let (count, items) = (checked.len(), &checked);
            output::json(
                &serde_json::json!({"count": count, "items": items, "strays": strays, "unreadable": unreadable}),
            );
        } else {
            for template in &checked {
                output::line(&format!("{} {}", template.id, template.status));
                for (problems, kind) in [(&template.problems, ""), (&template.warnings, "warning: ")] {
                    for problem in problems {
                        output::note(&client::problem_text(Some(&home.templates()), &template.id, kind, problem));
                    }
                }
                if !template.good_for.is_empty() {
                    output::note(&format!(
                        "  {} can be rendered for {}. If it is not meant for other targets, list these in its field \
                         `targets`",
                        template.id,
                        template.good_for.join(", "),
                    ));
                }
            }
            note_strays(&strays);
        }
        let mut failures = unreadable;
        match broken {
            0 => {}
            1 => failures.push("1 template has errors".into()),
            broken => failures.push(format!("{broken} templates have errors")),
        }
        if failures.is_empty() { Ok(()) } else { Err(Failure::new(failures.join("\n"))) }
    }
}

impl TemplateExplainArgs {
    fn run(self, home: &Home) -> Done {
        let target = self.target.map_or_else(String::new, |target| format!("?target={}", percent_encode(&target)));
        let path = format!("/v1/templates/{}/explain{target}", template_path(&self.id)?);
        let response = client::fetch(home, Method::GET, &path)?;
        if self.json {
            output::json(&response.json()?);
            return Ok(());
        }
        let explained: Explanation = response.read()?;
        output::line(explained.document.trim_end_matches('\n'));
        output::line("");
        let row = |secret: &ExplainedUse| {
            vec![
                format!("«{}»", secret.name),
                format!("{}:{}", secret.template, secret.line),
                secret.field.clone(),
                secret.encodings.join(" → "),
            ]
        };
        output::table(&["Secret", "Line", "Field", "Encodings"], explained.secrets.iter().map(row).collect());
        for warning in explained.warnings {
            let field = if warning.path.is_empty() { String::new() } else { format!("{}: ", warning.path) };
            output::note(&format!("warning: {field}{}", warning.message));
        }
        Ok(())
    }
}
