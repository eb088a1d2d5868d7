//! Builds the plugins of the workspace `plugins` for wasm32-unknown-unknown and makes components of
//! them, which `src/plugin/builtin.rs` embeds.
//!
//! Invariants: the components are the same whoever builds them and from wherever (nothing of the
//! caller's wrappers, flags, profiles or paths reaches them), and they import `encode` and nothing else.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use wit_component::{ComponentEncoder, DecodedWasm};

const TARGET: &str = "wasm32-unknown-unknown";
const PLUGINS: [&str; 4] = ["cal-com", "sip-trunk", "mcp-server", "custom-action"];
const IMPORT: &str = "guillemet:feature/encode@1.0.0";
const EXPORT: &str = "guillemet:feature/plugin@1.0.0";

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
    let rustc = Rustc::ask(&workspace)?;
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

/// What the build needs to know of the compiler.
struct Rustc {
    /// Where the sources of the standard library are, when they are installed.
    sources: PathBuf,
    /// What their path is in a standard library built elsewhere.
    sources_name: String,
}

impl Rustc {
    fn ask(workspace: &Path) -> Result<Self, Box<dyn Error>> {
        let library = PathBuf::from(Self::answer(workspace, &["--print", "target-libdir", "--target", TARGET])?);
        if !library.is_dir() {
            return Err(format!(
                "this Rust toolchain has no standard library for {TARGET}.\n\
                 Install it with:\n\n    rustup target add {TARGET}\n"
            )
            .into());
        }
        let sysroot = PathBuf::from(Self::answer(workspace, &["--print", "sysroot"])?);
        let version = Self::answer(workspace, &["-vV"])?;
        let commit = version.lines().find_map(|line| line.strip_prefix("commit-hash: ")).unwrap_or("unknown");
        Ok(Self { sources: sysroot.join("lib/rustlib/src/rust"), sources_name: format!("/rustc/{commit}") })
    }

    fn answer(workspace: &Path, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
        let rustc = variable("RUSTC")?;
        let output = Command::new(&rustc).args(arguments).current_dir(workspace).output();
        let output = output.map_err(|error| format!("cannot run {}: {error}", rustc.display()))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{} {}: {words}", rustc.display(), arguments.join(" ")).into());
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
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
    for (name, _) in env::vars_os().filter(|(name, _)| leaks(&name.to_string_lossy())) {
        cargo.env_remove(name);
    }
    // Set even where there is nothing to remap: it keeps flags of the user's cargo configuration out.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", remapped(workspace, out, rustc)?);
    let status = cargo.status().map_err(|error| format!("cannot run cargo: {error}"))?;
    if !status.success() {
        return Err(format!("cargo ended with {status}; see its output above").into());
    }
    Ok(target_dir.join(TARGET).join("release"))
}

/// Whether a variable of the outer build would change the inner one. Under `cargo clippy`, for example,
/// the wrapper would lint the plugins instead of building them.
fn leaks(name: &str) -> bool {
    const NAMES: [&str; 7] = [
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_INCREMENTAL",
        "CLIPPY_ARGS",
        "CLIPPY_CONF_DIR",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTFLAGS",
    ];
    const PREFIXES: [&str; 3] = ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_"];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Compiler flags that give every folder of this machine a name of its own, as panics tell them.
fn remapped(workspace: &Path, out: &Path, rustc: &Rustc) -> Result<OsString, Box<dyn Error>> {
    let mut names = vec![(workspace.to_owned(), "/plugins".to_owned()), (out.to_owned(), "/out".to_owned())];
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    if let Some(home) = home.or_else(|| Some(env::home_dir()?.join(".cargo"))) {
        names.push((home.clone(), "/cargo".to_owned()));
        // Named after the registry that the dependencies came from, which may be a mirror.
        for registry in std::fs::read_dir(home.join("registry/src")).into_iter().flatten().flatten() {
            names.push((registry.path(), "/dependencies".to_owned()));
        }
    }
    names.push((rustc.sources.clone(), rustc.sources_name.clone()));
    let mut flags = OsString::new();
    for (index, (path, name)) in names.iter().enumerate() {
        flags.push(if index == 0 { "--remap-path-prefix=" } else { "\u{1f}--remap-path-prefix=" });
        flags.push(path);
        flags.push("=");
        flags.push(name);
    }
    Ok(flags)
}

/// Makes a component of a module and looks at what it asks of its host.
fn componentize(module: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let module = std::fs::read(module).map_err(|error| format!("{}: {error}", module.display()))?;
    let component = ComponentEncoder::default().validate(true).module(&module)?.encode()?;
    let DecodedWasm::Component(resolve, world) = wit_component::decode(&component)? else {
        return Err("what came out is not a component".into());
    };
    let world = &resolve.worlds[world];
    let imports: Vec<String> = world.imports.keys().map(|key| resolve.name_world_key(key)).collect();
    if let Some(import) = imports.iter().find(|import| *import != IMPORT) {
        return Err(format!("it imports {import}; a plugin may import {IMPORT} and nothing else").into());
    }
    if !world.exports.keys().any(|key| resolve.name_world_key(key) == EXPORT) {
        return Err(format!("it does not export {EXPORT}").into());
    }
    Ok(component)
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set; run this through cargo"))
}
