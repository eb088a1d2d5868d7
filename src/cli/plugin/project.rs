//! A plugin's project: a folder with its sources, its cases, and the component that `plugin build` writes there.
//!
//! Knows nothing of languages: a file counts as a source by its extension, unless a build or a tool made it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::super::Failure;

/// The extensions of source files.
const SOURCES: [&str; 13] = ["rs", "c", "h", "cpp", "js", "mjs", "ts", "py", "wit", "toml", "json", "go", "zig"];
/// The folders that builds leave behind.
const LEFTOVERS: [&str; 5] = ["target", "node_modules", "build", "dist", "__pycache__"];
/// Folders and files that do not count as sources: the cases, the templates, the example, and the file that npm writes
/// whenever it looks at its packages.
const OTHERS: [&str; 4] = ["cases", "templates", "template.toml", "package-lock.json"];
/// The number of levels of subfolders in which sources are looked for.
const DEPTH_MAX: usize = 8;

/// A project whose component has been built.
pub struct Project {
    /// The folder of the project.
    pub dir: PathBuf,
    /// The path of the component.
    pub component: PathBuf,
}

impl Project {
    /// Finds the project in a folder.
    ///
    /// # Errors
    /// When the folder has no component, or more than one.
    pub fn find(dir: &Path) -> Result<Self, Failure> {
        let entries = fs::read_dir(dir)
            .map_err(|error| Failure::new(format!("{} is not a plugin folder: {error}", dir.display())))?;
        let paths = entries.flatten().map(|entry| entry.path());
        let is_component = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "wasm");
        let mut components: Vec<PathBuf> = paths.filter(is_component).collect();
        components.sort();
        match components.len() {
            1 => Ok(Self { dir: dir.to_owned(), component: components.remove(0) }),
            0 => Err(Failure::new(format!(
                "there is no component in {}; build it with:\n\n    {}\n",
                dir.display(),
                build(dir)
            ))),
            _ => {
                let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let names = components.iter().map(name).collect::<Vec<_>>().join(", ");
                Err(Failure::new(format!(
                    "there is more than one component in {}: {names}; keep only the plugin's own",
                    dir.display()
                )))
            }
        }
    }

    /// Returns the project that a component belongs to: the folder it is in.
    pub fn of(component: &Path) -> Self {
        let dir = component.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self { dir: dir.to_owned(), component: component.to_owned() }
    }

    /// Returns the folder of the project's cases.
    pub fn cases(&self) -> PathBuf {
        self.dir.join("cases")
    }

    /// Returns a warning if a source was changed after the component was built.
    pub fn outdated_warning(&self) -> Option<String> {
        let built = fs::metadata(&self.component).and_then(|metadata| metadata.modified()).ok()?;
        let source = newest(&self.dir, DEPTH_MAX).filter(|(changed, _)| *changed > built)?.1;
        let source = source.strip_prefix(&self.dir).unwrap_or(&source).display().to_string();
        let component = self.component.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Some(format!("{component} is older than {source}; rebuild it with:\n\n    {}\n", build(&self.dir)))
    }
}

/// Returns the command that builds the project, for messages.
fn build(dir: &Path) -> String {
    let is_current_dir = dir == Path::new(".") || dir == Path::new("");
    if is_current_dir {
        "guillemet plugin build".into()
    } else {
        format!("cd {} && guillemet plugin build", dir.display())
    }
}

/// Reports whether no person wrote the content of a path, because a build or a tool did, or it is hidden.
pub fn is_leftover(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A Python environment can have any name, but always contains this file.
    name.starts_with('.') || LEFTOVERS.contains(&&*name) || path.join("pyvenv.cfg").exists()
}

/// Returns the source that was changed last, in a folder and up to `depth` levels below it, with the time of the
/// change.
fn newest(dir: &Path, depth: usize) -> Option<(SystemTime, PathBuf)> {
    let mut newest = None;
    for entry in fs::read_dir(dir).ok()?.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let Ok(kind) = entry.file_type() else { continue };
        let found = if is_leftover(&path) || OTHERS.contains(&name.as_str()) {
            None
        } else if kind.is_dir() {
            if depth == 0 { None } else { self::newest(&path, depth - 1) }
        } else {
            let source = path.extension().is_some_and(|end| SOURCES.iter().any(|source| end == *source));
            source
                .then(|| entry.metadata().and_then(|metadata| metadata.modified()).ok())
                .flatten()
                .map(|at| (at, path))
        };
        newest = newest.max(found);
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_older_than_a_source_is_told_and_what_builds_leave_behind_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, age: u64| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let file = fs::File::create(path).unwrap();
            file.set_modified(SystemTime::now() - std::time::Duration::from_secs(age)).unwrap();
        };
        assert!(Project::find(dir.path()).err().unwrap().0.contains("guillemet plugin build"));
        write("a.wasm", 50);
        write("src/lib.rs", 100);
        for other in [
            "template.toml",
            "target/x.rs",
            "node_modules/a/b.js",
            "cases/a.toml",
            ".git/a.toml",
            "README.md",
            "package-lock.json",
            "venv/pyvenv.cfg",
            "venv/a.py",
        ] {
            write(other, 10);
        }
        assert_eq!(Project::find(dir.path()).unwrap().outdated_warning(), None);
        write("src/deep/er.rs", 20);
        let message = Project::find(dir.path()).unwrap().outdated_warning().unwrap();
        assert!(message.starts_with("a.wasm is older than src/deep/er.rs;"), "{message}");
        write("b.wasm", 1);
        assert!(Project::find(dir.path()).err().unwrap().0.contains("a.wasm, b.wasm"));
    }
}
