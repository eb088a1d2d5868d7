//! Prints the results of `plugin check`.

use super::super::super::output;
use super::{CanaryStatus, ComponentCheck, Mistake};

/// What is said of a document that no reader here can read back.
pub const NOT_READ_BACK: &str = "not read back: there is no reader for this kind of document; relies on the encoders";

/// Prints all results, section by section.
pub fn print(checked: &ComponentCheck) {
    let size = bytes(checked.size);
    output::line(&format!("{}, {size}, SHA-256 {}", checked.file.display(), checked.digest));
    section(checked, "component", &[]);
    section(checked, "package", &package(checked));
    let imports = checked.report.imports.iter().map(|import| match import.functions.as_slice() {
        [] => import.name.clone(),
        functions => format!("{}: {}", import.name, functions.join(", ")),
    });
    section(checked, "imports", &imports.collect::<Vec<_>>());
    section(checked, "description", &description(checked));
    let schema = match &checked.report.description {
        Some(_) if has_no_mistakes(checked, "schema") => vec!["describes every secret field; valid".to_owned()],
        _ => Vec::new(),
    };
    section(checked, "schema", &schema);
    section(checked, "cases", &[]);
    section(checked, "canaries", &canaries(checked));
    section(checked, "log", &[checked.report.log.as_slice(), &checked.log].concat());
    if checked.report.compile_micros > 0 {
        section(checked, "cost", &cost(checked));
    }
}

fn mistakes_about<'a>(checked: &'a ComponentCheck, about: &'a str) -> impl Iterator<Item = &'a Mistake> {
    checked.problems.iter().filter(move |problem| problem.about == about)
}

fn has_no_mistakes(checked: &ComponentCheck, about: &str) -> bool {
    mistakes_about(checked, about).next().is_none()
}

/// Prints a section, unless it has neither lines nor mistakes.
fn section(checked: &ComponentCheck, name: &str, lines: &[String]) {
    if lines.is_empty() && has_no_mistakes(checked, name) {
        return;
    }
    output::line(name);
    lines.iter().for_each(|line| output::line(&format!("  {line}")));
    mistakes_about(checked, name).for_each(print_mistake);
}

fn print_mistake(problem: &Mistake) {
    output::colored_line(output::Colour::Red, &format!("  wrong: {}", problem.message));
    if let Some(help) = &problem.help {
        output::line(&format!("    help: {help}"));
    }
}

/// Prints only the mistakes. Returns how many there are.
pub fn print_mistakes(checked: &ComponentCheck) -> usize {
    checked.problems.iter().for_each(print_mistake);
    checked.problems.len()
}

fn package(checked: &ComponentCheck) -> Vec<String> {
    let Some(facts) = &checked.package else { return Vec::new() };
    let row = |(name, text): (&str, String)| format!("{:<14} {text}", name.to_lowercase());
    let mut lines: Vec<String> = facts.rows().into_iter().map(row).collect();
    let changelog = facts.changelog();
    if !changelog.is_empty() {
        lines.push("changelog".into());
        lines.extend(changelog);
    }
    lines
}

fn description(checked: &ComponentCheck) -> Vec<String> {
    let Some(description) = &checked.report.description else { return Vec::new() };
    let mut lines = vec![
        format!("feature        {}", description.feature),
        format!("title          {}", description.title),
        format!("version        {}", description.version),
    ];
    for target in &description.targets {
        let aliases: String = target.aliases.iter().map(|alias| format!(", formerly {alias}")).collect();
        lines.push(format!(
            "target         {} ({}): {}, {}{aliases}",
            target.id, target.title, target.media_type, target.file_name
        ));
    }
    lines.push(format!("secret fields  {}", description.secret_fields.join(", ")));
    lines
}

fn canaries(checked: &ComponentCheck) -> Vec<String> {
    let line = |tried: &super::TriedConfig| {
        let verdict = match tried.status {
            CanaryStatus::Ok => "ok     ",
            CanaryStatus::Failed => "failed ",
            CanaryStatus::Unread => "unread ",
            CanaryStatus::NoDocument => "no document",
        };
        format!("{verdict}  {} (target `{}`)", tried.name, tried.target)
    };
    let mut lines: Vec<String> =
        checked.canaries.iter().filter(|tried| tried.status != CanaryStatus::NoDocument).map(line).collect();
    lines.extend(unread(checked));
    lines
}

/// Returns the line about documents that cannot be read back; `None` if all can.
pub fn unread(checked: &ComponentCheck) -> Option<String> {
    let mut unread = checked.canaries.iter().filter(|tried| tried.status == CanaryStatus::Unread);
    unread.next().map(|_| NOT_READ_BACK.to_owned())
}

fn cost(checked: &ComponentCheck) -> Vec<String> {
    let (report, limits) = (&checked.report, &checked.limits);
    let memory = |cost: u64| format!("{} of {}", bytes(cost), bytes(limits.memory));
    let mut lines = vec![format!("compile   {} of {}", time(report.compile_micros), time(limits.load_micros))];
    if report.describe.micros > 0 {
        let (took, allowed) = (time(report.describe.micros), time(limits.call_micros));
        lines.push(format!("describe  {took} of {allowed}, {}", memory(report.describe.memory)));
    }
    if checked.plan.micros > 0 {
        let (took, allowed) = (time(checked.plan.micros), time(limits.call_micros));
        lines.push(format!("plan      {took} of {allowed}, {}, at most", memory(checked.plan.memory)));
    }
    lines
}

fn time(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.1} s", micros as f64 / 1e6),
    }
}

/// Formats a size in KiB or MiB.
pub fn bytes(count: u64) -> String {
    match count {
        0..1_048_576 => format!("{:.0} KiB", count as f64 / 1024.0),
        _ => format!("{:.1} MiB", count as f64 / 1_048_576.0),
    }
}
