//! Where things lie: the folders and files of one Guillemet.

use std::path::{Path, PathBuf};

/// The paths of one Guillemet, from `--home`, `$GUILLEMET_HOME`, or the XDG folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    config: PathBuf,
    data: PathBuf,
    runtime: PathBuf,
    /// From `$GUILLEMET_SOCKET`.
    chosen_socket: Option<PathBuf>,
    /// From `--home`.
    flag: Option<PathBuf>,
}

/// Why no home could be worked out.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Nothing says where it is.
    #[error("cannot tell where Guillemet lives: neither --home, $GUILLEMET_HOME nor $HOME is set. Pass --home DIR")]
    Nowhere,
    /// `$GUILLEMET_SOCKET` is no absolute path of a file.
    #[error("GUILLEMET_SOCKET is `{}`; set it to the absolute path of a socket, or unset it", .0.display())]
    Socket(PathBuf),
}

impl Home {
    /// Everything in one folder.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self { flag: Some(dir.clone()), ..Self::in_folder(dir) }
    }

    fn in_folder(dir: PathBuf) -> Self {
        Self { config: dir.clone(), runtime: dir.join("run"), data: dir, chosen_socket: None, flag: None }
    }

    /// `--home` when given, else `$GUILLEMET_HOME`, else the XDG folders: configuration under
    /// `$XDG_CONFIG_HOME/guillemet`, data under `$XDG_DATA_HOME/guillemet`, the socket under
    /// `$XDG_RUNTIME_DIR/guillemet` (or `run` beside the data where there is none).
    ///
    /// `$GUILLEMET_SOCKET` names another socket, unless `--home` is given: a flag wins over a variable.
    ///
    /// # Errors
    /// When nothing says where the home is, or `$GUILLEMET_SOCKET` can be no socket.
    pub fn find(flag: Option<PathBuf>, env: impl Fn(&str) -> Option<PathBuf>) -> Result<Self, HomeError> {
        let set = |name: &str| env(name).filter(|path| !path.as_os_str().is_empty());
        if let Some(dir) = flag {
            return Ok(Self::at(std::path::absolute(&dir).unwrap_or(dir)));
        }
        let chosen_socket = set("GUILLEMET_SOCKET");
        if let Some(socket) = chosen_socket.as_ref().filter(|path| !path.is_absolute() || path.file_name().is_none()) {
            return Err(HomeError::Socket(socket.clone()));
        }
        if let Some(dir) = set("GUILLEMET_HOME") {
            return Ok(Self { chosen_socket, ..Self::in_folder(std::path::absolute(&dir).unwrap_or(dir)) });
        }
        // The XDG Base Directory Specification: a relative path is to be ignored.
        let xdg = |name: &str| set(name).filter(|path| path.is_absolute());
        let user = set("HOME");
        let under = |name: &str, fallback: &str| {
            xdg(name)
                .or_else(|| user.as_ref().map(|home| home.join(fallback)))
                .map(|base| base.join("guillemet"))
                .ok_or(HomeError::Nowhere)
        };
        let config = under("XDG_CONFIG_HOME", ".config")?;
        let data = under("XDG_DATA_HOME", ".local/share")?;
        let runtime = xdg("XDG_RUNTIME_DIR").map_or_else(|| data.join("run"), |run| run.join("guillemet"));
        Ok(Self { config, data, runtime, chosen_socket, flag: None })
    }

    /// Returns a command of the program for this home, as a person types it: with `--home` where it was given.
    pub fn command(&self, words: &str) -> String {
        match &self.flag {
            Some(dir) => format!("guillemet --home {} {words}", shell_word(&dir.to_string_lossy())),
            None => format!("guillemet {words}"),
        }
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

    /// The folder of the socket and of the lock beside it.
    pub fn runtime(&self) -> &Path {
        self.chosen_socket.as_deref().and_then(Path::parent).unwrap_or(&self.runtime)
    }

    /// Whether the folder of the socket is Guillemet's own, with rights that the daemon sets. The one of a chosen
    /// socket may hold files of others.
    pub fn owns_runtime(&self) -> bool {
        self.runtime() == self.runtime
    }

    /// The socket: the chosen one, else `run/guillemet.sock`.
    pub fn socket(&self) -> PathBuf {
        self.chosen_socket.clone().unwrap_or_else(|| self.runtime.join("guillemet.sock"))
    }

    /// Whether `$GUILLEMET_SOCKET` names the socket: whoever listens there is meant, whatever home it serves.
    pub fn is_socket_chosen(&self) -> bool {
        self.chosen_socket.is_some()
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

/// A word as a shell reads it.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
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
        let variable = Home::find(None, env(&all)).unwrap();
        assert_eq!((variable.data(), variable.socket()), (Path::new("/g"), "/g/run/guillemet.sock".into()));
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

    #[test]
    fn the_socket_is_the_chosen_one_unless_the_flag_is_given() {
        let all = [("GUILLEMET_SOCKET", "/s/other.sock"), ("GUILLEMET_HOME", "/g")];
        let home = Home::find(None, env(&all)).unwrap();
        assert!(home.is_socket_chosen() && !home.owns_runtime());
        assert_eq!((home.socket(), home.runtime()), ("/s/other.sock".into(), Path::new("/s")));
        assert_eq!(home.data(), Path::new("/g"));
        assert_eq!(Home::find(Some("/f".into()), env(&all)).unwrap(), Home::at("/f"));
        for (socket, is_chosen) in [("", false), ("/g/run/guillemet.sock", true)] {
            let home = Home::find(None, env(&[("GUILLEMET_SOCKET", socket), ("GUILLEMET_HOME", "/g")])).unwrap();
            assert_eq!((home.is_socket_chosen(), home.owns_runtime()), (is_chosen, true), "{socket}");
        }
        for socket in ["run/guillemet.sock", "/", "/s/.."] {
            let refused = Home::find(None, env(&[("GUILLEMET_SOCKET", socket), ("GUILLEMET_HOME", "/g")]));
            assert!(matches!(refused, Err(HomeError::Socket(_))), "{socket}");
        }
    }

    #[test]
    fn commands_are_shown_with_the_flag_that_was_given() {
        assert_eq!(Home::at("/a/b-c").command("daemon"), "guillemet --home /a/b-c daemon");
        assert_eq!(Home::at("/it's mine").command("init"), r"guillemet --home '/it'\''s mine' init");
        assert_eq!(Home::find(None, env(&[("HOME", "/h")])).unwrap().command("init"), "guillemet init");
    }
}
