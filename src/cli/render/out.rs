//! `render --out`: decides whether a file may be written before anything is rendered. Never asks the daemon; the caller
//! has to find out whether two names mean the same target.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fmt, io};

use crate::cli::Failure;
use guillemet_base::files::{Attributes, Destination, Existing, set_source, source};

/// The source of a file's bytes, as the file's attribute records it and as the path of a request names it.
pub struct RenderSource {
    /// The template's id, `feature/name`, with each part percent-encoded.
    pub template: String,
    /// The target's name, percent-encoded; `None` for the feature's default.
    pub target: Option<String>,
}

impl fmt::Display for RenderSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.template)?;
        self.target.as_ref().map_or(Ok(()), |target| write!(f, "?target={target}"))
    }
}

/// A file that may be written, and how.
pub struct Out<'a> {
    path: &'a Path,
    destination: Destination,
    attributes: Attributes,
    mode: Option<u32>,
    source: RenderSource,
    /// The target that the present file was rendered for, if its name differs from the requested one.
    other: Option<String>,
}

impl<'a> Out<'a> {
    /// Opens a file and checks that it may be replaced by what comes from `source`. Without `mode`, a file that exists
    /// keeps its permissions and a new one gets 0600. `force` allows replacing a file that does not come from `source`.
    ///
    /// # Errors
    /// With every reason the file may not be written. Nothing is changed in that case.
    pub fn open(path: &'a Path, mode: Option<u32>, force: bool, source: RenderSource) -> Result<Self, Failure> {
        let is_device = path.starts_with("/dev") && !path.starts_with("/dev/shm");
        if is_device || path.starts_with("/proc") {
            return Err(Failure::new(format!(
                "{} cannot be replaced by a file; to print the config, remove --out",
                path.display()
            )));
        }
        let failed = |error: io::Error| Failure::new(format!("{} cannot be written: {error}", path.display()));
        let destination = Destination::open(path).map_err(failed)?;
        let (mut problems, mut other) = (Vec::new(), None);
        let attributes = match destination.existing() {
            None => Attributes::private(),
            Some(existing) => {
                match other_origin(existing, &source).filter(|_| !force) {
                    Some(OtherOrigin::Target(target)) => other = Some(target),
                    Some(OtherOrigin::Other(problem)) => problems.push(problem),
                    None => {}
                }
                problems.extend(readable(existing).filter(|_| mode.is_none()));
                existing.attributes().map_err(failed)?
            }
        };
        let attributes =
            mode.map_or(attributes.clone(), |mode| attributes.with_mode(mode)).with_source(&source.to_string());
        if let Err(error) = destination.check_creation(&attributes) {
            problems.push(match destination.existing() {
                None => error.to_string(),
                Some(existing) => attributes_problem(existing, &error),
            });
        }
        if problems.is_empty() {
            return Ok(Self { path, destination, attributes, mode, source, other });
        }
        Err(refused(path, &problems))
    }

    /// Returns the target of the present file if its name differs from the requested one. It may be a former name of
    /// the same target; the file may be written only if it is.
    pub fn other_target(&self) -> Option<&str> {
        self.other.as_deref()
    }

    /// Returns the failure for a file that was rendered for another target.
    pub fn of_other_target(&self) -> Failure {
        let other = RenderSource { template: self.source.template.clone(), target: self.other.clone() };
        refused(self.path, &[other_source(&other.to_string(), &self.source)])
    }

    /// Writes the bytes, whole or not at all. `target` is the present name of the requested target. If the file holds
    /// these bytes already, only two things can change: the record of its source, and its permissions if they were
    /// requested.
    ///
    /// # Errors
    /// When the file cannot be written. It is unchanged in that case.
    pub fn write(mut self, bytes: &[u8], target: Option<String>) -> Result<(), Failure> {
        if self.source.target.is_some() && target.is_some() {
            self.source.target = target;
            self.attributes = self.attributes.with_source(&self.source.to_string());
        }
        let written = self.destination.has_content(bytes).and_then(|is_same| match self.destination.existing() {
            Some(existing) if is_same => self.keep_existing(existing),
            _ => self.destination.put(bytes, &self.attributes),
        });
        written.map_err(|error| Failure::new(format!("{} cannot be written: {error}", self.path.display())))
    }

    fn keep_existing(&self, existing: &Existing) -> io::Result<()> {
        let expected = self.source.to_string();
        if source(existing.file()).ok().flatten().as_ref() != Some(&expected) {
            set_source(existing.file(), &expected);
        }
        match self.mode {
            Some(mode) if existing.metadata().mode() & 0o7777 != mode => existing.set_mode(mode),
            _ => Ok(()),
        }
    }
}

fn refused(path: &Path, problems: &[String]) -> Failure {
    let problems = problems.iter().map(|problem| format!("\n  {problem}")).collect::<String>();
    Failure::new(format!("{} was not written, and nothing was rendered:{problems}", path.display()))
}

/// The reason a file does not come from the requested source.
enum OtherOrigin {
    /// It comes from the same template, for a target with this other name.
    Target(String),
    /// It comes from elsewhere, or its source is unknown, with a message that says so.
    Other(String),
}

fn other_source(actual: &str, expected: &RenderSource) -> String {
    format!("it was rendered from `{actual}`, not from `{expected}`; pass --force to replace it")
}

fn other_origin(existing: &Existing, expected: &RenderSource) -> Option<OtherOrigin> {
    let reason = match source(existing.file()) {
        Ok(Some(source)) if source == expected.to_string() => return None,
        Ok(Some(source)) => {
            return Some(match source.split_once("?target=") {
                Some((template, target)) if template == expected.template && expected.target.is_some() => {
                    OtherOrigin::Target(target.to_owned())
                }
                _ => OtherOrigin::Other(other_source(&source, expected)),
            });
        }
        Ok(None) => "it exists, but was not written by guillemet".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            "it exists, and its file system has no extended attributes to record that guillemet wrote it".to_owned()
        }
        Err(error) => format!("it exists, and guillemet cannot determine what wrote it: {error}"),
    };
    Some(OtherOrigin::Other(format!("{reason}; pass --force to replace it")))
}

/// Returns a problem if the mode of the existing file would let everyone read the values.
fn readable(existing: &Existing) -> Option<String> {
    let mode = existing.metadata().mode() & 0o777;
    (mode & 0o004 != 0).then(|| {
        format!("everyone can read it (mode {mode:04o}); pass --mode 0600, or --mode {mode:04o} if you want that")
    })
}

/// Returns the problem that the new file could not have the owner, permissions and attributes of the existing one.
fn attributes_problem(existing: &Existing, error: &io::Error) -> String {
    let (metadata, user) = (existing.metadata(), rustix::process::geteuid().as_raw());
    let whose =
        if metadata.uid() == user { String::new() } else { format!(" (it belongs to user {})", metadata.uid()) };
    format!(
        "its owner, permissions and attributes cannot be preserved{whose}: {error}; run this as root, or remove the \
         file first"
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn write(path: &Path, mode: Option<u32>, force: bool, bytes: &[u8]) -> Result<(), String> {
        let source = RenderSource { template: "f/a".into(), target: None };
        Out::open(path, mode, force, source).and_then(|out| out.write(bytes, None)).map_err(|Failure(text)| text)
    }

    #[test]
    fn a_file_is_replaced_whole_and_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        // Without extended attributes, every write after the first needs `force`.
        write(&file, Some(0o640), false, b"first").unwrap();
        write(&file, None, true, b"second").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"second");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o640);
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(write(&link, None, true, b"third").unwrap_err().contains("symbolic link"));
        assert!(write(Path::new("/dev/stdout"), None, true, b"third").unwrap_err().contains("remove --out"));
        assert!(write(dir.path(), None, true, b"third").unwrap_err().contains("not a regular file"));
        assert_eq!(fs::read(&file).unwrap(), b"second");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left over");
    }
}
