//! The contract with components, by the names of their interfaces (`wit/feature.wit`): what a component may import and
//! has to export, which versions there are, and the message for a component that was made for another one.
//!
//! Pure: the planner uses it before any code of a component runs, the command line to advise an author.

use serde::{Deserialize, Serialize};

/// The text of the contract, as it is part of the program.
pub const WIT: &str = include_str!("../../../wit/feature.wit");
/// The package of the contract.
const PACKAGE: &str = "guillemet:feature";
/// The interface that a component may import.
const ENCODE: &str = "guillemet:feature/encode";
/// The interface that a component has to export.
const PLUGIN: &str = "guillemet:feature/plugin";
/// The most imports that one sentence names.
const NAMED_MAX: usize = 10;

/// An import of a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// The full name of the interface: `guillemet:feature/encode@1.0.0`.
    pub name: String,
    /// The functions of the interface that the component uses.
    pub functions: Vec<String>,
}

/// Returns the version of the contract that this program implements.
pub fn version() -> &'static str {
    let package = WIT.lines().find_map(|line| line.strip_prefix("package guillemet:feature@"));
    package.and_then(|rest| rest.strip_suffix(';')).unwrap_or("1.0.0")
}

/// Returns the name of the interface that a component may import, with its version.
pub fn encode_interface() -> String {
    format!("{ENCODE}@{}", version())
}

/// Returns the names of the functions of `encode`.
pub fn functions() -> impl Iterator<Item = &'static str> {
    let interface = WIT.lines().skip_while(|line| !line.starts_with("interface encode {")).skip(1);
    interface.take_while(|line| !line.starts_with('}')).filter_map(|line| {
        let (name, kind) = line.trim().split_once(": ")?;
        kind.starts_with("func(").then_some(name)
    })
}

/// Returns the rule that imports break if no plugin gets them; `None` if all are allowed.
pub fn foreign_rule(imports: &[Import]) -> Option<String> {
    let names: Vec<String> =
        foreign_imports(imports).take(NAMED_MAX).map(|import| format!("`{}`", import.name)).collect();
    let more = if foreign_imports(imports).count() > NAMED_MAX { ", and more" } else { "" };
    (!names.is_empty()).then(|| {
        format!(
            "it imports {}{more}, but a plugin can only import `{ENCODE}`: no WASI, no clock, no files, no network \
             (`guillemet plugin check FILE` explains how to build it without them)",
            names.join(", ")
        )
    })
}

/// Returns the imports that are not part of the contract.
pub fn foreign_imports(imports: &[Import]) -> impl Iterator<Item = &Import> {
    imports.iter().filter(|import| package(&import.name) != Some(PACKAGE))
}

/// Returns the rules that a component breaks by the version of the contract it was made for, and by the functions that
/// it uses.
pub fn version_rules(imports: &[Import], exports: &[String]) -> Vec<String> {
    let mut rules = Vec::new();
    for import in imports.iter().filter(|import| package(&import.name) == Some(PACKAGE)) {
        rules.extend(of_version(&import.name).or_else(|| of_functions(import)));
    }
    let exported: Vec<&String> = exports.iter().filter(|name| name.split('@').next() == Some(PLUGIN)).collect();
    if exported.is_empty() {
        rules.push(format!("it does not export `{PLUGIN}@{}`, so it is not a plugin", version()));
    }
    // One export of a known version is enough.
    if exported.iter().all(|name| of_version(name).is_some()) {
        for rule in exported.iter().filter_map(|name| of_version(name)) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    rules
}

/// Returns the package of an interface: `wasi:io` of `wasi:io/poll@0.2.0`.
fn package(name: &str) -> Option<&str> {
    name.split_once('/').map(|(package, _)| package)
}

/// Returns the version in the name of an interface.
fn version_of(name: &str) -> Option<&str> {
    name.split_once('@').map(|(_, version)| version)
}

/// Returns the major and minor number of a version.
fn numbers(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split('.').map(|part| part.parse::<u64>().ok());
    Some((parts.next()??, parts.next()??))
}

/// Reports whether this program has the contract of this version: the same major number, and no later minor one. A
/// component that was built for a later minor version works too, as long as it uses nothing new.
pub fn has(version: &str) -> bool {
    let supported = numbers(self::version()).unwrap_or_default();
    numbers(version).is_some_and(|(major, minor)| major == supported.0 && minor <= supported.1)
}

/// Returns the rule that the version of one of our interfaces breaks; `None` if it is compatible.
fn of_version(name: &str) -> Option<String> {
    let supported = numbers(version()).unwrap_or_default();
    let made_for = version_of(name).map_or_else(|| PACKAGE.to_owned(), |version| format!("{PACKAGE}@{version}"));
    let what_to_do = match version_of(name).and_then(numbers) {
        Some((major, _)) if major == supported.0 => return None,
        Some((major, _)) if major > supported.0 => {
            format!("update Guillemet, or build it against {PACKAGE}@{}.x", supported.0)
        }
        _ => format!("build it against {PACKAGE}@{}.x", supported.0),
    };
    Some(format!(
        "it was built for {made_for}, but this Guillemet supports {}.x ({}); {what_to_do}",
        supported.0,
        version()
    ))
}

/// Returns the rule broken by using functions of our major version that this program does not have; `None` if it has
/// all.
fn of_functions(import: &Import) -> Option<String> {
    let interface = import.name.split('@').next().and_then(|name| name.split_once('/')).map_or("", |(_, name)| name);
    let missing: Vec<String> = if import.name.split('@').next() == Some(ENCODE) {
        let unknown = import.functions.iter().filter(|name| !functions().any(|other| other == *name));
        unknown.map(|name| format!("`encode.{name}`")).collect()
    } else {
        vec![format!("`{interface}`")]
    };
    if missing.is_empty() {
        return None;
    }
    let made_for = version_of(&import.name).unwrap_or_default();
    let newer = numbers(made_for) > numbers(version());
    let what_to_do = if newer { "update Guillemet" } else { "build it against the published contract" };
    Some(format!(
        "it was built for {PACKAGE}@{made_for} and uses {}, which this Guillemet ({}) does not have; {what_to_do}",
        missing.join(", "),
        version()
    ))
}

/// Advice for an author whose component imports more than it uses.
pub const ALL_OF_THE_WIT: &str = "a component built from JavaScript or Python imports everything its WIT lists, used \
     or not: remove what the plugin does not call from that file, and the plugin works with older versions too";

/// Returns advice for an author on how to build a component without an import.
pub fn advice(import: &str) -> &'static str {
    if import.starts_with("wasi:") || import.starts_with("wasi_") {
        "build it without WASI: in Rust for wasm32-unknown-unknown, not wasm32-wasip1 or -wasip2; in C with \
         `--target=wasm32-unknown-unknown -nostdlib`; in JavaScript with `jco componentize --disable all`; in Python \
         with `componentize-py componentize --stub-wasi`"
    } else if package(import) == Some(PACKAGE) {
        "a plugin can import `guillemet:feature/encode`, but no other interface of the contract"
    } else {
        "remove the code that needs it: a plugin only gets `guillemet:feature/encode`"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(version: &str, functions: &[&str]) -> Import {
        let functions = functions.iter().map(|name| (*name).to_owned()).collect();
        Import { name: format!("{ENCODE}@{version}"), functions }
    }

    fn told(imports: &[Import], exports: &[&str]) -> Vec<String> {
        let exports: Vec<String> = exports.iter().map(|name| (*name).to_owned()).collect();
        foreign_rule(imports).into_iter().chain(version_rules(imports, &exports)).collect()
    }

    const EXPORT: &str = "guillemet:feature/plugin@1.0.0";

    #[test]
    fn the_contract_is_the_one_that_travels_with_the_program() {
        assert_eq!(version(), "1.1.0");
        let functions: Vec<&str> = functions().collect();
        assert!(functions.len() > 12, "{functions:?}");
        for name in ["has-secret", "sip-digest-ha1", "forbid-sequence", "panic", "xml"] {
            assert!(functions.contains(&name), "{functions:?}");
        }
        assert!(!functions.contains(&"describe"), "{functions:?}");
    }

    #[test]
    fn a_version_is_there_up_to_the_present_minor_one() {
        assert!(has("1.0.0") && has("1.1.0") && has("1.1.7"));
        assert!(!has("1.2.0") && !has("2.0.0") && !has("0.9.0") && !has("1") && !has(""));
    }

    #[test]
    fn a_later_minor_version_is_fine_as_long_as_nothing_new_is_used() {
        assert!(told(&[encode("1.0.0", &["xml"])], &[EXPORT]).is_empty());
        assert!(told(&[encode("1.7.0", &["xml"])], &["guillemet:feature/plugin@1.7.0"]).is_empty());
        assert!(told(&[], &[EXPORT]).is_empty());
        let rules = told(&[encode("1.7.0", &["xml", "foo", "bar"])], &["guillemet:feature/plugin@1.7.0"]);
        assert_eq!(
            rules,
            ["it was built for guillemet:feature@1.7.0 and uses `encode.foo`, `encode.bar`, which this Guillemet \
                 (1.1.0) does not have; update Guillemet"]
        );
    }

    #[test]
    fn another_major_version_is_refused_once_with_its_reason() {
        let later = told(&[encode("2.1.0", &["foo"])], &["guillemet:feature/plugin@2.1.0"]);
        assert_eq!(later.len(), 1, "{later:?}");
        assert!(
            later[0].contains("built for guillemet:feature@2.1.0, but this Guillemet supports 1.x (1.1.0)"),
            "{later:?}"
        );
        assert!(later[0].contains("update Guillemet"), "{later:?}");
        let former = told(&[], &["guillemet:feature/plugin@0.3.0"]);
        assert!(former.len() == 1 && former[0].ends_with("build it against guillemet:feature@1.x"), "{former:?}");
        assert!(told(&[], &["guillemet:feature/plugin"])[0].contains("built for guillemet:feature, but"));
        assert!(told(&[], &["guillemet:feature/plugin@2.0.0", EXPORT]).is_empty());
    }

    #[test]
    fn all_that_stands_against_it_is_told() {
        let wasi = |name: &str| Import { name: name.into(), functions: Vec::new() };
        let rules = told(
            &[
                wasi("wasi:io/poll@0.2.0"),
                wasi("environment"),
                wasi("guillemet:feature/decode@1.2.0"),
                encode("1.0.0", &["x"]),
            ],
            &[],
        );
        assert_eq!(rules.len(), 4, "{rules:?}");
        assert!(
            rules[0].starts_with("it imports `wasi:io/poll@0.2.0`, `environment`, but a plugin can only import"),
            "{rules:?}"
        );
        assert!(rules[1].contains("uses `decode`, which") && rules[1].ends_with("update Guillemet"), "{rules:?}");
        assert!(rules[2].contains("`encode.x`") && rules[2].ends_with("the published contract"), "{rules:?}");
        assert!(rules[3].contains("does not export"), "{rules:?}");
        assert!(advice("wasi:io/poll@0.2.0").contains("--stub-wasi"));
    }
}
