//! The API's client: requests over the socket, to the daemon of the home that is meant and no other.

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
use crate::api::response::{SAME_TARGET, TARGET};
use crate::files::{self, FileId};
use crate::home::Home;
use crate::permissions;
use crate::template::catalog::{TEMPLATE_MAX, files_of};

/// All but RFC 3986 unreserved.
const PART: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A part of a path or query, percent-encoded.
pub fn part(text: &str) -> String {
    utf8_percent_encode(text, &PART).to_string()
}

/// The path of a template: `feature/name`.
///
/// # Errors
/// When it is no id.
pub fn template_path(id: &str) -> Result<String, Failure> {
    match id.split_once('/') {
        Some((feature, name)) if !feature.is_empty() && !name.is_empty() => {
            Ok(format!("{}/{}", part(feature), part(name)))
        }
        _ => Err(Failure::new(format!(
            "`{id}` is no template: an id is FEATURE/NAME; `guillemet template list` shows them"
        ))),
    }
}

/// An answer, whatever it says.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Names the state of what was asked for, where the API says one.
    pub etag: Option<String>,
    /// The target that a config was rendered for, by its present name.
    pub target: Option<String>,
    /// What the API warns of.
    pub warning: Option<String>,
    /// The body; wiped, since it may hold values.
    pub body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Itself, where it is good.
    ///
    /// # Errors
    /// Everything the API said is wrong.
    pub fn good(self, home: &Home) -> Result<Self, Failure> {
        if self.status < 400 { Ok(self) } else { Err(failure(home, &self.json(), self.status)) }
    }
}

/// Asks the daemon of a home.
///
/// # Errors
/// When there is none.
pub fn call(home: &Home, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
    call_if(home, method, path, None, body)
}

/// Asks for a change of the state that `etag` names; of any other it is refused.
///
/// # Errors
/// When there is no daemon.
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

/// Renders a config: `source` is the template's path, with the target. Where `copy` names another target than that, by
/// any of its names, nothing is rendered, and the answer is a conflict.
///
/// # Errors
/// When there is no daemon.
pub fn render(home: &Home, source: &str, copy: Option<&str>) -> Result<Answer, Failure> {
    let mut request = Request::builder().uri(format!("/v1/render/{source}")).header("host", "guillemet");
    if let Some(target) = copy {
        request = request.header(SAME_TARGET, target);
    }
    exchange(home, request.body(Full::default())?)
}

/// Asks, and gives the JSON of a good answer.
///
/// # Errors
/// When there is no daemon, or it says no.
pub fn json(home: &Home, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
    Ok(call(home, method, path, body)?.good(home)?.json())
}

/// For how much of an answer there is room from the start, at most.
const ANSWER: usize = 1 << 20;
/// Items of one page; the most there can be.
const PAGE: usize = 1000;
/// How many pages are read at once.
const READERS: usize = 4;

/// A listing.
#[derive(Debug, Deserialize)]
pub struct Listing<T> {
    /// How many there are.
    pub count: usize,
    /// All of them.
    pub items: Vec<T>,
    /// Beside templates, the files that are none; null elsewhere.
    #[serde(default)]
    pub strays: Value,
}

/// Every item of a listing, as JSON.
///
/// # Errors
/// As `json`.
pub fn all(home: &Home, path: &str, query: &str) -> Result<Value, Failure> {
    let all: Listing<Value> = listing(home, path, query)?;
    let mut listing = serde_json::json!({"count": all.count, "items": all.items});
    if !all.strays.is_null() {
        listing["strays"] = all.strays;
    }
    Ok(listing)
}

/// Every item of a listing. The pages behind the first are asked for side by side: reading one takes as long
/// as writing it.
///
/// # Errors
/// As `json`.
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
        let pages = readers.into_iter().map(|reader| reader.join().map_err(|_| Failure::new("a page was not read"))?);
        pages.collect::<Result<Vec<_>, _>>()
    })?;
    all.items.extend(pages.into_iter().flatten().flat_map(|page| page.items));
    all.count = all.items.len();
    Ok(all)
}

/// Asks on one connection: first whom the daemon serves, then what is wanted. So nothing, a value least of all, is sent
/// to the daemon of another home, unless `GUILLEMET_SOCKET` names that daemon.
fn exchange(home: &Home, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
    on_connection(home, async |sender| {
        let health = ask(sender, health()?).await?;
        // What it tells a caller that it tells nothing, it would tell it to this request too.
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

/// Whether a daemon that answered so serves this home. Its folder is compared, not the path, which may lead through
/// links and mounts.
fn serves(home: &Home, health: &Answer) -> bool {
    FileId::of(home.data()).is_ok_and(|own| health.json()["home"].as_str() == Some(&own.to_string()))
}

/// Whether the daemon that commands ask serves this home. One that `GUILLEMET_SOCKET` names may serve another.
///
/// # Errors
/// When there is no daemon.
pub fn is_of_home(home: &Home) -> Result<bool, Failure> {
    if !home.is_socket_chosen() {
        return Ok(true);
    }
    let health = on_connection(home, async |sender| ask(sender, health()?).await)?;
    Ok(serves(home, &health))
}

/// Returns the folder of the templates that the daemon's answers are about, or `None` where they do not lie here.
pub fn templates(home: &Home) -> Option<PathBuf> {
    is_of_home(home).is_ok_and(|is_own| is_own).then(|| home.templates())
}

type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

/// Waits where others connect faster than the daemon takes them; the runtime's own way would fail then.
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
                // An answer that ends its connection has been read by now.
                exchange.await.map_err(|_| Failure::new("the daemon ended the connection; look at its log"))
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
    // `299 - "text"`.
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

/// Everything an error says, with the lines of the templates it means.
fn failure(home: &Home, error: &Value, status: u16) -> Failure {
    let Some(message) = error["message"].as_str() else {
        return Failure::new(format!("the daemon answered {status} and nothing that can be read"));
    };
    let mut text = message.to_owned();
    let entries = error["errors"].as_array().into_iter().flatten();
    let of_template = |entry: &Value| entry["template"].is_string() && entry["line"].is_u64();
    let is_of_templates = error["errors"].as_array().is_some_and(|all| all.iter().any(of_template));
    let templates = if is_of_templates { templates(home) } else { None };
    // One that says the same, of no place in a template, is for programs.
    for entry in entries.filter(|entry| entry["template"].is_string() || entry["message"] != error["message"]) {
        text.push_str(&entry_text(templates.as_deref(), entry));
    }
    if let Some(detail) = error["detail"].as_str() {
        text.push_str(&format!("\n{detail}"));
    }
    Failure::new(text)
}

/// One entry of `errors`, or one problem of a template: its place, what is wrong, the line, what to do. The line is
/// read from the folder of the templates, where that is here.
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

/// A line of a template, or of a file that is none, if it can be read here.
fn source_line(templates: &Path, template: &str, line: u64) -> Option<String> {
    let mut files = files_of(templates, template);
    files.push(templates.join(template));
    let text = files.into_iter().find_map(|file| files::read_text(&file, TEMPLATE_MAX).ok())?;
    let line = text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
    Some(output::clean(&line.chars().take(200).collect::<String>()).replace('\t', " "))
}
