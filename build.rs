//! Lists the files that `plugin new` makes projects of, which `src/cli/plugin/scaffold.rs` embeds, and generates the
//! contract in C and in Python for them.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::{Resolve, WorldId};

#[path = "plugins/scaffolds/stubs.rs"]
mod stubs;

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    for path in [
        "build.rs",
        "wit",
        "plugins/scaffolds",
        "plugins/guillemet-plugin/Cargo.toml",
        "plugins/guillemet-plugin/src",
        "crates/plan/src/encode",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    embed(&root, &PathBuf::from(variable("OUT_DIR")?))
}

/// Writes `embedded.rs`: the files of the projects that `plugin new` makes, by folder, each with its path there.
fn embed(root: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    bind(root, &out.join("bindings"))?;
    let (resolve, world) = contract(root)?;
    stubs::write(&resolve, world, &out.join("typings"))?;
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
        ("PYTHON", vec![(root.join("plugins/scaffolds/python"), ""), (out.join("typings"), "typings/")]),
        ("TOML", vec![(root.join("plugins/scaffolds/toml"), "")]),
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
    let (mut resolve, world) = contract(root)?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default().build().generate(&mut resolve, world, &mut files)?;
    std::fs::create_dir_all(folder)?;
    for (name, content) in files.iter() {
        std::fs::write(folder.join(name), content)?;
    }
    Ok(())
}

/// Reads the contract. Returns it with its world.
fn contract(root: &Path) -> Result<(Resolve, WorldId), Box<dyn Error>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(root.join("wit"))?;
    let world = resolve.select_world(&[package], Some("feature"))?;
    Ok((resolve, world))
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set; run this through cargo"))
}
