//! The pages of templates, which only show and change nothing.

use std::sync::Arc;
use std::time::Instant;

use hyper::StatusCode;
use minijinja::context;
use serde::Serialize;

use super::pages::data;
use super::visit::{PageResult, Visit};
use crate::app::{serving, templates};
use crate::http::error::HttpError;
use guillemet_api::Problem;

/// The most characters of a line that are shown.
const LINE_MAX: usize = 200;

/// Lists every template with its status.
pub async fn list(visit: &Visit<'_>) -> PageResult {
    visit.url.query([])?;
    let app = &visit.site.app;
    let strays = templates::list_strays(app).await?;
    let context = context! { templates => data(templates::templates(app).await), strays => data(strays) };
    Ok(visit.page("templates.html", StatusCode::OK, "Templates", "templates", context))
}

/// Shows one template: what is wrong with it, and its document for a target with «name» in place of each value.
pub async fn show(visit: &Visit<'_>) -> PageResult {
    let app = &visit.site.app;
    let [target] = visit.url.query(["target"])?;
    let id = visit.url.template_id()?;
    let (_, prepared) = serving::current_template(app, &id, Instant::now() + serving::PLAN_TIME).await?;
    let view = templates::template(app, &prepared).await;
    let template = Arc::clone(&prepared.template);
    let text = tokio::task::spawn_blocking(move || template.text()).await.ok().flatten().unwrap_or_default();
    let (problems, warnings) = (with_lines(&view.problems, &text), with_lines(&view.warnings, &text));
    let (explained, further, error) = match serving::current_plan(app, &id, target.as_deref()).await {
        Ok((_, prepared, plan)) => {
            let explained = templates::explain(&prepared, &plan, target.as_deref());
            let is_own = templates::is_meant_for(app, &prepared, &plan.target.id).await;
            let is_above =
                |warning: &&Problem| view.warnings.contains(warning) || (is_own && plan.warnings.contains(warning));
            let further: Vec<Problem> = explained.warnings.iter().filter(|it| !is_above(it)).cloned().collect();
            (Some(explained), further, None)
        }
        Err(error) => (None, Vec::new(), Some(HttpError::from(error))),
    };
    let present = explained.as_ref().map(|explained| explained.target.clone());
    let target = present.or(target).or_else(|| view.targets.first().cloned()).unwrap_or_default();
    let status = match &error {
        Some(error) if error.status() == StatusCode::NOT_FOUND => error.status(),
        _ => StatusCode::OK,
    };
    let data = context! {
        template => data(&view),
        found => context! { problems => data(problems), warnings => data(warnings) },
        target,
        explained => data(&explained),
        further => data(with_lines(&further, &text)),
        refused => error.as_ref().map(HttpError::message),
        others => data(error.as_ref().map(HttpError::errors).unwrap_or_default()),
    };
    Ok(visit.page("template.html", status, &format!("Template {id}"), "templates", data))
}

/// A problem, with the line that it is about.
#[derive(Serialize)]
struct ShownProblem<'a> {
    #[serde(flatten)]
    problem: &'a Problem,
    source: Option<String>,
}

/// Adds to each problem its line of the text, cut at `LINE_MAX` characters.
fn with_lines<'a>(problems: &'a [Problem], text: &str) -> Vec<ShownProblem<'a>> {
    let shown = problems.iter().map(|problem| {
        let line = problem.line.and_then(|line| usize::try_from(line).ok()?.checked_sub(1));
        let source = line.and_then(|line| text.lines().nth(line));
        ShownProblem { problem, source: source.map(|source| source.chars().take(LINE_MAX).collect()) }
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_comes_with_its_line() {
        let problems = [Some(2), Some(9), None].map(|line| Problem { line, ..Problem::default() });
        let shown = with_lines(&problems, "one\ntwo\n");
        assert_eq!(shown[0].source.as_deref(), Some("two"));
        assert!(shown[1].source.is_none() && shown[2].source.is_none());
    }
}
