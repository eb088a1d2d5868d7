//! Renames a secret in the template files: in all of them or none.
//!
//! First every new text is written beside its file and synced to disk; no template has changed at that point. What is
//! in progress is recorded in the vault, once before it begins and once together with the new name of the secret. So
//! the next start can recover from a crash at any point (`finish`): it undoes the rewrite if the secret does not have
//! its new name yet, and completes it if it has. Until then, references by the former name work.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Catalog, TEMPLATE_MAX, Template, TemplateContent};
use crate::rename::rename;
use guillemet_base::files::{Attributes, Destination, Folder, only_ours, temporary_name};
use guillemet_base::names::SecretName;
use guillemet_base::permissions::own_group;

/// A template that cannot be rewritten, which prevents the whole rename.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwritable {
    /// The id of the template.
    pub template: String,
    /// The reason, as a sentence for people.
    pub message: String,
}

/// One file to rewrite. Only names, no descriptors, are kept between the steps, and each step opens folder and file
/// again by the same rules (`open`). So any number of templates can be rewritten at once, and a step after a crash
/// works like any other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Staged {
    /// The id of the template.
    template: String,
    path: PathBuf,
    /// The name of the file with the new text, in the same folder.
    new: String,
    /// The SHA-256 of the text that the new text was made from, in hexadecimal.
    digest: String,
    /// The SHA-256 of the new text, in hexadecimal.
    new_digest: String,
    #[serde(skip)]
    text: String,
}

/// What `finish` needs after a crash.
#[derive(Serialize, Deserialize)]
struct Note<'a> {
    /// Whether the secret already has its new name.
    renamed: bool,
    files: Cow<'a, [Staged]>,
}

/// All the new texts, none of them in place yet. Dropping it removes them.
#[derive(Debug, Default)]
pub struct Rewrite {
    files: Vec<Staged>,
    /// Templates that are links to one of these files.
    also: Vec<String>,
}

impl Catalog {
    /// Prepares the new text of every template that references one of `from`. Call it right after a `rescan`.
    ///
    /// # Errors
    /// Returns every template that cannot be rewritten.
    pub fn rewrite(&self, from: &[&SecretName], to: &SecretName) -> Result<Rewrite, Vec<Unwritable>> {
        let mut rewrite = Rewrite::default();
        let (mut unwritable, mut paths) = (Vec::new(), BTreeSet::new());
        for template in self.files.values() {
            let TemplateContent::Lexed(lexed) = &template.content else { continue };
            if !lexed.references.iter().any(|reference| from.contains(&&reference.name)) {
                continue;
            }
            match self.renamed(template, from, to) {
                Ok(None) => {}
                Ok(Some(staged)) if paths.insert(staged.path.clone()) => rewrite.files.push(staged),
                Ok(Some(staged)) => rewrite.also.push(staged.template),
                Err(error) => unwritable.push(Unwritable::new(&template.id, &error)),
            }
        }
        if unwritable.is_empty() { Ok(rewrite) } else { Err(unwritable) }
    }

    /// Prepares the new text of the file behind a template (a link stays a link); `None` if nothing changes.
    fn renamed(&self, template: &Template, from: &[&SecretName], to: &SecretName) -> io::Result<Option<Staged>> {
        // Anyone who can write in a folder on the way can make a link there.
        for folder in [Some(&*self.dir), template.path.parent()].into_iter().flatten() {
            check_only_ours(folder, &Folder::open(folder)?.metadata()?)?;
        }
        let path = fs::canonicalize(&template.path)?;
        if path.to_str().is_none() {
            // The note is JSON and could not contain it.
            return Err(io::Error::other("its path is not UTF-8"));
        }
        let destination = open(&path)?;
        let before = data_encoding::HEXLOWER.encode(&template.state.digest());
        let changed = || io::Error::other("it was just changed; try again");
        let (bytes, _) = read(&destination, &before)?;
        let text = String::from_utf8(bytes).map_err(|_| changed())?;
        Ok(rename(&text, from, to).map_err(|_| changed())?.map(|text| Staged {
            template: template.id.clone(),
            new: temporary_name(path.file_name().unwrap_or_default()).to_string_lossy().into_owned(),
            path,
            digest: before,
            new_digest: digest(text.as_bytes()),
            text,
        }))
    }
}

impl Unwritable {
    fn new(template: &str, error: &io::Error) -> Self {
        Self { template: template.to_owned(), message: format!("it cannot be rewritten: {error}") }
    }
}

/// Opens a file for rewriting, after checking that nobody else can write it or its folder. Anyone who could would be
/// able to point a name in that folder at any file of this process's user.
fn open(path: &Path) -> io::Result<Destination> {
    let destination = Destination::open(path)?;
    check_only_ours(path.parent().unwrap_or(path), &destination.folder().metadata()?)?;
    check_only_ours(path, destination.expect()?.metadata())?;
    Ok(destination)
}

fn check_only_ours(path: &Path, metadata: &fs::Metadata) -> io::Result<()> {
    let denied = |who| io::Error::new(io::ErrorKind::PermissionDenied, format!("{} {who}", path.display()));
    only_ours(metadata, own_group(path, metadata)).map_err(denied)
}

fn digest(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

/// Reads the content and attributes of an open file; fails if its digest is not `expected`.
fn read(destination: &Destination, expected: &str) -> io::Result<(Vec<u8>, Attributes)> {
    let existing = destination.expect()?;
    let bytes = existing.read(TEMPLATE_MAX)?.to_vec();
    if digest(&bytes) != expected {
        return Err(io::Error::other("it changed while it was being rewritten"));
    }
    Ok((bytes, existing.attributes()?))
}

impl Staged {
    /// Writes the new text beside the file, with the same owner and permissions.
    fn write(&self) -> io::Result<()> {
        let destination = open(&self.path)?;
        let (_, attributes) = read(&destination, &self.digest)?;
        destination.stage(self.new.as_ref(), self.text.as_bytes(), &attributes)
    }

    /// Returns the content and attributes that the new text will replace.
    fn before(&self) -> io::Result<(Vec<u8>, Attributes)> {
        read(&open(&self.path)?, &self.digest)
    }

    /// Renames the new text over the file. Fails if the file is no longer the one that the new text was made from, or
    /// if the file beside it is not the new text.
    fn place(&self) -> io::Result<()> {
        let destination = open(&self.path)?;
        read(&destination, &self.digest)?;
        let (new, metadata) = destination.folder().open_regular(self.new.as_ref())?;
        let mut text = Vec::new();
        new.take(metadata.len()).read_to_end(&mut text)?;
        if digest(&text) != self.new_digest {
            return Err(io::Error::other("its new text is incomplete"));
        }
        destination.put_staged(self.new.as_ref())
    }

    /// Restores the former text, unless the file has been changed since.
    fn restore(&self, bytes: &[u8], attributes: &Attributes) -> io::Result<()> {
        let destination = open(&self.path)?;
        if destination.has_content(bytes)? {
            return Ok(());
        }
        read(&destination, &self.new_digest)?;
        destination.put(bytes, attributes)
    }

    /// Removes the file with the new text.
    fn remove(&self) -> io::Result<()> {
        Folder::of(&self.path)?.0.remove(self.new.as_ref())
    }

    fn exists(&self) -> bool {
        Folder::of(&self.path).is_ok_and(|(folder, _)| folder.metadata_of(self.new.as_ref()).is_ok())
    }
}

impl Rewrite {
    /// Returns the ids of the templates that will be rewritten.
    pub fn templates(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.template.as_str()).chain(self.also.iter().map(String::as_str))
    }

    /// Reports whether no template has to be rewritten.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Returns the record of what is in progress, for `finish`. `renamed` is whether the secret has its new name.
    ///
    /// # Errors
    /// Returns every file if the record cannot be written.
    pub fn note(&self, renamed: bool) -> Result<Vec<u8>, Vec<Unwritable>> {
        serde_json::to_vec(&Note { renamed, files: Cow::Borrowed(&self.files) }).map_err(|error| {
            let error = io::Error::from(error);
            self.files.iter().map(|file| Unwritable::new(&file.template, &error)).collect()
        })
    }

    /// Writes every new text beside its file.
    ///
    /// # Errors
    /// Returns every template for which this failed.
    pub fn write(&self) -> Result<(), Vec<Unwritable>> {
        let write = |file: &Staged| file.write().err().map(|error| Unwritable::new(&file.template, &error));
        let unwritable: Vec<_> = self.files.iter().filter_map(write).collect();
        if unwritable.is_empty() { Ok(()) } else { Err(unwritable) }
    }

    /// Puts every new text in place.
    ///
    /// # Errors
    /// Fails if one cannot be placed; those already placed are restored.
    pub fn place(mut self) -> io::Result<()> {
        let mut before = Vec::new();
        for file in &self.files {
            let placed = file.before().and_then(|text| {
                before.push((file, text));
                file.place()
            });
            if let Err(error) = placed {
                for (file, (bytes, attributes)) in before {
                    if let Err(error) = file.restore(&bytes, &attributes) {
                        tracing::error!(template = file.template, %error, "a template could not be restored");
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
            let _ = file.remove();
        }
    }
}

/// Recovers from a crash in the middle of a rename. If the secret has its new name, puts every new text in place,
/// unless its file has been changed since; otherwise removes the new texts.
pub fn finish(note: &[u8]) {
    let Ok(Note { renamed, files }) = serde_json::from_slice(note) else { return };
    for file in files.iter().filter(|file| file.exists()) {
        let placed = if renamed { file.place() } else { Ok(()) };
        let _ = file.remove();
        if let Err(error) = placed {
            tracing::warn!(template = file.template, %error, "an interrupted rename is incomplete in this template");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::time::Instant;

    use super::*;

    /// Simulates a crash: nothing is dropped.
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
        std::os::unix::fs::symlink("one.yaml", folder.path("one-too.yaml")).unwrap();
        let rewrite = folder.stage().unwrap();
        assert_eq!(rewrite.templates().collect::<Vec<_>>(), ["f/one-too", "f/two", "f/one"]);
        assert_eq!(folder.texts(), [OLD, OLD]);
        rewrite.place().unwrap();
        assert_eq!(folder.texts(), [NEW, NEW]);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&real), mode(&folder.path("two.yaml"))), (0o640, 0o444));
        assert!(fs::symlink_metadata(folder.path("one.yaml")).unwrap().is_symlink());
        assert_eq!(folder.files(), 4);
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
        let note = rewrite.note(true).unwrap();
        // One file has its new text, the other does not yet.
        rewrite.files[0].place().unwrap();
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
        let note = rewrite.note(false).unwrap();
        crash(rewrite);
        finish(&note);
        assert_eq!(folder.texts(), [OLD, OLD]);
        assert_eq!(folder.files(), 3);
    }

    #[test]
    fn what_was_edited_after_a_cut_stays() {
        let mut folder = Folder::new();
        let rewrite = folder.stage().unwrap();
        let note = rewrite.note(true).unwrap();
        crash(rewrite);
        fs::remove_file(folder.path("two.yaml")).unwrap();
        fs::write(folder.path("two.yaml"), "edited\n").unwrap();
        finish(&note);
        assert_eq!(folder.texts(), [NEW, "edited\n"]);
        assert_eq!(folder.files(), 3);
    }
}
