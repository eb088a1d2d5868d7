//! A new plugin in Python has stubs of the modules that componentize-py generates, so that editors and type checkers
//! know them: they are those of the tool, and mypy takes the project with them.

use std::path::Path;
use std::process::Command;

use crate::support::authors::{Language, Project, tools};
use guillemet_testing::missing;

fn output_of(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[test]
fn the_stubs_are_those_of_componentize_py() {
    let Some(project) = Project::new(Language::Python, "typed") else { return };
    let generated = tempfile::tempdir().unwrap();
    let (made, text) = output_of(
        project
            .command(".venv/bin/componentize-py", &["--quiet", "--wit-path", "wit", "--world", "feature", "bindings"])
            .arg(generated.path()),
    );
    assert!(made, "{text}");
    let signatures = |folder: &Path, end: &str| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/authors/signatures.py");
        let (read, text) =
            output_of(Command::new(tools().join("venv/bin/python3")).args([script.as_ref(), folder]).arg(end));
        assert!(read, "{text}");
        text
    };
    let stubs = signatures(&project.path("typings"), ".pyi");
    assert!(stubs.lines().count() > 60 && stubs.contains("def hmac(key: str, text: str"), "{stubs}");
    assert_eq!(stubs, signatures(generated.path(), ".py"));
}

/// The scaffold, and a project from a sample with every kind of field; what is not in the contract is found.
#[test]
fn mypy_takes_a_new_project_and_finds_what_the_contract_lacks() {
    let mypy = tools().join("types/bin/mypy");
    if !missing::has(mypy.exists(), "mypy", "`tests/authors/tools` installs it") {
        return;
    }
    let sample = "url = 'https://a.example'\nkeys = ['<< secret \"k\" >>']\nretries = 3\n[headers]\nX-Key = 'abc'\n\
                  [[routes]]\nto = 'x'\nweight = 1.5\n[[routes]]\nto = 'y'\nloud = true\n";
    for sample in [None, Some(("sample.toml", sample))] {
        let Some(project) = Project::from(Language::Python, "typed", sample) else { return };
        // Its cache takes a file for unchanged that was changed within a second and kept its size.
        let arguments = ["--cache-dir=/dev/null", "plugin.py", "guillemet.py"];
        let check = || output_of(&mut project.command(mypy.to_str().unwrap(), &arguments));
        let (fits, text) = check();
        assert!(fits, "{text}");
        project.change("plugin.py", "encode.header_value(", "encode.header_valeu(");
        let (fits, text) = check();
        assert!(!fits && text.contains("plugin.py:") && text.contains("header_valeu"), "{text}");
    }
}
