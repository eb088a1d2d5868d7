//! The endpoints of templates: list, show, explain and render.

use std::sync::Arc;
use std::time::Instant;

use crate::api::context::RequestContext;
use crate::api::request::{self, BodyFields};
use crate::api::response::{Json, RenderResponse};
use crate::app::error::AppError;
use crate::app::inline::InlineTemplate;
use crate::app::serving::{PLAN_TIME, RenderOptions};
use crate::app::{inline, serving, templates};
use crate::http::error::HttpError;
use guillemet_api::render::SAME_TARGET;
use guillemet_api::templates::{Explanation, TemplateListing, TemplateView};
use guillemet_template::Format;
use guillemet_template::catalog::TEMPLATE_MAX;

/// `GET /v1/templates`: lists the templates, and the files in their folder that are not templates.
pub async fn list(cx: RequestContext<'_>) -> Result<Json<TemplateListing>, HttpError> {
    let page = request::page(cx.url.raw_query())?;
    let strays = templates::list_strays(cx.app).await?;
    Ok(Json(TemplateListing { page: page.of(templates::templates(cx.app).await), strays }))
}

/// `GET /v1/templates/{feature}/{name}`: returns one template.
pub async fn show(cx: RequestContext<'_>) -> Result<Json<TemplateView>, HttpError> {
    cx.url.query([])?;
    let (_, prepared) = serving::current_template(cx.app, &cx.url.template_id()?, Instant::now() + PLAN_TIME).await?;
    Ok(Json(templates::template(cx.app, &prepared).await))
}

/// `GET /v1/templates/{feature}/{name}/explain`: returns the document with names in place of the values.
pub async fn explain(cx: RequestContext<'_>) -> Result<Json<Explanation>, HttpError> {
    let [target] = cx.url.query(["target"])?;
    let (_, prepared, plan) = serving::current_plan(cx.app, &cx.url.template_id()?, target.as_deref()).await?;
    Ok(Json(templates::explain(&prepared, &plan, target.as_deref())))
}

/// `GET /v1/render/{feature}/{name}`: renders a stored template.
pub async fn render(cx: RequestContext<'_>) -> Result<RenderResponse, HttpError> {
    let [target] = cx.url.query(["target"])?;
    let id = cx.url.template_id()?;
    let options = RenderOptions {
        target: target.as_deref(),
        expected_target: cx.head.headers.get(&SAME_TARGET).map(|name| name.as_bytes()),
        if_none_match: cx.if_none_match(),
    };
    let (rendered, plan) = serving::render(cx.app, &id, options, cx.principal).await?;
    Ok(RenderResponse { rendered, plan, requested: target })
}

/// `POST /v1/render`: renders a template that comes with the request.
pub async fn render_inline(mut cx: RequestContext<'_>) -> Result<RenderResponse, HttpError> {
    cx.url.query([])?;
    let mut fields = cx.fields().await?;
    let template = read_inline(&mut fields);
    // Kept while the template waits for its turn, because its text stays in memory for that time.
    let _reservation = fields.reservation();
    fields.finish()?;
    let template = template.ok_or_else(|| AppError::Invalid(Vec::new()))?;
    let rendering = inline::render(cx.app, &template, cx.if_none_match(), cx.principal);
    let (rendered, plan) = Box::pin(rendering).await?;
    Ok(RenderResponse { rendered, plan: Arc::new(plan), requested: template.target })
}

/// Reads the template in a body. Returns `None` if a field is missing or wrong, which `finish` then reports.
fn read_inline(fields: &mut BodyFields) -> Option<InlineTemplate> {
    let feature = fields.text("feature");
    let format = fields.one_of("format", &["toml", "json", "jsonc", "yaml"]);
    let text = fields.text("template");
    if text.as_ref().is_some_and(|text| text.len() as u64 > TEMPLATE_MAX) {
        fields.add_error("template", format!("a template can have at most {} KiB", TEMPLATE_MAX >> 10));
    }
    let target = fields.optional_text("target");
    let format = format.as_deref().and_then(Format::from_extension);
    Some(InlineTemplate { feature: feature?, format: format?, text: text?, target })
}
