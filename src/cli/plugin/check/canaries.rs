//! The canaries of `plugin check`: plans each case and each example from the schema, and reads the document back with
//! hostile values in place of the secrets. Runs the cases that came with the component.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{CanaryStatus, ComponentCheck, Mistake, TriedConfig};
use guillemet_base::display::sanitize;
use guillemet_base::problem::PROBLEMS_MAX;
use guillemet_plan::protocol::Description;
use guillemet_plugin::cases::{Case, CaseFile, CaseResult, DiffLine};
use guillemet_plugin::client::Planner;
use guillemet_plugin::schema::Schema;
use guillemet_plugin::{canary, cases, schema};

/// The largest number of examples to try. Each pair of a target and a secret field is one.
const EXAMPLES_MAX: usize = 256;
/// The time after which the first failure ends the tries of examples: a plugin can take its whole time for each.
const EXAMPLES_TIME: Duration = Duration::from_secs(10);

/// The most characters of a message about a case of the package.
const MESSAGE_MAX: usize = 500;
/// The most lines of a difference that are shown, and the most characters of each.
const LINES_MAX: usize = 20;
const LINE_MAX: usize = 200;

/// Tries the cases and the examples, and records the mistakes.
///
/// Cases that come with the component are run in full, and examples are tried as well: its author chose the cases, so
/// they must not decide alone what is tried. Without any, the cases in `folder` are tried in place of examples.
pub async fn run(checked: &mut ComponentCheck, planner: &Planner, packaged: &[CaseFile], folder: &Path) {
    let Some(description) = checked.report.description.clone() else { return };
    if !packaged.is_empty() {
        checked.try_cases(planner, &description, packaged, true).await;
    } else if folder.is_dir() {
        match cases::read(folder) {
            Ok(files) => checked.try_cases(planner, &description, &files, false).await,
            Err(error) => checked.add_mistake(error.to_string(), None),
        }
        checked.note_untried(&description);
        return;
    }
    // Examples generated from an invalid schema would say nothing.
    if checked.problems.iter().any(|problem| problem.about == "schema") {
        return;
    }
    let tree = serde_json::from_str(&description.schema).unwrap_or_default();
    let examples = schema::examples(&tree, &description.secret_fields);
    let pairs = description.targets.iter().flat_map(|target| examples.iter().map(move |example| (target, example)));
    let begun = Instant::now();
    for (target, example) in pairs.take(EXAMPLES_MAX) {
        let case = Case {
            name: match example.field.as_str() {
                "" => "an example without a secret".into(),
                field => format!("a secret in `{field}`"),
            },
            line: 0,
            target: Some(target.id.clone()),
            config: example.config.clone(),
            ..Case::default()
        };
        checked.try_case(planner, &description, &case, CaseUse::Example).await;
        let has_failed = checked.canaries.iter().any(|tried| tried.status == CanaryStatus::Failed);
        if has_failed && begun.elapsed() > EXAMPLES_TIME {
            return;
        }
    }
    checked.note_untried(&description);
}

/// What is asked of a case.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CaseUse {
    /// It is a guess, made from the schema.
    Example,
    /// An author wrote it, so it has to lead to a document unless it is about problems.
    Written,
    /// It came with the component, so it has to lead to exactly what it says.
    Packaged,
}

impl ComponentCheck {
    async fn try_cases(&mut self, planner: &Planner, description: &Description, files: &[CaseFile], packaged: bool) {
        let schema = serde_json::from_str(&description.schema).ok().and_then(|tree| Schema::new(&tree).ok());
        let case_use = if packaged { CaseUse::Packaged } else { CaseUse::Written };
        for case in files.iter().flat_map(|file| &file.cases) {
            if let Some(schema) = schema.as_ref().filter(|_| case.document.is_some()) {
                self.note_refused(case, &schema.mistakes(&case.config));
            }
            self.try_case(planner, description, case, case_use).await;
        }
    }

    /// Records what a case of the package does not lead to, although it says so.
    fn note_differences(&mut self, case: &Case, result: &CaseResult) {
        let line = |line: &DiffLine| format!("\n    {}", sanitize(&line.to_string(), LINE_MAX));
        for difference in cases::compare(case, result) {
            if self.problems.len() >= PROBLEMS_MAX {
                return;
            }
            let lines: String = difference.lines.iter().take(LINES_MAX).map(line).collect();
            let what = sanitize(&difference.message, MESSAGE_MAX);
            let message = format!("{} (line {}): {what}{lines}", case.name, case.line);
            let help = Some("the component does not do what its author tested; ask for another version".into());
            self.problems.push(Mistake { about: "cases", message, help });
        }
    }

    fn add_mistake(&mut self, message: String, help: Option<String>) {
        let problem = Mistake { about: "canaries", message, help };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Plans one config and reads its document back.
    async fn try_case(&mut self, planner: &Planner, description: &Description, case: &Case, case_use: CaseUse) {
        let written = case_use == CaseUse::Written;
        let target = case.target(description).to_owned();
        let result = cases::run(planner, description, case).await;
        self.log.extend(planner.take_log().iter().map(|line| format!("{} (target `{target}`): {line}", case.name)));
        if case_use == CaseUse::Packaged {
            self.note_differences(case, &result);
        }
        let status = match result {
            CaseResult::Planned { plan, cost, .. } => {
                self.plan.micros = self.plan.micros.max(cost.micros);
                self.plan.memory = self.plan.memory.max(cost.memory);
                let problems = canary::check(&plan);
                for problem in &problems {
                    self.add_mistake(
                        format!("{}: {}", case.name, problem.message),
                        Some("use the encoder of the document's format there, without quotes around it".into()),
                    );
                }
                match problems.is_empty() {
                    false => CanaryStatus::Failed,
                    true if canary::can_read(&plan) => CanaryStatus::Ok,
                    true => CanaryStatus::Unread,
                }
            }
            // What is wrong with a case of the package has been noted.
            CaseResult::Problems(_) if case_use == CaseUse::Packaged || (written && case.document.is_none()) => {
                CanaryStatus::NoDocument
            }
            CaseResult::Problems(problems) => {
                let messages: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.path, p.message)).collect();
                if written {
                    let help = "`guillemet plugin test` shows what differs".into();
                    self.add_mistake(
                        format!("{}: there is no document ({})", case.name, messages.join("; ")),
                        Some(help),
                    );
                }
                // An example is a guess. It only matters that each target was tried at all, which `note_untried`
                // checks.
                CanaryStatus::NoDocument
            }
            CaseResult::Failed(_) if case_use == CaseUse::Packaged => CanaryStatus::Failed,
            CaseResult::Failed(message) => {
                self.add_mistake(format!("{} (target `{target}`): {message}", case.name), None);
                CanaryStatus::Failed
            }
        };
        self.canaries.push(TriedConfig { name: case.name.clone(), target, status });
    }

    /// Records a case whose config the schema refuses, so that an editor would mark it.
    fn note_refused(&mut self, case: &Case, messages: &[String]) {
        for rejection in messages {
            let message = format!("it rejects the config of the case \"{}\": {rejection}", case.name);
            self.problems.push(Mistake { about: "schema", message, help: None });
        }
    }

    /// Records the targets for which no config was planned.
    fn note_untried(&mut self, description: &Description) {
        for target in &description.targets {
            let tried = |tried: &TriedConfig| tried.target == target.id && tried.status != CanaryStatus::NoDocument;
            if !self.canaries.iter().any(tried) {
                let help =
                    "add a case for it in `cases`, beside the component, or add `examples` to the fields of the schema";
                self.add_mistake(
                    format!("the target `{}` could not be tested: no config produced a document", target.id),
                    Some(help.into()),
                );
            }
        }
    }
}
