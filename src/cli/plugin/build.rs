//! `plugin build`: builds a plugin's project and writes the component into its folder.
//!
//! Detects the language and runs its tools, whose output goes to standard error. Runs none of the plugin's code.

mod c;
pub mod declarative;
mod rust;
mod scripts;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use std::{fs, io};

use clap::Args;

use super::check::bytes;
use super::scaffold::Language;
use crate::cli::{Done, Failure, output};
use guillemet_base::files;
use guillemet_builtin::wasm;

/// The subfolder of the project where tools write intermediate files.
const INTERMEDIATE: &str = "build";

#[derive(Args)]
pub struct PluginBuildArgs {
    /// The project's folder.
    #[arg(default_value = ".")]
    dir: PathBuf,
}

impl PluginBuildArgs {
    pub fn run(self) -> Done {
        let started = Instant::now();
        let (name, size) = build(&self.dir)?;
        let seconds = started.elapsed().as_secs_f64();
        output::note(&format!("built {name}: {} in {seconds:.1} s", bytes(size as u64)));
        Ok(())
    }
}

/// Builds the project in a folder. Returns the component's file name and its size in bytes.
fn build(dir: &Path) -> Result<(String, usize), Failure> {
    let language = language(dir)?;
    let component = match language {
        Language::Rust => rust::build(dir)?,
        Language::C => c::build(dir)?,
        Language::JavaScript => scripts::javascript(dir)?,
        Language::Python => scripts::python(dir)?,
        Language::Toml => declarative::build(dir)?,
    };
    wasm::check(&component).map_err(|error| Failure::new(format!("the build produced no plugin: {error}")))?;
    let name = format!("{}.wasm", folder_name(dir)?);
    let path = dir.join(&name);
    let size = component.len();
    files::replace_ordinary(&path, &component)
        .map_err(|error| Failure::new(format!("{} cannot be written: {error}", path.display())))?;
    Ok((name, size))
}

/// Detects the language of a project by files that only one of the languages has.
///
/// # Errors
/// When none of these files exists.
pub fn language(dir: &Path) -> Result<Language, Failure> {
    const SIGNS: [(&str, Language); 5] = [
        ("Cargo.toml", Language::Rust),
        ("package.json", Language::JavaScript),
        ("plugin.py", Language::Python),
        ("plugin.c", Language::C),
        (declarative::FILE, Language::Toml),
    ];
    SIGNS.iter().find(|(file, _)| dir.join(file).is_file()).map(|(_, language)| *language).ok_or_else(|| {
        let files = SIGNS.map(|(file, _)| file).join(", ");
        Failure::new(format!(
            "there is no plugin project at {}: it contains none of {files}. Create one with:\n\n    guillemet plugin \
             new NAME\n",
            dir.display()
        ))
    })
}

/// Returns the files of a project that a build writes beside the component, so that nobody takes them for sources.
pub fn by_products(dir: &Path) -> &'static [&'static str] {
    if language(dir).is_ok_and(|language| language == Language::Toml) { &[declarative::SCHEMA] } else { &[] }
}

fn folder_name(dir: &Path) -> io::Result<String> {
    let dir = fs::canonicalize(dir)?;
    Ok(dir.file_name().map_or_else(|| "plugin".into(), |name| name.to_string_lossy().into_owned()))
}

/// Finds an executable file in `PATH`.
fn program(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Finds an executable in the project's own Python environment, or else in `PATH`. Its path stays valid when the
/// current folder changes.
fn local_program(dir: &Path, name: &str) -> Option<PathBuf> {
    let path = std::path::absolute(dir.join(".venv/bin").join(name)).ok()?;
    if is_program(&path) { Some(path) } else { program(name) }
}

/// Returns the failure for a missing tool, with the command that installs it.
fn missing(problem: &str, dir: &Path, line: &str) -> Failure {
    let is_current_dir = dir == Path::new(".") || dir == Path::new("");
    let cd = if is_current_dir { String::new() } else { format!("cd {} && ", dir.display()) };
    Failure::new(format!("{problem}. Install it with:\n\n    {cd}{line}\n"))
}

/// Returns the failure for a missing tool that no single command installs on every system.
fn absent(program: &str, from: &str) -> Failure {
    Failure::new(format!("{program} is not installed, or not in PATH. Get it from {from}"))
}

/// Runs a tool in the project's folder, with its output on standard error.
fn run(command: &mut Command, dir: &Path) -> Done {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.current_dir(dir).stdin(Stdio::null()).stdout(io::stderr()).status();
    let status = status.map_err(|error| Failure::new(format!("cannot run {name}: {error}")))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("the plugin was not built: {name} ended with {status}")))
    }
}

/// Makes a tool write a file, and reads the file. `tool` gets the path relative to the project's folder.
fn written(dir: &Path, tool: impl FnOnce(&str) -> Done) -> Result<Vec<u8>, Failure> {
    let unusable = |error| Failure::new(format!("{} cannot be used: {error}", dir.join(INTERMEDIATE).display()));
    fs::create_dir_all(dir.join(INTERMEDIATE)).map_err(unusable)?;
    let file = format!("{INTERMEDIATE}/plugin.wasm");
    match fs::remove_file(dir.join(&file)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(error)),
        _ => {}
    }
    tool(&file)?;
    fs::read(dir.join(&file)).map_err(|error| Failure::new(format!("{file} was not written: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_told_by_its_file_and_none_by_what_there_is() {
        let dir = tempfile::tempdir().unwrap();
        assert!(language(dir.path()).unwrap_err().0.contains("guillemet plugin new NAME"));
        fs::write(dir.path().join("plugin.c"), "").unwrap();
        assert_eq!(language(dir.path()).unwrap(), Language::C);
        fs::write(dir.path().join("Cargo.toml"), "").unwrap();
        assert_eq!(language(dir.path()).unwrap(), Language::Rust);
    }

    #[test]
    fn a_missing_tool_is_named_with_the_line_that_installs_it() {
        let message = missing("x is not there", Path::new("hook"), "npm install").0;
        assert_eq!(message, "x is not there. Install it with:\n\n    cd hook && npm install\n");
        assert!(missing("x", Path::new("."), "npm install").0.ends_with("\n\n    npm install\n"));
    }
}
