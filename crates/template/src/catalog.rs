//! The catalog of template files: which templates exist, which secrets they reference, and what prevents the deletion
//! of a secret.
//!
//! Only reads files. Its owner holds it behind a lock, and files may be slow, so reading happens outside the lock:
//! `begin` returns a `ReadingBasis`, the caller reads with it, and `apply` takes the result. `watch` reports when to
//! scan again.
//!
//! - Invariant (promise Guarded): a file whose references are not known counts as naming everything it could.
//! - Invariant: of two readings of a file, the one that began later counts, in whatever order they are applied.

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
pub use self::guard::{BlockReason, Blocker};
pub use self::read::TEMPLATE_MAX;
pub use self::rename::{Rewrite, Unwritable, finish};
pub use self::scan::files_of;
use self::scan::{Files, StrayFiles};
use self::state::FileState;
pub use self::stray::{Stray, StrayReason, Unsearched};
pub use self::watch::{WatchError, Watcher};
use super::Format;
use super::lexer::{Lexed, Reference};
use guillemet_base::files::Fingerprint;
use guillemet_base::problem::Problem;

/// A template as it was read. A changed file becomes another `Template`.
#[derive(Debug)]
pub struct Template {
    /// The id of the template: `<feature>/<name>`.
    pub id: String,
    /// The name of the folder that the file is in.
    pub feature: String,
    /// The file's name without its extension.
    pub name: String,
    /// The format, by the file's extension.
    pub format: Format,
    /// The path of the file, in the templates' folder as it was configured.
    pub path: PathBuf,
    /// The state of the file when it was read.
    state: FileState,
    /// Whether the file is on a file system that answers at once; one behind a network may not.
    pub is_local: bool,
    /// Whether the other devices of the account know its references.
    published: AtomicBool,
    /// The outcome of lexing its text.
    pub content: TemplateContent,
}

/// The content of a template file.
#[derive(Debug)]
pub enum TemplateContent {
    /// The lexer found no problem in the text.
    Lexed(Lexed),
    /// The template cannot be used.
    Broken {
        /// Every problem found, in the order of the text.
        problems: Vec<Problem>,
        /// The secrets it may name, as far as they are known.
        names: Names,
        /// Whether the problems are in the text, and so may quote it; otherwise they are about the file.
        is_of_text: bool,
    },
}

impl TemplateContent {
    /// Returns content that is broken because of the file, whatever its text is.
    fn of_file(problem: Problem, names: Names) -> Self {
        Self::Broken { problems: vec![problem], names, is_of_text: false }
    }
}

/// The secrets that a broken template may name.
#[derive(Debug)]
pub enum Names {
    /// Exactly these: another file has the same id, or the file cannot be read and these were its last references.
    References(Vec<Reference>),
    /// Any name that occurs in this text.
    Text(String),
    /// Any secret, because the text is not known.
    Unknown,
}

impl Template {
    /// Reports whether the file is certainly unchanged since it was read, by its metadata alone. If this is false, a
    /// recheck finds out. Waits for the file system, which may hang unless `is_local` is true.
    pub fn is_current(&self) -> bool {
        self.state.is_current(|| Fingerprint::of(&self.path).ok())
    }

    /// Reports whether the other devices of the account know its references.
    pub fn is_published(&self) -> bool {
        self.published.load(Ordering::Acquire)
    }

    /// Reads its text again. Returns `None` if the file has changed since, or is not UTF-8.
    pub fn text(&self) -> Option<String> {
        read::text(self)
    }

    /// Records that the other devices of the account know its references.
    pub fn publish(&self) {
        self.published.store(true, Ordering::Release);
    }

    /// Returns the references that are known; empty if only a text, or nothing, is known.
    pub fn references(&self) -> &[Reference] {
        match &self.content {
            TemplateContent::Lexed(lexed) => &lexed.references,
            TemplateContent::Broken { names: Names::References(references), .. } => references,
            TemplateContent::Broken { .. } => &[],
        }
    }
}

/// The changes that a reading brought, by template id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogChanges {
    /// Ids that did not exist before.
    pub added: Vec<String>,
    /// Ids whose template was replaced by a new reading.
    pub changed: Vec<String>,
    /// Ids that no longer exist.
    pub removed: Vec<String>,
}

impl CatalogChanges {
    /// Reports whether no id was added, changed or removed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

/// A file that no longer exists.
#[derive(Debug)]
struct Vanished {
    file: VanishedEntry,
    since: Instant,
}

#[derive(Debug)]
enum VanishedEntry {
    Template(Arc<Template>),
    Stray(Arc<Stray>),
}

/// The starting point of a reading: what was known when it began. Needs no lock.
#[derive(Debug)]
pub struct ReadingBasis {
    dir: Arc<Path>,
    files: Arc<Files>,
    strays: Arc<StrayFiles>,
    reads: Arc<AtomicU64>,
    /// The number of this reading; readings are numbered in the order in which they begin.
    number: u64,
}

/// The result of a reading, for [`Catalog::apply`].
pub struct CatalogReading {
    basis: ReadingBasis,
    result: ReadFiles,
}

enum ReadFiles {
    /// Everything in the folders.
    All(scan::ScanResult),
    /// The current content of some paths; `None` for a path without a file.
    Some(Vec<(OsString, Option<Arc<Template>>)>),
}

impl ReadingBasis {
    /// Scans the folders: checks every file, and reads each one whose metadata has changed. Increases `progress` with
    /// each file.
    pub fn scan(self, progress: &AtomicU64) -> CatalogReading {
        let result = ReadFiles::All(scan::scan(&self, progress));
        CatalogReading { basis: self, result }
    }

    /// Checks the files that may have one of these ids, and reads those that changed.
    pub fn recheck<'a>(self, ids: impl IntoIterator<Item = &'a str>) -> CatalogReading {
        let check = |id| scan::recheck(&self, id);
        let result = ReadFiles::Some(ids.into_iter().flat_map(check).collect());
        CatalogReading { basis: self, result }
    }
}

/// The templates of one folder.
#[derive(Debug)]
pub struct Catalog {
    dir: Arc<Path>,
    /// Files by their path inside the folder. Two files can claim the same id.
    files: Arc<Files>,
    /// Files that are not templates, by path, as the newest scan found them.
    strays: Arc<StrayFiles>,
    /// Templates by id. If two files claim an id, it maps to a broken template that reports this.
    by_id: BTreeMap<String, Arc<Template>>,
    vanished: Vec<Vanished>,
    /// Folders that the last scan could not read, each with the reason.
    unreadable: Vec<(PathBuf, String)>,
    generation: u64,
    /// The number of the last reading that began.
    started: u64,
    /// The number of the newest scan that was applied.
    scanned: u64,
    /// Paths that were rechecked after the newest applied scan began, each with the number of that reading.
    rechecked: HashMap<OsString, u64>,
    /// The number of files read so far.
    reads: Arc<AtomicU64>,
}

impl Catalog {
    /// Creates a catalog of the files `dir/<feature>/<name>.<format>`, empty until a reading is applied.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into().into(),
            files: Arc::default(),
            strays: Arc::default(),
            by_id: BTreeMap::new(),
            vanished: Vec::new(),
            unreadable: Vec::new(),
            generation: 0,
            started: 0,
            scanned: 0,
            rechecked: HashMap::new(),
            reads: Arc::default(),
        }
    }

    /// Scans the folders and applies the result.
    pub fn rescan(&mut self, now: Instant) -> CatalogChanges {
        let reading = self.begin().scan(&AtomicU64::new(0));
        self.apply(reading, now)
    }

    /// Begins a reading. It sees the files as they are now or later.
    pub fn begin(&mut self) -> ReadingBasis {
        self.started += 1;
        ReadingBasis {
            dir: Arc::clone(&self.dir),
            files: Arc::clone(&self.files),
            strays: Arc::clone(&self.strays),
            reads: Arc::clone(&self.reads),
            number: self.started,
        }
    }

    /// Applies a reading and returns what changed. Keeps what a later reading has already brought.
    pub fn apply(&mut self, CatalogReading { basis, result }: CatalogReading, now: Instant) -> CatalogChanges {
        self.vanished.retain(|vanished| guard::remaining_grace(vanished.since, now).is_some());
        let files = match result {
            ReadFiles::All(scan::ScanResult { files, strays, unreadable }) if basis.number > self.scanned => {
                self.scanned = basis.number;
                self.rechecked.retain(|_, number| *number > basis.number);
                self.replace_strays(strays, now);
                if self.unreadable != unreadable {
                    self.unreadable = unreadable;
                    self.generation += 1;
                }
                let mut files = files.map_or(basis.files, Arc::new);
                for key in self.rechecked.keys() {
                    put(&mut files, key, self.files.get(key).cloned());
                }
                files
            }
            ReadFiles::All(_) => return CatalogChanges::default(),
            ReadFiles::Some(changed) => {
                let mut files = Arc::clone(&self.files);
                let newest = |key: &OsString| self.rechecked.get(key).copied().unwrap_or(0).max(self.scanned);
                let changed: Vec<_> = changed.into_iter().filter(|(key, _)| basis.number > newest(key)).collect();
                for (key, template) in changed {
                    // A path that neither has nor had a file is not kept: any caller can ask for one.
                    if template.is_some() || files.contains_key(&key) {
                        put(&mut files, &key, template);
                        self.rechecked.insert(key, basis.number);
                    }
                }
                files
            }
        };
        if Arc::ptr_eq(&files, &self.files) { CatalogChanges::default() } else { self.replace(files, now) }
    }

    fn replace_strays(&mut self, strays: StrayFiles, now: Instant) {
        let is_same = |(a, b): (&Arc<Stray>, &Arc<Stray>)| Arc::ptr_eq(a, b);
        if strays.len() == self.strays.len() && strays.values().zip(self.strays.values()).all(is_same) {
            return;
        }
        for (key, stray) in &*self.strays {
            if !strays.contains_key(key) {
                self.vanished.push(Vanished { file: VanishedEntry::Stray(Arc::clone(stray)), since: now });
            }
        }
        self.strays = Arc::new(strays);
        self.generation += 1;
    }

    fn replace(&mut self, mut files: Arc<Files>, now: Instant) -> CatalogChanges {
        // Two readings with the same result are the same template, whose plans are kept.
        for (key, template) in Arc::make_mut(&mut files) {
            if let Some(existing) = self.files.get(key).filter(|existing| existing.state.is_same(&template.state)) {
                existing.state.confirm(&template.state);
                *template = Arc::clone(existing);
            }
        }
        for (key, template) in &*self.files {
            if !files.contains_key(key) {
                self.vanished.push(Vanished { file: VanishedEntry::Template(Arc::clone(template)), since: now });
            }
        }
        let same_files = |(a, b): (&Arc<Template>, &Arc<Template>)| Arc::ptr_eq(a, b);
        if files.len() != self.files.len() || !files.values().zip(self.files.values()).all(same_files) {
            self.generation += 1;
        }
        self.files = files;
        let by_id = by_id(&self.files);
        let mut changes = CatalogChanges::default();
        for (id, template) in &by_id {
            match self.by_id.get(id) {
                None => changes.added.push(id.clone()),
                Some(existing) if !same(existing, template) => changes.changed.push(id.clone()),
                Some(_) => {}
            }
        }
        changes.removed.extend(self.by_id.keys().filter(|id| !by_id.contains_key(*id)).cloned());
        // An unchanged template stays the same object, so its plans are kept.
        let previous = std::mem::take(&mut self.by_id);
        self.by_id = by_id
            .into_iter()
            .map(|(id, template)| {
                let existing = previous.get(&id).filter(|existing| same(existing, &template)).cloned();
                (id, existing.unwrap_or(template))
            })
            .collect();
        changes
    }

    /// Records that the file system does not answer: until a scan completes, the content of the folders is unknown.
    pub fn note_unanswered(&mut self) {
        let unanswered = (self.dir.to_path_buf(), "the file system does not respond".to_owned());
        if !self.unreadable.contains(&unanswered) {
            self.unreadable.push(unanswered);
            self.generation += 1;
        }
    }

    /// Returns every template, ordered by id.
    pub fn templates(&self) -> impl Iterator<Item = &Arc<Template>> {
        self.by_id.values()
    }

    /// Returns the template with this id; a broken one if several files claim it.
    pub fn get(&self, id: &str) -> Option<&Arc<Template>> {
        self.by_id.get(id)
    }

    /// Returns every file, ordered by path. Two files can claim the same id.
    pub fn files(&self) -> impl Iterator<Item = &Arc<Template>> {
        self.files.values()
    }

    /// Returns the files that are not templates, ordered by path.
    pub fn strays(&self) -> impl Iterator<Item = &Arc<Stray>> {
        self.strays.values()
    }

    /// Returns the templates whose files vanished less than two seconds ago and may come back.
    pub fn vanished(&self, now: Instant) -> impl Iterator<Item = &Arc<Template>> {
        self.gone(now).filter_map(|file| match file {
            VanishedEntry::Template(template) => Some(template),
            VanishedEntry::Stray(_) => None,
        })
    }

    /// Returns the non-template files that vanished less than two seconds ago and may come back.
    pub fn vanished_strays(&self, now: Instant) -> impl Iterator<Item = &Arc<Stray>> {
        self.gone(now).filter_map(|file| match file {
            VanishedEntry::Stray(stray) => Some(stray),
            VanishedEntry::Template(_) => None,
        })
    }

    fn gone(&self, now: Instant) -> impl Iterator<Item = &VanishedEntry> {
        let counts = move |vanished: &&Vanished| guard::remaining_grace(vanished.since, now).is_some();
        self.vanished.iter().filter(counts).map(|vanished| &vanished.file)
    }

    /// Returns the counter of files read, which keeps counting.
    pub fn reads(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.reads)
    }

    /// Returns the time until the next vanished file stops counting; `None` if no vanished file counts.
    pub fn vanishing(&self, now: Instant) -> Option<Duration> {
        self.vanished.iter().filter_map(|vanished| guard::remaining_grace(vanished.since, now)).min()
    }

    /// Returns the folders that the last scan could not read, each as a sentence with the reason and the remedy.
    pub fn unreadable(&self) -> impl Iterator<Item = String> {
        let text = |(folder, reason): &(PathBuf, String)| {
            format!("the folder {} cannot be read: {reason}; make it readable, or remove it", folder.display())
        };
        self.unreadable.iter().map(text)
    }

    /// Returns a number that changes whenever a file, its reading, or the set of unreadable folders changes.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// Sets what was read of one path. Copies the map first if it is shared.
fn put(files: &mut Arc<Files>, key: &OsString, template: Option<Arc<Template>>) {
    match (template, files.get(key)) {
        (None, None) => {}
        (Some(template), Some(existing)) if Arc::ptr_eq(&template, existing) => {}
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
