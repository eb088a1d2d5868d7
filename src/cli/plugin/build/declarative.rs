//! Builds a project without code: reads plugin.toml, checks it, and writes the definition into the component that
//! carries it out.
//!
//! The result is a component like any other, so `test`, `check`, `add` and the daemon know nothing of this.

mod documents;
mod fields;
mod section;
mod targets;

#[path = "../../../../plugins/declarative/src/definition.rs"]
mod definition;

use std::fs;
use std::path::Path;

use guillemet_base::files;
use guillemet_base::problem::Problem;
use guillemet_builtin::declarative;

use self::definition::{CAPACITY, Definition};
use self::section::Reader;
use crate::cli::Failure;

/// The file of the project.
pub const FILE: &str = "plugin.toml";
/// The largest plugin.toml, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// The file that gets the schema of a config, for editors.
pub const SCHEMA: &str = "schema.json";

/// What plugin.toml says for `plugin pack` alone.
pub const FACTS: [&str; 3] = ["author", "license", "homepage"];

/// Builds the component of a project, and writes the schema of its configs beside it.
///
/// # Errors
/// With everything that is wrong with plugin.toml.
pub fn build(dir: &Path) -> Result<Vec<u8>, Failure> {
    let path = dir.join(FILE);
    let text = files::read_text(&path, FILE_MAX)
        .map_err(|error| Failure::new(format!("{} cannot be read: {error}", path.display())))?;
    let definition = read(&text).map_err(|problems| failure(&path, problems))?;
    let json = serde_json::to_vec(&definition).map_err(|error| Failure::new(error.to_string()))?;
    let component = declarative::component(&json, CAPACITY)
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    let schema = dir.join(SCHEMA);
    // Only what differs is written, so that `plugin dev` sees no change.
    if fs::read(&schema).ok().as_deref() != Some(definition.schema.as_bytes()) {
        files::replace_ordinary(&schema, definition.schema.as_bytes())
            .map_err(|error| Failure::new(format!("{} cannot be written: {error}", schema.display())))?;
    }
    Ok(component)
}

/// Reads the text of plugin.toml.
///
/// # Errors
/// With everything that is wrong with it.
fn read(text: &str) -> Result<Definition, Vec<Problem>> {
    let reader = Reader::new(text)?;
    let definition = {
        let root = reader.root();
        let feature = root.required_text("feature").unwrap_or_default().to_owned();
        let title = root.required_text("title").unwrap_or_default().to_owned();
        let version = root.required_text("version").unwrap_or_default().to_owned();
        for fact in FACTS {
            root.text(fact);
        }
        let fields = fields::read_all(&root);
        let escapes = targets::escapes(&root);
        let targets = targets::read(&root, &fields, &escapes);
        Definition {
            schema: fields::schema(&root, &title, &fields),
            secret_fields: fields::secret_paths(&fields),
            fields: fields.into_iter().map(|field| field.field).collect(),
            feature,
            title,
            version,
            targets,
            escapes,
        }
    };
    let problems = reader.into_problems();
    if problems.is_empty() { Ok(definition) } else { Err(problems) }
}

fn failure(path: &Path, mut problems: Vec<Problem>) -> Failure {
    problems.sort_by_key(|problem| (problem.line.unwrap_or(u32::MAX), problem.column));
    problems.dedup();
    let entry = |problem: &Problem| {
        let help = problem.help.as_ref().map_or_else(String::new, |help| format!("\n    help: {help}"));
        format!("\n  {}{help}", problem.located(path))
    };
    let entries: String = problems.iter().map(entry).collect();
    Failure::new(format!("the plugin was not built; plugin.toml needs changes:{entries}"))
}

#[cfg(test)]
mod tests;
