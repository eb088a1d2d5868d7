//! The `paths` command: prints where a home's folder, configuration, socket and templates are. Needs no daemon.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Done, output};
use guillemet_base::home::Home;

/// A path of a home.
#[derive(Clone, Copy, ValueEnum)]
enum PathName {
    Home,
    Configuration,
    Socket,
    Templates,
}

#[derive(Args)]
pub struct PathsArgs {
    /// Print only this path.
    #[arg(value_enum)]
    name: Option<PathName>,
    /// Print JSON.
    #[arg(long, conflicts_with = "name")]
    json: bool,
}

impl PathName {
    fn path(self, home: &Home) -> PathBuf {
        match self {
            Self::Home => home.data().to_owned(),
            Self::Configuration => home.config_file(),
            Self::Socket => home.socket(),
            Self::Templates => home.templates(),
        }
    }
}

impl PathsArgs {
    pub fn run(self, home: &Home) -> Done {
        if let Some(name) = self.name {
            let path = name.path(home);
            if output::is_terminal() {
                output::line(&path.to_string_lossy());
                return Ok(());
            }
            // A program gets the exact bytes of the path, which need not be UTF-8.
            output::bytes(&[path.as_os_str().as_bytes(), b"\n"].concat());
            return Ok(());
        }
        let paths = PathName::value_variants().iter().filter_map(|name| {
            let value = name.to_possible_value()?;
            Some((value.get_name().to_owned(), name.path(home).to_string_lossy().into_owned()))
        });
        if self.json {
            let paths = paths.map(|(name, path)| (name, path.into()));
            output::json(&serde_json::Value::Object(paths.collect()));
        } else {
            output::table(&["Name", "Path"], paths.map(|(name, path)| vec![name, path]).collect());
        }
        Ok(())
    }
}
