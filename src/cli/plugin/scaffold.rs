//! The projects that `plugin new` makes. Their files are embedded in the program: `plugins/scaffolds/`, the contract,
//! and the files of each language. `build.rs` lists them.
//!
//! The files contain placeholders such as `@name@` where projects differ. A project from a sample has files of its own for
//! the plugin, its schema and its cases: see [`fields`]. Knows nothing of the file system.

mod data;
pub mod fields;
mod source;

use clap::ValueEnum;
use fields::Sketch;

use guillemet_plan::contract;
use guillemet_plan::encode::{ENCODERS, Signature};

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The lock file of the built-in plugins. A new Rust project starts with the same versions.
const LOCK: &str = include_str!("../../../plugins/Cargo.lock");

/// The languages a project can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// Like the built-in plugins; cases also run without a component.
    Rust,
    /// With a small library for fields and JSON.
    C,
    /// On QuickJS, inside the component.
    #[value(name = "js")]
    JavaScript,
    /// On CPython, inside the component.
    Python,
    /// Without code: fields and documents are declared in plugin.toml.
    Toml,
}

impl Language {
    /// Returns the language's name for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::C => "C",
            Self::JavaScript => "JavaScript",
            Self::Python => "Python",
            Self::Toml => "TOML, without code",
        }
    }

    /// Returns the command to run in a new project before its first build; empty if there is nothing to install.
    pub fn setup(self) -> &'static str {
        match self {
            Self::Rust => "rustup target add wasm32-unknown-unknown",
            Self::JavaScript => "npm install",
            Self::C | Self::Python => "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt",
            Self::Toml => "",
        }
    }

    fn files(self) -> &'static [(&'static str, &'static [u8])] {
        match self {
            Self::Rust => RUST,
            Self::C => C,
            Self::JavaScript => JS,
            Self::Python => PYTHON,
            Self::Toml => TOML,
        }
    }

    /// Returns the rows of a table that says which file of a project is for what.
    fn guide(self) -> &'static str {
        match self {
            Self::Rust => {
                "| `src/lib.rs` | the plugin |\n\
                 | `vendor/guillemet-plugin`, `wit/` | the library it uses, and the contract |\n"
            }
            Self::C => {
                "| `plugin.c` | the plugin; every other `.c` beside it is compiled too |\n\
                 | `guillemet.h`, `guillemet.c`, `json.c` | the library it uses |\n\
                 | `wit/`, `bindings/` | the contract, and the same in C |\n"
            }
            Self::JavaScript => {
                "| `plugin.js` | the plugin |\n\
                 | `guillemet.js`, `guillemet.d.ts` | the library it uses, and its types |\n\
                 | `build.mjs`, `runtime.mjs`, `wit/` | the build script, the QuickJS that it uses, and the contract |\n"
            }
            Self::Python => {
                "| `plugin.py` | the plugin |\n\
                 | `guillemet.py`, `wit/` | the library it uses, and the contract |\n\
                 | `typings/`, `pyproject.toml` | the contract for editors and type checkers |\n"
            }
            Self::Toml => {
                "| `plugin.toml` | the plugin: its fields, and the documents of its targets |\n\
                 | `plugin.schema.json` | what plugin.toml can say, for editors |\n"
            }
        }
    }
}

/// Returns the files of a new project for the fields of a sample, each with its path in the project.
pub fn project_from(language: Language, name: &str, title: &str, sketch: &Sketch) -> Vec<(String, Vec<u8>)> {
    let mut own = data::cases(sketch);
    if language != Language::Toml {
        own.push(("schema.json".into(), data::schema(title, sketch)));
    }
    own.push(("template.toml".into(), data::template(sketch)));
    own.push(source::source(language, name, title, sketch));
    let mut files = project(language, name, title);
    let is_case = |path: &str| path.starts_with("cases/") && path.ends_with(".toml");
    files.retain(|(path, _)| !is_case(path) && !own.iter().any(|(other, _)| other == path));
    files.extend(own.into_iter().map(|(path, text)| (path, text.into_bytes())));
    files
}

/// Returns the files of a new project, each with its path in the project.
pub fn project(language: Language, name: &str, title: &str) -> Vec<(String, Vec<u8>)> {
    let package = package(name);
    let words = [
        ("@name@", name.to_owned()),
        ("@title@", title.to_owned()),
        ("@package@", package.clone()),
        ("@language@", language.name().to_owned()),
        ("@setup@", line(language.setup())),
        ("@files@", language.guide().to_owned()),
        ("@contract@", contract::version().to_owned()),
        ("@encoder_declarations@", encoders_in_c(|name| format!("const char *encode_{name}(const char *text);"))),
        ("@encoder_definitions@", encoders_in_c(|name| format!("ENCODER({name})"))),
    ];
    let filled = |content: &[u8]| match std::str::from_utf8(content) {
        Ok(text) => words.iter().fold(text.to_owned(), |text, (word, value)| text.replace(word, value)).into_bytes(),
        Err(_) => content.to_vec(),
    };
    // A file of the language goes before a common one of the same name.
    let own = |path: &str| language.files().iter().any(|(own, _)| *own == path);
    let is_common = |path: &str| !(own(path) || language == Language::Toml && is_for_code(path));
    let files = COMMON.iter().filter(|(path, _)| is_common(path)).chain(language.files());
    let mut files: Vec<_> = files.map(|(path, content)| ((*path).to_owned(), filled(content))).collect();
    if language == Language::Rust {
        files.push(("Cargo.lock".to_owned(), lock(&package).into_bytes()));
    }
    files
}

/// Reports whether a common file is of no use to a project without code: the contract, and the schema, which
/// `plugin build` makes there.
fn is_for_code(path: &str) -> bool {
    path == "schema.json" || path.starts_with("wit/")
}

/// Returns a text as a line; nothing for an empty one.
fn line(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{text}\n") }
}

/// Returns a line of C for each encoder that takes one text, made of its name.
fn encoders_in_c(line: impl Fn(String) -> String) -> String {
    let of_one_text = ENCODERS.iter().filter(|encoder| matches!(encoder.signature, Signature::Text(_)));
    let lines: Vec<_> = of_one_text.map(|encoder| line(encoder.name.replace('-', "_"))).collect();
    lines.join("\n")
}

/// Returns a feature's name as a title, which `plugin new` takes if it gets none: `Pager duty` for `pager-duty`.
pub fn title(name: &str) -> String {
    let words = name.replace('-', " ");
    let mut characters = words.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + characters.as_str())
}

/// Returns the name of the Rust package, which cannot begin with a digit.
fn package(name: &str) -> String {
    if name.starts_with(|first: char| first.is_ascii_digit()) { format!("plugin-{name}") } else { name.to_owned() }
}

/// Returns the lock file of the built-in plugins, reduced to a package that depends only on the author crate. So a new
/// project builds with versions that have been tested.
fn lock(package: &str) -> String {
    let mut parts: Vec<&str> = LOCK.trim_end().split("\n\n").collect();
    // The comments and the version are before the first package.
    let head = parts.remove(0);
    let name = |part: &str| part.split('"').nth(1).unwrap_or_default().to_owned();
    let own =
        format!("[[package]]\nname = \"{package}\"\nversion = \"0.1.0\"\ndependencies = [\n \"guillemet-plugin\",\n]");
    let needed = needed(&parts);
    let mut packages: Vec<&str> =
        parts.into_iter().filter(|part| needed.contains(part)).chain([own.as_str()]).collect();
    packages.sort_by_key(|part| name(part));
    format!("{head}\n\n{}\n", packages.join("\n\n"))
}

/// Returns the packages that the author crate needs, itself included; cargo refuses a lock file with others. A dependency
/// is a name, with the version behind it if there are several.
fn needed<'a>(parts: &[&'a str]) -> Vec<&'a str> {
    let text = |part: &str, key: &str| part.split(&format!("{key} = \"")).nth(1)?.split('"').next().map(str::to_owned);
    let is = |part: &str, dependency: &str| {
        let (wanted, version) = dependency.split_once(' ').unwrap_or((dependency, ""));
        let version = version.split(' ').next().filter(|version| !version.is_empty());
        text(part, "\nname").as_deref() == Some(wanted)
            && (version.is_none() || text(part, "\nversion").as_deref() == version)
    };
    let find = |dependency: &str| parts.iter().copied().find(|part| is(part, dependency));
    let mut needed: Vec<&str> = find("guillemet-plugin").into_iter().collect();
    let mut at = 0;
    while let Some(part) = needed.get(at) {
        let dependencies = part.split("dependencies = [\n").nth(1).unwrap_or_default();
        for found in dependencies.split('"').skip(1).step_by(2).filter_map(find) {
            if !needed.contains(&found) {
                needed.push(found);
            }
        }
        at += 1;
    }
    needed
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Returns every file of a folder, with `prefix` and its path in the folder.
    fn files(folder: &Path, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().into_string().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => found.extend(files(&entry.path(), &format!("{name}/"))),
                false => found.push((name, fs::read(entry.path()).unwrap())),
            }
        }
        found.sort();
        found
    }

    #[test]
    fn what_is_embedded_is_what_stands_in_the_repository() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let embedded: Vec<_> = project(Language::Rust, "hook", "Hook");
        for (folder, prefix) in [("plugins/guillemet-plugin", "vendor/guillemet-plugin/"), ("wit", "wit/")] {
            let of_repository: Vec<_> = files(&root.join(folder), prefix);
            let of_program = embedded.iter().filter(|(path, _)| path.starts_with(prefix)).cloned().collect::<Vec<_>>();
            assert!(of_repository == of_program, "{folder} is not what is embedded");
        }
        let declarative = project(Language::Toml, "hook", "Hook");
        assert!(declarative.iter().any(|(path, _)| path == "plugin.toml"));
        let names: std::collections::BTreeSet<_> = declarative.iter().map(|(path, _)| path).collect();
        assert_eq!(names.len(), declarative.len(), "a file is there twice");
        let count = |language, own: &str| {
            let common = files(&root.join("plugins/scaffolds/common"), "").len() + files(&root.join("wit"), "").len();
            let expected = common + files(&root.join("plugins/scaffolds").join(own), "").len();
            assert!(project(language, "hook", "Hook").len() >= expected, "{own}");
        };
        [(Language::Rust, "rust"), (Language::C, "c"), (Language::JavaScript, "js"), (Language::Python, "python")]
            .into_iter()
            .for_each(|(language, own)| count(language, own));
    }

    #[test]
    fn a_project_has_its_own_name_everywhere() {
        for language in Language::value_variants() {
            for (path, content) in project(*language, "3cx-pager", "3cx pager") {
                let text = String::from_utf8_lossy(&content);
                let words = [
                    "@name@",
                    "@title@",
                    "@package@",
                    "@language@",
                    "@setup@",
                    "@files@",
                    "@contract@",
                    "@encoder_declarations@",
                    "@encoder_definitions@",
                ];
                assert!(!words.iter().any(|word| text.contains(word)), "{path}");
            }
        }
        assert_eq!((title("3cx-pager"), package("3cx-pager")), ("3cx pager".into(), "plugin-3cx-pager".into()));
        assert_eq!((title("éa"), title("")), ("Éa".into(), String::new()));
    }

    #[test]
    fn the_library_in_c_knows_every_encoder() {
        let files = project(Language::C, "hook", "Hook");
        let text = |name: &str| {
            let (_, content) = files.iter().find(|(path, _)| path == name).unwrap();
            String::from_utf8(content.clone()).unwrap()
        };
        let (header, library, bindings) = (text("guillemet.h"), text("guillemet.c"), text("bindings/feature.h"));
        assert!(contract::functions().count() > 15);
        for function in contract::functions().map(|function| function.replace('-', "_")) {
            assert!(bindings.contains(&format!(" guillemet_feature_encode_{function}(")), "{function}");
            if function == "panic" {
                continue; // `give_up`
            }
            assert!(header.contains(&format!("encode_{function}(")), "{function}");
            let made = [format!("ENCODER({function})"), format!("encode_{function}(")];
            assert!(made.iter().any(|made| library.contains(made)), "{function}");
        }
    }

    #[test]
    fn the_lock_is_that_of_the_built_in_plugins_with_one_package_in_place_of_them() {
        let lock = lock("hook");
        let names: Vec<&str> = lock.lines().filter_map(|line| line.strip_prefix("name = ")).collect();
        assert!(names.is_sorted(), "{names:?}");
        assert!(names.contains(&"\"hook\"") && names.contains(&"\"guillemet-plugin\""), "{names:?}");
        for other in ["sip-trunk", "declarative", "minijinja"] {
            assert!(LOCK.contains(&format!("\nname = \"{other}\"\n")), "{other}");
            assert!(!names.contains(&&*format!("\"{other}\"")), "{names:?}");
        }
        assert!(names.len() > 40, "{names:?}");
    }
}
