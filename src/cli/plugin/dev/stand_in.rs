//! `plugin dev --stand-in`: gives each good build to the daemon, which uses it for its feature while this command runs.
//!
//! The connection is the lease: the daemon uses the component until this process closes it or ends, however it ends. The
//! next build opens a new one, which takes the place of the former. Knows nothing of how a component is built or checked.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use super::super::candidate::templates;
use super::super::change;
use super::super::list::find;
use super::super::{planner, project::Project};
use crate::cli::client::{self, percent_encode};
use crate::cli::{Done, Failure, output, prompt, terminal};
use guillemet_api::Listing;
use guillemet_api::plugins::{PluginView, ReplacedPlugin, StandInEnd, StandInEvent, StandInPlugin};
use guillemet_base::home::Home;

/// The part of `plugin dev` that talks to the daemon.
pub struct StandIn {
    home: Home,
    feature: String,
    given: Option<Given>,
}

/// A component that the daemon was given.
struct Given {
    digest: String,
    lease: Arc<Lease>,
}

/// What is known of a connection to the daemon.
#[derive(Default)]
struct Lease {
    /// Whether the daemon has ended it.
    has_ended: AtomicBool,
    /// Whether the next build of this command takes its place.
    is_superseded: AtomicBool,
}

/// Builds the component of a project, so that its feature is known, and asks whether it may stand in for the plugin of
/// that feature. A signal ends all of it.
///
/// # Errors
/// When the component cannot be built or is not a plugin, no daemon can be reached, or the user does not agree.
pub fn ask(home: &Home, dir: &Path, yes: bool) -> Result<StandIn, Failure> {
    // Asked before the build, which can take a while.
    let plugins: Listing<PluginView> = client::listing(home, "/v1/plugins", "")?;
    if !yes && !terminal::is_interactive() {
        return Err(Failure::new(
            "--stand-in needs confirmation, but there is no terminal; nothing was built or changed. Pass --yes to skip \
             the question",
        ));
    }
    let built = Command::new("/proc/self/exe").args(["plugin", "build"]).arg(dir).stdin(Stdio::null()).status()?;
    if !built.success() {
        return Err(Failure::new("the build failed; see above. --stand-in needs a first build, to know the feature"));
    }
    let component = Project::find(dir)?.component;
    let description = planner::with(&component, async |planner| planner::load(&component, &planner).await)?;
    let feature = description.feature;
    let templates = templates(home, &feature)?;
    let present = find(&plugins.items, &feature).ok();
    let instead = present.map(|present| {
        let (source, version) = (present.source, Some(present.version.clone()).filter(|text| !text.is_empty()));
        change::name(&ReplacedPlugin { source, version, digest: present.digest.clone() })
    });
    let instead = instead.unwrap_or_else(|| "nothing: the feature has no plugin".to_owned());
    output::note(&format!("Feature        {feature}"));
    output::note(&format!("Stands in for  {instead}"));
    output::note(&match templates.as_slice() {
        [] => "Templates      none now".to_owned(),
        all => format!("Templates      {}", all.join(", ")),
    });
    output::note(
        "While this command runs, the daemon renders the templates of the feature, also those that you add, with each \
         build that passes its check. The component decides where their secrets go. Nothing is stored: when the \
         command ends, the daemon goes back.",
    );
    prompt::confirm(&format!("Let this project stand in for `{feature}`?"), yes)?;
    Ok(StandIn { home: home.clone(), feature, given: None })
}

impl StandIn {
    /// Gives a build to the daemon, unless the daemon uses it already.
    ///
    /// # Errors
    /// When the daemon refuses it or cannot be reached, or it is a plugin of another feature.
    pub async fn give(&mut self, component: &Path, digest: &str, feature: &str) -> Done {
        if feature != self.feature {
            return Err(Failure::new(format!(
                "this build is a plugin for `{feature}`, and you agreed to `{}`: the daemon does not get it. Start \
                 `plugin dev --stand-in` again",
                self.feature
            )));
        }
        let is_used = |given: &Given| given.digest == digest && !given.lease.has_ended.load(Ordering::Acquire);
        if self.given.as_ref().is_some_and(is_used) {
            return Ok(());
        }
        if let Some(given) = &self.given {
            given.lease.is_superseded.store(true, Ordering::Release);
        }
        let lease = Arc::new(Lease::default());
        let result = open(self.home.clone(), feature, std::path::absolute(component)?, digest, &lease).await;
        match result {
            Ok(()) => {
                output::line(&format!("daemon   uses this build for `{feature}`"));
                self.given = Some(Given { digest: digest.to_owned(), lease });
                Ok(())
            }
            Err(failure) => {
                if let Some(given) = &self.given {
                    given.lease.is_superseded.store(false, Ordering::Release);
                }
                Err(failure)
            }
        }
    }

    /// Says what the daemon uses while a build is not good enough for it.
    pub fn note_kept(&self) {
        let is_used = |given: &&Given| !given.lease.has_ended.load(Ordering::Acquire);
        let feature = &self.feature;
        output::line(&match self.given.as_ref().filter(is_used) {
            Some(_) => format!("daemon   still uses the last good build for `{feature}`"),
            None => format!("daemon   uses no build for `{feature}` yet"),
        });
    }
}

/// Opens a lease, and follows it on a thread of its own until the daemon ends it or this process ends.
async fn open(home: Home, feature: &str, file: PathBuf, digest: &str, lease: &Arc<Lease>) -> Done {
    let path = format!("/v1/plugins/{}/stand-in", percent_encode(feature));
    let (feature, digest, lease) = (feature.to_owned(), digest.to_owned(), Arc::clone(lease));
    let (opened, is_open) = oneshot::channel();
    std::thread::spawn(move || {
        let body = StandInPlugin { file: &file, digest: &digest };
        let mut events = match client::post_for_events(&home, &path, &body) {
            Ok(events) => events,
            Err(failure) => {
                let _ = opened.send(Err(failure));
                return;
            }
        };
        let _ = opened.send(Ok(()));
        let mut reason = None;
        while let Some(data) = events.next_data() {
            if let Ok(StandInEvent::Ended { reason: told }) = serde_json::from_str(&data) {
                reason = Some(told);
            }
        }
        lease.has_ended.store(true, Ordering::Release);
        if !lease.is_superseded.load(Ordering::Acquire) {
            output::line(&format!(
                "daemon   no longer uses this build for `{feature}`: {}; the next save gives it again",
                match reason {
                    Some(StandInEnd::Replaced) => "another component stands in now",
                    Some(StandInEnd::Stopping) => "the daemon stopped",
                    None => "the connection is lost",
                }
            ));
        }
    });
    is_open.await.map_err(|_| Failure::new("the connection to the daemon failed"))?
}
