//! A planner that the command line runs itself, for a component that is in no vault.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::super::{Failure, output};
use guillemet_plan::protocol::{Description, Report};
use guillemet_plugin::cache;
use guillemet_plugin::client::Planner;
use guillemet_plugin::registry::read_component;

/// The time after which the user is told what takes so long.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// Runs `work` with a planner of a component. The compiled component is kept in this user's cache.
///
/// # Errors
/// When the file cannot be read or is too large, and those of `work`.
pub fn with<T>(file: &Path, work: impl AsyncFnOnce(Planner) -> Result<T, Failure>) -> Result<T, Failure> {
    run(Planner::new(shown(file), read_component(file)?, cache::of_user()), work)
}

/// Does the same with a component that is compiled now, even if a compiled form is in the cache, so that the cost of
/// compiling can be measured.
///
/// # Errors
/// Those of `work`.
pub fn with_new<T>(
    file: &Path,
    component: Vec<u8>,
    work: impl AsyncFnOnce(Planner) -> Result<T, Failure>,
) -> Result<T, Failure> {
    run(Planner::new(shown(file), component, Arc::new(cache::WriteOnlyCache(cache::of_user()))), work)
}

fn run<T>(planner: Planner, work: impl AsyncFnOnce(Planner) -> Result<T, Failure>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work(planner))
}

/// Loads the component. Prints a note if that takes long.
///
/// # Errors
/// When the component is not a plugin.
pub async fn load(file: &Path, planner: &Planner) -> Result<Description, Failure> {
    note_if_slow(file, planner.load()).await.map_err(|error| Failure::new(format!("{}: {error}", file.display())))
}

/// Loads the component and returns everything the planner can report about it. Prints a note if that takes long.
///
/// # Errors
/// When the planner cannot examine the component.
pub async fn inspect(file: &Path, planner: &Planner) -> Result<Report, Failure> {
    note_if_slow(file, planner.inspect()).await.map_err(|error| Failure::new(format!("{}: {error}", file.display())))
}

async fn note_if_slow<T>(file: &Path, load: impl Future<Output = T>) -> T {
    tokio::pin!(load);
    match tokio::time::timeout(SILENCE_MAX, &mut load).await {
        Ok(loaded) => loaded,
        Err(_) => {
            output::note(&format!("compiling {}: a large component takes a while", shown(file)));
            load.await
        }
    }
}

/// Returns the name of a component in messages: its file name.
pub fn shown(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
