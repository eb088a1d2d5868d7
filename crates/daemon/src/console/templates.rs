//! The pages of templates, which only show and change nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use minijinja::context;

use super::pages::data;
use super::visit::{PageResult, Visit};
use crate::app::{serving, templates};
use crate::http::error::HttpError;
use guillemet_plan::preview;

/// The longest time that a page waits for a template that keeps changing.
const REST_TIME: Duration = Duration::from_secs(10);
/// The most characters of a line that are shown.
const LINE_MAX: usize = 200;

/// Lists every template with its status.
pub async fn list(visit: &Visit<'_>) -> PageResult {
    visit.query([])?;
    let app = &visit.site.app;
    let strays = templates::list_strays(app).await?;
    let shown = context! { templates => data(templates::templates(app).await), strays => data(strays) };
    Ok(visit.page("templates.html", StatusCode::OK, "Templates", "templates", shown))
}

/// Shows one template: what is wrong with it, and its document for a target with «name» in place of each value.
pub async fn show(visit: &Visit<'_>) -> PageResult {
    let app = &visit.site.app;
    let [target] = visit.query(["target"])?;
    let id = [&*visit.param("feature")?, "/", &*visit.param("name")?].concat();
    let (_, prepared) = serving::current(app, &id, Instant::now() + REST_TIME).await?;
    let mut shown = serde_json::to_value(templates::template(app, &prepared).await).unwrap_or_default();
    let template = Arc::clone(&prepared.template);
    let text = tokio::task::spawn_blocking(move || template.text()).await.ok().flatten().unwrap_or_default();
    for list in ["problems", "warnings"] {
        shown[list] = with_lines(std::mem::take(&mut shown[list]), &text);
    }
    let (explained, refused) = match serving::planned(app, &id, target.as_deref()).await {
        Ok((_, prepared, plan)) => (Some(preview::explain(&prepared.template.id, &plan, target.as_deref())), None),
        Err(error) => (None, Some(HttpError::from(error))),
    };
    let default = shown["targets"][0].as_str().unwrap_or_default().to_owned();
    let present = explained.as_ref().and_then(|explained| explained["target"].as_str()).map(str::to_owned);
    let target = present.or(target).unwrap_or(default);
    let status = match &refused {
        Some(error) if error.status() == StatusCode::NOT_FOUND => error.status(),
        _ => StatusCode::OK,
    };
    let shown = context! {
        template => data(&shown),
        target,
        explained => data(&explained),
        refused => refused.as_ref().map(HttpError::message),
        others => data(refused.as_ref().map(HttpError::errors).unwrap_or_default()),
    };
    Ok(visit.page("template.html", status, &format!("Template {id}"), "templates", shown))
}

/// Adds to each problem the line of the text that it refers to.
fn with_lines(mut problems: serde_json::Value, text: &str) -> serde_json::Value {
    for problem in problems.as_array_mut().into_iter().flatten() {
        let line = problem["line"].as_u64().and_then(|line| usize::try_from(line).ok()?.checked_sub(1));
        let source = line.and_then(|line| text.lines().nth(line));
        problem["source"] = source.map(|source| source.chars().take(LINE_MAX).collect::<String>()).into();
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_comes_with_its_line() {
        let problems = serde_json::json!([{"line": 2}, {"line": 9}, {"line": null}]);
        let shown = with_lines(problems, "one\ntwo\n");
        assert_eq!(shown[0]["source"], "two");
        assert!(shown[1]["source"].is_null() && shown[2]["source"].is_null());
    }
}
