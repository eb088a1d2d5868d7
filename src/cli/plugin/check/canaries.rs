//! The canaries of `plugin check`: plans each case beside the component, or each example from its schema, and reads the
//! document back with hostile values in place of the secrets.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{CanaryStatus, ComponentCheck, Mistake, TriedConfig};
use guillemet_plan::protocol::Description;
use guillemet_plugin::cases::{Case, CaseResult};
use guillemet_plugin::client::Planner;
use guillemet_plugin::schema::Schema;
use guillemet_plugin::{canary, cases, schema};

/// The largest number of examples to try. Each pair of a target and a secret field is one.
const EXAMPLES_MAX: usize = 256;
/// The time after which the first failure ends the tries of examples: a plugin can take its whole time for each.
const EXAMPLES_TIME: Duration = Duration::from_secs(10);

/// Tries the cases or the examples, and records the mistakes.
pub async fn run(checked: &mut ComponentCheck, planner: &Planner, folder: &Path) {
    let Some(description) = checked.report.description.clone() else { return };
    if folder.is_dir() {
        match cases::read(folder) {
            Ok(files) => {
                let schema = serde_json::from_str(&description.schema).ok().and_then(|tree| Schema::new(&tree).ok());
                for case in files.iter().flat_map(|file| &file.cases) {
                    if let Some(schema) = schema.as_ref().filter(|_| case.document.is_some()) {
                        checked.note_refused(case, &schema.mistakes(&case.config));
                    }
                    checked.try_case(planner, &description, case, true).await;
                }
            }
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
        checked.try_case(planner, &description, &case, false).await;
        let has_failed = checked.canaries.iter().any(|tried| tried.status == CanaryStatus::Failed);
        if has_failed && begun.elapsed() > EXAMPLES_TIME {
            return;
        }
    }
    checked.note_untried(&description);
}

impl ComponentCheck {
    fn add_mistake(&mut self, message: String, help: Option<String>) {
        let problem = Mistake { about: "canaries", message, help };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Plans one config and reads its document back. `written` says that an author wrote the case, so that it has to
    /// lead to a document unless it is about problems.
    async fn try_case(&mut self, planner: &Planner, description: &Description, case: &Case, written: bool) {
        let target = case.target(description).to_owned();
        let result = cases::run(planner, description, case).await;
        self.log.extend(planner.take_log().iter().map(|line| format!("{} (target `{target}`): {line}", case.name)));
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
            CaseResult::Problems(_) if written && case.document.is_none() => CanaryStatus::NoDocument,
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
