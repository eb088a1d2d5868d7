//! Handles one request: renders the template, follows the slots, reads the tree, calls the plugin, checks its document.

use std::collections::HashMap;

use serde_json::Value;

use super::canonical;
use super::encoder::{Encoder, PluginError, TextPlaces};
use super::host::{LoadedPlugin, Written};
use super::render::render;
use super::targets::{self, NamedTargets};
use crate::slot_tracking;
use crate::source_map::{Origins, SourcePosition};
use guillemet_base::problem::{PROBLEMS_MAX, Problem, sanitize_problems};
use guillemet_plan::description::{SecretFields, unknown_target};
use guillemet_plan::document::{self, Tree, TreeError};
use guillemet_plan::protocol::{Description, Emission, PlanRequest, Planned, PlannerResponse};

/// Makes the plan of a request, or explains why there is none. Appends what the plugin logs to `log`.
pub fn plan(
    plugin: &LoadedPlugin,
    description: &Description,
    request: &PlanRequest,
    log: &mut Vec<String>,
) -> PlannerResponse {
    match try_plan(plugin, description, request, log) {
        Ok(planned) => PlannerResponse::Planned(planned),
        Err(failure) => failure.into_response(),
    }
}

/// Returns the targets that a template names. Does not call the plugin.
pub fn targets(description: &Description, request: &PlanRequest) -> PlannerResponse {
    match secret_fields(description).and_then(|fields| Ok(read_config(request, description, &fields)?)) {
        Ok(config) => PlannerResponse::Targets(config.targets.ids),
        Err(failure) => failure.into_response(),
    }
}

enum PlanningError {
    Config(Vec<Problem>),
    Plugin(PluginError),
}

impl From<PluginError> for PlanningError {
    fn from(error: PluginError) -> Self {
        Self::Plugin(error)
    }
}

impl From<Vec<Problem>> for PlanningError {
    fn from(problems: Vec<Problem>) -> Self {
        Self::Config(problems)
    }
}

impl PlanningError {
    fn into_response(self) -> PlannerResponse {
        match self {
            Self::Config(mut problems) => {
                problems.sort_by_key(|problem| (problem.line.unwrap_or(u32::MAX), problem.column));
                problems.dedup();
                problems.truncate(PROBLEMS_MAX);
                PlannerResponse::Problems(sanitize_problems(problems))
            }
            Self::Plugin(PluginError(rule)) => PlannerResponse::Broken { rule },
        }
    }
}

fn secret_fields(description: &Description) -> Result<SecretFields, PlanningError> {
    Ok(SecretFields::new(&description.secret_fields).map_err(|rules| PluginError(rules.join("; ")))?)
}

fn try_plan(
    plugin: &LoadedPlugin,
    description: &Description,
    request: &PlanRequest,
    log: &mut Vec<String>,
) -> Result<Planned, PlanningError> {
    let fields = secret_fields(description)?;
    let target = unknown_target(description, &request.target);
    // The template's own mistakes are reported together with an unknown target.
    let config = read_config(request, description, &fields)
        .and_then(|config| target.clone().map_or(Ok(config), |_| Err(Vec::new())));
    let PluginConfig { tree, origins, emissions, slots, targets } = config.map_err(|mut problems| {
        problems.extend(target);
        PlanningError::Config(problems)
    })?;
    let positions = Positions { request, emissions: &emissions, tree: &tree, origins: &origins };

    let encoder = Encoder::new(slots, &emissions, &request.references, text_places(&tree.root));
    let config = tree.root.to_string();
    let (written, mut encoder, cost) = plugin.plan(encoder, &config, &request.target, log)?;
    let mut problems = encoder.take_problems();
    let (text, kind, warnings) = match written {
        Written::Document { text, kind, warnings } => (text, kind, warnings),
        Written::Problems(reported) => {
            problems.extend(reported);
            return Err(PlanningError::Config(positions.fill_in(problems)));
        }
    };
    if !problems.is_empty() {
        return Err(PlanningError::Config(positions.fill_in(problems)));
    }
    let document = canonical::check(text, kind, &request.target, &encoder, &emissions, &request.references)?;
    let mut warnings = positions.fill_in(warnings);
    warnings.extend(targets.warnings);
    Ok(Planned { document: document.text, kind: document.kind, slots: document.slots, emissions, warnings, cost })
}

/// A config as the plugin receives it, with what is known of its slots.
struct PluginConfig {
    tree: Tree,
    origins: Origins,
    emissions: Vec<Emission>,
    /// The index of the emission that each slot stands for.
    slots: HashMap<String, u32>,
    /// The targets that the template names for itself.
    targets: NamedTargets,
}

fn read_config(
    request: &PlanRequest,
    description: &Description,
    fields: &SecretFields,
) -> Result<PluginConfig, Vec<Problem>> {
    let rendered = render(request)?;
    let (emitted, origins) = slot_tracking::find_emitted(request, rendered)?;
    let mut tree = document::parse(request.format, &emitted.text)
        .map_err(|errors| errors.into_iter().map(|error| of_tree(error, &origins)).collect::<Vec<_>>())?;
    let target_value = targets::take(&mut tree);
    let position_of = |path: &str| tree.places.get(path).map(|at| origins.of_output(*at)).unwrap_or_default();
    let targets = target_value.as_ref().map_or_else(
        || Ok(NamedTargets::default()),
        |target_value| targets::read(target_value, description, position_of),
    );
    let placed = slot_tracking::track_emissions(request, &emitted, &mut tree, &origins, fields, target_value.as_ref());
    match (placed, targets) {
        (Ok((emissions, slots)), Ok(targets)) => Ok(PluginConfig { tree, origins, emissions, slots, targets }),
        (placed, targets) => {
            let mut problems = targets.err().unwrap_or_default();
            problems.extend(placed.err().unwrap_or_default());
            Err(problems)
        }
    }
}

fn of_tree(error: TreeError, origins: &Origins) -> Problem {
    let position = error.at.map(|at| origins.of_output(at)).unwrap_or_default();
    Problem {
        path: String::new(),
        line: position.line,
        column: position.column,
        message: error.message,
        help: error.help.or_else(|| Some("correct this text".into())),
    }
}

/// Returns where the texts of a config are.
fn text_places(root: &Value) -> TextPlaces {
    fn walk(value: &Value, path: &str, places: &mut TextPlaces) {
        let join = |segment: &str| if path.is_empty() { segment.to_owned() } else { format!("{path}.{segment}") };
        match value {
            Value::String(text) => {
                places.values.entry(text.clone()).or_insert_with(|| path.to_owned());
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(index, item)| walk(item, &join(&index.to_string()), places));
            }
            Value::Object(map) => {
                for (name, item) in map {
                    places.names.entry(name.clone()).or_insert_with(|| join(name));
                    walk(item, &join(name), places);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut places = TextPlaces::default();
    walk(root, "", &mut places);
    places
}

/// The places of a config's fields in its template.
struct Positions<'a> {
    request: &'a PlanRequest,
    emissions: &'a [Emission],
    tree: &'a Tree,
    origins: &'a Origins,
}

impl Positions<'_> {
    fn fill_in(&self, problems: Vec<Problem>) -> Vec<Problem> {
        let placed = problems.into_iter().map(|problem| {
            if problem.line.is_some() || problem.path.is_empty() {
                return problem;
            }
            let position = self.of_field(&problem.path);
            Problem { line: position.line, column: position.column, ..problem }
        });
        placed.collect()
    }

    /// Returns the place of the tag in the field; if there is none, the field's own place, that of a tag beneath it, or
    /// that of the nearest table that contains it.
    fn of_field(&self, path: &str) -> SourcePosition {
        let tag = |include_nested: bool| {
            let in_field = |emission: &&Emission| {
                let rest = emission.field.strip_prefix(path);
                rest.is_some_and(|rest| rest.is_empty() || (include_nested && rest.starts_with('.')))
            };
            let emission = self.emissions.iter().find(in_field)?;
            let reference = self.request.references.get(emission.reference as usize)?;
            Some(SourcePosition { line: Some(reference.line), column: Some(reference.column) })
        };
        let exact = || self.tree.places.get(path).map(|at| self.origins.of_output(*at));
        let nearest = || {
            let mut rest = path;
            while let Some((parent, _)) = rest.rsplit_once('.') {
                if let Some(at) = self.tree.places.get(parent) {
                    return Some(self.origins.of_output(*at));
                }
                rest = parent;
            }
            None
        };
        tag(false).or_else(exact).or_else(|| tag(true)).or_else(nearest).unwrap_or_default()
    }
}
