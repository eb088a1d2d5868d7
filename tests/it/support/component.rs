//! Builds the plugins of `tests/plugins`, once per run of a test program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use guillemet_builtin::wasm;

/// Returns the component `hostile`, which does what its target says.
pub fn hostile() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| componentize(&module("hostile")))
}

/// Returns the component `hostile` in another mode (`tests/plugins/hostile/src/mode.rs`).
pub fn hostile_in(mode: &str) -> Vec<u8> {
    const MARK: &[u8] = b"hostile-mode:";
    let mut component = hostile().to_vec();
    let at =
        component.windows(MARK.len()).position(|window| window == MARK).expect("the mark of its mode") + MARK.len();
    component[at..at + mode.len()].copy_from_slice(mode.as_bytes());
    component
}

/// Returns the component `pager`, written as by an outside author.
pub fn pager() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| componentize(&module("pager")))
}

/// Returns another version of `pager` (`tests/plugins/pager-next/src/lib.rs`), as its author might release it.
pub fn pager_next(mode: &str) -> Vec<u8> {
    const MARK: &[u8] = b"pager-mode:";
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    let mut component = COMPONENT.get_or_init(|| componentize(&module("pager-next"))).clone();
    let at =
        component.windows(MARK.len()).position(|window| window == MARK).expect("the mark of its mode") + MARK.len();
    component[at..at + mode.len()].copy_from_slice(mode.as_bytes());
    component
}

/// Builds the core module of a plugin in `tests/plugins`.
pub fn module(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = root.join("target/test-plugins");
    let mut cargo = Command::new(std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from));
    cargo
        .args(["build", "--locked", "--release", "--quiet", "--target", "wasm32-unknown-unknown", "--package", name])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(root.join("tests/plugins"));
    // Flags and wrappers of the outer build are meant for another target, or would lint these crates.
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CLIPPY_ARGS"]
    {
        cargo.env_remove(variable);
    }
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "the plugin {name} does not build; is the target wasm32-unknown-unknown installed?");
    let file = target.join(format!("wasm32-unknown-unknown/release/{}.wasm", name.replace('-', "_")));
    std::fs::read(file).expect("the module has been built")
}

/// Makes a component from a core module that carries its WIT.
pub fn componentize(module: &[u8]) -> Vec<u8> {
    wasm::componentize(module).expect("a module with its WIT")
}
