//! The `template` commands.

mod new;
mod starter;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::Value;

use super::client::{self, part, template_path};
use super::{Done, Failure, output};
use crate::config;
use crate::daemon::{Checked, DaemonError};
use guillemet_api::Listing;
use guillemet_api::status::DaemonStatus;
use guillemet_api::templates::{ExplainedUse, Explanation, Strays, TemplateListing, TemplateStatus, TemplateView};
use guillemet_base::home::Home;

#[derive(Subcommand)]
pub enum Template {
    /// The templates, with what is wrong with them, and the files that are not templates.
    List(List),
    /// Write a first template of a feature, with comments, to change as you need.
    New(new::New),
    /// Check templates, all of them or some. Needs neither daemon nor vault.
    Check(Check),
    /// The document with «name» where a secret will stand, and its encodings.
    Explain(Explain),
}

#[derive(Args)]
pub struct List {
    /// Print what the API says.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Check {
    /// FEATURE/NAME; all of them where none is given.
    ids: Vec<String>,
    /// Check for this target alone. Without it, a template is checked for the targets it names (`targets`), or for its
    /// feature's default.
    #[arg(long, requires = "ids")]
    target: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Explain {
    /// FEATURE/NAME.
    id: String,
    /// The consumer's format. Default: the first the template names (`targets`), or its feature's default.
    #[arg(long)]
    target: Option<String>,
    /// Print what the API says.
    #[arg(long)]
    json: bool,
}

impl Template {
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
    client::is_of_home(home).ok().filter(|is_own| *is_own)?;
    let DaemonStatus { configuration: in_force, .. } = client::get(home, "/v1/status").ok()?;
    let (_, text) = config::load(home).ok()?;
    if in_force.digest == text.digest().to_string() {
        return None;
    }
    let why = in_force.problems.first().map_or_else(String::new, |problem| format!(": {}", problem.message));
    Some(format!(
        "warning: checked with {}, but the daemon has the configuration in force that it loaded at {}{why}. `{}` shows \
         what is wrong",
        home.config_file().display(),
        in_force.loaded_at,
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

impl List {
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

impl Check {
    fn run(self, home: &Home) -> Done {
        let Checked { templates: checked, strays, unreadable } =
            match crate::daemon::check_templates(home, &self.ids, self.target.as_deref()) {
                Err(DaemonError::Config(error)) => {
                    return Err(Failure::new(format!(
                        "{error}\nno template was checked. A daemon that runs goes on with the configuration it loaded \
                         before; `{}` shows which",
                        home.command("status")
                    )));
                }
                checked => checked?,
            };
        if let Some(note) = other_configuration(home) {
            output::note(&note);
        }
        let broken = checked.iter().filter(|template| template.status == TemplateStatus::Broken).count();
        if self.json {
            let (count, items) = (checked.len(), &checked);
            output::json(
                &serde_json::json!({"count": count, "items": items, "strays": strays, "unreadable": unreadable}),
            );
        } else {
            for template in &checked {
                output::line(&format!("{} {}", template.id, template.status.name()));
                for (problems, kind) in [(&template.problems, ""), (&template.warnings, "warning: ")] {
                    for problem in problems {
                        output::note(&client::problem_text(Some(&home.templates()), &template.id, kind, problem));
                    }
                }
                if !template.good_for.is_empty() {
                    output::note(&format!(
                        "  {} can be rendered for {}. If it is meant for no other target, name these in its field `targets`",
                        template.id,
                        template.good_for.join(", "),
                    ));
                }
            }
            note_strays(&strays);
        }
        let mut wrong = unreadable;
        match broken {
            0 => {}
            1 => wrong.push("one template is broken".into()),
            broken => wrong.push(format!("{broken} templates are broken")),
        }
        if wrong.is_empty() { Ok(()) } else { Err(Failure::new(wrong.join("\n"))) }
    }
}

impl Explain {
    fn run(self, home: &Home) -> Done {
        let target = self.target.map_or_else(String::new, |target| format!("?target={}", part(&target)));
        let path = format!("/v1/templates/{}/explain{target}", template_path(&self.id)?);
        let answer = client::fetch(home, Method::GET, &path)?;
        if self.json {
            output::json(&answer.json());
            return Ok(());
        }
        let explained: Explanation = answer.read()?;
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
