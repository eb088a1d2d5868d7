//! Builds the plugins of the workspace `plugins` for wasm32-unknown-unknown and makes components of
//! them, which `src/plugin/builtin.rs` embeds; and lists what `plugin new` makes projects of, which
//! `src/cli/plugin/scaffold.rs` embeds.
//!
//! Invariants: the components are the same whoever builds them and from wherever (nothing of the
//! caller's wrappers, flags, profiles or paths reaches them), and they import `encode` and nothing else.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

use self::wasm::{Rustc, TARGET};

#[path = "src/cli/plugin/wasm.rs"]
mod wasm;

const PLUGINS: [&str; 4] = ["cal-com", "sip-trunk", "mcp-server", "custom-action"];

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
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(variable("OUT_DIR")?);
    let workspace = root.join("plugins");
    watch(&root, &workspace);
    embed(&root, &out)?;
    let rustc = Rustc::ask(Path::new(&variable("RUSTC")?), &workspace)?;
    let modules = compile(&workspace, &out, &rustc)?;
    for plugin in PLUGINS {
        let module = modules.join(plugin.replace('-', "_")).with_extension("wasm");
        let component = componentize(&module).map_err(|error| format!("{plugin}: {error}"))?;
        std::fs::write(out.join(plugin).with_extension("wasm"), component)?;
    }
    Ok(())
}

/// Names what a component is made of, and not what a build of it leaves behind.
fn watch(root: &Path, workspace: &Path) {
    let watch = |path: PathBuf| println!("cargo::rerun-if-changed={}", path.display());
    watch(root.join("build.rs"));
    watch(root.join("src/cli/plugin/wasm.rs"));
    watch(root.join("plugins/scaffolds"));
    watch(root.join("wit"));
    watch(workspace.join("Cargo.toml"));
    watch(workspace.join("Cargo.lock"));
    watch(workspace.join("guillemet-plugin/Cargo.toml"));
    watch(workspace.join("guillemet-plugin/src"));
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
    wasm::clean(&mut cargo, &[]);
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

/// Writes `embedded.rs`: the files of the projects that `plugin new` makes, by folder, each with its path there.
fn embed(root: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    bind(root, &out.join("bindings"))?;
    // The author crate names `../../wit`, so it stands as deep in a project as it does here.
    let folders = [
        ("COMMON", vec![(root.join("plugins/scaffolds/common"), ""), (root.join("wit"), "wit/")]),
        (
            "RUST",
            vec![
                (root.join("plugins/scaffolds/rust"), ""),
                (root.join("plugins/guillemet-plugin"), "vendor/guillemet-plugin/"),
            ],
        ),
        ("C", vec![(root.join("plugins/scaffolds/c"), ""), (out.join("bindings"), "bindings/")]),
        ("JS", vec![(root.join("plugins/scaffolds/js"), "")]),
        ("PYTHON", vec![(root.join("plugins/scaffolds/python"), "")]),
    ];
    let mut text = String::new();
    for (name, sources) in folders {
        writeln!(text, "pub const {name}: &[(&str, &[u8])] = &[")?;
        for (folder, prefix) in sources {
            let mut files = Vec::new();
            walk(&folder, String::new(), &mut files)?;
            files.sort();
            for file in files {
                let source = folder.join(&file);
                writeln!(text, "    ({:?}, include_bytes!({:?})),", format!("{prefix}{file}"), source.display())?;
            }
        }
        writeln!(text, "];")?;
    }
    Ok(std::fs::write(out.join("embedded.rs"), text)?)
}

/// The files of a folder, by their path in it, without what a build of it leaves behind.
fn walk(folder: &Path, prefix: String, files: &mut Vec<String>) -> Result<(), Box<dyn Error>> {
    for entry in std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "target" || (name.starts_with('.') && name != ".gitignore") {
            continue;
        }
        let path = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), format!("{path}/"), files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// Writes what a plugin in C is compiled with: the contract as C, and as an object that marks the module.
fn bind(root: &Path, folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(root.join("wit"))?;
    let world = resolve.select_world(&[package], Some("feature"))?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default().build().generate(&mut resolve, world, &mut files)?;
    std::fs::create_dir_all(folder)?;
    for (name, content) in files.iter() {
        std::fs::write(folder.join(name), content)?;
    }
    Ok(())
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set; run this through cargo"))
}
