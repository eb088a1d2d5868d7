//! `plugin test`: runs the cases of a project through its component.

use std::path::{Path, PathBuf};

use clap::Args;

use super::super::{Done, Failure, output};
use super::check::NOT_READ_BACK;
use super::planner;
use super::project::Project;
use guillemet_base::problem::Problem;
use guillemet_plan::protocol::Description;
use guillemet_plugin::canary;
use guillemet_plugin::cases::{self, Case, CaseFile, CaseResult, DiffLine, Difference};
use guillemet_plugin::client::Planner;
use guillemet_plugin::schema::Schema;

#[derive(Args)]
pub struct PluginTestArgs {
    /// The project's folder.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Write the actual results into failing cases. Review the diff before you keep it.
    #[arg(long)]
    bless: bool,
}

/// The result of a case that has been run.
pub struct Ran {
    found: CaseResult,
    differences: Vec<Difference>,
    /// What the plugin logged.
    log: Vec<String>,
    /// Whether a hostile value does not come back from the document. Such a document is not written into the cases.
    is_misread: bool,
}

impl Ran {
    /// Fills the document with hostile values and reads it back. Adds what did not come back to the differences.
    pub fn read_back(&mut self) {
        let CaseResult::Planned { plan, .. } = &self.found else { return };
        let problems = canary::check(plan);
        self.is_misread = !problems.is_empty();
        let difference = |problem: Problem| Difference { message: problem.message, lines: Vec::new() };
        self.differences.extend(problems.into_iter().map(difference));
    }

    /// Reports whether there is a document that cannot be read back.
    fn is_unread(&self) -> bool {
        matches!(&self.found, CaseResult::Planned { plan, .. } if !canary::can_read(plan))
    }
}

impl PluginTestArgs {
    pub fn run(self) -> Done {
        let project = Project::find(&self.dir)?;
        let mut files = cases::read(&project.cases())?;
        if let Some(outdated) = project.outdated_warning() {
            // The results of an outdated component must not be written into the cases.
            if self.bless {
                return Err(Failure::new(outdated));
            }
            output::note(&format!("note: {outdated}"));
        }
        let (description, mut ran) = planner::with(&project.component, async |planner| {
            let description = planner::load(&project.component, &planner).await?;
            let ran = run_all(&planner, &description, &files).await;
            Ok((description, ran))
        })?;
        ran.iter_mut().flatten().for_each(Ran::read_back);
        for (file, ran) in files.iter().zip(&ran) {
            print(file, ran);
        }
        let total: usize = ran.iter().map(Vec::len).sum();
        let failed = |ran: &&Ran| !ran.differences.is_empty();
        let mut failing = ran.iter().flatten().filter(failed).count();
        if self.bless {
            failing -= bless(&files, &ran)?;
            files = cases::read(&project.cases())?;
        }
        let gaps = cases::gaps(&description, &files);
        gaps.iter().for_each(|gap| output::line(gap));
        match (failing, gaps.is_empty()) {
            (0, true) => {
                let targets: Vec<&str> = description.targets.iter().map(|target| target.id.as_str()).collect();
                let cases = if total == 1 { "the case passes".into() } else { format!("all {total} cases pass") };
                output::line(&format!("{cases}, for every target: {}", targets.join(", ")));
                Ok(())
            }
            (0, false) => Err(Failure::new("the cases are incomplete")),
            (failing, _) => Err(Failure::new(summary(failing, total, self.bless))),
        }
    }
}

fn summary(failing: usize, total: usize, blessed: bool) -> String {
    let help = if blessed {
        "the result of a failing plugin cannot be written into its cases: fix the plugin"
    } else {
        "fix the plugin, or write its results into the cases with `--bless`"
    };
    let failed = if failing == 1 { "one case".into() } else { format!("{failing} cases") };
    format!("{failed} of {total} failed; {help}")
}

/// Runs every case. Returns the results of each file.
pub async fn run_all(planner: &Planner, description: &Description, files: &[CaseFile]) -> Vec<Vec<Ran>> {
    let schema = serde_json::from_str(&description.schema).ok().and_then(|tree| Schema::new(&tree).ok());
    let mut results = Vec::with_capacity(files.len());
    for file in files {
        let mut ran = Vec::with_capacity(file.cases.len());
        for case in &file.cases {
            let found = cases::run(planner, description, case).await;
            let mut differences = cases::compare(case, &found);
            if matches!(found, CaseResult::Planned { .. }) {
                let mistakes = schema.as_ref().map(|schema| schema.mistakes(&case.config)).unwrap_or_default();
                differences.extend(mistakes.into_iter().map(refused_by_schema));
            }
            ran.push(Ran { found, differences, log: planner.take_log(), is_misread: false });
        }
        results.push(ran);
    }
    results
}

/// An editor would mark a config that the plugin takes.
fn refused_by_schema(mistake: String) -> Difference {
    let message = format!("the plugin takes this config, and its schema refuses it: {mistake}");
    Difference { message, lines: Vec::new() }
}

fn print(file: &CaseFile, ran: &[Ran]) {
    output::line(&name(&file.path));
    for (case, ran) in file.cases.iter().zip(ran) {
        if ran.differences.is_empty() {
            output::line(&format!("  ok      {}", case.name));
            if ran.is_unread() {
                output::line(&format!("    {NOT_READ_BACK}"));
            }
        } else {
            print_failed(case, &ran.differences);
        }
        print_log(&ran.log);
    }
}

/// Prints what a plugin logged.
pub fn print_log(log: &[String]) {
    log.iter().for_each(|line| output::line(&format!("    log: {line}")));
}

/// Prints the failed cases of a file. Returns how many there are.
pub fn print_failures(file: &CaseFile, ran: &[Ran]) -> usize {
    let failed: Vec<_> = file.cases.iter().zip(ran).filter(|(_, ran)| !ran.differences.is_empty()).collect();
    if !failed.is_empty() {
        output::line(&name(&file.path));
    }
    for (case, ran) in &failed {
        print_failed(case, &ran.differences);
        print_log(&ran.log);
    }
    failed.len()
}

fn print_failed(case: &Case, differences: &[Difference]) {
    output::line(&format!("  failed  {} (line {})", case.name, case.line));
    for difference in differences {
        output::line(&format!("    {}", difference.message));
        print_lines(&difference.lines, "    ");
    }
}

/// Prints the lines of a difference, expected ones in red and found ones in green.
pub fn print_lines(lines: &[DiffLine], indent: &str) {
    for line in lines {
        let style = match line {
            DiffLine::Expected(_) => output::Colour::Red,
            DiffLine::Found(_) => output::Colour::Green,
            DiffLine::Same(_) | DiffLine::Left => output::Colour::None,
        };
        output::colored_line(style, &format!("{indent}{line}"));
    }
}

/// Writes what failing cases found into their files. Returns how many cases were written.
fn bless(files: &[CaseFile], ran: &[Vec<Ran>]) -> Result<usize, Failure> {
    let mut count = 0;
    for (file, ran) in files.iter().zip(ran) {
        let failed = ran.iter().enumerate().filter(|(_, ran)| !ran.differences.is_empty() && !ran.is_misread);
        let found: Vec<(usize, &CaseResult)> = failed.map(|(index, ran)| (index, &ran.found)).collect();
        let written = file
            .bless(&found)
            .map_err(|error| Failure::new(format!("{} cannot be written: {error}", file.path.display())))?;
        for case in &written {
            output::line(&format!("{}: wrote the result for \"{case}\"", name(&file.path)));
        }
        count += written.len();
    }
    Ok(count)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
