//! Gets the bytes of a plugin or an index: from an https URL, or from a file.
//!
//! Runs in the command line alone: the daemon fetches nothing. Sends no credentials, follows few redirects and only to
//! https, and bounds size and time. Knows nothing of what is in the bytes.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ACCEPT, HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response};
use url::Url;

use super::super::Failure;
use guillemet_account::connect::{ServerAddress, with_cause};
use guillemet_base::display::sanitize;
use guillemet_base::files::{self, Links};
use guillemet_plugin::location::{Location, URL_RULE, https_url};

/// The most redirects that are followed.
const REDIRECTS_MAX: usize = 5;
/// The most characters of a URL that messages show.
const SHOWN_MAX: usize = 300;

/// How long a download may take.
#[derive(Args)]
pub struct DownloadTime {
    /// The time limit for a download, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
}

/// Returns the location that an argument names: a URL if it begins with a scheme, or else a path.
///
/// # Errors
/// If it is a URL of another kind than https.
pub fn location(argument: &Path) -> Result<Location, Failure> {
    match argument.to_str().filter(|text| text.contains("://")) {
        Some(text) if https_url(text).is_some() => Ok(Location::Url(text.to_owned())),
        Some(text) => Err(Failure::new(format!("{}: the address {URL_RULE}", shown(text)))),
        None => Ok(Location::File(std::path::absolute(argument)?)),
    }
}

/// Returns a location for messages.
pub fn name(location: &Location) -> String {
    match location {
        Location::Url(url) => shown(url),
        Location::File(path) => path.display().to_string(),
    }
}

/// Returns a location with its path taken from a folder.
pub fn within(folder: &Path, location: &Location) -> Location {
    match location {
        Location::File(path) => Location::File(folder.join(path)),
        Location::Url(url) => Location::Url(url.clone()),
    }
}

fn shown(url: &str) -> String {
    sanitize(url, SHOWN_MAX)
}

impl DownloadTime {
    /// Returns the bytes at a location, which may have at most `max`.
    ///
    /// # Errors
    /// If it cannot be read or fetched, or has more bytes.
    pub fn fetch(&self, location: &Location, max: usize) -> Result<Vec<u8>, Failure> {
        let fetched = match location {
            Location::File(path) => {
                let read = files::read_regular(path, Links::Follow, max as u64);
                read.map(|(bytes, _)| bytes).map_err(|error| format!("cannot be read: {error}"))
            }
            Location::Url(url) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let time = Duration::from_secs(self.timeout);
                let download = async { tokio::time::timeout(time, download(url, max)).await };
                let timed_out = format!("cannot be downloaded within {} s; pass a longer --timeout", self.timeout);
                let downloaded = runtime.block_on(download);
                // The look-up of a name may go on for longer than the command waits.
                runtime.shutdown_background();
                match downloaded {
                    Ok(result) => result.map_err(|reason| format!("cannot be downloaded: {reason}")),
                    Err(_) => Err(timed_out),
                }
            }
        };
        fetched.map_err(|reason| Failure::new(format!("{} {reason}; nothing was changed", name(location))))
    }
}

/// Downloads what is at a URL.
///
/// # Errors
/// The reason, as the end of a sentence.
async fn download(url: &str, max: usize) -> Result<Vec<u8>, String> {
    let mut url = https_url(url).ok_or_else(|| format!("it {URL_RULE}"))?;
    for _ in 0..=REDIRECTS_MAX {
        let response = get(&url).await?;
        let status = response.status();
        if status.as_u16() == 200 {
            return body(response.into_body(), max).await;
        }
        if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Err(format!("the server answers {status}"));
        }
        let target = response.headers().get(LOCATION).and_then(|target| target.to_str().ok());
        let target = target.and_then(|target| url.join(target).ok()).map(String::from).unwrap_or_default();
        url = https_url(&target)
            .ok_or_else(|| format!("the server redirects to \"{}\", but a redirect {URL_RULE}", shown(&target)))?;
    }
    Err(format!("the server redirects more than {REDIRECTS_MAX} times"))
}

/// Sends one request and returns its answer.
async fn get(url: &Url) -> Result<Response<Incoming>, String> {
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let address = ServerAddress::new(&format!("https://{authority}"), None).map_err(|error| error.to_string())?;
    let mut connection = address.connect().await.map_err(|error| error.to_string())?;
    let request = Request::get(&url[url::Position::BeforePath..url::Position::AfterQuery])
        .header(HOST, authority)
        .header(USER_AGENT, concat!("guillemet/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "*/*")
        .body(Full::<Bytes>::default())
        .map_err(|error| error.to_string())?;
    connection.send_request(request).await.map_err(|error| with_cause(&error))
}

/// Reads a body, and stops as soon as it is too large.
async fn body(body: Incoming, max: usize) -> Result<Vec<u8>, String> {
    let too_large = || format!("it is larger than {} MiB", max >> 20);
    if body.size_hint().lower() > max as u64 {
        return Err(too_large());
    }
    match Limited::new(body, max).collect().await {
        Ok(collected) => Ok(collected.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(format!("the answer broke off: {error}")),
    }
}
