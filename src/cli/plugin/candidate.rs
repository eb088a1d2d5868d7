//! A component that may become the plugin of a feature: where its bytes come from, what is shown of it before anybody
//! says yes, and how it is added. `plugin add` and `plugin sync` share it.
//!
//! Decides nothing about what breaks: the daemon does, and the user (`change`).

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

use hyper::Method;
use sha2::{Digest, Sha256};

use super::super::temporary::TemporaryHome;
use super::super::{Done, Failure, client, output};
use super::about;
use super::change::{self, Consent};
use super::download::{self, DownloadTime};
use super::list::print;
use guillemet_api::Listing;
use guillemet_api::plugins::{AddPlugin, PluginView};
use guillemet_api::templates::TemplateView;
use guillemet_base::files::{self, Links};
use guillemet_base::home::Home;
use guillemet_plugin::location::{self, DIGEST_RULE, Location};
use guillemet_plugin::registry::{COMPONENT_MAX, read_component};

/// A component in a file that the daemon can be asked to read.
pub struct Candidate {
    file: PathBuf,
    /// The bytes of the component; `None` if only the daemon can read the file.
    component: Option<Vec<u8>>,
    /// The SHA-256 that the component has to have; `None` for any.
    digest: Option<String>,
    /// The folder of a download, which is removed with it.
    _folder: Option<TemporaryHome>,
}

impl Candidate {
    /// Gets the component at a location. With `digest`, it has to have that SHA-256. A file that only the daemon can
    /// read is not compared yet: [`Candidate::inspect`] does that.
    ///
    /// # Errors
    /// If the component cannot be downloaded or has another digest.
    pub fn get(location: &Location, digest: Option<&str>, time: &DownloadTime) -> Result<Self, Failure> {
        let max = usize::try_from(COMPONENT_MAX).unwrap_or(usize::MAX);
        let (file, component, folder) = match location {
            Location::File(file) => (file.clone(), read_component(file).ok(), None),
            Location::Url(_) => {
                let component = time.fetch(location, max)?;
                // The daemon may run as another user. A component is no secret, and its digest is compared again.
                let folder = TemporaryHome::new("download")?;
                fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
                let file = folder.path().join("plugin.wasm");
                files::replace_ordinary(&file, &component)?;
                fs::set_permissions(&file, Permissions::from_mode(0o644))?;
                (file, Some(component), Some(folder))
            }
        };
        if let (Some(component), Some(digest)) = (&component, digest) {
            check_digest(&download::name(location), &hex(component), digest)?;
        }
        Ok(Self { file, component, digest: digest.map(str::to_owned), _folder: folder })
    }

    /// Returns what the daemon reports about the component. The daemon reads the file itself, because it keeps the
    /// bytes it has read.
    ///
    /// # Errors
    /// If the daemon cannot read or use it, or has read another component.
    pub fn inspect(&self, home: &Home) -> Result<PluginView, Failure> {
        let body = AddPlugin { file: &self.file, replace: None, confirmed: None };
        let inspect = || client::send(home, Method::POST, "/v1/plugins", None, &body);
        let response = note_if_slow("compiling and checking a large component takes a while", inspect)?;
        let unreadable = response.status == 404;
        let (file, opened) = (self.file.display(), files::open_regular(&self.file, Links::Follow));
        let plugin: PluginView = match (client::error_for_status(home, response), opened) {
            (Err(_), Err(error)) if unreadable => {
                return Err(Failure::new(format!("{file} cannot be read: {error}")));
            }
            (Err(Failure(message)), Ok(_)) if unreadable => {
                return Err(Failure::new(format!(
                    "you can read this file, but the daemon{} cannot: copy it to a place the daemon can read, or give \
                     it access to the file and the folders above it\n{message}",
                    user(home)
                )));
            }
            (response, _) => response?.read()?,
        };
        let read_here = self.component.as_deref().map(hex);
        for digest in self.digest.iter().chain(&read_here) {
            check_digest(&file.to_string(), &plugin.digest, digest)?;
        }
        Ok(plugin)
    }

    /// Prints everything that a person should know before adding the plugin.
    ///
    /// # Errors
    /// If the templates of its feature cannot be listed.
    pub fn show(&self, home: &Home, plugin: &PluginView) -> Done {
        print(plugin, output::note);
        if let Some(component) = &self.component {
            about::print(component);
        }
        let templates = templates(home, &plugin.feature)?;
        let whose = if templates.is_empty() { String::new() } else { format!(" ({})", templates.join(", ")) };
        output::note(&format!(
            "By adding it, you trust its author with the secrets of its templates{whose}: the plugin decides where \
             they go."
        ));
        if let Some(replaced) = &plugin.replaces {
            output::note(&format!("It replaces {}, SHA-256 {}.", change::name(replaced), replaced.digest));
        }
        change::print(home, plugin);
        Ok(())
    }

    /// Asks, and adds the plugin. `replace` is the feature whose built-in plugin it may replace.
    ///
    /// # Errors
    /// If the user does not agree to it or to what it breaks, or the daemon refuses it.
    pub fn put(&self, home: &Home, plugin: &PluginView, replace: Option<&str>, consent: &Consent) -> Done {
        let feature = &plugin.feature;
        let question = match &plugin.replaces {
            None => format!("Add it for `{feature}`?"),
            Some(replaced) => change::question("Replace", plugin, replaced),
        };
        consent.ask(home, plugin, &question)?;
        let body = AddPlugin { file: &self.file, replace, confirmed: Some(consent.confirmation(plugin)) };
        client::error_for_status(home, client::send(home, Method::POST, "/v1/plugins", None, &body)?)?;
        output::note(&format!("added {feature}"));
        change::note_former(plugin);
        Ok(())
    }
}

/// Returns the SHA-256 of bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

fn check_digest(name: &str, found: &str, expected: &str) -> Done {
    if found == expected {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{name} has the SHA-256 {found}, not {expected} as expected; nothing was changed. Ask its author which digest \
         is right"
    )))
}

/// The time after which the user is told what takes so long.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// Does some work, and prints the reason `message` if it takes longer than [`SILENCE_MAX`].
fn note_if_slow<T: Send>(message: &str, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let (done, waiting) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            if waiting.recv_timeout(SILENCE_MAX) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                output::note(message);
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// Returns a clause that names the user the daemon runs as, found from the owner of its socket.
fn user(home: &Home) -> String {
    let uid = fs::metadata(home.socket()).ok().map(|metadata| metadata.uid());
    let user = uid.and_then(uzers::get_user_by_uid);
    user.map_or_else(String::new, |user| format!(", which runs as {},", user.name().to_string_lossy()))
}

/// Returns the ids of a feature's templates.
///
/// # Errors
/// When the daemon cannot be asked.
pub fn templates(home: &Home, feature: &str) -> Result<Vec<String>, Failure> {
    let templates: Listing<TemplateView> = client::listing(home, "/v1/templates", "")?;
    let matching = templates.items.into_iter().filter(|template| template.feature == feature);
    Ok(matching.map(|template| template.id).collect())
}

/// Returns a digest that a person typed.
///
/// # Errors
/// If it is none.
pub fn parse_digest(text: &str) -> Result<String, String> {
    location::digest(text).ok_or_else(|| format!("it {DIGEST_RULE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mismatch_names_both_digests() {
        assert!(check_digest("x", "ab", "ab").is_ok());
        let Failure(message) = check_digest("x", "ab", "cd").unwrap_err();
        assert!(message.starts_with("x has the SHA-256 ab, not cd"), "{message}");
    }
}
