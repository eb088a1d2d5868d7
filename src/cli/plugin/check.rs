//! `plugin check`: everything that can be found out about a component before it is added.

mod canaries;
mod print;

pub use self::print::{NOT_READ_BACK, bytes, print_mistakes, unread};

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::super::{Done, Failure, output};
use super::about::PackageFacts;
use super::planner;
use super::project::Project;
use guillemet_base::display::sanitize_line;
use guillemet_base::problem::Problem;
use guillemet_plan::contract;
use guillemet_plan::plan::Plan;
use guillemet_plan::protocol::{About, Cost, Description, MEMORY_MAX, Report, TIME_MAX};
use guillemet_plugin::canary;
use guillemet_plugin::cases::{self, CaseFile};
use guillemet_plugin::checker::CheckerAnswer;
use guillemet_plugin::client::{Planner, load_time};
use guillemet_plugin::{package, registry, schema};

#[derive(Args)]
pub struct PluginCheckArgs {
    /// The component. The cases of its package are run; without any, those in the folder `cases` beside it are tried.
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The results of the check of a component.
#[derive(Serialize)]
pub struct ComponentCheck {
    file: PathBuf,
    /// The component's size in bytes.
    size: u64,
    /// The component's SHA-256, in hexadecimal.
    digest: String,
    /// The component's imports, its description of itself, and the cost of loading it.
    #[serde(flatten)]
    report: Report,
    /// What the package says; `None` if there is none.
    package: Option<PackageFacts>,
    /// What the plugin logged while configs were planned.
    #[serde(rename = "plan_log")]
    log: Vec<String>,
    /// The configs that were planned, with canaries in place of secrets.
    canaries: Vec<TriedConfig>,
    /// The highest time and memory that any plan took.
    plan: Cost,
    limits: CheckLimits,
    /// Every mistake that was found.
    problems: Vec<Mistake>,
}

/// A config that was planned with canaries in place of its secrets.
#[derive(Serialize)]
struct TriedConfig {
    /// The name of the case, or the secret field of the example.
    name: String,
    target: String,
    status: CanaryStatus,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum CanaryStatus {
    /// Every canary came back as exactly one value.
    Ok,
    /// A canary did not come back, or planning failed.
    Failed,
    /// Nothing tells the document's format, so no reader here can read it back.
    Unread,
    /// Planning made no document. The case may be about a config's problems.
    NoDocument,
}

#[derive(Serialize)]
struct CheckLimits {
    load_micros: u64,
    call_micros: u64,
    memory: u64,
}

/// A mistake in the plugin.
#[derive(Clone, PartialEq, Eq, Serialize)]
struct Mistake {
    /// The part it is about: `component`, `package`, `imports`, `description`, `schema`, `cases` or `canaries`.
    about: &'static str,
    message: String,
    help: Option<String>,
}

impl PluginCheckArgs {
    pub fn run(self) -> Done {
        let project = Project::of(&self.file);
        if let Some(outdated) = project.outdated_warning() {
            output::note(&format!("note: {outdated}"));
        }
        let checked = check(&self.file, &project.cases())?;
        if self.json {
            output::json(&serde_json::to_value(&checked)?);
        } else {
            print::print(&checked);
        }
        match checked.problems.len() {
            0 => Ok(()),
            1 => Err(Failure::new(format!("{} has an error; fix it before you add the plugin", self.file.display()))),
            many => Err(Failure::new(format!(
                "{} has {many} errors; fix them before you add the plugin",
                self.file.display()
            ))),
        }
    }
}

/// Makes the checks of a component for the daemon, which adds it only if they succeed, and prints them as
/// [`CheckerAnswer`]. Uses the compiled form in this user's cache: the cost of compiling is of no interest here.
///
/// # Errors
/// When the file cannot be read, or the planner cannot examine it.
pub fn answer_checks(file: &Path) -> Done {
    let cases = Project::of(file).cases();
    let checked = planner::with(file, async |planner| ComponentCheck::run(file, &cases, &planner).await)?;
    let problem = |mistake: Mistake| Problem { message: mistake.message, help: mistake.help, ..Problem::default() };
    let problems = checked.problems.into_iter().map(problem).collect();
    output::json(&serde_json::to_value(CheckerAnswer { digest: checked.digest, problems })?);
    Ok(())
}

/// Reads the documents of templates back for the daemon, which compares plugins: a plan in each line at standard input,
/// and for each a line with everything that does not come back, until there are no more.
///
/// # Errors
/// When a line is not a plan, or the answer cannot be written.
pub fn answer_plans() -> Done {
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().split(b'\n') {
        let plan: Plan = serde_json::from_slice(&line?)?;
        serde_json::to_writer(&mut output, &canary::check(&plan))?;
        output.write_all(b"\n")?;
        output.flush()?;
    }
    Ok(())
}

fn check(file: &Path, cases: &Path) -> Result<ComponentCheck, Failure> {
    let component = registry::read_component(file)?;
    planner::with_new(file, component, async |planner| ComponentCheck::run(file, cases, &planner).await)
}

impl ComponentCheck {
    /// Checks a component in every way. `planner` is a planner of this component.
    ///
    /// # Errors
    /// When the file cannot be read, or the planner cannot examine it.
    pub async fn run(file: &Path, cases: &Path, planner: &Planner) -> Result<Self, Failure> {
        let component = registry::read_component(file)?;
        let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let mut checked = Self {
            file: file.to_owned(),
            size: component.len() as u64,
            digest: data_encoding::HEXLOWER.encode(&Sha256::digest(&component)),
            report: planner::inspect(file, planner).await?,
            package: None,
            log: Vec::new(),
            canaries: Vec::new(),
            plan: Cost::default(),
            limits: CheckLimits {
                load_micros: micros(load_time(component.len())),
                call_micros: micros(TIME_MAX),
                memory: MEMORY_MAX as u64,
            },
            problems: Vec::new(),
        };
        checked.add_rule_mistakes();
        if checked.report.broken.iter().any(|rule| rule.about == About::Component) {
            return Ok(checked);
        }
        let packaged = checked.read_package(&component);
        if checked.report.broken.is_empty() {
            canaries::run(&mut checked, planner, &packaged, cases).await;
        }
        Ok(checked)
    }

    /// Notes what the package says and what is wrong with it. Returns the files of cases in it.
    fn read_package(&mut self, component: &[u8]) -> Vec<CaseFile> {
        let (about, mut mistakes) = ("package", Vec::new());
        let mut files = Vec::new();
        match package::read(component) {
            Ok(Some(package)) => {
                self.package = Some(PackageFacts::new(&package));
                match cases::parse(&package.cases) {
                    Ok(read) => files = read,
                    Err(error) => mistakes.push(sanitize_line(&error.to_string().replace('\n', "; "))),
                }
                for case in files.iter_mut().flat_map(|file| &mut file.cases) {
                    case.name = sanitize_line(&case.name);
                    case.target = case.target.as_deref().map(sanitize_line);
                }
            }
            Ok(None) => {}
            Err(error) => mistakes.push(error.to_string()),
        }
        self.problems.extend(mistakes.into_iter().map(|message| Mistake { about, message, help: None }));
        files
    }

    /// Returns the component's description of itself, or `None` if the component breaks a rule and cannot be believed.
    pub fn description(&self) -> Option<&Description> {
        self.report.description.as_ref().filter(|_| self.report.broken.is_empty())
    }

    /// Returns the component's SHA-256, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Records what is wrong with the component and with its description of itself.
    fn add_rule_mistakes(&mut self) {
        for rule in &self.report.broken {
            let about = match rule.about {
                About::Component => "component",
                About::Imports | About::Contract => "imports",
                About::Description => "description",
                About::Schema => "schema",
            };
            if rule.about != About::Imports {
                let help = (rule.about == About::Contract).then(|| contract::ALL_OF_THE_WIT.to_owned());
                self.problems.push(Mistake { about, message: rule.sentence.clone(), help });
                continue;
            }
            // Each import is a mistake of its own, with advice about that import.
            self.problems.extend(contract::foreign_imports(&self.report.imports).map(|import| Mistake {
                about,
                message: format!("it imports `{}`, which is not available to plugins", import.name),
                help: Some(contract::advice(&import.name).into()),
            }));
        }
        let Some(description) = &self.report.description else { return };
        let Ok(tree) = serde_json::from_str(&description.schema) else { return };
        for rule in schema::rules(&tree, &description.secret_fields) {
            self.problems.push(Mistake { about: "schema", message: rule, help: None });
        }
    }
}
