//! A project in C: whichever compiler for WebAssembly is there makes a module of it, and that is made a
//! component here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{is_program, local_program, missing, program, run, written};
use crate::cli::Failure;
use crate::cli::plugin::scaffold::Language;
use crate::cli::plugin::wasm;

/// Builds it.
///
/// # Errors
/// What is missing, or that the compiler has told what is wrong.
pub fn build(dir: &Path) -> Result<Vec<u8>, Failure> {
    let mut command = compiler(dir)
        .ok_or_else(|| missing("there is no C compiler for WebAssembly with a C library", dir, Language::C.setup()))?;
    let mut inputs = files(dir, "", "c");
    inputs.extend(files(dir, "bindings/", "c"));
    inputs.extend(files(dir, "bindings/", "o"));
    let module = written(dir, |file| {
        // The last flag leaves symbols and debugging information out.
        command.args(["-mexec-model=reactor", "-std=c23", "-Os", "-Wall", "-Wextra", "-s", "-o", file]);
        run(command.args(inputs), dir)
    })?;
    wasm::componentize(&module).map_err(|error| {
        let help = match error.contains("wasi_snapshot_preview1") {
            true => "; a plugin has no WASI: leave out `printf`, `assert`, `exit`, files and time",
            false => "",
        };
        Failure::new(format!("no component can be made of the module: {error}{help}"))
    })
}

/// The files of a folder that end in this, by their path in the project.
fn files(dir: &Path, folder: &str, end: &str) -> Vec<String> {
    let entries = fs::read_dir(dir.join(folder)).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let fits = |name: &String| !name.starts_with('.') && name.strip_suffix(end).is_some_and(|name| name.ends_with('.'));
    let mut files: Vec<String> = names.filter(fits).map(|name| format!("{folder}{name}")).collect();
    files.sort();
    files
}

/// The compiler there is, told what it compiles for: that of the project's own environment, Zig, the WASI SDK, or a
/// clang that has a C library for WASI (Debian's `wasi-libc`).
fn compiler(dir: &Path) -> Option<Command> {
    let zig = |program: PathBuf, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).args(["cc", "-target", "wasm32-wasi"]);
        command
    };
    let clang = |program: PathBuf| {
        let mut command = Command::new(program);
        command.arg("--target=wasm32-wasi");
        command
    };
    let has_zig = |python: &PathBuf| {
        let mut command = Command::new(python);
        command.args(["-c", "import ziglang"]).stdin(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if let Some(python) = local_program(dir, "python3").filter(has_zig) {
        return Some(zig(python, &["-m", "ziglang"]));
    }
    if let Some(program) = program("zig") {
        return Some(zig(program, &[]));
    }
    let sdk = std::env::var_os("WASI_SDK_PATH").map(|sdk| PathBuf::from(sdk).join("bin/clang"));
    if let Some(program) = sdk.filter(|clang| is_program(clang)) {
        return Some(clang(program));
    }
    let has_library = Path::new("/usr/include/wasm32-wasi").is_dir() && program("wasm-ld").is_some();
    program("clang").filter(|_| has_library).map(clang)
}
