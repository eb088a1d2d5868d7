use super::*;

fn target(id: &str, aliases: &[&str]) -> Target {
    Target {
        id: id.into(),
        title: id.into(),
        media_type: "application/json".into(),
        file_name: "a.json".into(),
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
    }
}

fn description(version: &str, fields: &[&str], targets: Vec<Target>) -> Description {
    Description {
        feature: "pager".into(),
        title: "Pager".into(),
        version: version.into(),
        schema: "{}".into(),
        secret_fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        targets,
    }
}

#[test]
fn versions_are_compared_by_their_numbers() {
    for (before, after, expected) in [
        ("1.2.0", "1.10.0", VersionOrder::Newer),
        ("1.2.0", "1.2.0", VersionOrder::Same),
        ("1.2.0", "1.1.9", VersionOrder::Older),
        ("1.2.0", "1.2.0-rc.1", VersionOrder::Older),
        ("1.2.0+a", "1.2.0+b", VersionOrder::Unordered),
        ("1.2", "1.3.0", VersionOrder::Unordered),
    ] {
        assert_eq!(order(before, after), expected, "{before} {after}");
    }
}

#[test]
fn names_of_targets_count_whether_they_are_former_ones_or_not() {
    let before = description("1.0.0", &["a", "b"], vec![target("json", &["old"]), target("env", &[])]);
    let renamed = description("1.0.1", &["b", "c"], vec![target("http", &["json"]), target("env", &[])]);
    let found = of_descriptions(Some(&before), &renamed);
    assert_eq!((found.targets_added, found.targets_removed), (vec!["http".to_owned()], vec!["old".to_owned()]));
    assert_eq!((found.secret_fields_added, found.secret_fields_removed), (vec!["c".to_owned()], vec!["a".to_owned()]));
    assert_eq!(found.default_target, None, "the same target under another name");
    assert_eq!(found.version, VersionOrder::Newer);
    // Another default is another document for whoever names no target.
    let reordered = description("1.0.0", &["a", "b"], vec![target("env", &[]), target("json", &["old"])]);
    let found = of_descriptions(Some(&before), &reordered);
    assert_eq!(found.default_target, Some(("json".into(), "env".into())));
    assert!(found.breaks[0].problem.message.contains("the default target is `env` instead of `json`"));
    assert!(of_descriptions(None, &before).breaks.is_empty());
}

#[test]
fn a_consent_is_for_what_was_shown() {
    let mut comparison = of_descriptions(None, &description("1.0.0", &[], vec![target("json", &[])]));
    let empty = comparison.digest();
    comparison.breaks.push(Break::of_target("json", "gone".into()));
    let one = comparison.digest();
    comparison.breaks.push(Break::of_target("env", "gone".into()));
    assert!(empty != one && one != comparison.digest() && empty != comparison.digest());
}
