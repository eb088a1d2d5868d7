//! The state of the daemon, as `status` shows it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::AppError;
use super::{App, templates};
use crate::inventory::Inventory;
use guillemet_api::status::{DaemonStatus, MemoryView, SecretCounts, TemplateCounts, VaultView};
use guillemet_api::templates::TemplateStatus;
use guillemet_base::logging;
use guillemet_base::time::rfc3339;
use guillemet_template::catalog::Stray;

/// The most files that the warning lists by name.
const STRAYS_NAMED: usize = 3;

/// Returns a warning if the folder has files that a person may take for templates.
fn stray_warning(strays: &[Arc<Stray>]) -> Option<String> {
    let paths: Vec<&str> =
        strays.iter().filter(|stray| !stray.is_editor_leftover()).map(|stray| stray.path.as_str()).collect();
    let listed = paths[..paths.len().min(STRAYS_NAMED)].join(", ");
    let more = paths.len().saturating_sub(STRAYS_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let (number, are) = match paths.len() {
        0 => return None,
        1 => ("one file".to_owned(), "is not a template"),
        number => (format!("{number} files"), "are not templates"),
    };
    Some(format!("{number} in the templates folder {are}: {listed}{more}; run `guillemet template list` to see why"))
}

/// The longest time that the status waits for the check of who can change templates.
const WAIT: Duration = Duration::from_secs(2);

/// Returns a warning if other users can change templates now. Reads the metadata of every file, one check at a time: if
/// a file system hangs, only the check hangs. The hanging file system has a warning of its own.
async fn changeable_templates(app: &Arc<App>) -> Option<String> {
    let checked = async {
        let guard = Arc::clone(&app.template_check).lock_owned().await;
        let app = Arc::clone(app);
        let check = move || {
            let _guard = guard;
            let snapshot = app.resolver.current.load();
            app.home.template_warning(snapshot.templates.values().map(|prepared| prepared.template.path.as_path()))
        };
        tokio::task::spawn_blocking(check).await.ok().flatten()
    };
    tokio::time::timeout(WAIT, checked).await.ok().flatten()
}

/// Returns the resident memory of this process, as proc_pid_status(5) shows it.
fn memory() -> Option<MemoryView> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    };
    Some(MemoryView { own_bytes: bytes("RssAnon:")?, file_bytes: bytes("RssFile:")? + bytes("RssShmem:")? })
}

/// Returns the state of the daemon.
///
/// # Errors
/// [`AppError::Internal`] if the inventory panics.
pub async fn status(app: &Arc<App>) -> Result<DaemonStatus, AppError> {
    let ([active, disabled, missing], unreadable, all_strays, recorder_problems, memory) = {
        let (resolver, since) = (Arc::clone(&app.resolver), Instant::now());
        #[expect(clippy::disallowed_methods, reason = "on a blocking thread")]
        let read = move |inventory: &Inventory| {
            let recorder_problems = resolver.recorder.problems();
            (inventory.counts(since), inventory.unreadable(), inventory.strays(), recorder_problems, memory())
        };
        app.inventory.run(read).await.map_err(|_| AppError::internal())?
    };
    let changeable = changeable_templates(app).await;
    let not_templates = stray_warning(&all_strays);
    let (refused_plugins, stand_ins) = (app.registry.refusals(), app.registry.stand_in_notices());
    let other_plugins: Vec<String> = {
        let listed = &app.config.load().plugins;
        let listed = listed.iter().filter(|plugin| app.registry.stands_in_since(&plugin.feature).is_none());
        listed.filter_map(|plugin| plugin.deviation(app.registry.digest(&plugin.feature).as_deref())).collect()
    };
    let lost_log_lines = match logging::dropped_lines() {
        0 => None,
        lines => Some(format!("log lines that could not be written: {lines}; check where the log is written to")),
    };
    let socket = app.socket_problem.load_full();
    let configuration = app.configuration_warnings();
    let warnings = (app.warnings.iter().chain(socket.as_deref()).chain(&configuration))
        .chain(&recorder_problems)
        .chain(&unreadable)
        .chain(&changeable)
        .chain(&not_templates)
        .chain(&refused_plugins)
        .chain(&stand_ins)
        .chain(&other_plugins)
        .chain(&lost_log_lines)
        .cloned()
        .collect();
    let templates = templates::templates(app).await;
    let broken = templates.iter().filter(|template| template.status == TemplateStatus::Broken).count();
    Ok(DaemonStatus {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        started_at: rfc3339(app.started_at),
        home: app.home.data().to_string_lossy().into_owned(),
        secrets: SecretCounts { active, disabled, missing },
        templates: TemplateCounts { ok: templates.len() - broken, broken, strays: all_strays.len() },
        plugins: app.registry.count(),
        vault: VaultView { format: guillemet_vault::store::FORMAT, unlock: app.unlock.into() },
        memory,
        configuration: app.configuration_view(),
        warnings,
    })
}
