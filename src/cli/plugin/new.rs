//! `plugin new`: makes a project that builds, passes its first case, and needs nothing from this repository.

use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::Args;

use super::scaffold::fields::Sketch;
use super::scaffold::{self, Language};
use crate::cli::adopt::sample::Sample;
use crate::cli::adopt::{self, file};
use crate::cli::{Done, Failure, output};
use guillemet_base::display::is_unprintable;
use guillemet_base::files::temporary_name;
use guillemet_builtin as builtin;
use guillemet_plan::description::{id_rule, is_id};
use guillemet_template::Format;

#[derive(Args)]
pub struct PluginNewArgs {
    /// The plugin's feature, and the name of the project folder.
    name: String,
    /// The name of the feature for people [default: made of NAME].
    #[arg(long)]
    title: Option<String>,
    /// The language of the plugin.
    #[arg(long, value_enum, default_value = "rust")]
    lang: Language,
    /// An example config in TOML, JSON, JSONC or YAML: the plugin gets its fields. Placeholders and what looks like a
    /// credential become secrets, whose values are written nowhere.
    #[arg(long, value_name = "SAMPLE")]
    from: Option<PathBuf>,
}

impl PluginNewArgs {
    pub fn run(self) -> Done {
        let Self { name, title, lang, from } = self;
        if !is_id(&name) {
            return Err(Failure::new(format!("{}; `{name}` is not", id_rule("name of a feature"))));
        }
        let title = title.unwrap_or_else(|| scaffold::title(&name));
        if !is_title(&title) {
            return Err(Failure::new(format!(
                "a title is 1 to {TITLE_MAX} printable characters, without quotes, `\\`, `@`, `*` and braces; choose another --title"
            )));
        }
        let folder = PathBuf::from(&name);
        if fs::symlink_metadata(&folder).is_ok_and(|metadata| !metadata.is_dir()) || !is_empty(&folder)? {
            return Err(Failure::new(format!(
                "`{name}` already exists; nothing was changed. Choose another name, or move it away"
            )));
        }
        let files = match &from {
            None => scaffold::project(lang, &name, &title),
            Some(from) => scaffold::project_from(lang, &name, &title, &sketch(from, &name)?),
        };
        make(&folder, &files)
            .map_err(|error| Failure::new(format!("cannot create the project at `{name}`: {error}")))?;
        output::note(&format!("created {name}: a plugin in {} for the feature `{name}`", lang.name()));
        if builtin::ALL.iter().any(|builtin| builtin.feature == name) {
            output::note(&format!(
                "`{name}` is a built-in feature: if you add this plugin, it replaces the built-in one"
            ));
        }
        let (set_up, dev) = (lang.setup(), "guillemet plugin dev");
        let steps =
            [format!("cd {name}"), set_up.into(), "guillemet plugin build".into(), "guillemet plugin test".into()];
        let steps: String = steps.iter().filter(|step| !step.is_empty()).map(|step| format!("\n  {step}")).collect();
        output::note(&format!("\nNext:{steps}\n\n`{dev}` does both on every save. README.md describes the files."));
        Ok(())
    }
}

/// Reads a sample, and says what is secret in it.
fn sketch(from: &Path, name: &str) -> Result<Sketch, Failure> {
    let Some(format) = from.extension().and_then(|end| Format::from_extension(&end.to_string_lossy())) else {
        let ends = Format::EXTENSIONS.map(|end| format!(".{end}")).join(", ");
        return Err(Failure::new(format!("{} has no extension of a config: use one of {ends}", from.display())));
    };
    adopt::guard()?;
    let sample = Sample::read(&file::read(from)?, format, name)?;
    let notes = sample.notes.clone();
    let rows = sample
        .findings
        .values()
        .flatten()
        .map(|finding| vec![finding.field.clone(), finding.name.to_string(), finding.reason.to_owned()]);
    let rows: Vec<_> = rows.collect();
    let sketch = Sketch::new(sample)?;
    if !rows.is_empty() {
        output::table(&["Field", "Secret", "Why"], rows);
        output::line("");
    }
    notes.iter().for_each(|note| output::note(note));
    Ok(sketch)
}

/// The most characters of a title.
const TITLE_MAX: usize = 100;

/// Reports whether a title can be in a string and in a comment of every language as it is.
fn is_title(title: &str) -> bool {
    let is_unfit = |c: char| is_unprintable(c) || matches!(c, '"' | '\'' | '`' | '\\' | '@' | '{' | '}' | '*');
    (1..=TITLE_MAX).contains(&title.chars().count()) && title.trim() == title && !title.contains(is_unfit)
}

/// Reports whether a folder is empty or missing, so that nothing is lost if something is put in its place.
fn is_empty(folder: &Path) -> io::Result<bool> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Makes the folder with its files, whole or not at all: first under a hidden name beside its place.
fn make(folder: &Path, files: &[(String, Vec<u8>)]) -> io::Result<()> {
    // `create_dir` fails if the folder exists, so this one was made here.
    let new = folder.with_file_name(temporary_name(folder.file_name().unwrap_or_default()));
    fs::create_dir(&new)?;
    let written = files.iter().try_for_each(|(path, content)| {
        let path = new.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&new))?;
        fs::write(path, content)
    });
    // The rename replaces an empty folder, and nothing else.
    written.and_then(|()| fs::rename(&new, folder)).inspect_err(|_| {
        let _ = fs::remove_dir_all(&new);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_made_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("hook");
        let files = scaffold::project(Language::Rust, "hook", "Hook");
        fs::create_dir(&folder).unwrap();
        make(&folder, &files).unwrap();
        assert!(folder.join("vendor/guillemet-plugin/src/lib.rs").is_file());
        assert!(make(&folder, &[("other".into(), Vec::new())]).is_err(), "what is there is not replaced");
        assert!(!folder.join("other").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");
    }
}
