//! Which templates there are, which secrets they name, and what stands in the way of a deletion.
//!
//! Reads files and nothing else; has one owner and blocks. `watch` tells when to look again.
//!
//! Invariant (promise 7): where it is not known what a file names, it is taken to name everything it
//! could.

mod guard;
mod rename;
mod scan;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use self::guard::{Blocker, Reason};
pub use self::rename::{Rewrite, Unwritable, finish};
pub use self::scan::TEMPLATE_MAX;
pub use self::watch::{WatchError, Watcher};
use super::lexer::{Lexed, Reference};
use super::{Format, Problem};
use crate::files::Fingerprint;

/// A template as it was read. A changed file is another `Template`.
#[derive(Debug)]
pub struct Template {
    /// `<feature>/<name>`.
    pub id: String,
    /// The folder.
    pub feature: String,
    /// The file's name without its extension.
    pub name: String,
    /// By its extension.
    pub format: Format,
    /// The file.
    pub path: PathBuf,
    /// How the file looked when it was read.
    pub fingerprint: Option<Fingerprint>,
    /// The SHA-256 of what was read.
    digest: [u8; 32],
    /// Whether the next change of the file is sure to give it another fingerprint: not when it was read
    /// within the grain of the file system's clock.
    settled: AtomicBool,
    /// Whether the other devices of the account know what it names.
    published: AtomicBool,
    /// What is in it.
    pub content: Content,
}

/// What is in a template.
#[derive(Debug)]
pub enum Content {
    /// Its text is in order as far as the lexer goes.
    Lexed(Lexed),
    /// It is not.
    Broken {
        /// Why.
        problems: Vec<Problem>,
        /// What it names, as far as that is known.
        names: Names,
    },
}

/// What a broken template names.
#[derive(Debug)]
pub enum Names {
    /// These (another file has the same id, or the file cannot be read and these were its last).
    References(Vec<Reference>),
    /// Whatever stands in this text.
    Text(String),
    /// Nobody knows.
    Unknown,
}

impl Template {
    /// Whether the file is sure to be as it was read: one look at its metadata. A rescan tells where it is
    /// not sure.
    pub fn is_current(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
            && self.fingerprint.is_some()
            && Fingerprint::of(&self.path).ok() == self.fingerprint
    }

    /// Whether the other devices of the account know what it names.
    pub fn is_published(&self) -> bool {
        self.published.load(Ordering::Acquire)
    }

    /// They know it now.
    pub fn publish(&self) {
        self.published.store(true, Ordering::Release);
    }

    /// What it is known to name.
    pub fn references(&self) -> &[Reference] {
        match &self.content {
            Content::Lexed(lexed) => &lexed.references,
            Content::Broken { names: Names::References(references), .. } => references,
            Content::Broken { .. } => &[],
        }
    }
}

/// What a rescan found, by template id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// New.
    pub added: Vec<String>,
    /// Read anew.
    pub changed: Vec<String>,
    /// Gone.
    pub removed: Vec<String>,
}

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

/// A template that is no longer there.
#[derive(Debug)]
struct Vanished {
    template: Arc<Template>,
    since: Instant,
}

/// The templates of a folder.
#[derive(Debug)]
pub struct Catalog {
    dir: PathBuf,
    /// By path: two files can claim the same id.
    files: BTreeMap<PathBuf, Arc<Template>>,
    /// By id; where two files claim one, the one that says so.
    by_id: BTreeMap<String, Arc<Template>>,
    vanished: Vec<Vanished>,
    /// Folders that could not be read at the last rescan, with why.
    unreadable: Vec<(PathBuf, String)>,
    generation: u64,
}

impl Catalog {
    /// Of `dir/<feature>/<name>.<format>`; empty until the first `rescan`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            files: BTreeMap::new(),
            by_id: BTreeMap::new(),
            vanished: Vec::new(),
            unreadable: Vec::new(),
            generation: 0,
        }
    }

    /// Looks at the folders again: every file is looked at, and read where it looks different.
    pub fn rescan(&mut self, now: Instant) -> Changes {
        let scan::Found { files, unreadable } = scan::scan(&self.dir, &self.files);
        for (path, template) in &self.files {
            if !files.contains_key(path) {
                self.vanished.push(Vanished { template: Arc::clone(template), since: now });
            }
        }
        self.vanished.retain(|vanished| guard::waits(vanished.since, now).is_some());
        let same_files = |(a, b): (&Arc<Template>, &Arc<Template>)| Arc::ptr_eq(a, b);
        if files.len() != self.files.len() || !files.values().zip(self.files.values()).all(same_files) {
            self.generation += 1;
        }
        self.files = files;
        self.unreadable = unreadable;
        let by_id = by_id(&self.files);
        let mut changes = Changes::default();
        for (id, template) in &by_id {
            match self.by_id.get(id) {
                None => changes.added.push(id.clone()),
                Some(known) if !same(known, template) => changes.changed.push(id.clone()),
                Some(_) => {}
            }
        }
        changes.removed.extend(self.by_id.keys().filter(|id| !by_id.contains_key(*id)).cloned());
        // An unchanged template stays the same object, whose plans are known.
        let known = std::mem::take(&mut self.by_id);
        self.by_id = by_id
            .into_iter()
            .map(|(id, template)| {
                let kept = known.get(&id).filter(|known| same(known, &template)).cloned();
                (id, kept.unwrap_or(template))
            })
            .collect();
        changes
    }

    /// Every template, by id.
    pub fn templates(&self) -> impl Iterator<Item = &Arc<Template>> {
        self.by_id.values()
    }

    /// A template by its id.
    pub fn get(&self, id: &str) -> Option<&Arc<Template>> {
        self.by_id.get(id)
    }

    /// Every file, by path: two can claim the same id.
    pub fn files(&self) -> impl Iterator<Item = &Arc<Template>> {
        self.files.values()
    }

    /// Templates of files that vanished just now and may come back.
    pub fn vanished(&self, now: Instant) -> impl Iterator<Item = &Arc<Template>> {
        let counts = move |vanished: &&Vanished| guard::waits(vanished.since, now).is_some();
        self.vanished.iter().filter(counts).map(|vanished| &vanished.template)
    }

    /// When the next of them does not count any more.
    pub fn vanishing(&self, now: Instant) -> Option<Duration> {
        self.vanished.iter().filter_map(|vanished| guard::waits(vanished.since, now)).min()
    }

    /// Folders that could not be read at the last rescan, with why and what to do.
    pub fn unreadable(&self) -> impl Iterator<Item = String> {
        let text = |(folder, why): &(PathBuf, String)| {
            format!("the folder {} cannot be read: {why}; make it readable, or remove it", folder.display())
        };
        self.unreadable.iter().map(text)
    }

    /// Another number whenever another file, or another reading of one, was found.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// Whether two are the same reading of the same file. Those that share an id are made anew at every scan.
fn same(a: &Arc<Template>, b: &Arc<Template>) -> bool {
    Arc::ptr_eq(a, b)
        || (a.path == b.path
            && a.fingerprint == b.fingerprint
            && matches!(
                (&a.content, &b.content),
                (Content::Broken { problems: a, names: Names::References(_) }, Content::Broken { problems: b, names: Names::References(_) })
                    if a == b
            ))
}

fn by_id(files: &BTreeMap<PathBuf, Arc<Template>>) -> BTreeMap<String, Arc<Template>> {
    let mut grouped: BTreeMap<String, Vec<&Arc<Template>>> = BTreeMap::new();
    for template in files.values() {
        grouped.entry(template.id.clone()).or_default().push(template);
    }
    let one = |(id, group): (String, Vec<&Arc<Template>>)| match group.as_slice() {
        [template] => (id, Arc::clone(template)),
        several => {
            let names: Vec<String> = several.iter().map(|template| file_name(&template.path)).collect();
            let problem = Problem {
                message: format!("two files claim the id `{id}`: {}", names.join(" and ")),
                help: Some("rename or remove all but one".into()),
                ..Problem::default()
            };
            let first = several[0];
            let references = several.iter().flat_map(|template| template.references().iter().cloned()).collect();
            let claimed = Template {
                id: id.clone(),
                feature: first.feature.clone(),
                name: first.name.clone(),
                format: first.format,
                path: first.path.clone(),
                fingerprint: None,
                digest: [0; 32],
                settled: AtomicBool::new(false),
                published: AtomicBool::new(false),
                content: Content::Broken { problems: vec![problem], names: Names::References(references) },
            };
            (id, Arc::new(claimed))
        }
    };
    grouped.into_iter().map(one).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
