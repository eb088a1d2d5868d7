//! Makes a component from a compiler's module, and checks what it imports and exports.
//!
//! This crate's `build.rs` includes this file, so it must use nothing else of the crate.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use wit_component::{ComponentEncoder, DecodedWasm};

/// The Rust target that plugins are built for.
pub const TARGET: &str = "wasm32-unknown-unknown";
/// The only import that a plugin may have, and the export it must have, without the rest of the version.
const IMPORT: &str = "guillemet:feature/encode@1.";
const EXPORT: &str = "guillemet:feature/plugin@1.";

/// Facts about the Rust compiler that the build needs.
pub struct Rustc {
    /// The folder with the sources of the standard library, if they are installed.
    sources: PathBuf,
    /// The path of these sources inside a standard library that was built elsewhere.
    sources_name: String,
}

impl Rustc {
    /// Asks the compiler `rustc` about itself, run in the folder `dir`.
    ///
    /// # Errors
    /// When it cannot be run, or cannot build for WebAssembly. The message says what to install.
    pub fn detect(rustc: &Path, dir: &Path) -> Result<Self, String> {
        let library = PathBuf::from(output_of(rustc, dir, &["--print", "target-libdir", "--target", TARGET])?);
        if !library.is_dir() {
            return Err(format!(
                "this Rust toolchain has no standard library for {TARGET}.\n\
                 Install it with:\n\n    rustup target add {TARGET}\n"
            ));
        }
        let sysroot = PathBuf::from(output_of(rustc, dir, &["--print", "sysroot"])?);
        let version = output_of(rustc, dir, &["-vV"])?;
        let commit = version.lines().find_map(|line| line.strip_prefix("commit-hash: ")).unwrap_or("unknown");
        Ok(Self { sources: sysroot.join("lib/rustlib/src/rust"), sources_name: format!("/rustc/{commit}") })
    }

    /// Returns compiler flags that replace the paths of this machine by fixed names, in panic messages for instance.
    /// `names` are further folders and their names. Set them as `CARGO_ENCODED_RUSTFLAGS` even if there is nothing to
    /// replace, because that keeps out flags from the user's cargo configuration.
    pub fn flags(&self, mut names: Vec<(PathBuf, String)>) -> OsString {
        let home = env::var_os("CARGO_HOME").map(PathBuf::from);
        if let Some(home) = home.or_else(|| Some(env::home_dir()?.join(".cargo"))) {
            names.push((home.clone(), "/cargo".to_owned()));
            // Each folder here is named after the registry that the dependencies came from, which may be a mirror.
            for registry in std::fs::read_dir(home.join("registry/src")).into_iter().flatten().flatten() {
                names.push((registry.path(), "/dependencies".to_owned()));
            }
        }
        names.push((self.sources.clone(), self.sources_name.clone()));
        let mut flags = OsString::new();
        for (index, (path, name)) in names.iter().enumerate() {
            flags.push(if index == 0 { "--remap-path-prefix=" } else { "\u{1f}--remap-path-prefix=" });
            flags.push(path);
            flags.push("=");
            flags.push(name);
        }
        flags
    }
}

fn output_of(rustc: &Path, dir: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(rustc).args(arguments).current_dir(dir).output();
    let output = output.map_err(|error| format!("cannot run {}: {error}", rustc.display()))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} {}: {words}", rustc.display(), arguments.join(" ")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Removes the variables from cargo's environment that would make a different component of the same sources. Under
/// `cargo clippy`, for example, the wrapper would lint the plugins instead of building them. Variables in `allowed`
/// stay.
pub fn clean_environment(cargo: &mut Command, allowed: &[&str]) {
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
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let leaks = NAMES.contains(&&*text) || PREFIXES.iter().any(|prefix| text.starts_with(prefix));
        if leaks && !allowed.contains(&&*text) {
            cargo.env_remove(&name);
        }
    }
}

/// Makes a component of a core module that contains its contract, as the bindings of wit-bindgen leave it.
///
/// # Errors
/// When the module asks its host for something that the contract does not have.
pub fn componentize(module: &[u8]) -> Result<Vec<u8>, String> {
    let encoder = ComponentEncoder::default();
    let encoded = encoder.validate(true).module(module).and_then(|mut encoder| encoder.encode());
    encoded.map_err(|error| format!("{error:#}"))
}

/// Checks the imports and exports of a component against the contract.
///
/// # Errors
/// With the rule of the contract that the component breaks.
pub fn check(component: &[u8]) -> Result<(), String> {
    let decoded = wit_component::decode(component).map_err(|error| format!("{error:#}"))?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        return Err("the result is not a component".into());
    };
    let world = &resolve.worlds[world];
    let imports = world.imports.keys().map(|key| resolve.name_world_key(key));
    let foreign: Vec<String> = imports.filter(|import| !import.starts_with(IMPORT)).collect();
    if !foreign.is_empty() {
        return Err(format!("it imports {}, but a plugin can only import {IMPORT}0.0", foreign.join(", ")));
    }
    if !world.exports.keys().any(|key| resolve.name_world_key(key).starts_with(EXPORT)) {
        return Err(format!("it does not export {EXPORT}0.0"));
    }
    Ok(())
}
