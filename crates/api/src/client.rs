//! A blocking client. Sends requests over the socket, and only to the daemon of the home that was chosen.

mod events;

use std::io;
use std::path::Path;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::UnixStream;
use zeroize::Zeroizing;

pub use self::events::EventReader;
use crate::Listing;
use crate::error::ErrorBody;
use crate::health::Health;
use crate::render::{SAME_TARGET, TARGET};
use crate::templates::TemplateListing;
use guillemet_base::files::FileId;
use guillemet_base::home::Home;
use guillemet_base::permissions;

/// The characters to percent-encode: all but the unreserved characters of RFC 3986, section 2.3.
const PART: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The largest capacity reserved for an answer's body in advance, in bytes.
const ANSWER: usize = 1 << 20;
/// The number of items in one page, which is the most the API allows.
const PAGE: usize = 1000;
/// The number of pages that are read at the same time.
const READERS: usize = 4;

/// Returns a part of a path or query, percent-encoded.
pub fn percent_encode(text: &str) -> String {
    utf8_percent_encode(text, &PART).to_string()
}

/// What a daemon that serves another home reports of itself. Read from its status field by field, because the daemon
/// can be of another version; each is `None` if the daemon does not report it to this caller.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct OtherDaemon {
    /// The process id.
    pub pid: Option<u32>,
    /// The path of the home that it serves.
    pub home: Option<String>,
}

/// Why a request got no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ApiClientError {
    /// Nothing accepts connections at the socket.
    #[error("cannot connect to the daemon: {0}")]
    Connect(#[source] io::Error),
    /// A user that is not trusted listens at the socket. Nothing was sent. Holds a message for people.
    #[error("{0}")]
    Untrusted(String),
    /// The daemon at the socket serves another home. The request was not sent. Holds what the daemon reports of itself,
    /// if this caller may read it.
    #[error("the daemon at this socket serves another home; nothing was sent to it")]
    OtherHome(OtherDaemon),
    /// The daemon closed the connection before it had answered.
    #[error("the daemon closed the connection; see its log")]
    Closed,
    /// The connection failed.
    #[error(transparent)]
    Connection(#[from] hyper::Error),
    /// The request cannot be written, such as with a header that is not ASCII.
    #[error(transparent)]
    Request(#[from] hyper::http::Error),
    /// The runtime of the connection cannot be started.
    #[error(transparent)]
    Runtime(#[from] io::Error),
    /// The daemon refused the request.
    #[error("{}", .0.message)]
    Refused(Box<ErrorBody>),
    /// The daemon answered with this error status and without a body that can be read.
    #[error("the daemon answered {0} and nothing that can be read")]
    Unreadable(u16),
    /// The body of the request cannot be written as JSON, such as with a path that is not UTF-8.
    #[error(transparent)]
    Body(serde_json::Error),
    /// The body of the answer is not the JSON of its type. Holds the line and column, and no text of the body, which
    /// can hold a value.
    #[error("the daemon's answer cannot be read (line {0}, column {1}); is it of the same version as this command?")]
    Unexpected(usize, usize),
    /// A thread that read a page of a listing failed.
    #[error("a page could not be read")]
    Page,
}

/// An answer of the API, with any status.
pub struct ApiResponse {
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

impl ApiResponse {
    /// Parses the body.
    ///
    /// # Errors
    /// [`ApiClientError::Unexpected`].
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ApiClientError> {
        serde_json::from_slice(&self.body).map_err(|error| ApiClientError::Unexpected(error.line(), error.column()))
    }

    /// Parses the body as any JSON, to pass it on.
    ///
    /// # Errors
    /// [`ApiClientError::Unexpected`].
    pub fn json(&self) -> Result<Value, ApiClientError> {
        self.read()
    }

    /// Returns the error that the API describes; `None` if the status is below 400, or the body cannot be read.
    pub fn error(&self) -> Option<ErrorBody> {
        if self.status < 400 { None } else { serde_json::from_slice(&self.body).ok() }
    }

    /// Returns the answer if its status is below 400.
    ///
    /// # Errors
    /// [`ApiClientError::Refused`] with everything the API says is wrong, and [`ApiClientError::Unreadable`].
    pub fn error_for_status(self) -> Result<Self, ApiClientError> {
        if self.status < 400 {
            return Ok(self);
        }
        let error = self.error().ok_or(ApiClientError::Unreadable(self.status))?;
        Err(ApiClientError::Refused(Box::new(error)))
    }
}

/// A client of the daemon of one home. Every request has a connection of its own.
#[derive(Clone, Copy, Debug)]
pub struct ApiClient<'a> {
    home: &'a Home,
}

impl<'a> ApiClient<'a> {
    /// Returns a client. Connects with the first request.
    pub fn new(home: &'a Home) -> Self {
        Self { home }
    }

    /// Sends a request, with a body unless that is `None`. With `etag`, the request applies only to the state that has
    /// this entity tag, and is refused for any other.
    ///
    /// # Errors
    /// When there is no answer. One with an error status is no error here; see [`ApiResponse::error_for_status`].
    pub fn send<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        etag: Option<&str>,
        body: Option<&B>,
    ) -> Result<ApiResponse, ApiClientError> {
        self.exchange(json_request(method, path, etag, body)?)
    }

    /// Sends a request without a body.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn call(&self, method: Method, path: &str) -> Result<ApiResponse, ApiClientError> {
        self.send(method, path, None, None::<&()>)
    }

    /// Gets a resource.
    ///
    /// # Errors
    /// As [`send`](Self::send) and [`ApiResponse::error_for_status`]; [`ApiClientError::Unexpected`] if the answer is
    /// not a `T`.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiClientError> {
        self.call(Method::GET, path)?.error_for_status()?.read()
    }

    /// Posts a body and reads the answer.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ApiClientError> {
        self.send(Method::POST, path, None, Some(body))?.error_for_status()?.read()
    }

    /// Changes a resource, whatever its state, and reads the answer.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ApiClientError> {
        self.send(Method::PATCH, path, None, Some(body))?.error_for_status()?.read()
    }

    /// Renders a config. `source` is the template's path, percent-encoded and with the target in its query. If
    /// `same_target` names a different target, under any of its names, nothing is rendered and the answer is a conflict
    /// (409).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn render(&self, source: &str, same_target: Option<&str>) -> Result<ApiResponse, ApiClientError> {
        let mut request = Request::builder().uri(format!("/v1/render/{source}")).header("host", "guillemet");
        if let Some(target) = same_target {
            request = request.header(SAME_TARGET, target);
        }
        self.exchange(request.body(Full::default())?)
    }

    /// Reads every item of a listing. `query` is empty or begins with `&`.
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`ApiClientError::Page`].
    pub fn listing<T: DeserializeOwned + Send>(&self, path: &str, query: &str) -> Result<Listing<T>, ApiClientError> {
        let first = self.get(&page(path, 0, query))?;
        self.fetch_rest(first, path, query)
    }

    /// Reads every template, and the files that are not templates. `T` is a
    /// [`TemplateView`](crate::templates::TemplateView), or any JSON to pass it on.
    ///
    /// # Errors
    /// As [`listing`](Self::listing).
    pub fn templates<T: DeserializeOwned + Send>(&self) -> Result<TemplateListing<T>, ApiClientError> {
        let path = "/v1/templates";
        let TemplateListing { page: first, strays } = self.get(&page(path, 0, ""))?;
        Ok(TemplateListing { page: self.fetch_rest(first, path, "")?, strays })
    }

    /// Adds the items of the pages after the first, which are requested in parallel, because reading a page takes as
    /// long as writing it.
    fn fetch_rest<T: DeserializeOwned + Send>(
        &self,
        mut listing: Listing<T>,
        path: &str,
        query: &str,
    ) -> Result<Listing<T>, ApiClientError> {
        let offsets: Vec<usize> = (PAGE..listing.count).step_by(PAGE).collect();
        let share = offsets.len().div_ceil(READERS).max(1);
        let pages = std::thread::scope(|scope| {
            let read = |offsets: &[usize]| -> Result<Vec<Listing<T>>, ApiClientError> {
                offsets.iter().map(|offset| self.get(&page(path, *offset, query))).collect()
            };
            let readers: Vec<_> = offsets.chunks(share).map(|offsets| scope.spawn(move || read(offsets))).collect();
            let pages = readers.into_iter().map(|reader| reader.join().map_err(|_| ApiClientError::Page)?);
            pages.collect::<Result<Vec<_>, _>>()
        })?;
        listing.items.extend(pages.into_iter().flatten().flat_map(|page| page.items));
        listing.count = listing.items.len();
        Ok(listing)
    }

    /// Reports whether the daemon that requests go to serves this home. A daemon that `GUILLEMET_SOCKET` names may
    /// serve another one.
    ///
    /// # Errors
    /// When no daemon can be reached.
    pub fn daemon_serves_home(&self) -> Result<bool, ApiClientError> {
        if !self.home.is_socket_chosen() {
            return Ok(true);
        }
        let health = self.on_connection(async |sender| send_request(sender, get("/healthz")?).await)?;
        Ok(self.is_from_this_home(&health))
    }

    /// Sends a request on a connection of its own, after asking there which home the daemon serves. So nothing, least
    /// of all a value, is sent to the daemon of another home, unless `GUILLEMET_SOCKET` names that daemon.
    fn exchange(&self, request: Request<Full<Bytes>>) -> Result<ApiResponse, ApiClientError> {
        self.on_connection(async |sender| match self.refusal(sender).await? {
            Some(refused) => Ok(refused),
            None => send_request(sender, request).await,
        })
    }

    /// Asks which home the daemon serves. Returns its answer if it refuses this caller: it would refuse any other
    /// request too, with the same answer.
    async fn refusal(&self, sender: &mut Sender) -> Result<Option<ApiResponse>, ApiClientError> {
        let health = send_request(sender, get("/healthz")?).await?;
        if health.status != 200 {
            return Ok(Some(health));
        }
        if !self.home.is_socket_chosen() && !self.is_from_this_home(&health) {
            let status = send_request(sender, get("/v1/status")?).await?;
            return Err(ApiClientError::OtherHome(status.read().unwrap_or_default()));
        }
        Ok(None)
    }

    /// Reports whether the daemon that gave this health answer serves this home. Compares the folder's identity, not
    /// its path, because a path can go through links and mounts.
    fn is_from_this_home(&self, health: &ApiResponse) -> bool {
        let served = health.read::<Health>();
        FileId::of(self.home.data()).is_ok_and(|own| served.is_ok_and(|health| health.home == own.to_string()))
    }

    fn on_connection(
        &self,
        exchange: impl AsyncFnOnce(&mut Sender) -> Result<ApiResponse, ApiClientError>,
    ) -> Result<ApiResponse, ApiClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let (mut sender, connection) = self.open().await?;
            let mut exchange = std::pin::pin!(exchange(&mut sender));
            tokio::select! {
                response = exchange.as_mut() => response,
                result = connection => {
                    result?;
                    // The answer may be complete even though the daemon closes the connection after it.
                    exchange.await.map_err(|_| ApiClientError::Closed)
                }
            }
        })
    }

    /// Connects to the daemon.
    async fn open(&self) -> Result<(Sender, Connection), ApiClientError> {
        let socket = self.home.socket();
        let stream = connect(&socket).map_err(ApiClientError::Connect)?;
        let listener = stream.peer_cred()?.uid();
        permissions::check_listener(&socket, listener).map_err(ApiClientError::Untrusted)?;
        Ok(hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?)
    }
}

type Connection = hyper::client::conn::http1::Connection<TokioIo<UnixStream>, Full<Bytes>>;
type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

/// Returns the path of a page of a listing.
fn page(path: &str, offset: usize, query: &str) -> String {
    format!("{path}?limit={PAGE}&offset={offset}{query}")
}

fn json_request<B: Serialize>(
    method: Method,
    path: &str,
    etag: Option<&str>,
    body: Option<&B>,
) -> Result<Request<Full<Bytes>>, ApiClientError> {
    let body = body.map(serde_json::to_vec).transpose().map_err(ApiClientError::Body)?.unwrap_or_default();
    let mut request = Request::builder().method(method).uri(path).header("host", "guillemet");
    if let Some(etag) = etag {
        request = request.header("if-match", etag);
    }
    Ok(request.header("content-type", "application/json").body(Full::new(Bytes::from(body)))?)
}

fn get(path: &str) -> Result<Request<Full<Bytes>>, ApiClientError> {
    Ok(Request::builder().uri(path).header("host", "guillemet").body(Full::default())?)
}

/// Connects with a blocking call, which waits if others connect faster than the daemon accepts. Tokio's own connect
/// would fail then.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

async fn send_request(sender: &mut Sender, request: Request<Full<Bytes>>) -> Result<ApiResponse, ApiClientError> {
    sender.ready().await?;
    read_response(sender.send_request(request).await?).await
}

/// Reads a response to its end.
async fn read_response(response: Response<Incoming>) -> Result<ApiResponse, ApiClientError> {
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
    Ok(ApiResponse { status, etag, target, warning, body })
}
