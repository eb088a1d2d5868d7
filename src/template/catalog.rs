//! Which templates there are, which secrets they name, and what stands in the way of a deletion.
//!
//! Reads files and nothing else. Its owner holds a lock, and files may be slow: so reading happens beside it. `begin`
//! gives a `Basis`, whoever has that reads, and `apply` takes what was found. `watch` tells when to scan again.
//!
//! Invariant (promise 7): where it is not known what a file names, it is taken to name everything it
//! could.
//! Invariant: of two readings of a file the one that began later counts, in whatever order they are applied.

mod claims;
mod guard;
mod open;
mod read;
mod rename;
mod scan;
mod state;
mod stray;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use self::claims::{by_id, same};
pub use self::guard::{Blocker, Reason};
pub use self::read::TEMPLATE_MAX;
pub use self::rename::{Rewrite, Unwritable, finish};
pub use self::scan::files_of;
use self::scan::{Files, Strays};
use self::state::FileState;
pub use self::stray::{Stray, Unsearched, Why};
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
    /// How the file was when it was read.
    state: FileState,
    /// Whether it lies on a file system that answers at once; one behind a network may not.
    pub is_local: bool,
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
        /// Whether the problems are in the text, and may quote it; else they are about the file.
        is_of_text: bool,
    },
}

impl Content {
    /// Broken because of the file, whatever is in it.
    fn of_file(problem: Problem, names: Names) -> Self {
        Self::Broken { problems: vec![problem], names, is_of_text: false }
    }
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
    /// Whether the file is sure to be as it was read, by its metadata alone. A recheck tells where it is not sure.
    /// Waits for the file system (`is_local`).
    pub fn is_current(&self) -> bool {
        self.state.is_current(|| Fingerprint::of(&self.path).ok())
    }

    /// Whether the other devices of the account know what it names.
    pub fn is_published(&self) -> bool {
        self.published.load(Ordering::Acquire)
    }

    /// Returns its text, read again; `None` where the file is not what it was any more, or not text.
    pub fn text(&self) -> Option<String> {
        read::text(self)
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

/// A file that is no longer there.
#[derive(Debug)]
struct Vanished {
    what: Gone,
    since: Instant,
}

#[derive(Debug)]
enum Gone {
    Template(Arc<Template>),
    Stray(Arc<Stray>),
}

/// What reading begins with: what was known at that moment. It needs no lock.
#[derive(Debug)]
pub struct Basis {
    dir: Arc<Path>,
    known: Arc<Files>,
    strays: Arc<Strays>,
    reads: Arc<AtomicU64>,
    /// Readings are numbered in the order in which they begin.
    number: u64,
}

/// What was read, to be applied.
pub struct Reading {
    basis: Basis,
    found: Found,
}

enum Found {
    /// All there is.
    All(scan::Found),
    /// Of some paths, what is there now.
    Some(Vec<(OsString, Option<Arc<Template>>)>),
}

impl Basis {
    /// Scans the folders: every file is checked, and read where its metadata is not what it was. `progress` rises
    /// with each file.
    pub fn scan(self, progress: &AtomicU64) -> Reading {
        let found = Found::All(scan::scan(&self, progress));
        Reading { basis: self, found }
    }

    /// Reads what may have one of these ids.
    pub fn recheck<'a>(self, ids: impl IntoIterator<Item = &'a str>) -> Reading {
        let one = |id| scan::recheck(&self, id);
        let found = Found::Some(ids.into_iter().flat_map(one).collect());
        Reading { basis: self, found }
    }
}

/// The templates of a folder.
#[derive(Debug)]
pub struct Catalog {
    dir: Arc<Path>,
    /// By the path inside the folder: two files can claim the same id.
    files: Arc<Files>,
    /// Files that are no templates, by path, as the newest scan found them.
    strays: Arc<Strays>,
    /// By id; where two files claim one, the one that says so.
    by_id: BTreeMap<String, Arc<Template>>,
    vanished: Vec<Vanished>,
    /// Folders that could not be read at the last scan, with why.
    unreadable: Vec<(PathBuf, String)>,
    generation: u64,
    /// The number of the last reading that began.
    begun: u64,
    /// That of the newest scan that was applied.
    scanned: u64,
    /// Paths that were read by themselves, each with the number of that reading; those that no scan has overtaken.
    rechecked: HashMap<OsString, u64>,
    /// How many files were read so far.
    reads: Arc<AtomicU64>,
}

impl Catalog {
    /// Of `dir/<feature>/<name>.<format>`; empty until something has been read.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into().into(),
            files: Arc::default(),
            strays: Arc::default(),
            by_id: BTreeMap::new(),
            vanished: Vec::new(),
            unreadable: Vec::new(),
            generation: 0,
            begun: 0,
            scanned: 0,
            rechecked: HashMap::new(),
            reads: Arc::default(),
        }
    }

    /// Scans the folders and applies what was found.
    pub fn rescan(&mut self, now: Instant) -> Changes {
        let reading = self.begin().scan(&AtomicU64::new(0));
        self.apply(reading, now)
    }

    /// Begins a reading. What is in a file at this moment, or later, is what it finds.
    pub fn begin(&mut self) -> Basis {
        self.begun += 1;
        Basis {
            dir: Arc::clone(&self.dir),
            known: Arc::clone(&self.files),
            strays: Arc::clone(&self.strays),
            reads: Arc::clone(&self.reads),
            number: self.begun,
        }
    }

    /// Takes what was read. Where a later reading has been applied already, that one stays.
    pub fn apply(&mut self, Reading { basis, found }: Reading, now: Instant) -> Changes {
        self.vanished.retain(|vanished| guard::waits(vanished.since, now).is_some());
        let files = match found {
            Found::All(scan::Found { files, strays, unreadable }) if basis.number > self.scanned => {
                self.scanned = basis.number;
                self.rechecked.retain(|_, number| *number > basis.number);
                self.replace_strays(strays, now);
                if self.unreadable != unreadable {
                    self.unreadable = unreadable;
                    self.generation += 1;
                }
                let mut files = files.map_or(basis.known, Arc::new);
                for key in self.rechecked.keys() {
                    put(&mut files, key, self.files.get(key).cloned());
                }
                files
            }
            Found::All(_) => return Changes::default(),
            Found::Some(found) => {
                let mut files = Arc::clone(&self.files);
                let newest = |key: &OsString| self.rechecked.get(key).copied().unwrap_or(0).max(self.scanned);
                let found: Vec<_> = found.into_iter().filter(|(key, _)| basis.number > newest(key)).collect();
                for (key, template) in found {
                    // Of what is not there and was not, nothing is kept: anybody can ask for it.
                    if template.is_some() || files.contains_key(&key) {
                        put(&mut files, &key, template);
                        self.rechecked.insert(key, basis.number);
                    }
                }
                files
            }
        };
        if Arc::ptr_eq(&files, &self.files) { Changes::default() } else { self.replace(files, now) }
    }

    fn replace_strays(&mut self, strays: Strays, now: Instant) {
        let same = |(a, b): (&Arc<Stray>, &Arc<Stray>)| Arc::ptr_eq(a, b);
        if strays.len() == self.strays.len() && strays.values().zip(self.strays.values()).all(same) {
            return;
        }
        for (key, stray) in &*self.strays {
            if !strays.contains_key(key) {
                self.vanished.push(Vanished { what: Gone::Stray(Arc::clone(stray)), since: now });
            }
        }
        self.strays = Arc::new(strays);
        self.generation += 1;
    }

    fn replace(&mut self, mut files: Arc<Files>, now: Instant) -> Changes {
        // Two readings of one file are the same template, whose plans are known.
        for (key, template) in Arc::make_mut(&mut files) {
            if let Some(known) = self.files.get(key).filter(|known| known.state.is_same(&template.state)) {
                known.state.confirm(&template.state);
                *template = Arc::clone(known);
            }
        }
        for (key, template) in &*self.files {
            if !files.contains_key(key) {
                self.vanished.push(Vanished { what: Gone::Template(Arc::clone(template)), since: now });
            }
        }
        let same_files = |(a, b): (&Arc<Template>, &Arc<Template>)| Arc::ptr_eq(a, b);
        if files.len() != self.files.len() || !files.values().zip(self.files.values()).all(same_files) {
            self.generation += 1;
        }
        self.files = files;
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

    /// Notes that the folders do not answer: until a scan has come to its end, nobody knows what is in them.
    pub fn note_unanswered(&mut self) {
        let unanswered = (self.dir.to_path_buf(), "the file system does not answer".to_owned());
        if !self.unreadable.contains(&unanswered) {
            self.unreadable.push(unanswered);
            self.generation += 1;
        }
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

    /// Files that are no templates, by path.
    pub fn strays(&self) -> impl Iterator<Item = &Arc<Stray>> {
        self.strays.values()
    }

    /// Templates of files that vanished just now and may come back.
    pub fn vanished(&self, now: Instant) -> impl Iterator<Item = &Arc<Template>> {
        self.gone(now).filter_map(|what| match what {
            Gone::Template(template) => Some(template),
            Gone::Stray(_) => None,
        })
    }

    /// The same of files that are no templates.
    pub fn vanished_strays(&self, now: Instant) -> impl Iterator<Item = &Arc<Stray>> {
        self.gone(now).filter_map(|what| match what {
            Gone::Stray(stray) => Some(stray),
            Gone::Template(_) => None,
        })
    }

    fn gone(&self, now: Instant) -> impl Iterator<Item = &Gone> {
        let counts = move |vanished: &&Vanished| guard::waits(vanished.since, now).is_some();
        self.vanished.iter().filter(counts).map(|vanished| &vanished.what)
    }

    /// Counts the files that are read, from now on too.
    pub fn reads(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.reads)
    }

    /// When the next of them does not count any more.
    pub fn vanishing(&self, now: Instant) -> Option<Duration> {
        self.vanished.iter().filter_map(|vanished| guard::waits(vanished.since, now)).min()
    }

    /// Folders that could not be read at the last scan, with why and what to do.
    pub fn unreadable(&self) -> impl Iterator<Item = String> {
        let text = |(folder, why): &(PathBuf, String)| {
            format!("the folder {} cannot be read: {why}; make it readable, or remove it", folder.display())
        };
        self.unreadable.iter().map(text)
    }

    /// Another number whenever another file, another reading of one, or another unreadable folder was found.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// Puts what was read of a path among the files, which are copied first where they are shared.
fn put(files: &mut Arc<Files>, key: &OsString, template: Option<Arc<Template>>) {
    match (template, files.get(key)) {
        (None, None) => {}
        (Some(template), Some(known)) if Arc::ptr_eq(&template, known) => {}
        (Some(template), _) => {
            Arc::make_mut(files).insert(key.clone(), template);
        }
        (None, Some(_)) => {
            Arc::make_mut(files).remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
