//! The `template` commands.

mod new;
mod starter;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::Value;

use super::client::{self, part, template_path};
use super::{Done, Failure, output};
use guillemet_base::home::Home;
use guillemet_daemon::config;
use guillemet_plugin::offline::{Checked, OfflineCompiler};

#[derive(Subcommand)]
pub enum Template {
    /// List templates with their problems, and files that are not templates.
    List(List),
    /// Create a template for a feature, with comments, as a starting point.
    New(new::New),
    /// Check templates. Needs no daemon or vault.
    Check(Check),
    /// Show the document with «name» in place of each secret, and how secrets are encoded.
    Explain(Explain),
}

#[derive(Args)]
pub struct List {
    /// Print the API's JSON response.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Check {
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
pub struct Explain {
    /// FEATURE/NAME.
    id: String,
    /// The consumer's format [default: the first of the template's `targets`, or the default of its feature].
    #[arg(long)]
    target: Option<String>,
    /// Print the API's JSON response.
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
    let status = client::call(home, Method::GET, "/v1/status", None).ok().filter(|answer| answer.status == 200)?;
    let status = status.json();
    let in_force = &status["configuration"];
    let (_, text) = config::load(home).ok()?;
    if !in_force["digest"].is_string() || in_force["digest"] == text.digest().to_string() {
        return None;
    }
    let problems = items(&in_force["problems"]);
    let why = problems.first().map_or_else(String::new, |problem| format!(": {}", output::text(&problem["message"])));
    Some(format!(
        "warning: checked with {}, but the daemon uses the configuration it loaded at {}{why}. Run `{}` to see what is \
         wrong",
        home.config_file().display(),
        output::text(&in_force["loaded_at"]),
        home.command("reload")
    ))
}

/// Returns a problem with the id of its template added, as [`client::entry_text`] expects it.
fn of_template(template: &Value, problem: &Value) -> Value {
    let mut entry = problem.clone();
    entry["template"] = template["id"].clone();
    entry
}

fn items(list: &Value) -> Vec<Value> {
    list.as_array().cloned().unwrap_or_default()
}

/// Prints a note for each file that is not a template, as the API lists them.
fn note_strays(strays: &Value) {
    let shown = items(&strays["items"]);
    for stray in &shown {
        output::note(&format!("  {}: {}", output::text(&stray["path"]), output::text(&stray["message"])));
    }
    let more = strays["count"].as_u64().unwrap_or(0).saturating_sub(shown.len() as u64);
    if more > 0 {
        output::note(&format!("  and {more} more"));
    }
}

impl List {
    fn run(self, home: &Home) -> Done {
        let templates = client::all(home, "/v1/templates", "")?;
        if self.json {
            output::json(&templates);
            return Ok(());
        }
        let strays = &templates["strays"];
        let templates = items(&templates["items"]);
        let row = |template: &Value| {
            let targets: Vec<String> = items(&template["targets"]).iter().map(output::text).collect();
            vec![
                output::text(&template["id"]),
                output::text(&template["format"]),
                output::text(&template["status"]),
                items(&template["references"]).len().to_string(),
                targets.join(", "),
            ]
        };
        output::table(&["Template", "Format", "Status", "References", "Targets"], templates.iter().map(row).collect());
        let is_good = templates.iter().all(|template| items(&template["problems"]).is_empty());
        let folder = if is_good { None } else { client::templates(home) };
        for template in &templates {
            for problem in items(&template["problems"]) {
                let entry = of_template(template, &problem);
                output::note(client::entry_text(folder.as_deref(), &entry).trim_start_matches('\n'));
            }
        }
        note_strays(strays);
        Ok(())
    }
}

impl Check {
    fn run(self, home: &Home) -> Done {
        let (config, _) = config::load(home).map_err(|error| {
            Failure::new(format!(
                "{error}\nno template was checked. A running daemon keeps using the configuration it loaded \
                     before; run `{}` to see which",
                home.command("status")
            ))
        })?;
        let compiler = OfflineCompiler::new(home.plugins(), config.variables)?;
        let Checked { templates: checked, strays, unreadable } =
            compiler.check(home.templates(), &self.ids, self.target.as_deref())?;
        if let Some(note) = other_configuration(home) {
            output::note(&note);
        }
        let broken = checked.iter().filter(|template| template["status"] == "broken").count();
        if self.json {
            let (count, items) = (checked.len(), &checked);
            output::json(
                &serde_json::json!({"count": count, "items": items, "strays": strays, "unreadable": unreadable}),
            );
        } else {
            for template in &checked {
                output::line(&format!("{} {}", output::text(&template["id"]), output::text(&template["status"])));
                for (list, kind) in [("problems", ""), ("warnings", "warning: ")] {
                    for problem in items(&template[list]) {
                        let mut entry = of_template(template, &problem);
                        entry["message"] = format!("{kind}{}", output::text(&entry["message"])).into();
                        output::note(client::entry_text(Some(&home.templates()), &entry).trim_start_matches('\n'));
                    }
                }
                let good: Vec<String> = items(&template["good_for"]).iter().map(output::text).collect();
                if !good.is_empty() {
                    output::note(&format!(
                        "  {} can be rendered for {}. If it is not meant for other targets, list these in its field \
                         `targets`",
                        output::text(&template["id"]),
                        good.join(", "),
                    ));
                }
            }
            note_strays(&serde_json::to_value(strays)?);
        }
        let mut wrong = unreadable;
        match broken {
            0 => {}
            1 => wrong.push("1 template has errors".into()),
            broken => wrong.push(format!("{broken} templates have errors")),
        }
        if wrong.is_empty() { Ok(()) } else { Err(Failure::new(wrong.join("\n"))) }
    }
}

impl Explain {
    fn run(self, home: &Home) -> Done {
        let target = self.target.map_or_else(String::new, |target| format!("?target={}", part(&target)));
        let path = format!("/v1/templates/{}/explain{target}", template_path(&self.id)?);
        let explained = client::json(home, Method::GET, &path, None)?;
        if self.json {
            output::json(&explained);
            return Ok(());
        }
        output::line(output::text(&explained["document"]).trim_end_matches('\n'));
        output::line("");
        let row = |secret: &Value| {
            let encodings: Vec<String> = items(&secret["encodings"]).iter().map(output::text).collect();
            vec![
                format!("«{}»", output::text(&secret["name"])),
                format!("{}:{}", output::text(&secret["template"]), output::text(&secret["line"])),
                output::text(&secret["field"]),
                encodings.join(" → "),
            ]
        };
        output::table(
            &["Secret", "Line", "Field", "Encodings"],
            items(&explained["secrets"]).iter().map(row).collect(),
        );
        for warning in items(&explained["warnings"]) {
            let field = warning["path"].as_str().filter(|field| !field.is_empty());
            let field = field.map_or_else(String::new, |field| format!("{field}: "));
            output::note(&format!("warning: {field}{}", output::text(&warning["message"])));
        }
        Ok(())
    }
}
