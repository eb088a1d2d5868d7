//! The pages of templates, of plugins and of the audit trail. They show; nothing is changed here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use minijinja::context;

use super::listing::ROWS;
use super::pages::{data, part};
use super::site::{Answer, Visit};
use crate::api::endpoints::{self, blocking};
use crate::api::error::ApiError;
use crate::api::request::{Events, Page};
use crate::api::{request, usage, view};
use crate::names::SecretName;
use crate::vault::usage::Class;

/// How long a page waits for a template to rest.
const REST_TIME: Duration = Duration::from_secs(10);
/// The longest part of a line that is shown.
const LINE_MAX: usize = 200;

/// Every template.
pub async fn templates(visit: &Visit<'_>) -> Answer {
    request::query(visit.parts.uri.query(), [])?;
    let app = &visit.site.app;
    let strays = endpoints::strays(app).await?;
    let shown = context! { templates => data(view::templates(app).await), strays => data(view::strays(&strays)) };
    Ok(visit.page("templates.html", StatusCode::OK, "Templates", "templates", shown))
}

/// One template: what is wrong with it, and what it comes to for a target, with «name» for each value.
pub async fn template(visit: &Visit<'_>) -> Answer {
    let app = &visit.site.app;
    let [target] = request::query(visit.parts.uri.query(), ["target"])?;
    let id = [&*request::part(visit.param("feature"))?, "/", &*request::part(visit.param("name"))?].concat();
    let (_, prepared) = endpoints::current(app, &id, Instant::now() + REST_TIME).await?;
    let mut shown = serde_json::to_value(view::template(app, &prepared).await).unwrap_or_default();
    let template = Arc::clone(&prepared.template);
    let text = tokio::task::spawn_blocking(move || template.text()).await.ok().flatten().unwrap_or_default();
    for list in ["problems", "warnings"] {
        shown[list] = with_lines(std::mem::take(&mut shown[list]), &text);
    }
    let (explained, refused) = match endpoints::planned(app, &id, target.as_deref()).await {
        Ok((_, prepared, plan)) => (Some(view::explain(&prepared, &plan, target.as_deref())), None),
        Err(error) => (None, Some(error)),
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
        refused => refused.as_ref().map(ApiError::message),
        others => data(refused.as_ref().map(ApiError::errors).unwrap_or_default()),
    };
    Ok(visit.page("template.html", status, &format!("Template {id}"), "templates", shown))
}

/// The plugins.
pub async fn plugins(visit: &Visit<'_>) -> Answer {
    request::query(visit.parts.uri.query(), [])?;
    let shown = context! { plugins => data(visit.site.app.registry.list().await) };
    Ok(visit.page("plugins.html", StatusCode::OK, "Plugins", "plugins", shown))
}

/// The audit trail, of one secret or of all, of one class or of all.
pub async fn audit(visit: &Visit<'_>) -> Answer {
    let [of, class, offset] = request::query(visit.parts.uri.query(), ["secret", "class", "offset"])?;
    let (of, class) = (of.unwrap_or_default(), class.as_deref().and_then(Class::named));
    // What is no name was never that of a secret.
    let (secret, wrong) = match of.trim().parse::<SecretName>() {
        Ok(name) => (Some(name), None),
        Err(_) if of.trim().is_empty() => (None, None),
        Err(invalid) => (None, Some(invalid.to_string())),
    };
    let offset: usize = offset.filter(|_| wrong.is_none()).and_then(|offset| offset.parse().ok()).unwrap_or(0);
    let resolver = Arc::clone(&visit.site.app.resolver);
    let (page, wanted) = (Page { limit: ROWS, offset }, Events { secret, class, ..Events::default() });
    let trail = blocking(&visit.site.app, move |_| Ok(usage::events(&resolver, page, &wanted)?)).await?;
    let class = class.map_or("", Class::name);
    let (before, behind) = neighbours(&of, class, offset, trail.count);
    let shown = context! {
        of, wrong, before, behind, class,
        classes => Class::ALL.map(|(_, name, _)| name).to_vec(),
        count => trail.count,
        first => offset + 1,
        last => offset + trail.items.len(),
        events => data(&trail.items),
    };
    Ok(visit.page("audit.html", StatusCode::OK, "Audit trail", "audit", shown))
}

/// The queries of the page before and of the one behind, where there are any.
fn neighbours(of: &str, class: &str, offset: usize, count: usize) -> (Option<String>, Option<String>) {
    let at = |offset: usize| format!("secret={}&class={class}&offset={offset}", part(of));
    let behind = offset.saturating_add(ROWS);
    ((offset > 0).then(|| at(offset.saturating_sub(ROWS))), (behind < count).then(|| at(behind)))
}

/// Problems, each with the line of the text that it means.
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
