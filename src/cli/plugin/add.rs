//! `plugin add` and `plugin remove`: decide which plugin gets the templates of a feature, and so who is trusted with
//! their secrets.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use hyper::Method;

use super::super::client::percent_encode;
use super::super::{Done, Failure, client, output, prompt};
use super::change::{self, Consent};
use super::list::{find, print};
use guillemet_api::Listing;
use guillemet_api::plugins::{AddPlugin, PluginSource, PluginView};
use guillemet_api::templates::TemplateView;
use guillemet_base::files::{self, Links};
use guillemet_base::home::Home;

#[derive(Args)]
pub struct PluginAddArgs {
    /// The component.
    file: PathBuf,
    /// Replace the built-in plugin of this feature.
    #[arg(long, value_name = "FEATURE")]
    replace: Option<String>,
    #[command(flatten)]
    consent: Consent,
}

#[derive(Args)]
pub struct PluginRemoveArgs {
    /// The feature.
    feature: String,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
}

impl PluginAddArgs {
    pub fn run(self, home: &Home) -> Done {
        let file = std::path::absolute(&self.file)?;
        let plugin = inspect(home, &file)?;
        print(&plugin, output::note);
        let feature = &plugin.feature;
        let templates = templates(home, feature)?;
        let whose = if templates.is_empty() { String::new() } else { format!(" ({})", templates.join(", ")) };
        output::note(&format!(
            "By adding it, you trust its author with the secrets of its templates{whose}: the plugin decides where \
             they go."
        ));
        if let Some(replaced) = &plugin.replaces {
            output::note(&format!("It replaces {}, SHA-256 {}.", change::name(replaced), replaced.digest));
        }
        change::print(home, &plugin);
        self.check_named(&plugin)?;
        let question = match &plugin.replaces {
            None => format!("Add it for `{feature}`?"),
            Some(replaced) => change::question("Replace", &plugin, replaced),
        };
        self.consent.ask(home, &plugin, &question)?;
        let confirmed = Some(self.consent.confirmation(&plugin));
        let body = AddPlugin { file: &file, replace: self.replace.as_deref(), confirmed };
        client::error_for_status(home, client::send(home, Method::POST, "/v1/plugins", None, &body)?)?;
        output::note(&format!("added {feature}"));
        change::note_former(&plugin);
        Ok(())
    }

    /// Checks that a built-in plugin is replaced only by its name. The daemon checks it too.
    fn check_named(&self, plugin: &PluginView) -> Result<(), Failure> {
        let is_built_in = plugin.replaces.as_ref().is_some_and(|replaced| replaced.source == PluginSource::BuiltIn);
        let feature = &plugin.feature;
        match &self.replace {
            None if is_built_in => Err(Failure::new(format!(
                "the plugin of `{feature}` is built in; nothing was changed. To replace it, pass --replace {feature}"
            ))),
            Some(named) if named != feature => {
                Err(Failure::new(format!("this is a plugin for `{feature}`, not for `{named}`; nothing was changed")))
            }
            _ => Ok(()),
        }
    }
}

/// Returns what the daemon reports about a component. The daemon reads the file itself, because it keeps the bytes it
/// has read.
fn inspect(home: &Home, file: &Path) -> Result<PluginView, Failure> {
    let body = AddPlugin { file, replace: None, confirmed: None };
    let inspect = || client::send(home, Method::POST, "/v1/plugins", None, &body);
    let response = note_if_slow("compiling and checking a large component takes a while", inspect)?;
    let unreadable = response.status == 404;
    match (client::error_for_status(home, response), files::open_regular(file, Links::Follow)) {
        (Err(_), Err(error)) if unreadable => Err(Failure::new(format!("{} cannot be read: {error}", file.display()))),
        (Err(Failure(message)), Ok(_)) if unreadable => Err(Failure::new(format!(
            "you can read this file, but the daemon{} cannot: copy it to a place the daemon can read, or give it \
             access to the file and the folders above it\n{message}",
            user(home)
        ))),
        (response, _) => Ok(response?.read()?),
    }
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
    let uid = std::fs::metadata(home.socket()).ok().map(|metadata| metadata.uid());
    let user = uid.and_then(uzers::get_user_by_uid);
    user.map_or_else(String::new, |user| format!(", which runs as {},", user.name().to_string_lossy()))
}

/// Returns the ids of a feature's templates.
fn templates(home: &Home, feature: &str) -> Result<Vec<String>, Failure> {
    let templates: Listing<TemplateView> = client::listing(home, "/v1/templates", "")?;
    let matching = templates.items.into_iter().filter(|template| template.feature == feature);
    Ok(matching.map(|template| template.id).collect())
}

impl PluginRemoveArgs {
    pub fn run(self, home: &Home) -> Done {
        let plugins: Listing<PluginView> = client::listing(home, "/v1/plugins", "")?;
        let plugin = find(&plugins.items, &self.feature)?;
        if plugin.source == PluginSource::BuiltIn && plugin.former.is_none() {
            return Err(Failure::new(format!(
                "the plugin of `{}` is built in and cannot be removed, but you can add another one to replace it",
                self.feature
            )));
        }
        print(plugin, output::note);
        let templates = templates(home, &self.feature)?;
        if plugin.source == PluginSource::BuiltIn {
            output::note("The built-in plugin is in use; the former plugin that is kept is removed.");
        } else if plugin.replaces.is_some() {
            output::note("The built-in plugin is used again.");
        } else if !templates.is_empty() {
            output::note(&format!("Without it, these templates cannot be rendered: {}.", templates.join(", ")));
        }
        prompt::confirm(&format!("Remove the plugin of `{}`?", self.feature), self.yes)?;
        client::fetch(home, Method::DELETE, &format!("/v1/plugins/{}", percent_encode(&self.feature)))?;
        output::note(&format!("removed {}", self.feature));
        Ok(())
    }
}
