//! The package of a plugin: what its author says about it, and its cases, as JSON in one custom section of the
//! component. A component with that section is a pack: one file with one digest, and nothing to unpack.
//!
//! For the command line and for the checker: the section is a stranger's text, so the process with keys never reads it.
//! Nothing in it is verified. Whoever shows a text of it makes its control characters visible.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wasm_encoder::{ComponentSection as _, CustomSection};
use wasmparser::{Encoding, Parser, Payload};

use guillemet_base::display::is_hidden;
use guillemet_base::names::NAME_MAX;

/// The name of the custom section, at the top level of the component.
pub const SECTION: &str = "guillemet:package";
/// The format of the section.
const FORMAT: u64 = 1;
/// The most bytes of the section.
const SECTION_MAX: usize = 2 << 20;
/// The most files of cases.
const FILES_MAX: usize = 200;
/// The most bytes of all files of cases together.
const CASES_MAX: usize = 1 << 20;
/// The most characters of a text of one line.
const LINE_MAX: usize = 200;
/// The most bytes of a changelog.
const CHANGELOG_MAX: usize = 16 << 10;
/// The start of the names by which a component imports and exports the contract.
const CONTRACT: &str = "guillemet:feature/";

/// What the author of a plugin says about it, and the cases that come along.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Who wrote the plugin, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The license, best as an SPDX expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// The address of a page about the plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub homepage: Option<String>,
    /// What is new in this version, in several lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changelog: Option<String>,
    /// The version of the contract that the component was built for.
    pub contract: String,
    /// The texts of the files of cases, by their names.
    #[serde(default)]
    pub cases: BTreeMap<String, String>,
}

/// The section as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: u64,
    #[serde(flatten)]
    package: Package,
}

/// The error of a package that cannot be read or written: what is wrong with it, one line each.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PackageError(String);

impl Package {
    /// Returns everything that is wrong with the package.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let lines = [("author", &self.author), ("license", &self.license), ("homepage", &self.homepage)];
        let lines = lines.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?)));
        for (name, text) in lines.chain([("contract", self.contract.as_str())]) {
            if text.trim().is_empty() || text.chars().count() > LINE_MAX {
                problems.push(format!("`{name}` must have 1 to {LINE_MAX} characters"));
            }
        }
        if self.changelog.as_ref().is_some_and(|text| text.len() > CHANGELOG_MAX) {
            problems.push(format!("the changelog is larger than {} KiB", CHANGELOG_MAX >> 10));
        }
        if self.cases.len() > FILES_MAX {
            problems.push(format!("there are more than {FILES_MAX} files of cases"));
        }
        if self.cases.values().map(String::len).sum::<usize>() > CASES_MAX {
            problems.push(format!("the cases are larger than {} MiB", CASES_MAX >> 20));
        }
        if !self.cases.keys().all(|name| is_case_file(name)) {
            let rule = "the name of a file of cases must be letters, digits, `.`, `_` or `-`, and end in `.toml`";
            problems.push(rule.to_owned());
        }
        problems
    }

    /// Returns everything that an author should not write, although it can be read.
    fn unprintable(&self) -> Vec<String> {
        let lines = [("author", &self.author), ("license", &self.license), ("homepage", &self.homepage)];
        let texts = lines.into_iter().chain([("changelog", &self.changelog)]);
        let is_bad = |name: &str, c: char| is_hidden(c) && !(name == "changelog" && matches!(c, '\n' | '\t'));
        let bad = texts.filter(|(name, text)| text.iter().any(|text| text.contains(|c| is_bad(name, c))));
        bad.map(|(name, _)| format!("`{name}` contains control characters or invisible ones")).collect()
    }
}

fn is_case_file(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let begins = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    begins && name.len() <= NAME_MAX && name.bytes().all(allowed) && name.ends_with(".toml")
}

fn failed(problems: &[String]) -> Result<(), PackageError> {
    if problems.is_empty() { Ok(()) } else { Err(PackageError(problems.join("\n"))) }
}

/// Returns the package of a component; `None` if it has none.
///
/// # Errors
/// If the component cannot be taken apart, or the package has the wrong form or is too large.
pub fn read(component: &[u8]) -> Result<Option<Package>, PackageError> {
    let parts = Parts::of(component)?;
    let section = match parts.packages.as_slice() {
        [] => return Ok(None),
        [section] => *section,
        _ => return Err(PackageError(format!("it has more than one section `{SECTION}`"))),
    };
    if section.len() > SECTION_MAX {
        return Err(PackageError(format!("the section `{SECTION}` is larger than {} MiB", SECTION_MAX >> 20)));
    }
    #[derive(Deserialize)]
    struct Format {
        format: u64,
    }
    let invalid = |error: serde_json::Error| {
        // The parser's own text quotes the section.
        let (line, column) = (error.line(), error.column());
        PackageError(format!("the section `{SECTION}` is not a package: see line {line}, column {column} of its JSON"))
    };
    let format = serde_json::from_slice::<Format>(section).map_err(invalid)?.format;
    if format > FORMAT {
        let message = format!("the package has the format {format}, which this Guillemet does not know; update it");
        return Err(PackageError(message));
    }
    let package = serde_json::from_slice::<Stored>(section).map_err(invalid)?.package;
    failed(&package.problems())?;
    Ok(Some(package))
}

/// Returns the component with a package. The same component and package give the same bytes.
///
/// # Errors
/// If the component has a package already or cannot be taken apart, or the package has something in it that nobody
/// should share.
pub fn write(component: &[u8], package: &Package) -> Result<Vec<u8>, PackageError> {
    failed(&[package.problems(), package.unprintable()].concat())?;
    if !Parts::of(component)?.packages.is_empty() {
        return Err(PackageError("the component has a package already; build it again".into()));
    }
    let stored = Stored { format: FORMAT, package: package.clone() };
    let text = serde_json::to_vec(&stored).map_err(|error| PackageError(error.to_string()))?;
    let mut pack = component.to_vec();
    CustomSection { name: SECTION.into(), data: text.into() }.append_to_component(&mut pack);
    // The escapes of JSON can make it longer than its parts.
    match read(&pack)? {
        Some(found) if found == *package => Ok(pack),
        _ => Err(PackageError("the package cannot be read back".into())),
    }
}

/// Returns the version of the contract that a component was built for: the latest that it imports or exports. `None` if
/// it names none.
pub fn contract(component: &[u8]) -> Option<String> {
    let versions = Parts::of(component).ok()?.contracts;
    let newest = versions.into_iter().filter_map(|version| version.parse::<semver::Version>().ok()).max();
    newest.map(|version| version.to_string())
}

/// What is at the top level of a component and matters here.
#[derive(Default)]
struct Parts<'a> {
    packages: Vec<&'a [u8]>,
    contracts: Vec<String>,
}

impl<'a> Parts<'a> {
    fn of(component: &'a [u8]) -> Result<Self, PackageError> {
        let mut parts = Self::default();
        let mut depth = 0_usize;
        let wrong = |error| PackageError(format!("it cannot be taken apart: {error}"));
        for payload in Parser::new(0).parse_all(component) {
            match payload.map_err(wrong)? {
                Payload::Version { encoding, .. } => {
                    if depth == 0 && encoding != Encoding::Component {
                        return Err(PackageError("it is a core module, not a component".into()));
                    }
                    depth += 1;
                }
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::CustomSection(section) if depth == 1 && section.name() == SECTION => {
                    parts.packages.push(section.data());
                }
                Payload::ComponentImportSection(imports) if depth == 1 => {
                    for import in imports {
                        parts.add_contract(import.map_err(wrong)?.name.name);
                    }
                }
                Payload::ComponentExportSection(exports) if depth == 1 => {
                    for export in exports {
                        parts.add_contract(export.map_err(wrong)?.name.name);
                    }
                }
                _ => {}
            }
        }
        Ok(parts)
    }

    /// Notes the version in a name such as `guillemet:feature/encode@1.1.0`.
    fn add_contract(&mut self, name: &str) {
        let version = name.strip_prefix(CONTRACT).and_then(|rest| rest.split_once('@'));
        self.contracts.extend(version.map(|(_, version)| version.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty component.
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    fn package() -> Package {
        Package {
            author: Some("Ada «a@example.com»".into()),
            changelog: Some("- one\n- two\n".into()),
            contract: "1.1.0".into(),
            cases: [("json.toml".to_owned(), "[[case]]\n".to_owned())].into(),
            ..Package::default()
        }
    }

    fn with(text: &[u8]) -> Vec<u8> {
        let mut component = COMPONENT.to_vec();
        CustomSection { name: SECTION.into(), data: text.into() }.append_to_component(&mut component);
        component
    }

    #[test]
    fn what_is_written_is_read_and_twice_the_same() {
        assert_eq!(read(COMPONENT).unwrap(), None);
        let pack = write(COMPONENT, &package()).unwrap();
        assert_eq!(read(&pack).unwrap(), Some(package()));
        assert_eq!(write(COMPONENT, &package()).unwrap(), pack);
        assert!(pack.starts_with(COMPONENT));
        assert!(write(&pack, &package()).unwrap_err().to_string().contains("already"));
        // What a later version adds is left out.
        let more = read(&with(br#"{"format": 1, "contract": "1.0.0", "later": [1]}"#)).unwrap().unwrap();
        assert_eq!(more, Package { contract: "1.0.0".into(), ..Package::default() });
        let component = guillemet_builtin::ALL[0].component;
        assert_eq!(contract(component).as_deref(), Some(guillemet_plan::contract::version()));
        assert_eq!(contract(COMPONENT), None);
    }

    #[test]
    fn a_section_that_is_no_package_is_told_without_quoting_it() {
        for (text, words) in [
            (&b"canary"[..], "is not a package: see line 1, column 1"),
            (b"{\"format\": 1}", "is not a package"),
            (b"{\"format\": \"canary\"}", "is not a package"),
            (b"{\"format\": 2}", "the format 2, which this Guillemet does not know"),
            (b"{\"format\": 1, \"contract\": \"1\", \"cases\": {\"../canary.toml\": \"\"}}", "the name of a file"),
            (b"{\"format\": 1, \"contract\": \"1\", \"cases\": {\"a\\u0000.toml\": \"\"}}", "the name of a file"),
            (b"\xff", "is not a package"),
        ] {
            let message = read(&with(text)).unwrap_err().to_string();
            assert!(message.contains(words) && !message.contains("canary"), "{message}");
        }
        let twice = [with(b"{}"), with(b"{}")[COMPONENT.len()..].to_vec()].concat();
        assert!(read(&twice).unwrap_err().to_string().contains("more than one"));
        assert!(read(b"no wasm").is_err() && read(b"\0asm\x01\0\0\0").is_err());
        // One that is inside of a nested component says nothing about this one.
        let inner = with(b"canary");
        let nested = [COMPONENT, &[4, u8::try_from(inner.len()).unwrap()], &inner].concat();
        assert_eq!(read(&nested).unwrap(), None);
    }

    #[test]
    fn each_part_has_a_limit_and_all_problems_are_told() {
        let message = read(&with(&vec![b' '; SECTION_MAX + 1])).unwrap_err().to_string();
        assert!(message.contains("larger than 2 MiB"), "{message}");
        let deep = [&b"{\"format\": "[..], &[b'['; 100_000]].concat();
        assert!(read(&with(&deep)).unwrap_err().to_string().contains("is not a package"));
        let files = (0..=FILES_MAX).map(|n| (format!("{n}.toml"), String::new())).collect();
        let large = Package {
            author: Some("x".repeat(LINE_MAX + 1)),
            homepage: Some(" ".into()),
            license: Some("MIT\nSHA-256 0".into()),
            changelog: Some("x\u{1b}[2J".repeat(CHANGELOG_MAX)),
            cases: files,
            ..package()
        };
        let message = write(COMPONENT, &large).unwrap_err().to_string();
        for words in
            ["`author` must", "`homepage` must", "`license` contains", "`changelog` contains", "16 KiB", "200 files"]
        {
            assert!(message.contains(words), "{words}: {message}");
        }
        let cases = [("a.toml".to_owned(), "x".repeat(CASES_MAX + 1))].into();
        let message = write(COMPONENT, &Package { cases, ..package() }).unwrap_err().to_string();
        assert!(message.contains("1 MiB"), "{message}");
    }
}
