//! `plugin pack`: makes the file that a plugin is shared as: the component of a project with its package.
//!
//! Refuses what `plugin test` or `plugin check` would refuse. The same component, cases and facts give the same bytes.

mod facts;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use self::facts::FactArgs;
use super::super::temporary::TemporaryHome;
use super::super::{Done, Failure, output};
use super::candidate::hex;
use super::check::{ComponentCheck, bytes, print_mistakes};
use super::project::Project;
use super::{planner, test};
use guillemet_base::files::{self, Links};
use guillemet_plan::protocol::Description;
use guillemet_plugin::cases::{self, CaseFile};
use guillemet_plugin::index::{INDEX_MAX, IndexEntry, PluginIndex};
use guillemet_plugin::package::{self, Package};
use guillemet_plugin::registry::{COMPONENT_MAX, read_component};

/// The folder of a project for packs. A project has one component beside its sources, so a pack is not put there.
const FOLDER: &str = "dist";

#[derive(Args)]
pub struct PluginPackArgs {
    /// The project's folder.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// The file to write [default: dist/FEATURE-VERSION.wasm in the project].
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    facts: FactArgs,
    /// Add the pack to this index, in place of an entry with the same version.
    #[arg(long, value_name = "FILE", requires = "url")]
    index: Option<PathBuf>,
    /// The https URL at which the pack will be, for the index.
    #[arg(long, value_name = "URL", requires = "index")]
    url: Option<String>,
}

/// A pack that has been tested.
struct Pack {
    bytes: Vec<u8>,
    package: Package,
    description: Description,
}

impl PluginPackArgs {
    pub fn run(self) -> Done {
        let project = Project::find(&self.dir)?;
        if let Some(outdated) = project.outdated_warning() {
            return Err(Failure::new(outdated));
        }
        let pack = self.make(&project)?;
        let digest = hex(&pack.bytes);
        let index = self.index(&pack, &digest)?;
        let file = self.output(&pack.description)?;
        let unwritten = |file: &Path, error| Failure::new(format!("{} cannot be written: {error}", file.display()));
        if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(|error| unwritten(folder, error))?;
        }
        files::replace_ordinary(&file, &pack.bytes).map_err(|error| unwritten(&file, error))?;
        output::line(&format!("packed {}: {}", file.display(), bytes(pack.bytes.len() as u64)));
        output::line(&format!("Contract       {}", pack.package.contract));
        output::line(&format!("SHA-256        {digest}"));
        if let Some((path, text)) = index {
            files::replace_ordinary(path, &text).map_err(|error| unwritten(path, error))?;
            output::line(&format!("Index          {}", path.display()));
        }
        if pack.package.author.is_none() {
            output::note("note: the pack names no author, whom others have to trust; pass --author");
        }
        Ok(())
    }

    /// Makes the pack and tests it, as `plugin test` and `plugin check` do.
    fn make(&self, project: &Project) -> Result<Pack, Failure> {
        let component = read_component(&project.component)?;
        let files = cases::read(&project.cases())?;
        let shown = project.component.display();
        let contract = package::contract(&component)
            .ok_or_else(|| Failure::new(format!("{shown} is not a plugin: it names no version of the contract")))?;
        let package = Package { contract, cases: texts(&files), ..self.facts.package(&project.dir)? };
        let bytes = package::write(&component, &package)
            .map_err(|error| Failure::new(format!("{shown} cannot be packed:\n{error}")))?;
        if bytes.len() as u64 > COMPONENT_MAX {
            return Err(Failure::new(format!("the pack is larger than {} MiB", COMPONENT_MAX >> 20)));
        }
        let folder = TemporaryHome::new("pack")?;
        let file = folder.path().join(planner::shown(&project.component));
        files::replace_ordinary(&file, &bytes)?;
        let description = planner::with(&file, async |planner| {
            let description = planner::load(&file, &planner).await?;
            let mut ran = test::run_all(&planner, &description, &files).await;
            ran.iter_mut().flatten().for_each(test::Ran::read_back);
            let mut failed: usize = files.iter().zip(&ran).map(|(file, ran)| test::print_failures(file, ran)).sum();
            for gap in cases::gaps(&description, &files) {
                output::line(&gap);
                failed += 1;
            }
            if failed > 0 {
                return Err(Failure::new("the cases fail, so nothing was packed; run `guillemet plugin test`"));
            }
            let checked = ComponentCheck::run(&file, &project.cases(), &planner).await?;
            if print_mistakes(&checked) > 0 {
                return Err(Failure::new("the component has errors, so nothing was packed"));
            }
            Ok(description)
        })?;
        Ok(Pack { bytes, package, description })
    }

    /// Returns the path of the pack.
    fn output(&self, description: &Description) -> Result<PathBuf, Failure> {
        let Some(file) = &self.output else {
            let Description { feature, version, .. } = description;
            let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-+_".contains(c);
            if version.is_empty() || !version.chars().all(is_plain) {
                let message = "the plugin's version cannot be part of a file name; pass --output FILE";
                return Err(Failure::new(message));
            }
            let folder = self.dir.strip_prefix(".").unwrap_or(&self.dir).join(FOLDER);
            return Ok(folder.join(format!("{feature}-{version}.wasm")));
        };
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let is_beside = matches!((fs::canonicalize(folder), fs::canonicalize(&self.dir)), (Ok(a), Ok(b)) if a == b);
        if is_beside && file.extension().is_some_and(|extension| extension == "wasm") {
            return Err(Failure::new(format!(
                "{} is in the project's folder, which can have one component only; choose another folder",
                file.display()
            )));
        }
        Ok(file.clone())
    }

    /// Returns the path and the new text of the index, if there is one.
    fn index(&self, pack: &Pack, digest: &str) -> Result<Option<(&Path, Vec<u8>)>, Failure> {
        let (Some(path), Some(url)) = (&self.index, &self.url) else { return Ok(None) };
        let unusable = |what: &str| Failure::new(format!("{} cannot be used: {what}", path.display()));
        let mut index = if path.exists() {
            let text = files::read_regular(path, Links::Follow, INDEX_MAX as u64);
            let (text, _) = text.map_err(|error| unusable(&error.to_string()))?;
            PluginIndex::parse(&text).map_err(|error| unusable(&error.to_string()))?
        } else {
            PluginIndex::default()
        };
        let Description { feature, version, .. } = pack.description.clone();
        let (contract, changelog) = (pack.package.contract.clone(), pack.package.changelog.clone());
        let (url, sha256) = (url.clone(), digest.to_owned());
        let entry = IndexEntry { feature, version, url, sha256, contract, changelog, more: Default::default() };
        index.put(entry).map_err(|error| Failure::new(format!("the pack cannot be in an index:\n{error}")))?;
        let text = format!("{:#}\n", serde_json::to_value(&index)?);
        Ok(Some((path, text.into_bytes())))
    }
}

/// Returns the texts of files of cases by their names.
fn texts(files: &[CaseFile]) -> BTreeMap<String, String> {
    let name = |file: &CaseFile| file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    files.iter().map(|file| (name(file), file.text().to_owned())).collect()
}
