//! Where things lie: the folders and files of one Guillemet.

use std::path::{Path, PathBuf};

/// The paths of one Guillemet, from `--home`, `$GUILLEMET_HOME`, or the XDG folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    config: PathBuf,
    data: PathBuf,
    runtime: PathBuf,
}

/// Why no home could be worked out.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell where Guillemet lives: neither --home, $GUILLEMET_HOME nor $HOME is set. Pass --home DIR")]
pub struct NoHome;

impl Home {
    /// Everything in one folder.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self { config: dir.clone(), runtime: dir.join("run"), data: dir }
    }

    /// `--home` when given, else `$GUILLEMET_HOME`, else the XDG folders: configuration under
    /// `$XDG_CONFIG_HOME/guillemet`, data under `$XDG_DATA_HOME/guillemet`, the socket under
    /// `$XDG_RUNTIME_DIR/guillemet` (or `run` beside the data where there is none).
    pub fn find(flag: Option<PathBuf>, env: impl Fn(&str) -> Option<PathBuf>) -> Result<Self, NoHome> {
        let set = |name: &str| env(name).filter(|path| !path.as_os_str().is_empty());
        if let Some(dir) = flag.or_else(|| set("GUILLEMET_HOME")) {
            return Ok(Self::at(std::path::absolute(&dir).unwrap_or(dir)));
        }
        // The XDG Base Directory Specification: a relative path is to be ignored.
        let xdg = |name: &str| set(name).filter(|path| path.is_absolute());
        let user = set("HOME");
        let under = |name: &str, fallback: &str| {
            xdg(name)
                .or_else(|| user.as_ref().map(|home| home.join(fallback)))
                .map(|base| base.join("guillemet"))
                .ok_or(NoHome)
        };
        let config = under("XDG_CONFIG_HOME", ".config")?;
        let data = under("XDG_DATA_HOME", ".local/share")?;
        let runtime = xdg("XDG_RUNTIME_DIR").map_or_else(|| data.join("run"), |run| run.join("guillemet"));
        Ok(Self { config, data, runtime })
    }

    /// The configuration, `guillemet.toml`.
    pub fn config_file(&self) -> PathBuf {
        self.config.join("guillemet.toml")
    }

    /// The vault, `vault.db`.
    pub fn vault_file(&self) -> PathBuf {
        self.data.join("vault.db")
    }

    /// The key of a vault that is unlocked by `keyfile`, `vault.key`.
    pub fn key_file(&self) -> PathBuf {
        self.data.join("vault.key")
    }

    /// The usage journal, `usage.journal`.
    pub fn journal_file(&self) -> PathBuf {
        self.data.join("usage.journal")
    }

    /// The templates, `templates/<feature>/<name>.<format>`.
    pub fn templates(&self) -> PathBuf {
        self.data.join("templates")
    }

    /// Plugins added by the user.
    pub fn plugins(&self) -> PathBuf {
        self.data.join("plugins")
    }

    /// Compiled forms of plugins; safe to delete.
    pub fn cache(&self) -> PathBuf {
        self.data.join("cache")
    }

    /// The folder of the socket and of the daemon's lock.
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// The socket, `run/guillemet.sock`.
    pub fn socket(&self) -> PathBuf {
        self.runtime.join("guillemet.sock")
    }

    /// Held while a daemon runs.
    pub fn lock_file(&self) -> PathBuf {
        self.data.join("daemon.lock")
    }

    /// The folder that holds the vault.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The folder that holds the configuration.
    pub fn config(&self) -> &Path {
        &self.config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<PathBuf> + 'a {
        |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
    }

    #[test]
    fn the_flag_wins_then_the_variable_then_xdg() {
        let all = [("GUILLEMET_HOME", "/g"), ("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r")];
        assert_eq!(Home::find(Some("/f".into()), env(&all)).unwrap(), Home::at("/f"));
        assert_eq!(Home::find(None, env(&all)).unwrap(), Home::at("/g"));
        let xdg = Home::find(None, env(&all[1..])).unwrap();
        assert_eq!(xdg.config_file(), Path::new("/h/.config/guillemet/guillemet.toml"));
        assert_eq!(xdg.vault_file(), Path::new("/h/.local/share/guillemet/vault.db"));
        assert_eq!(xdg.socket(), Path::new("/r/guillemet/guillemet.sock"));
        assert!(Home::find(None, env(&[])).is_err());
    }

    #[test]
    fn an_empty_or_relative_xdg_variable_is_ignored() {
        let home = Home::find(None, env(&[("HOME", "/h"), ("XDG_DATA_HOME", "rel"), ("GUILLEMET_HOME", "")])).unwrap();
        assert_eq!(home.data(), Path::new("/h/.local/share/guillemet"));
    }
}
