//! `plugin dev` as an author has it open beside an editor: the real program follows a project whose files change. A
//! test waits for output, never for a fixed time.

use crate::support::authors::{Language, Project};
use crate::support::dev::Dev;

#[test]
fn each_save_shows_what_became_of_it() {
    let Some(project) = Project::new(Language::C, "call-events") else { return };
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("tmp")).unwrap();
    let mut dev = Dev::start(&project, home.path(), &[]);
    let first = dev.round();
    for line in [
        "built call-events.wasm: ",
        "check    ok\n",
        "cases    6 of 6 pass",
        "plan     template.toml for json\n",
        "«hooks-token-production»",
    ] {
        assert!(first.contains(line), "{line}: {first}");
    }

    project.change("plugin.c", "json_text(\"POST\")", "json_text(\"PUT\")");
    let second = dev.round();
    assert!(second.contains("changed: plugin.c\n"), "{second}");
    for line in
        ["    -   \"method\": \"POST\",\n", "    +   \"method\": \"PUT\",\n", "cases    3 of 6 pass", "- before"]
    {
        assert!(second.contains(line), "{line}: {second}");
    }

    // Code that does not compile and cases that fail are reported, and the next save goes on.
    project.change("plugin.c", "json_text(\"PUT\")", "json_text(\"PUT\"");
    let third = dev.round();
    assert!(third.contains("plugin.c:") && third.contains("error: the build failed; see above"), "{third}");
    project.change("plugin.c", "json_text(\"PUT\"", "json_text(*target == 'j' ? GIVE_UP(\"not yet\"), \"\" : \"\")");
    let fourth = dev.round();
    assert!(fourth.contains("panicked: not yet (plugin.c:"), "{fourth}");
    project.change("plugin.c", "json_text(*target == 'j' ? GIVE_UP(\"not yet\"), \"\" : \"\")", "json_text(\"PUT\")");
    let fifth = dev.round();
    assert!(fifth.contains("plan     template.toml for json: unchanged"), "{fifth}");

    // A mistake in the template is shown in the template's text.
    project.change("template.toml", "events", "evnts");
    let sixth = dev.round();
    assert!(sixth.contains("changed: template.toml\n"), "{sixth}");
    assert!(!sixth.contains("built "), "a template is no part of the component: {sixth}");
    assert!(sixth.contains("unknown field") && sixth.contains("5 | evnts = "), "{sixth}");
    // A new folder is followed too.
    std::fs::create_dir(project.path("notes")).unwrap();
    std::fs::write(project.path("notes/a.md"), "one").unwrap();
    let seventh = dev.round();
    assert!(seventh.contains("changed: notes/a.md\n"), "{seventh}");

    assert_eq!(dev.interrupt(), Some(0));
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["tmp"], "nothing is written into the home of its user");
    assert_eq!(std::fs::read_dir(home.path().join("tmp")).unwrap().count(), 0, "the temporary home is gone");
}

#[test]
fn variables_come_from_the_configuration_of_the_project() {
    let Some(project) = Project::new(Language::C, "call-events") else { return };
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("tmp")).unwrap();
    std::fs::write(project.path("template.toml"), "url = '<< vars.hooks >>'\ntoken = '<< secret \"mine\" >>'\n")
        .unwrap();
    let mut dev = Dev::start(&project, home.path(), &[]);
    let first = dev.round();
    assert!(first.contains("plan     template.toml cannot be rendered\n") && first.contains("vars"), "{first}");
    std::fs::write(project.path("guillemet.toml"), "[vars]\nhooks = 'https://a.example'\n").unwrap();
    let second = dev.round();
    assert!(second.contains("changed: guillemet.toml\n") && second.contains("\"https://a.example\""), "{second}");
    std::fs::write(project.path("guillemet.toml"), "[vars]\nhooks = \n").unwrap();
    let third = dev.round();
    assert!(third.contains("error: guillemet.toml:2:9: "), "{third}");
    assert_eq!(dev.interrupt(), Some(0));
}

#[test]
fn any_template_is_shown_for_any_target() {
    let Some(project) = Project::new(Language::C, "call-events") else { return };
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("tmp")).unwrap();
    let elsewhere = home.path().join("tmp/mine.json");
    std::fs::write(&elsewhere, r#"{"url": "https://a.example", "token": "<< secret 'mine' >>"}"#).unwrap();
    let mut dev = Dev::start(&project, home.path(), &["--template", elsewhere.to_str().unwrap(), "--target", "env"]);
    let first = dev.round();
    assert!(
        first.contains("mine.json for env\n    WEBHOOK_URL=https://a.example\n    WEBHOOK_TOKEN=«mine»\n"),
        "{first}"
    );
    std::fs::write(&elsewhere, r#"{"url": "http://a.example", "token": "<< secret 'mine' >>"}"#).unwrap();
    let second = dev.round();
    assert!(second.contains("+ WEBHOOK_URL=http://a.example"), "{second}");
    assert!(second.contains("warning: is not encrypted"), "{second}");
    assert_eq!(dev.interrupt(), Some(0));

    let mut dev = Dev::start(&project, home.path(), &["--target", "yaml"]);
    let first = dev.round();
    assert!(first.contains("no such target; use one of: json, env"), "{first}");
    assert_eq!(dev.interrupt(), Some(0));
}
