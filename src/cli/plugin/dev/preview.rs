//! Shows the document of a template, with `«name»` in place of each secret, and what has changed since the last time.
//!
//! The template and the component are copied into a temporary home, so that they take the same path as any template.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::cli::plugin::test::{print_lines, print_log};
use crate::cli::{Done, Failure, client, offline, output};
use guillemet_base::home::Home;
use guillemet_base::problem::Problem;
use guillemet_plan::preview;
use guillemet_plugin::cache::LastForm;
use guillemet_plugin::plans::Prepared;
use guillemet_plugin::registry::Registry;
use guillemet_plugin::{cases, findings};
use guillemet_template::Format;
use guillemet_template::catalog::Catalog;

/// A template whose document is shown after each build.
pub struct Preview {
    home: Home,
    /// The path of the configuration with the template's `vars`. The file need not exist.
    config: PathBuf,
    template: PathBuf,
    target: Option<String>,
    forms: Arc<LastForm>,
    /// The document that was shown last.
    last: Option<String>,
}

impl Preview {
    /// Makes a preview of a template file. `target` is `None` for the plugin's default, `config` is a configuration
    /// with `vars` that need not exist, and `home` is the temporary home to work in.
    pub fn new(home: Home, config: PathBuf, template: PathBuf, target: Option<String>, forms: Arc<LastForm>) -> Self {
        Self { home, config, template, target, forms, last: None }
    }

    /// Prints the document, or what has changed in it, or the problems of the template.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub async fn show(&mut self, component: &Path, feature: &str) -> Done {
        let file = self.template.display().to_string();
        if !self.template.exists() {
            output::line(&format!("plan     there is no {file}: create it, or pass another file with `--template`"));
            return Ok(());
        }
        let variables = offline::variables(&self.config)?;
        let Some(id) = self.place(component, feature)? else {
            output::line(&format!(
                "plan     {file} is not a template: its name must end in .toml, .json, .jsonc, .yaml or .yml"
            ));
            return Ok(());
        };
        let mut catalog = Catalog::new(self.home.templates());
        catalog.rescan(Instant::now());
        let template = catalog.get(&id).ok_or_else(|| Failure::new(format!("{file} cannot be read as a template")))?;
        let registry = Registry::unpinned_with(self.home.plugins(), Arc::clone(&self.forms) as _);
        let prepared = Prepared::new(Arc::clone(template));
        let planned = prepared.plan(self.target.as_deref(), &registry, &variables).await;
        let log = registry.take_log(feature);
        match planned {
            Ok(plan) => {
                self.show_document(&file, &plan.target.id, preview::document(&plan));
                self.show_problems(&id, "warning: ", &preview::warnings(&plan, self.target.as_deref()));
            }
            Err(error) => {
                output::line(&format!("plan     {file} cannot be rendered"));
                self.show_problems(&id, "", &findings::problems(error));
            }
        }
        print_log(&log);
        Ok(())
    }

    /// Copies the template and the component into the home. Returns the template's id, or `None` if its file name has
    /// no known format.
    fn place(&self, component: &Path, feature: &str) -> Result<Option<String>, Failure> {
        let format = self.template.extension().and_then(|end| Format::from_extension(&end.to_string_lossy()));
        let Some(format) = format else { return Ok(None) };
        for folder in [self.home.templates(), self.home.plugins()] {
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
        }
        let folder = self.home.templates().join(feature);
        fs::create_dir_all(&folder)?;
        fs::create_dir_all(self.home.plugins())?;
        fs::copy(component, self.home.plugins().join(feature).with_extension("wasm"))?;
        fs::copy(&self.template, folder.join(format!("template.{}", format.extension())))?;
        Ok(Some(format!("{feature}/template")))
    }

    fn show_document(&mut self, file: &str, target: &str, document: String) {
        match &self.last {
            Some(last) if *last == document => output::line(&format!("plan     {file} for {target}: unchanged")),
            Some(last) => {
                output::line(&format!("plan     {file} for {target}: - before, + now"));
                print_lines(&cases::lines(last, &document), "    ");
            }
            None => {
                output::line(&format!("plan     {file} for {target}"));
                document.lines().for_each(|line| output::line(&format!("    {line}")));
            }
        }
        self.last = Some(document);
    }

    fn show_problems(&self, id: &str, kind: &str, problems: &[Problem]) {
        for problem in problems {
            output::line(&client::problem_text(Some(&self.home.templates()), id, kind, problem));
        }
    }
}
