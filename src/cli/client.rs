//! The client of the daemon's API. Sends requests over the socket, and only to the daemon of the home that was chosen.

use std::path::{Path, PathBuf};

use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Failure, no_daemon, output};
use guillemet_api::client::{ApiClient, ApiClientError, EventReader};
pub use guillemet_api::client::{ApiResponse, percent_encode};
use guillemet_api::error::{ErrorBody, ErrorEntry};
use guillemet_api::templates::TemplateListing;
use guillemet_api::{Listing, Problem};
use guillemet_base::files;
use guillemet_base::home::Home;
use guillemet_template::catalog::{TEMPLATE_MAX, files_of};

/// Returns the path of a template in the API, `feature/name`, percent-encoded.
///
/// # Errors
/// When `id` is not a template id.
pub fn template_path(id: &str) -> Result<String, Failure> {
    match id.split_once('/') {
        Some((feature, name)) if !feature.is_empty() && !name.is_empty() => {
            Ok(format!("{}/{}", percent_encode(feature), percent_encode(name)))
        }
        _ => Err(Failure::new(format!(
            "`{id}` is not a template id: an id is FEATURE/NAME; run `guillemet template list` to see all"
        ))),
    }
}

/// Sends a request to the daemon of a home.
///
/// # Errors
/// When no daemon can be reached. An answer with an error status is not an error here; see [`error_for_status`].
pub fn call(home: &Home, method: Method, path: &str) -> Result<ApiResponse, Failure> {
    ApiClient::new(home).call(method, path).map_err(explain(home))
}

/// Sends a request with a body. With `etag`, the request applies only to the state that has this entity tag; the daemon
/// refuses it for any other.
///
/// # Errors
/// As [`call`].
pub fn send(
    home: &Home,
    method: Method,
    path: &str,
    etag: Option<&str>,
    body: &impl Serialize,
) -> Result<ApiResponse, Failure> {
    ApiClient::new(home).send(method, path, etag, Some(body)).map_err(explain(home))
}

/// Deletes a resource, with `etag` only in the state that has this entity tag.
///
/// # Errors
/// As [`call`].
pub fn delete(home: &Home, path: &str, etag: Option<&str>) -> Result<ApiResponse, Failure> {
    ApiClient::new(home).send(Method::DELETE, path, etag, None::<&()>).map_err(explain(home))
}

/// Returns an answer if its status is below 400.
///
/// # Errors
/// With everything the API says is wrong.
pub fn error_for_status(home: &Home, response: ApiResponse) -> Result<ApiResponse, Failure> {
    response.error_for_status().map_err(explain(home))
}

/// Sends a request and returns the answer, to be printed as it is or to be read.
///
/// # Errors
/// When no daemon can be reached, or it answers with an error.
pub fn fetch(home: &Home, method: Method, path: &str) -> Result<ApiResponse, Failure> {
    error_for_status(home, call(home, method, path)?)
}

/// Gets a resource.
///
/// # Errors
/// As [`fetch`], and when the answer cannot be read.
pub fn get<T: DeserializeOwned>(home: &Home, path: &str) -> Result<T, Failure> {
    ApiClient::new(home).get(path).map_err(explain(home))
}

/// Posts a body and reads the answer.
///
/// # Errors
/// As [`get`].
pub fn post<T: DeserializeOwned>(home: &Home, path: &str, body: &impl Serialize) -> Result<T, Failure> {
    ApiClient::new(home).post(path, body).map_err(explain(home))
}

/// Posts a body, and returns the events of the answer, which last until the reader is dropped.
///
/// # Errors
/// As [`fetch`].
pub fn post_for_events(home: &Home, path: &str, body: &impl Serialize) -> Result<EventReader, Failure> {
    ApiClient::new(home).post_for_events(path, body).map_err(explain(home))
}

/// Changes a resource, whatever its state, and reads the answer.
///
/// # Errors
/// As [`get`].
pub fn patch<T: DeserializeOwned>(home: &Home, path: &str, body: &impl Serialize) -> Result<T, Failure> {
    ApiClient::new(home).patch(path, body).map_err(explain(home))
}

/// Renders a config. `source` is the template's path with the target. If `copy` names a different target, under any of
/// its names, nothing is rendered and the answer is a conflict (409).
///
/// # Errors
/// As [`call`].
pub fn render(home: &Home, source: &str, copy: Option<&str>) -> Result<ApiResponse, Failure> {
    ApiClient::new(home).render(source, copy).map_err(explain(home))
}

/// Reads every item of a listing.
///
/// # Errors
/// As [`get`].
pub fn listing<T: DeserializeOwned + Send>(home: &Home, path: &str, query: &str) -> Result<Listing<T>, Failure> {
    ApiClient::new(home).listing(path, query).map_err(explain(home))
}

/// Reads every template, and the files that are not templates.
///
/// # Errors
/// As [`get`].
pub fn all_templates<T: DeserializeOwned + Send>(home: &Home) -> Result<TemplateListing<T>, Failure> {
    ApiClient::new(home).templates().map_err(explain(home))
}

/// Reports whether the daemon that commands talk to serves this home. A daemon that `GUILLEMET_SOCKET` names may serve
/// another one.
///
/// # Errors
/// When no daemon can be reached.
pub fn daemon_serves_home(home: &Home) -> Result<bool, Failure> {
    ApiClient::new(home).daemon_serves_home().map_err(explain(home))
}

/// Returns the folder of the templates that the daemon's answers are about, or `None` if the daemon serves another
/// home.
pub fn templates(home: &Home) -> Option<PathBuf> {
    daemon_serves_home(home).is_ok_and(|is_own| is_own).then(|| home.templates())
}

/// Returns a function that explains why a request to the daemon of a home failed.
fn explain(home: &Home) -> impl Fn(ApiClientError) -> Failure + '_ {
    |error| match error {
        ApiClientError::Connect(error) => no_daemon::connection_failure(home, &error),
        ApiClientError::OtherHome(daemon) => no_daemon::of_another_home(home, &daemon),
        ApiClientError::Refused(error) => api_failure(home, &error),
        error => Failure::new(error.to_string()),
    }
}

/// Returns a failure with everything an error of the API says, and with the lines of the templates it is about.
fn api_failure(home: &Home, error: &ErrorBody) -> Failure {
    let mut text = error.message.clone();
    let is_of_template = |entry: &ErrorEntry| entry.template.is_some() && entry.line.is_some();
    let templates = if error.errors.iter().any(is_of_template) { templates(home) } else { None };
    // An entry that only repeats the message, and names no place in a template, is meant for programs.
    for entry in error.errors.iter().filter(|entry| entry.template.is_some() || entry.message != error.message) {
        text.push_str(&entry_text(templates.as_deref(), entry));
    }
    if let Some(detail) = &error.detail {
        text.push_str(&format!("\n{detail}"));
    }
    Failure::new(text)
}

/// Formats a problem of a template as [`entry_text`] does, without the line break before it. `kind` comes before the
/// message.
pub fn problem_text(templates: Option<&Path>, template: &str, kind: &str, problem: &Problem) -> String {
    let mut entry = ErrorEntry::of_problem(problem);
    entry.template = Some(template.to_owned());
    entry.message.insert_str(0, kind);
    entry_text(templates, &entry).trim_start_matches('\n').to_owned()
}

/// Formats one entry of an error on a line of its own: its place, the message, the source line and the help. The source
/// line is read from the folder `templates`; with `None` it is left out.
pub fn entry_text(templates: Option<&Path>, entry: &ErrorEntry) -> String {
    let mut location = entry.template.as_ref().or(entry.file.as_ref()).cloned().unwrap_or_default();
    for number in [entry.line, entry.column].into_iter().flatten() {
        location.push_str(&format!(":{number}"));
    }
    let field = entry.field.as_deref().unwrap_or_default();
    let head: Vec<&str> = [location.as_str(), field].into_iter().filter(|text| !text.is_empty()).collect();
    let mut text = format!("\n  {}", head.join(" "));
    if !head.is_empty() {
        text.push_str(": ");
    }
    text.push_str(&entry.message);
    if let (Some(templates), Some(template), Some(line)) = (templates, &entry.template, entry.line)
        && let Some(source) = source_line(templates, template, line)
    {
        let gutter = line.to_string();
        let indent = " ".repeat(gutter.len());
        text.push_str(&format!("\n    {gutter} | {source}"));
        if let Some(column) = entry.column {
            let pad = " ".repeat(usize::try_from(column).unwrap_or(1).saturating_sub(1).min(200));
            text.push_str(&format!("\n    {indent} | {pad}^"));
        }
    }
    if let Some(help) = &entry.help {
        text.push_str(&format!("\n    help: {help}"));
    }
    text
}

/// Returns a line of a template, or of a file that is not a template, if it can be read here. `line` counts from 1.
fn source_line(templates: &Path, template: &str, line: u32) -> Option<String> {
    let mut files = files_of(templates, template);
    files.push(templates.join(template));
    let text = files.into_iter().find_map(|file| files::read_text(&file, TEMPLATE_MAX).ok())?;
    let line = text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
    Some(output::sanitize_multiline(&line.chars().take(200).collect::<String>()).replace('\t', " "))
}
