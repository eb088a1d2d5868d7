//! What a package says about a plugin: from flags, or else from the manifest of the plugin's language and its changelog.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::cli::Failure;
use crate::cli::plugin::build::declarative;
use guillemet_base::files;
use guillemet_plugin::package::Package;

/// The largest manifest or changelog, in bytes.
const FILE_MAX: u64 = 1 << 20;

#[derive(Args)]
pub struct FactArgs {
    /// Who wrote the plugin [default: from Cargo.toml, package.json or plugin.toml].
    #[arg(long)]
    author: Option<String>,
    /// The license [default: from Cargo.toml, package.json or plugin.toml].
    #[arg(long)]
    license: Option<String>,
    /// The address of a page about the plugin [default: from Cargo.toml, package.json or plugin.toml].
    #[arg(long, value_name = "URL")]
    homepage: Option<String>,
    /// A file that says what is new [default: the newest part of the project's CHANGELOG.md].
    #[arg(long, value_name = "FILE")]
    changelog: Option<PathBuf>,
}

impl FactArgs {
    /// Returns a package with these facts, and neither cases nor contract.
    ///
    /// # Errors
    /// If the manifest or the changelog cannot be read.
    pub fn package(&self, dir: &Path) -> Result<Package, Failure> {
        let found = manifest(dir)?;
        let changelog = match &self.changelog {
            Some(file) => Some(read(file)?.trim().to_owned()),
            None => match dir.join("CHANGELOG.md") {
                file if file.exists() => Some(newest(&read(&file)?)),
                _ => None,
            },
        };
        Ok(Package {
            author: self.author.clone().or(found.author),
            license: self.license.clone().or(found.license),
            homepage: self.homepage.clone().or(found.homepage),
            changelog: changelog.filter(|text| !text.is_empty()),
            ..Package::default()
        })
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    files::read_text(file, FILE_MAX)
        .map_err(|error| Failure::new(format!("{} cannot be read: {error}", file.display())))
}

/// Returns what the manifest of the plugin's language says.
fn manifest(dir: &Path) -> Result<Package, Failure> {
    let [cargo, npm, plugin] = ["Cargo.toml", "package.json", declarative::FILE].map(|file| dir.join(file));
    let invalid = |file: &Path, error: &dyn std::fmt::Display| {
        Failure::new(format!("{} cannot be read: {error}", file.display()))
    };
    if cargo.exists() {
        let tree = read(&cargo)?.parse::<toml_edit::DocumentMut>().map_err(|error| invalid(&cargo, &error))?;
        return Ok(of_cargo(&tree));
    }
    if npm.exists() {
        let tree = serde_json::from_str::<Value>(&read(&npm)?).map_err(|error| invalid(&npm, &error))?;
        return Ok(of_npm(&tree));
    }
    if plugin.exists() {
        let tree = read(&plugin)?.parse::<toml_edit::DocumentMut>().map_err(|error| invalid(&plugin, &error))?;
        return Ok(of_plugin(&tree));
    }
    Ok(Package::default())
}

fn of_cargo(tree: &toml_edit::DocumentMut) -> Package {
    let item = |key: &str| tree.get("package").and_then(|package| package.get(key));
    let text = |key: &str| Some(item(key)?.as_str()?.to_owned());
    let authors = item("authors").and_then(|authors| authors.as_array());
    let authors: Vec<&str> = authors.into_iter().flatten().filter_map(|author| author.as_str()).collect();
    Package {
        author: (!authors.is_empty()).then(|| authors.join(", ")),
        license: text("license"),
        homepage: text("homepage").or_else(|| text("repository")),
        ..Package::default()
    }
}

fn of_npm(tree: &Value) -> Package {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let author = &tree["author"];
    let named = || match (text(&author["name"])?, text(&author["email"])) {
        (name, Some(email)) => Some(format!("{name} <{email}>")),
        (name, None) => Some(name),
    };
    Package {
        author: text(author).or_else(named),
        license: text(&tree["license"]),
        homepage: text(&tree["homepage"]),
        ..Package::default()
    }
}

fn of_plugin(tree: &toml_edit::DocumentMut) -> Package {
    let [author, license, homepage] = declarative::FACTS.map(|fact| Some(tree.get(fact)?.as_str()?.to_owned()));
    Package { author, license, homepage, ..Package::default() }
}

/// Returns the newest part of a changelog: from its first heading of the second level, unless that says "unreleased", to
/// the next one. Without such headings, all of it.
fn newest(changelog: &str) -> String {
    let lines: Vec<&str> = changelog.lines().collect();
    let is_heading = |line: &&str| line.starts_with("## ");
    let is_version = |line: &&str| is_heading(line) && !line.to_lowercase().contains("unreleased");
    let part = match lines.iter().position(is_version) {
        Some(first) => {
            let end = lines[first + 1..].iter().position(is_heading);
            &lines[first..end.map_or(lines.len(), |end| first + 1 + end)]
        }
        None if lines.iter().any(is_heading) => &[][..],
        None => &lines[..],
    };
    part.join("\n").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_part_of_a_changelog_is_that_of_a_version() {
        let text = "# Changes\n\n## [Unreleased]\n- x\n\n## 1.2.0\n\n- b\n### Fixed\n- c\n\n## 1.1.0\n- a\n";
        assert_eq!(newest(text), "## 1.2.0\n\n- b\n### Fixed\n- c");
        assert_eq!(newest("one\ntwo\n"), "one\ntwo");
        assert_eq!(newest("## Unreleased\n- x\n"), "");
        assert_eq!(newest(""), "");
    }

    #[test]
    fn facts_are_those_of_the_manifest() {
        let cargo = "[package]\nauthors = ['A', 'B']\nlicense.workspace = true\nrepository = 'https://a.example'\n";
        let found = of_cargo(&cargo.parse().unwrap());
        assert_eq!(found.author.as_deref(), Some("A, B"));
        assert_eq!((found.license, found.homepage.as_deref()), (None, Some("https://a.example")));
        let found =
            of_npm(&serde_json::json!({"author": {"name": "A", "email": "a@b"}, "license": "MIT", "homepage": 3}));
        assert_eq!((found.author.as_deref(), found.license.as_deref()), (Some("A <a@b>"), Some("MIT")));
        assert_eq!(found.homepage, None);
        assert_eq!(of_npm(&serde_json::json!({"author": "A"})).author.as_deref(), Some("A"));
        assert_eq!(of_npm(&serde_json::json!([])), Package::default());
        let found = of_plugin(&"author = 'A'\nlicense = 'MIT'\nhomepage = 'https://a.example'\n".parse().unwrap());
        assert_eq!((found.author.as_deref(), found.license.as_deref()), (Some("A"), Some("MIT")));
        assert_eq!(found.homepage.as_deref(), Some("https://a.example"));
    }
}
