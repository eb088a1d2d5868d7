//! Builds projects in JavaScript and Python, whose own tools put an interpreter into the component.

use std::path::Path;
use std::process::Command;

use super::{absent, local_program, missing, program, run, written};
use crate::cli::Failure;
use crate::cli::plugin::scaffold::Language;

/// Runs the project's `build.mjs`, which makes the component.
///
/// # Errors
/// When a tool or a file is missing, or the tool fails after printing its reasons.
pub fn javascript(dir: &Path) -> Result<Vec<u8>, Failure> {
    let node = program("node").ok_or_else(|| absent("Node.js, version 18 or newer", "https://nodejs.org"))?;
    if !dir.join("node_modules").is_dir() {
        return Err(missing("the packages in package.json are not installed", dir, Language::JavaScript.setup()));
    }
    if !dir.join("build.mjs").is_file() {
        return Err(Failure::new(
            "build.mjs is missing: a script that writes the component to the file it is given. `guillemet plugin new \
             NAME --lang js` creates one",
        ));
    }
    written(dir, |file| run(Command::new(node).args(["build.mjs", file]), dir))
}

/// Runs componentize-py, which makes a component of `plugin.py`. Two builds differ: the tool gives the interpreter
/// random numbers, the time and folders of this machine, saves its memory, and has no option to replace them
/// (bytecodealliance/componentize-py#247).
///
/// # Errors
/// As [`javascript`].
pub fn python(dir: &Path) -> Result<Vec<u8>, Failure> {
    let tool = local_program(dir, "componentize-py")
        .ok_or_else(|| missing("componentize-py is not installed", dir, Language::Python.setup()))?;
    written(dir, |file| {
        let mut command = Command::new(tool);
        command.args(["--quiet", "--wit-path", "wit", "--world", "feature", "componentize"]);
        command.args(["--stub-wasi", "--python-path", ".", "plugin", "--output", file]);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        let environment = std::path::absolute(dir.join(".venv"))?;
        if environment.is_dir() {
            // componentize-py looks there for the modules that plugin.py imports.
            command.env("VIRTUAL_ENV", environment);
        }
        run(&mut command, dir)
    })
}
