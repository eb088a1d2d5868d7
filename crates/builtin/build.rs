//! Builds the plugins of the workspace `plugins` for wasm32-unknown-unknown and makes components of them, which
//! `src/lib.rs` embeds, and copies the module of declarative plugins.
//!
//! Invariants: the components are the same whoever builds them and from wherever (nothing of the
//! caller's wrappers, flags, profiles or paths reaches them), and they import `encode` and nothing else.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use self::wasm::{Rustc, TARGET};

#[path = "src/wasm.rs"]
mod wasm;

const PLUGINS: [&str; 4] = ["cal-com", "sip-trunk", "mcp-server", "custom-action"];
/// What carries out every declarative plugin. It stays a module, because a definition is written into it.
const DECLARATIVE: &str = "declarative";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: cannot build the built-in plugins: {error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), Box<dyn Error>> {
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = package.join("../..").canonicalize()?;
    let out = PathBuf::from(variable("OUT_DIR")?);
    let workspace = root.join("plugins");
    watch(&package, &root, &workspace);
    let rustc = Rustc::detect(Path::new(&variable("RUSTC")?), &workspace)?;
    let modules = compile(&workspace, &out, &rustc)?;
    for plugin in PLUGINS {
        let module = modules.join(plugin.replace('-', "_")).with_extension("wasm");
        let component = componentize(&module).map_err(|error| format!("{plugin}: {error}"))?;
        std::fs::write(out.join(plugin).with_extension("wasm"), component)?;
    }
    let module = Path::new(DECLARATIVE).with_extension("wasm");
    std::fs::copy(modules.join(&module), out.join(&module))?;
    Ok(())
}

/// Names what a component is made of, and not what a build of it leaves behind.
fn watch(package: &Path, root: &Path, workspace: &Path) {
    let watch = |path: PathBuf| println!("cargo::rerun-if-changed={}", path.display());
    watch(package.join("build.rs"));
    watch(package.join("src/wasm.rs"));
    watch(root.join("wit"));
    watch(workspace.join("Cargo.toml"));
    watch(workspace.join("Cargo.lock"));
    watch(workspace.join("guillemet-plugin/Cargo.toml"));
    watch(workspace.join("guillemet-plugin/src"));
    for part in ["Cargo.toml", "src"] {
        watch(workspace.join(DECLARATIVE).join(part));
    }
    for plugin in PLUGINS {
        for part in ["Cargo.toml", "schema.json", "src"] {
            watch(workspace.join(plugin).join(part));
        }
    }
}

/// Runs cargo on the workspace; gives the folder of the modules. What cargo has to say goes to stderr,
/// which is shown when this program fails.
fn compile(workspace: &Path, out: &Path, rustc: &Rustc) -> Result<PathBuf, Box<dyn Error>> {
    let target_dir = out.join("plugins");
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .args(["build", "--release", "--locked", "--target", TARGET])
        .arg("--manifest-path")
        .arg(workspace.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target_dir)
        .current_dir(workspace);
    wasm::clean_environment(&mut cargo, &[]);
    let names = vec![(workspace.to_owned(), "/plugins".to_owned()), (out.to_owned(), "/out".to_owned())];
    cargo.env("CARGO_ENCODED_RUSTFLAGS", rustc.flags(names));
    let status = cargo.status().map_err(|error| format!("cannot run cargo: {error}"))?;
    if !status.success() {
        return Err(format!("cargo ended with {status}; see its output above").into());
    }
    Ok(target_dir.join(TARGET).join("release"))
}

/// Makes a component of a module and looks at what it asks of its host.
fn componentize(module: &Path) -> Result<Vec<u8>, String> {
    let module = std::fs::read(module).map_err(|error| format!("{}: {error}", module.display()))?;
    let component = wasm::componentize(&module)?;
    wasm::check(&component)?;
    Ok(component)
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set; run this through cargo"))
}
