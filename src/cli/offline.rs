//! What commands know without a daemon, as the daemon would know it: the configuration, and a compiler for templates.
//!
//! Opens no vault.

use std::path::Path;

use super::Failure;
use guillemet_base::home::Home;
pub use guillemet_daemon::app::templates::strays;
pub use guillemet_daemon::config::ListedPlugin;
use guillemet_daemon::config::{self, Config, ConfigText};
use guillemet_plugin::offline::OfflineCompiler;
use guillemet_plugin::plans::Variables;

/// Returns a compiler with the plugins of a home and the variables of its configuration.
///
/// # Errors
/// Fails if the configuration cannot be used.
pub fn compiler(home: &Home) -> Result<OfflineCompiler, Failure> {
    let (config, _) = config::load(home)?;
    Ok(OfflineCompiler::new(home.plugins(), config.variables)?)
}

/// Returns the configuration file of a home as it is now, whether or not a daemon uses it.
///
/// # Errors
/// Fails if the file cannot be used.
pub fn configuration(home: &Home) -> Result<Config, Failure> {
    Ok(config::load(home)?.0)
}

/// Returns the variables of a configuration file. If there is no such file, returns those of an empty one.
///
/// # Errors
/// Fails if the configuration cannot be used.
pub fn variables(file: &Path) -> Result<Variables, Failure> {
    let text = if file.exists() { ConfigText::read(file)? } else { "".into() };
    Ok(Config::of(file, &text, config::environment)?.variables)
}

/// Returns the SHA-256 of a home's configuration file, in hexadecimal digits; `None` if the file cannot be used.
pub fn configuration_digest(home: &Home) -> Option<String> {
    let (_, text) = config::load(home).ok()?;
    Some(text.digest().to_string())
}
