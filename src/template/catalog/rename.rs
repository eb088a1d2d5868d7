//! Another name for a secret in the templates' files: all of them or none.
//!
//! First every new text is written beside its file and handed to the disk; nothing has changed then. What is
//! under way is noted in the vault, before it begins and then together with the new name of the secret, so
//! that a crash at any point is made good at the next start (`finish`): taken back before the secret has its
//! new name, carried to the end after. Until then a reference by the former name works.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Catalog, Content};
use crate::files::{self, like, sync_folder};
use crate::names::SecretName;
use crate::template::rename::rename;

/// A template that stands in the way of rewriting all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwritable {
    /// Its id.
    pub template: String,
    /// Why.
    pub message: String,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Staged {
    /// The template's id.
    template: String,
    path: PathBuf,
    /// Where the new text is written, beside it. A name that begins with a dot is no template.
    new: PathBuf,
    /// The SHA-256 of what the new text is made from.
    digest: String,
    #[serde(skip)]
    text: String,
}

/// What `finish` needs after a crash.
#[derive(Deserialize)]
struct Note {
    /// Whether the secret has its new name.
    renamed: bool,
    files: Vec<Staged>,
}

/// All new texts, none of them in its place yet. Dropped, they are taken away.
#[derive(Debug, Default)]
pub struct Rewrite {
    files: Vec<Staged>,
}

impl Catalog {
    /// The new text of every template that names one of `from`. To be asked right after a `rescan`.
    ///
    /// # Errors
    /// Every file that cannot be rewritten.
    pub fn rewrite(&self, from: &[&SecretName], to: &SecretName) -> Result<Rewrite, Vec<Unwritable>> {
        let mut rewrite = Rewrite::default();
        let mut unwritable = Vec::new();
        for template in self.files.values() {
            let Content::Lexed(lexed) = &template.content else { continue };
            if !lexed.references.iter().any(|reference| from.contains(&&reference.name)) {
                continue;
            }
            match renamed(&template.path, &template.digest, from, to) {
                Ok(None) => {}
                Ok(Some((path, text))) => rewrite.files.push(Staged {
                    template: template.id.clone(),
                    new: beside(&path),
                    path,
                    digest: data_encoding::HEXLOWER.encode(&template.digest),
                    text,
                }),
                Err(error) => unwritable.push(Unwritable::new(&template.id, &error)),
            }
        }
        if unwritable.is_empty() { Ok(rewrite) } else { Err(unwritable) }
    }
}

impl Unwritable {
    fn new(template: &str, error: &io::Error) -> Self {
        Self { template: template.to_owned(), message: format!("it cannot be rewritten: {error}") }
    }
}

/// The file behind a path (a link stays a link) and its new text; `None` where nothing changes.
fn renamed(
    path: &Path,
    digest: &[u8; 32],
    from: &[&SecretName],
    to: &SecretName,
) -> io::Result<Option<(PathBuf, String)>> {
    let path = fs::canonicalize(path)?;
    let bytes = fs::read(&path)?;
    let changed = || io::Error::other("it has just been changed; try again");
    if Sha256::digest(&bytes)[..] != digest[..] {
        return Err(changed());
    }
    let text = String::from_utf8(bytes).map_err(|_| changed())?;
    Ok(rename(&text, from, to).map_err(|_| changed())?.map(|text| (path, text)))
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.renamed"))
}

impl Staged {
    /// Writes the new text beside the file, with the same owner and permissions.
    fn write(&self) -> io::Result<()> {
        let metadata = fs::metadata(&self.path)?;
        let _ = fs::remove_file(&self.new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.new)?;
        file.write_all(self.text.as_bytes())?;
        like(&file, &metadata)?;
        file.sync_all()
    }
}

impl Rewrite {
    /// The templates that will be rewritten.
    pub fn templates(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.template.as_str())
    }

    /// Whether there is nothing to rewrite.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// What is under way, for `finish`; `renamed` says whether the secret has its new name.
    pub fn note(&self, renamed: bool) -> Vec<u8> {
        serde_json::to_vec(&serde_json::json!({"renamed": renamed, "files": self.files})).unwrap_or_default()
    }

    /// Writes every new text beside its file.
    ///
    /// # Errors
    /// Every file where that cannot be done.
    pub fn write(&self) -> Result<(), Vec<Unwritable>> {
        let write = |file: &Staged| file.write().err().map(|error| Unwritable::new(&file.template, &error));
        let unwritable: Vec<_> = self.files.iter().filter_map(write).collect();
        if unwritable.is_empty() { Ok(()) } else { Err(unwritable) }
    }

    /// Puts every new text in its place.
    ///
    /// # Errors
    /// When one cannot be; those that were are put back then.
    pub fn place(mut self) -> io::Result<()> {
        let mut placed: Vec<(&Staged, Vec<u8>, fs::Metadata)> = Vec::new();
        for file in &self.files {
            let before = fs::read(&file.path).and_then(|bytes| Ok((bytes, fs::metadata(&file.path)?)));
            let done = before.and_then(|(bytes, metadata)| {
                put(file, &bytes)?;
                placed.push((file, bytes, metadata));
                Ok(())
            });
            if let Err(error) = done {
                for (file, bytes, metadata) in placed {
                    if let Err(error) = put_back(&file.path, &bytes, &metadata) {
                        tracing::error!(template = file.template, %error, "a template could not be put back");
                    }
                }
                return Err(io::Error::new(error.kind(), format!("{}: {error}", file.template)));
            }
        }
        self.files.clear();
        Ok(())
    }
}

impl Drop for Rewrite {
    fn drop(&mut self) {
        for file in &self.files {
            let _ = fs::remove_file(&file.new);
        }
    }
}

/// Gives the new text its name, unless the file is not what it was made from.
fn put(file: &Staged, present: &[u8]) -> io::Result<()> {
    if data_encoding::HEXLOWER.encode(&Sha256::digest(present)) != file.digest {
        return Err(io::Error::other("it was changed meanwhile"));
    }
    fs::rename(&file.new, &file.path)?;
    sync_folder(&file.path)
}

fn put_back(path: &Path, bytes: &[u8], metadata: &fs::Metadata) -> io::Result<()> {
    files::replace(path, bytes)?;
    like(&File::open(path)?, metadata)
}

/// Makes good what a crash left half-way. Where the secret has its new name, every new text gets its place,
/// unless its file has been changed since; else the new texts are taken away.
pub fn finish(note: &[u8]) {
    let Ok(Note { renamed, files }) = serde_json::from_slice(note) else { return };
    for file in files.iter().filter(|file| fs::symlink_metadata(&file.new).is_ok()) {
        let placed = if renamed { fs::read(&file.path).and_then(|bytes| put(file, &bytes)) } else { Ok(()) };
        let _ = fs::remove_file(&file.new);
        if let Err(error) = placed {
            tracing::warn!(template = file.template, %error, "a rename that was cut off has not reached this template");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::time::Instant;

    use super::*;

    /// A crash: nothing is dropped.
    fn crash(rewrite: Rewrite) {
        let _ = std::mem::ManuallyDrop::new(rewrite);
    }

    struct Folder {
        dir: tempfile::TempDir,
        catalog: Catalog,
    }

    const OLD: &str = "a: << secret \"old\" >> # old\n";
    const NEW: &str = "a: << secret \"new\" >> # old\n";

    impl Folder {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let feature = dir.path().join("f");
            fs::create_dir(&feature).unwrap();
            for (name, mode) in [("one.yaml", 0o640), ("two.yaml", 0o444)] {
                fs::write(feature.join(name), OLD).unwrap();
                fs::set_permissions(feature.join(name), fs::Permissions::from_mode(mode)).unwrap();
            }
            fs::write(feature.join("other.yaml"), "b: << secret \"other\" >>\n").unwrap();
            let catalog = Catalog::new(dir.path());
            Self { dir, catalog }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join("f").join(name)
        }

        fn stage(&mut self) -> Result<Rewrite, Vec<Unwritable>> {
            self.catalog.rescan(Instant::now());
            let rewrite = self.catalog.rewrite(&[&"old".parse().unwrap()], &"new".parse().unwrap())?;
            rewrite.write().map(|()| rewrite)
        }

        fn texts(&self) -> Vec<String> {
            ["one.yaml", "two.yaml"].map(|name| fs::read_to_string(self.path(name)).unwrap()).into()
        }

        fn files(&self) -> usize {
            fs::read_dir(self.dir.path().join("f")).unwrap().count()
        }
    }

    #[test]
    fn all_files_change_and_keep_their_permissions_and_links() {
        let mut folder = Folder::new();
        let real = folder.dir.path().join("elsewhere");
        fs::rename(folder.path("one.yaml"), &real).unwrap();
        std::os::unix::fs::symlink(&real, folder.path("one.yaml")).unwrap();
        let rewrite = folder.stage().unwrap();
        assert_eq!(rewrite.templates().collect::<Vec<_>>(), ["f/one", "f/two"]);
        assert_eq!(folder.texts(), [OLD, OLD]);
        rewrite.place().unwrap();
        assert_eq!(folder.texts(), [NEW, NEW]);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&real), mode(&folder.path("two.yaml"))), (0o640, 0o444));
        assert!(fs::symlink_metadata(folder.path("one.yaml")).unwrap().is_symlink());
        assert_eq!(folder.files(), 3);
        assert!(folder.stage().unwrap().is_empty());
    }

    #[test]
    fn a_file_that_changed_meanwhile_stops_all_of_them() {
        let mut folder = Folder::new();
        let rewrite = folder.stage().unwrap();
        fs::remove_file(folder.path("two.yaml")).unwrap();
        fs::write(folder.path("two.yaml"), "edited: << secret \"old\" >>\n").unwrap();
        assert!(rewrite.place().is_err());
        assert_eq!(folder.texts(), [OLD, "edited: << secret \"old\" >>\n"]);
        assert_eq!(fs::metadata(folder.path("one.yaml")).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(folder.files(), 3);
    }

    #[test]
    fn a_cut_is_made_good() {
        let mut folder = Folder::new();
        let rewrite = folder.stage().unwrap();
        let note = rewrite.note(true);
        // One file has its new text, the other not yet.
        fs::rename(&rewrite.files[0].new, &rewrite.files[0].path).unwrap();
        crash(rewrite);
        finish(&note);
        assert_eq!(folder.texts(), [NEW, NEW]);
        assert_eq!(folder.files(), 3);
        finish(&note);
        assert_eq!(folder.texts(), [NEW, NEW]);
    }

    #[test]
    fn before_the_secret_has_its_new_name_a_cut_is_taken_back() {
        let mut folder = Folder::new();
        let rewrite = folder.stage().unwrap();
        let note = rewrite.note(false);
        crash(rewrite);
        finish(&note);
        assert_eq!(folder.texts(), [OLD, OLD]);
        assert_eq!(folder.files(), 3);
    }

    #[test]
    fn what_was_edited_after_a_cut_stays() {
        let mut folder = Folder::new();
        let rewrite = folder.stage().unwrap();
        let note = rewrite.note(true);
        crash(rewrite);
        fs::remove_file(folder.path("two.yaml")).unwrap();
        fs::write(folder.path("two.yaml"), "edited\n").unwrap();
        finish(&note);
        assert_eq!(folder.texts(), [NEW, "edited\n"]);
        assert_eq!(folder.files(), 3);
    }
}
