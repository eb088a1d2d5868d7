//! The client of the daemon's API. Sends requests over the socket, and only to the daemon of the home that was chosen.

use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use super::{Failure, no_daemon, output};
use guillemet_base::files::FileId;
use guillemet_base::home::Home;
use guillemet_base::{files, permissions};
use guillemet_daemon::api::response::{SAME_TARGET, TARGET};
use guillemet_template::catalog::{TEMPLATE_MAX, files_of};

/// The characters to percent-encode: all but the unreserved characters of RFC 3986, section 2.3.
const PART: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Returns a part of a path or query, percent-encoded.
pub fn part(text: &str) -> String {
    utf8_percent_encode(text, &PART).to_string()
}

/// Returns the path of a template in the API, `feature/name`, percent-encoded.
///
/// # Errors
/// When `id` is not a template id.
pub fn template_path(id: &str) -> Result<String, Failure> {
    match id.split_once('/') {
        Some((feature, name)) if !feature.is_empty() && !name.is_empty() => {
            Ok(format!("{}/{}", part(feature), part(name)))
        }
        _ => Err(Failure::new(format!(
            "`{id}` is not a template id: an id is FEATURE/NAME; run `guillemet template list` to see all"
        ))),
    }
}

/// An answer of the API, with any status.
pub struct Answer {
    /// The HTTP status code.
    pub status: u16,
    /// The entity tag of the resource's state, if the API sends one.
    pub etag: Option<String>,
    /// The target that a config was rendered for, under its present name.
    pub target: Option<String>,
    /// The text of the `Warning` header, if the API sends one.
    pub warning: Option<String>,
    /// The body. It is wiped when dropped, since it may hold values.
    pub body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// Parses the body as JSON; null if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Returns the answer if its status is below 400.
    ///
    /// # Errors
    /// With everything the API says is wrong.
    pub fn good(self, home: &Home) -> Result<Self, Failure> {
        if self.status < 400 { Ok(self) } else { Err(failure(home, &self.json(), self.status)) }
    }
}

/// Sends a request to the daemon of a home.
///
/// # Errors
/// When no daemon can be reached. An answer with an error status is not an error here.
pub fn call(home: &Home, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
    call_if(home, method, path, None, body)
}

/// Sends a request that applies only to the state that `etag` names. The daemon refuses it for any other state.
///
/// # Errors
/// As [`call`].
pub fn call_if(
    home: &Home,
    method: Method,
    path: &str,
    etag: Option<&str>,
    body: Option<&Value>,
) -> Result<Answer, Failure> {
    let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
    let mut request = Request::builder().method(method).uri(path).header("host", "guillemet");
    if let Some(etag) = etag {
        request = request.header("if-match", etag);
    }
    let request = request.header("content-type", "application/json").body(Full::new(Bytes::from(body)))?;
    exchange(home, request)
}

/// Renders a config. `source` is the template's path with the target. If `copy` names a different target, under any of
/// its names, nothing is rendered and the answer is a conflict (409).
///
/// # Errors
/// As [`call`].
pub fn render(home: &Home, source: &str, copy: Option<&str>) -> Result<Answer, Failure> {
    let mut request = Request::builder().uri(format!("/v1/render/{source}")).header("host", "guillemet");
    if let Some(target) = copy {
        request = request.header(SAME_TARGET, target);
    }
    exchange(home, request.body(Full::default())?)
}

/// Sends a request and returns the JSON of its answer.
///
/// # Errors
/// When no daemon can be reached, or it answers with an error.
pub fn json(home: &Home, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
    Ok(call(home, method, path, body)?.good(home)?.json())
}

/// The largest capacity reserved for an answer's body in advance, in bytes.
const ANSWER: usize = 1 << 20;
/// The number of items in one page, which is the most the API allows.
const PAGE: usize = 1000;
/// The number of pages that are read at the same time.
const READERS: usize = 4;

/// A listing of the API, with the items of all of its pages.
#[derive(Debug, Deserialize)]
pub struct Listing<T> {
    /// The number of items.
    pub count: usize,
    /// The items of every page, in the API's order.
    pub items: Vec<T>,
    /// In a listing of templates, the files that are not templates; null elsewhere.
    #[serde(default)]
    pub strays: Value,
}

/// Reads every item of a listing, as JSON.
///
/// # Errors
/// As [`json`].
pub fn all(home: &Home, path: &str, query: &str) -> Result<Value, Failure> {
    let all: Listing<Value> = listing(home, path, query)?;
    let mut listing = serde_json::json!({"count": all.count, "items": all.items});
    if !all.strays.is_null() {
        listing["strays"] = all.strays;
    }
    Ok(listing)
}

/// Reads every item of a listing. The pages after the first are requested in parallel, because reading a page takes as
/// long as writing it.
///
/// # Errors
/// As [`json`].
pub fn listing<T: DeserializeOwned + Send>(home: &Home, path: &str, query: &str) -> Result<Listing<T>, Failure> {
    let page = |offset: usize| -> Result<Listing<T>, Failure> {
        let path = format!("{path}?limit={PAGE}&offset={offset}{query}");
        let answer = call(home, Method::GET, &path, None)?.good(home)?;
        Ok(serde_json::from_slice(&answer.body)?)
    };
    let mut all = page(0)?;
    let behind: Vec<usize> = (PAGE..all.count).step_by(PAGE).collect();
    let share = behind.len().div_ceil(READERS).max(1);
    let pages = std::thread::scope(|scope| {
        let read = |offsets: &[usize]| offsets.iter().map(|offset| page(*offset)).collect::<Result<Vec<_>, _>>();
        let readers: Vec<_> = behind.chunks(share).map(|offsets| scope.spawn(move || read(offsets))).collect();
        let pages =
            readers.into_iter().map(|reader| reader.join().map_err(|_| Failure::new("a page could not be read"))?);
        pages.collect::<Result<Vec<_>, _>>()
    })?;
    all.items.extend(pages.into_iter().flatten().flat_map(|page| page.items));
    all.count = all.items.len();
    Ok(all)
}

/// Sends a request on a connection of its own, after asking there which home the daemon serves. So nothing, least of
/// all a value, is sent to the daemon of another home, unless `GUILLEMET_SOCKET` names that daemon.
fn exchange(home: &Home, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
    on_connection(home, async |sender| {
        let health = ask(sender, health()?).await?;
        // A caller that is refused here would be refused the request too, with the same answer.
        if health.status != 200 {
            return Ok(health);
        }
        if !home.is_socket_chosen() && !serves(home, &health) {
            let status = ask(sender, get("/v1/status")?).await?;
            return Err(no_daemon::of_another_home(home, &status.json()));
        }
        ask(sender, request).await
    })
}

fn get(path: &str) -> Result<Request<Full<Bytes>>, Failure> {
    Ok(Request::builder().uri(path).header("host", "guillemet").body(Full::default())?)
}

fn health() -> Result<Request<Full<Bytes>>, Failure> {
    get("/healthz")
}

/// Reports whether the daemon that gave this health answer serves this home. Compares the folder's identity, not its
/// path, because a path can go through links and mounts.
fn serves(home: &Home, health: &Answer) -> bool {
    FileId::of(home.data()).is_ok_and(|own| health.json()["home"].as_str() == Some(&own.to_string()))
}

/// Reports whether the daemon that commands talk to serves this home. A daemon that `GUILLEMET_SOCKET` names may serve
/// another one.
///
/// # Errors
/// When no daemon can be reached.
pub fn is_of_home(home: &Home) -> Result<bool, Failure> {
    if !home.is_socket_chosen() {
        return Ok(true);
    }
    let health = on_connection(home, async |sender| ask(sender, health()?).await)?;
    Ok(serves(home, &health))
}

/// Returns the folder of the templates that the daemon's answers are about, or `None` if the daemon serves another
/// home.
pub fn templates(home: &Home) -> Option<PathBuf> {
    is_of_home(home).is_ok_and(|is_own| is_own).then(|| home.templates())
}

type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

/// Connects with a blocking call, which waits if others connect faster than the daemon accepts. Tokio's own connect
/// would fail then.
fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    let stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

fn on_connection(
    home: &Home,
    exchange: impl AsyncFnOnce(&mut Sender) -> Result<Answer, Failure>,
) -> Result<Answer, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let socket = home.socket();
        let stream = connect(&socket).map_err(|error| no_daemon::why(home, &error))?;
        let listener = stream.peer_cred()?.uid();
        permissions::check_listener(&socket, listener).map_err(Failure::new)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut exchange = std::pin::pin!(exchange(&mut sender));
        tokio::select! {
            answer = exchange.as_mut() => answer,
            ended = connection => {
                ended?;
                // The answer may be complete even though the daemon closes the connection after it.
                exchange.await.map_err(|_| Failure::new("the daemon closed the connection; see its log"))
            }
        }
    })
}

async fn ask(sender: &mut Sender, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name).and_then(|text| text.to_str().ok()).map(str::to_owned);
    let etag = header("etag");
    let target = header(TARGET.as_str());
    // The header has the form `299 - "text"`.
    let warning = header("warning").and_then(|warning| warning.split('"').nth(1).map(str::to_owned));
    let mut incoming = response.into_body();
    let announced = usize::try_from(incoming.size_hint().lower()).unwrap_or(0).min(ANSWER);
    let mut body = Zeroizing::new(Vec::with_capacity(announced));
    while let Some(frame) = incoming.frame().await {
        if let Ok(data) = frame?.into_data() {
            body.extend_from_slice(&data);
        }
    }
    Ok(Answer { status, etag, target, warning, body })
}

/// Returns a failure with everything an error of the API says, and with the lines of the templates it is about.
fn failure(home: &Home, error: &Value, status: u16) -> Failure {
    let Some(message) = error["message"].as_str() else {
        return Failure::new(format!("the daemon sent an invalid response (status {status})"));
    };
    let mut text = message.to_owned();
    let entries = error["errors"].as_array().into_iter().flatten();
    let of_template = |entry: &Value| entry["template"].is_string() && entry["line"].is_u64();
    let is_of_templates = error["errors"].as_array().is_some_and(|all| all.iter().any(of_template));
    let templates = if is_of_templates { templates(home) } else { None };
    // An entry that only repeats the message, and names no place in a template, is meant for programs.
    for entry in entries.filter(|entry| entry["template"].is_string() || entry["message"] != error["message"]) {
        text.push_str(&entry_text(templates.as_deref(), entry));
    }
    if let Some(detail) = error["detail"].as_str() {
        text.push_str(&format!("\n{detail}"));
    }
    Failure::new(text)
}

/// Formats one entry of `errors`, or one problem of a template: its place, the message, the line and the help. The line
/// is read from the folder `templates`; with `None` it is left out.
pub fn entry_text(templates: Option<&Path>, entry: &Value) -> String {
    let mut place = entry["template"].as_str().or(entry["file"].as_str()).unwrap_or_default().to_owned();
    let line = entry["line"].as_u64();
    let column = entry["column"].as_u64();
    for number in [line, column].into_iter().flatten() {
        place.push_str(&format!(":{number}"));
    }
    let field = entry["field"].as_str().or(entry["path"].as_str()).unwrap_or_default();
    let head: Vec<&str> = [place.as_str(), field].into_iter().filter(|text| !text.is_empty()).collect();
    let mut text = format!("\n  {}", head.join(" "));
    if !head.is_empty() {
        text.push_str(": ");
    }
    text.push_str(entry["message"].as_str().unwrap_or_default());
    if let (Some(templates), Some(template), Some(line)) = (templates, entry["template"].as_str(), line)
        && let Some(source) = source_line(templates, template, line)
    {
        let gutter = line.to_string();
        let indent = " ".repeat(gutter.len());
        text.push_str(&format!("\n    {gutter} | {source}"));
        if let Some(column) = column {
            let pad = " ".repeat(usize::try_from(column).unwrap_or(1).saturating_sub(1).min(200));
            text.push_str(&format!("\n    {indent} | {pad}^"));
        }
    }
    if let Some(help) = entry["help"].as_str() {
        text.push_str(&format!("\n    help: {help}"));
    }
    text
}

/// Returns a line of a template, or of a file that is not a template, if it can be read here. `line` counts from 1.
fn source_line(templates: &Path, template: &str, line: u64) -> Option<String> {
    let mut files = files_of(templates, template);
    files.push(templates.join(template));
    let text = files.into_iter().find_map(|file| files::read_text(&file, TEMPLATE_MAX).ok())?;
    let line = text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
    Some(output::sanitize_multiline(&line.chars().take(200).collect::<String>()).replace('\t', " "))
}
