//! What happens to a test whose real part is missing: it reports that, and fails if everything has to be there.

use std::path::Path;
use std::process::Command;

use guillemet_testing::missing;

#[test]
#[ignore = "is run by the test below"]
fn lacks_a_part() {
    // Asterisk has a row in tests/parts.md.
    if missing::has(false, "Asterisk", "its own repository")
        || missing::has(false, "a part", "`install a-part`")
        || missing::supports(false, "a feature", "another kernel")
    {
        unreachable!("neither is there");
    }
}

#[test]
fn a_test_whose_part_is_missing_is_reported_and_fails_in_ci() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("skipped");
    let run = |ci: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["missing::lacks_a_part", "--exact", "--ignored"]).env("GUILLEMET_SKIPPED", &file).env("CI", ci);
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let lines = "it::missing::lacks_a_part: needs Asterisk: its own repository\n\
                 it::missing::lacks_a_part: needs a part: `install a-part`\n\
                 it::missing::lacks_a_part: needs a feature: another kernel\n";
    assert!(run("").0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), lines);
    std::fs::remove_file(&file).unwrap();
    let (is_passed, said) = run("true");
    assert!(!is_passed && said.contains("needs a part: `install a-part`"), "{said}");
    let reported = std::fs::read_to_string(&file).unwrap();
    assert_eq!(
        reported, "it::missing::lacks_a_part: needs Asterisk: its own repository\n",
        "what the table lists fails nothing"
    );
}

/// No harness shows what a passing test prints.
#[test]
fn no_test_skips_itself_in_another_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("crates"), root.join("tests")];
    let (mut files, mut found) = (0, Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_ours = !path.ends_with("node_modules") && !path.ends_with("target");
            if path.is_dir() && is_ours {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let wants = ["(\"CI\")", "!(\"skipped"].iter().any(|word| text.contains(word));
                let is_this = path.ends_with("crates/testing/src/missing.rs") || path.ends_with("tests/it/missing.rs");
                files += 1;
                found.extend((wants && !is_this).then_some(path));
            }
        }
    }
    assert!(files > 300, "{files} files");
    assert!(found.is_empty(), "these decide themselves what becomes of a test without its parts: {found:?}");
}
