//! The paths of a home: its folders and files. Opens none of them.

use std::path::{Path, PathBuf};

/// The paths of one home, from `--home`, `$GUILLEMET_HOME` or the XDG folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    config: PathBuf,
    data: PathBuf,
    runtime: PathBuf,
    /// The socket that `$GUILLEMET_SOCKET` names.
    chosen_socket: Option<PathBuf>,
    /// The folder given with `--home`.
    flag: Option<PathBuf>,
}

/// Why the paths of the home cannot be determined.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// No option or variable says where the home is.
    #[error("cannot find Guillemet's folder: --home, $GUILLEMET_HOME and $HOME are all unset. Pass --home DIR")]
    Nowhere,
    /// `$GUILLEMET_SOCKET` is not the absolute path of a file.
    #[error("GUILLEMET_SOCKET is `{}`; set it to the absolute path of a socket, or unset it", .0.display())]
    Socket(PathBuf),
}

impl Home {
    /// Returns the home that has everything in one folder, as with `--home`.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self { flag: Some(dir.clone()), ..Self::in_folder(dir) }
    }

    fn in_folder(dir: PathBuf) -> Self {
        Self { config: dir.clone(), runtime: dir.join("run"), data: dir, chosen_socket: None, flag: None }
    }

    /// Determines the home: `--home` if given, else `$GUILLEMET_HOME`, else the XDG folders. With the latter, the
    /// configuration is in `$XDG_CONFIG_HOME/guillemet`, the data in `$XDG_DATA_HOME/guillemet`, and the socket in
    /// `$XDG_RUNTIME_DIR/guillemet` (or in `run` inside the data folder if that variable is not set).
    ///
    /// `$GUILLEMET_SOCKET` names another socket, unless `--home` is given: an option wins over a variable.
    ///
    /// # Errors
    /// [`HomeError::Nowhere`] if nothing says where the home is, and [`HomeError::Socket`].
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
        // The XDG Base Directory Specification says to ignore a relative path.
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

    /// Returns a command line for this home, as a person types it: with `--home` if that was given.
    pub fn command(&self, words: &str) -> String {
        match &self.flag {
            Some(dir) => format!("guillemet --home {} {words}", shell_word(&dir.to_string_lossy())),
            None => format!("guillemet {words}"),
        }
    }

    /// Returns the path of the configuration, `guillemet.toml`.
    pub fn config_file(&self) -> PathBuf {
        self.config.join("guillemet.toml")
    }

    /// Returns the path of the vault, `vault.db`.
    pub fn vault_file(&self) -> PathBuf {
        self.data.join("vault.db")
    }

    /// Returns the path of the key file, `vault.key`, of a vault that is unlocked by the method `keyfile`.
    pub fn key_file(&self) -> PathBuf {
        self.data.join("vault.key")
    }

    /// Returns the path of the usage journal, `usage.journal`.
    pub fn journal_file(&self) -> PathBuf {
        self.data.join("usage.journal")
    }

    /// Returns the folder of the templates, which are at `templates/<feature>/<name>.<format>`.
    pub fn templates(&self) -> PathBuf {
        self.data.join("templates")
    }

    /// Returns the folder of plugins that the user has added.
    pub fn plugins(&self) -> PathBuf {
        self.data.join("plugins")
    }

    /// Returns the folder of compiled plugins, which is safe to delete.
    pub fn cache(&self) -> PathBuf {
        self.data.join("cache")
    }

    /// Returns the folder of the socket and of the lock beside it.
    pub fn runtime(&self) -> &Path {
        self.chosen_socket.as_deref().and_then(Path::parent).unwrap_or(&self.runtime)
    }

    /// Reports whether the folder of the socket belongs to Guillemet, so that the daemon sets its permissions. The
    /// folder of a chosen socket may hold other files.
    pub fn owns_runtime(&self) -> bool {
        self.runtime() == self.runtime
    }

    /// Returns the path of the socket: the chosen one, else `guillemet.sock` in the runtime folder.
    pub fn socket(&self) -> PathBuf {
        self.chosen_socket.clone().unwrap_or_else(|| self.runtime.join("guillemet.sock"))
    }

    /// Reports whether `$GUILLEMET_SOCKET` names the socket. Then the process that listens there is meant, whichever
    /// home it serves.
    pub fn is_socket_chosen(&self) -> bool {
        self.chosen_socket.is_some()
    }

    /// Returns the path of the lock that a daemon holds while it runs.
    pub fn lock_file(&self) -> PathBuf {
        self.data.join("daemon.lock")
    }

    /// Returns the folder that holds the vault.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Returns the folder that holds the configuration.
    pub fn config(&self) -> &Path {
        &self.config
    }
}

/// Returns a word quoted as a shell needs it.
pub fn shell_word(text: &str) -> String {
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
