//! How templates and the daemon's state are shown.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::App;
use super::error::ApiError;
use super::request::Listing;
use crate::config::Config;
use crate::inventory::{ReferenceView, rfc3339};
use crate::logging;
use crate::planner::protocol::DocumentKind;
use crate::plugin::encode;
use crate::plugin::expr::{Expr, Op, Part};
use crate::plugin::plan::{Piece, Plan};
use crate::plugin::registry::Registry;
use crate::resolve::findings::Findings;
use crate::resolve::plans::{Outcomes, Prepared, Targets, Unplanned};
use crate::template::Problem;
use crate::template::catalog::{Content, Stray};

/// A template, as the API shows it.
#[derive(Debug, Serialize)]
pub struct TemplateView {
    id: String,
    feature: String,
    format: &'static str,
    status: &'static str,
    references: Vec<ReferenceView>,
    targets: Vec<String>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

/// The templates of a page, and files that are none.
#[derive(Debug, Serialize)]
pub struct Templates {
    /// Of this page.
    #[serde(flatten)]
    pub page: Listing<TemplateView>,
    /// Of the whole folder.
    pub strays: Strays,
}

/// Files in the templates' folder that are no templates, as the API shows them.
#[derive(Debug, Serialize)]
pub struct Strays {
    /// How many there are.
    pub count: usize,
    /// The first of them.
    pub items: Vec<StrayView>,
}

/// One of them.
#[derive(Debug, Serialize)]
pub struct StrayView {
    /// Its path inside the templates' folder.
    pub path: String,
    /// Why it is none, for programs.
    pub reason: &'static str,
    /// The same for people, and what to do.
    pub message: String,
}

/// How many files that are no templates are shown.
const STRAYS_SHOWN: usize = 100;
/// How many of them a warning names.
const STRAYS_NAMED: usize = 3;

/// Files that are no templates.
pub fn strays(all: &[Arc<Stray>]) -> Strays {
    let view =
        |stray: &Arc<Stray>| StrayView { path: stray.path.clone(), reason: stray.why.code(), message: stray.message() };
    Strays { count: all.len(), items: all.iter().take(STRAYS_SHOWN).map(view).collect() }
}

/// A warning where there are files that somebody may take for templates.
fn stray_warning(all: &[Arc<Stray>]) -> Option<String> {
    let told: Vec<&str> = all.iter().filter(|stray| !stray.is_quiet()).map(|stray| stray.path.as_str()).collect();
    let named = told[..told.len().min(STRAYS_NAMED)].join(", ");
    let more = told.len().saturating_sub(STRAYS_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let (number, are) = match told.len() {
        0 => return None,
        1 => ("one file".to_owned(), "is not a template"),
        number => (format!("{number} files"), "are not templates"),
    };
    Some(format!("{number} in the templates' folder {are}: {named}{more}; `guillemet template list` shows why"))
}

/// Every template, by id. Waits for plans that are not made yet.
pub async fn templates(app: &Arc<App>) -> Vec<TemplateView> {
    let snapshot = app.resolver.current.load();
    let mut all: Vec<Arc<Prepared>> = snapshot.templates.values().cloned().collect();
    drop(snapshot);
    all.sort_by(|a, b| a.template.id.cmp(&b.template.id));
    let mut views = Vec::with_capacity(all.len());
    for prepared in all {
        views.push(template(app, &prepared).await);
    }
    views
}

/// One template.
pub async fn template(app: &Arc<App>, prepared: &Prepared) -> TemplateView {
    let config = app.config.load_full();
    let template = &prepared.template;
    let found = found(prepared.plans(&app.registry, &config).await, |_| Vec::new());
    let plan = prepared.any_ready();
    let uses = plan.as_ref().map_or(&[][..], |plan| &plan.uses);
    let references = match &template.content {
        Content::Lexed(lexed) => lexed.references.as_slice(),
        Content::Broken { .. } => &[],
    };
    let references = references.iter().enumerate().map(|(index, reference)| ReferenceView {
        device: None,
        template: template.id.clone(),
        line: Some(reference.line),
        column: Some(reference.column),
        field: uses.iter().find(|usage| usage.reference == index).map(|usage| usage.field.clone()),
        name: Some(reference.name.to_string()),
    });
    TemplateView {
        id: template.id.clone(),
        feature: template.feature.clone(),
        format: template.format.extension(),
        status: if found.problems.is_empty() { "ok" } else { "broken" },
        references: references.collect(),
        targets: targets(prepared, &app.registry, &config).await,
        warnings: found.warnings,
        problems: found.problems,
    }
}

/// The ids of the targets that a template names, or of all there are of its feature; the template's default first.
async fn targets(prepared: &Prepared, registry: &Registry, config: &Config) -> Vec<String> {
    let list = match prepared.targets(registry, config).await {
        Ok(Targets { list, are_named: true }) => list.to_vec(),
        _ => registry.targets(&prepared.template.feature).await.unwrap_or_default(),
    };
    list.into_iter().map(|target| target.id).collect()
}

/// What was found about a template over the targets it is for.
pub struct Found {
    /// What is wrong with it.
    pub problems: Vec<Problem>,
    /// Worth telling, not an error.
    pub warnings: Vec<Problem>,
}

/// Says everything that was found about a template; `also` looks for more in a plan.
pub fn found(outcomes: Result<Outcomes, Unplanned>, also: impl Fn(&Plan) -> Vec<Problem>) -> Found {
    let outcomes = match outcomes {
        Ok(outcomes) => outcomes,
        Err(unplanned) => return Found { problems: problems(unplanned), warnings: Vec::new() },
    };
    let (mut wrong, mut warnings) = (Findings::new(outcomes.len()), Findings::new(outcomes.len()));
    for (target, outcome) in outcomes {
        match outcome {
            Ok(plan) => {
                warnings.add(&target.id, plan.warnings.clone());
                wrong.add(&target.id, also(&plan));
            }
            Err(unplanned) => wrong.add(&target.id, problems(unplanned)),
        }
    }
    Found { problems: wrong.told(), warnings: warnings.told() }
}

/// Why there is no plan, as problems.
pub fn problems(unplanned: Unplanned) -> Vec<Problem> {
    match unplanned {
        Unplanned::Problems(problems) | Unplanned::File(problems) => problems,
        Unplanned::Plugin(message) => vec![Problem { message, ..Problem::default() }],
        Unplanned::NoTarget(targets) => {
            vec![Problem { message: format!("no such target; there are {}", targets.join(", ")), ..Problem::default() }]
        }
    }
}

/// The document with `«name»` where a secret will stand, and what happens to each. `asked` is the target as the caller
/// named it: a former name is a warning.
pub fn explain(prepared: &Prepared, plan: &Plan, asked: Option<&str>) -> Value {
    let mut warnings = plan.warnings.clone();
    warnings.extend(renamed(plan, asked));
    let mut document = String::with_capacity(plan.literal_len + 64);
    let mut secrets = Vec::new();
    for piece in &plan.pieces {
        match piece {
            Piece::Text(text) => document.push_str(text),
            Piece::Slot { expr, uses } => {
                document.push_str(&shown(expr, plan));
                for index in uses {
                    let usage = &plan.uses[*index as usize];
                    let mut encodings = Vec::new();
                    collect_encodings(expr, *index, &mut encodings);
                    if plan.kind == DocumentKind::Json {
                        encodings.push("json");
                    }
                    secrets.push(json!({
                        "name": usage.name,
                        "template": prepared.template.id,
                        "line": usage.line,
                        "column": usage.column,
                        "field": usage.field,
                        "encodings": encodings,
                    }));
                }
            }
        }
    }
    json!({
        "template": prepared.template.id,
        "target": plan.target.id,
        "media_type": plan.target.media_type,
        "file_name": plan.target.file_name,
        "document": document,
        "secrets": secrets,
        "warnings": warnings,
    })
}

/// The warning for whoever asked for a target by a former name.
pub fn renamed(plan: &Plan, asked: Option<&str>) -> Option<Problem> {
    plan.target.renamed(asked).map(|message| Problem { message, ..Problem::default() })
}

/// An expression with names in place of values. Text beside them is shown as it will stand where its
/// encoding does not depend on its neighbours, and left out where it does (base64, digests).
pub fn shown(expr: &Expr, plan: &Plan) -> String {
    match expr {
        Expr::Secret(index) => format!("«{}»", plan.uses[*index as usize].name),
        Expr::Apply { op, args } => {
            let mut out = String::new();
            for part in args.iter().flatten() {
                match part {
                    Part::Expr(inner) => out.push_str(&shown(inner, plan)),
                    Part::Literal(text) => match op {
                        Op::HeaderValue
                        | Op::Url
                        | Op::Forbid { .. }
                        | Op::ForbidSequence { .. }
                        | Op::AtMost { .. } => {
                            out.push_str(text);
                        }
                        Op::UrlQuery | Op::UrlPathSegment | Op::Xml | Op::JsonString => {
                            out.push_str(&encode::literal(op, &[text]).unwrap_or_default());
                        }
                        Op::AsteriskValue => out.push_str(&text.replace(';', "\\;")),
                        Op::KamailioString => out.push_str(&text.replace('\\', "\\\\").replace('"', "\\\"")),
                        Op::CurlConfig => {
                            let quoted = encode::literal(op, &[text]).unwrap_or_default();
                            out.push_str(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
                        }
                        Op::Dotenv | Op::BaresipParameter => out.push_str(text),
                        Op::Filter(_) | Op::Base64 | Op::BasicCredentials | Op::SipDigestHa1(_) => {}
                    },
                }
            }
            // These always write quotes; others do where they have to.
            if matches!(op, Op::KamailioString | Op::CurlConfig) { format!("\"{out}\"") } else { out }
        }
    }
}

/// The operations around one use, the first applied first.
fn collect_encodings(expr: &Expr, index: u32, into: &mut Vec<&'static str>) {
    if let Expr::Apply { op, args } = expr
        && expr.emissions().contains(&index)
    {
        for part in args.iter().flatten() {
            if let Part::Expr(inner) = part {
                collect_encodings(inner, index, into);
            }
        }
        into.push(op.name());
    }
}

/// For how long the status waits for a look at who can change templates.
const WAIT: Duration = Duration::from_secs(2);

/// A warning where others can change templates now. Reads metadata of every file, one look at a time: where a file
/// system hangs, so does the look, and nothing else. What hangs is a warning of its own.
async fn changeable_templates(app: &Arc<App>) -> Option<String> {
    let checked = async {
        let turn = Arc::clone(&app.template_check).lock_owned().await;
        let app = Arc::clone(app);
        let look = move || {
            let _turn = turn;
            let snapshot = app.resolver.current.load();
            app.home.template_warning(snapshot.templates.values().map(|prepared| prepared.template.path.as_path()))
        };
        tokio::task::spawn_blocking(look).await.ok().flatten()
    };
    tokio::time::timeout(WAIT, checked).await.ok().flatten()
}

/// How the daemon is.
///
/// # Errors
/// When usage cannot be read.
pub async fn status(app: &Arc<App>) -> Result<Value, ApiError> {
    let ([active, disabled, missing], unreadable, all_strays, unkept) = {
        let (app, since) = (Arc::clone(app), Instant::now());
        let look = move || {
            let unkept = app.resolver.recorder.problems();
            (app.inventory.counts(since), app.inventory.unreadable(), app.inventory.strays(), unkept)
        };
        tokio::task::spawn_blocking(look)
            .await
            .map_err(|_| ApiError::new(super::Code::Internal, "the daemon failed inside; its log says where"))?
    };
    let changeable = changeable_templates(app).await;
    let not_templates = stray_warning(&all_strays);
    let refused = app.registry.refused();
    let unlogged = match logging::dropped_lines() {
        0 => None,
        lines => Some(format!("lines of the log that could not be written: {lines}; check where the log goes")),
    };
    let socket = app.socket_problem.load_full();
    let configuration = app.configuration_warnings();
    let warnings: Vec<&String> = (app.warnings.iter().chain(socket.as_deref()).chain(&configuration))
        .chain(&unkept)
        .chain(&unreadable)
        .chain(&changeable)
        .chain(&not_templates)
        .chain(&refused)
        .chain(&unlogged)
        .collect();
    let templates = templates(app).await;
    let broken = templates.iter().filter(|template| template.status == "broken").count();
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "started_at": rfc3339(app.started_at),
        "home": app.home.data().to_string_lossy(),
        "secrets": {
            "active": active,
            "disabled": disabled,
            "missing": missing,
        },
        "templates": {"ok": templates.len() - broken, "broken": broken, "strays": all_strays.len()},
        "plugins": app.registry.count(),
        "vault": {"format": crate::vault::store::FORMAT, "unlock": app.unlock},
        "configuration": app.configuration_view(),
        "warnings": warnings,
    }))
}
