//! Builds a project in C: any installed compiler for WebAssembly makes a module, which becomes a component here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{local_program, missing, program, run, written};
use crate::cli::Failure;
use crate::cli::plugin::scaffold::Language;
use guillemet_builtin::wasm;

/// Builds the component of a project in C.
///
/// # Errors
/// When a tool is missing, or the compiler fails after printing its reasons.
pub fn build(dir: &Path) -> Result<Vec<u8>, Failure> {
    let mut command = compiler(dir)
        .ok_or_else(|| missing("there is no C compiler for WebAssembly with a C library", dir, Language::C.setup()))?;
    let mut inputs = files(dir, "", "c");
    inputs.extend(files(dir, "bindings/", "c"));
    inputs.extend(files(dir, "bindings/", "o"));
    let module = written(dir, |file| {
        // The `-s` flag strips symbols and debugging information.
        command.args(["-mexec-model=reactor", "-std=c23", "-Os", "-Wall", "-Wextra", "-s", "-o", file]);
        run(command.args(inputs), dir)
    })?;
    wasm::componentize(&module).map_err(|error| {
        let help = match error.contains("wasi_snapshot_preview1") {
            true => "; a plugin has no WASI: do not use `printf`, `assert`, `exit`, files or time",
            false => "",
        };
        Failure::new(format!("the module cannot be turned into a component: {error}{help}"))
    })
}

/// Returns the paths of a folder's files with the extension `end`, relative to the project and sorted.
fn files(dir: &Path, folder: &str, end: &str) -> Vec<String> {
    let entries = fs::read_dir(dir.join(folder)).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let fits = |name: &String| !name.starts_with('.') && name.strip_suffix(end).is_some_and(|name| name.ends_with('.'));
    let mut files: Vec<String> = names.filter(fits).map(|name| format!("{folder}{name}")).collect();
    files.sort();
    files
}

/// Returns the first compiler that is found, with its target set: Zig in the project's own environment, Zig in `PATH`,
/// the WASI SDK, or a clang with a C library for WASI (on Debian: clang-19, lld-19, wasi-libc).
fn compiler(dir: &Path) -> Option<Command> {
    let zig = |program: PathBuf, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).args(["cc", "-target", "wasm32-wasi"]);
        command
    };
    if let Some(python) =
        local_program(dir, "python3").filter(|python| output_of(python, &["-c", "import ziglang"]).is_some())
    {
        return Some(zig(python, &["-m", "ziglang"]));
    }
    if let Some(program) = program("zig") {
        return Some(zig(program, &[]));
    }
    let sdk = std::env::var_os("WASI_SDK_PATH").map(|sdk| PathBuf::from(sdk).join("bin/clang"));
    let installed = ["clang", "clang-21", "clang-20", "clang-19"].into_iter().filter_map(program);
    let installed = installed.filter(|_| Path::new("/usr/include/wasm32-wasi").is_dir());
    let clang = sdk.into_iter().chain(installed).find(|clang| is_recent(clang))?;
    let mut command = Command::new(clang);
    command.arg("--target=wasm32-wasi");
    Some(command)
}

/// Reports whether a clang is recent enough for `#embed`, which puts schema.json into the plugin.
fn is_recent(clang: &Path) -> bool {
    let version = output_of(clang, &["-dumpversion"]);
    version.and_then(|version| version.split('.').next()?.trim().parse().ok()).is_some_and(|major: u32| major >= 19)
}

/// Returns the output of a program, or `None` if it fails or cannot be run.
fn output_of(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
