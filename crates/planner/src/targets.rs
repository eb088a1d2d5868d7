//! Reads the targets that a template names for itself, in the reserved field `targets` at the top of its config.
//!
//! Removes the field before the plugin sees the config. Knows nothing of what a target is for.

use serde_json::Value;

use crate::source_map::SourcePosition;
use guillemet_base::problem::Problem;
use guillemet_plan::description::{TARGETS_FIELD, unknown_target};
use guillemet_plan::document::Tree;
use guillemet_plan::protocol::Description;
use guillemet_plan::slots;

/// Advice for a value that is not a list of targets.
const HELP: &str = "list targets of the feature, as in targets = [\"json\"], or remove the field";

/// Removes the field from a config; the other fields keep their order.
pub fn take(tree: &mut Tree) -> Option<Value> {
    tree.root.as_object_mut()?.shift_remove(TARGETS_FIELD)
}

/// The targets that a template names.
#[derive(Debug, Default, PartialEq)]
pub struct NamedTargets {
    /// The present ids of targets that the plugin has, each once, in the template's order.
    pub ids: Vec<String>,
    /// One warning for each former name that the template uses.
    pub warnings: Vec<Problem>,
}

/// Reads the field. A former name of a target counts as the target. `position_of` returns the place of a field.
///
/// # Errors
/// Returns every problem with it, except for secrets in it, which `slot_tracking::track_emissions` reports.
pub fn read(
    value: &Value,
    description: &Description,
    position_of: impl Fn(&str) -> SourcePosition,
) -> Result<NamedTargets, Vec<Problem>> {
    let problem = |path: String, message: String, help: Option<String>| {
        let SourcePosition { line, column } = position_of(&path);
        Problem { path, line, column, message, help }
    };
    let of_list = |message: &str| Err(vec![problem(TARGETS_FIELD.into(), message.into(), Some(HELP.into()))]);
    let Value::Array(items) = value else {
        return of_list("`targets` is not a list of target ids");
    };
    if items.is_empty() {
        return of_list("`targets` is an empty list");
    }
    let (mut result, mut problems) = (NamedTargets::default(), Vec::new());
    for (index, item) in items.iter().enumerate() {
        let path = format!("{TARGETS_FIELD}.{index}");
        match item {
            Value::String(id) if !slots::find(id).is_empty() => {}
            Value::String(name) if !name.is_empty() => {
                match description.targets.iter().find(|target| target.names().any(|alias| alias == name)) {
                    Some(target) if result.ids.contains(&target.id) => {
                        let message = format!("the target \"{}\" is listed twice in `targets`", target.id);
                        problems.push(problem(path, message, Some("list it once".into())));
                    }
                    Some(target) => {
                        result.ids.push(target.id.clone());
                        result
                            .warnings
                            .extend(target.rename_notice(Some(name)).map(|message| problem(path, message, None)));
                    }
                    None => {
                        let unknown = unknown_target(description, name).unwrap_or_default();
                        problems.push(problem(path, unknown.message, unknown.help));
                    }
                }
            }
            _ => problems.push(problem(path, "this is not a target id".into(), Some(HELP.into()))),
        }
    }
    if problems.is_empty() { Ok(result) } else { Err(problems) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use guillemet_plan::protocol::Target;

    fn read_json(named: Value) -> Result<NamedTargets, Vec<String>> {
        let target = |id: &str| Target {
            id: id.into(),
            title: String::new(),
            media_type: "text/plain".into(),
            file_name: "a".into(),
            aliases: if id == "pjsip" { vec!["asterisk".into()] } else { Vec::new() },
        };
        let description = Description {
            feature: "sip-trunk".into(),
            title: String::new(),
            version: String::new(),
            schema: "{}".into(),
            secret_fields: Vec::new(),
            targets: ["livekit", "pjsip"].map(target).to_vec(),
        };
        let place = |path: &str| SourcePosition { line: Some(path.len() as u32), column: None };
        read(&named, &description, place).map_err(|problems| {
            let messages = problems.into_iter();
            messages.map(|problem| format!("{}:{} {}", problem.path, problem.line.unwrap(), problem.message)).collect()
        })
    }

    #[test]
    fn the_ids_of_known_targets_are_a_list_of_targets() {
        let named = read_json(json!(["pjsip", "livekit"])).unwrap();
        assert_eq!(named, NamedTargets { ids: vec!["pjsip".into(), "livekit".into()], warnings: Vec::new() });
    }

    #[test]
    fn a_former_name_is_the_target_and_is_told() {
        let named = read_json(json!(["livekit", "asterisk"])).unwrap();
        assert_eq!(named.ids, ["livekit", "pjsip"]);
        let [warning] = &named.warnings[..] else { panic!("{named:?}") };
        assert_eq!(warning.path, "targets.1");
        assert_eq!(warning.message, "the target `asterisk` is now called `pjsip`; the old name still works");
        assert_eq!(
            read_json(json!(["pjsip", "asterisk"])).unwrap_err(),
            ["targets.1:9 the target \"pjsip\" is listed twice in `targets`"]
        );
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_its_place() {
        for list in [json!("pjsip"), json!({"pjsip": true}), json!(null), json!(1)] {
            assert_eq!(read_json(list).unwrap_err(), ["targets:7 `targets` is not a list of target ids"]);
        }
        assert_eq!(read_json(json!([])).unwrap_err(), ["targets:7 `targets` is an empty list"]);
        assert_eq!(
            read_json(json!(["pjsip", "", 1, "freeswitch", "pjsip"])).unwrap_err(),
            [
                "targets.1:9 this is not a target id",
                "targets.2:9 this is not a target id",
                "targets.3:9 the feature sip-trunk has no target \"freeswitch\"",
                "targets.4:9 the target \"pjsip\" is listed twice in `targets`",
            ]
        );
    }
}
