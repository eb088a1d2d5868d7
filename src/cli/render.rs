//! `render`.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use hyper::Method;

use super::client::{self, part, template_path};
use super::{Done, Failure, output};
use crate::files;
use crate::home::Home;

#[derive(Args)]
pub struct Render {
    /// FEATURE/NAME.
    id: String,
    /// The consumer's format; the feature's default where none is given.
    #[arg(long)]
    target: Option<String>,
    /// Write to this file, whole or not at all, instead of to standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The file's permissions.
    #[arg(long, value_name = "OCTAL", default_value = "0600", value_parser = mode, requires = "out")]
    mode: u32,
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "octal permissions are needed, such as 0600".into())
}

impl Render {
    pub fn run(self, home: &Home) -> Done {
        let target = self.target.as_ref().map_or_else(String::new, |target| format!("?target={}", part(target)));
        let path = format!("/v1/render/{}{target}", template_path(&self.id)?);
        let answer = client::call(home, Method::GET, &path, None)?.good(home)?;
        match &self.out {
            Some(out) => write(out, self.mode, &answer.body)
                .map_err(|error| Failure::new(format!("{} cannot be written: {error}", out.display()))),
            None => {
                output::bytes(&answer.body);
                Ok(())
            }
        }
    }
}

/// Writes a file as a whole: a temporary one beside it that no one else can open, synced, then renamed. A
/// symbolic link is not followed and not replaced.
fn write(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_symlink() => return Err(io::Error::other("it is a symbolic link; name the file itself")),
        Ok(there) if !there.is_file() => return Err(io::Error::other("it is not a regular file")),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    files::replace_prepared(path, bytes, |file| file.set_permissions(fs::Permissions::from_mode(mode)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        write(&file, 0o640, b"first").unwrap();
        write(&file, 0o600, b"second").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"second");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(write(&link, 0o600, b"third").is_err());
        assert_eq!(fs::read(&file).unwrap(), b"second");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left over");
    }
}
