//! An operator's stories on the command line, as data files in `tests/stories`, and the transcripts of the operators'
//! handbook. Each runs in its own home, with the real program and its real daemon.

use std::path::Path;

use crate::support::daemon::Guillemet;
use crate::support::transcript;

fn tell(file: &str) {
    let guillemet = Guillemet::start();
    transcript::run(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file), guillemet.dir.path());
}

macro_rules! stories {
    ($($name:ident: $file:literal,)*) => {
        $(#[test]
        fn $name() {
            tell($file);
        })*

        /// A file that no test runs could contain anything.
        #[test]
        fn every_story_is_run() {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories");
            for entry in std::fs::read_dir(dir).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                assert!([$($file),*].contains(&format!("tests/stories/{name}").as_str()), "{name} is not run");
            }
        }
    };
}

stories! {
    the_handbook: "docs/operators.md",
    configs_with_plain_values: "docs/adopt.md",
    first_secret: "tests/stories/first-secret.md",
    naming: "tests/stories/naming.md",
    listing: "tests/stories/listing.md",
    rename: "tests/stories/rename.md",
    rotate: "tests/stories/rotate.md",
    rollback: "tests/stories/rollback.md",
    disable: "tests/stories/disable.md",
    delete: "tests/stories/delete.md",
    delete_unknown: "tests/stories/delete-unknown.md",
    missing: "tests/stories/missing.md",
    usage: "tests/stories/usage.md",
    broken_template: "tests/stories/broken-template.md",
    new_template: "tests/stories/new-template.md",
}

/// The runner finds wrong output, and can overwrite it with the actual output.
#[test]
fn a_transcript_that_is_wrong_fails() {
    let home = tempfile::tempdir().unwrap();
    let text = "A story.\n\n```toml file=a/b.toml\nx = 1\n```\n\n```console\n$ cat a/b.toml; date -u +%F\nx = 1\n[..]\n$ printf 'a\\nb\\nc\\n'\na\n...\n\
                $ echo two; exit 3\n? 3\none\n$ echo x\nx\ny\n$ true\n? 1\n```\n";
    let (wrong, after) = transcript::compare(text, home.path());
    for expected in ["line 14: echo two", "line 17: echo x", "line 20: true"] {
        assert!(wrong.contains(expected), "{wrong}");
    }
    assert!(!wrong.contains("cat") && !wrong.contains("printf"), "{wrong}");
    let expected = text.replace("one\n$", "two\n$").replace("x\ny\n", "x\n").replace("$ true\n? 1\n", "$ true\n");
    assert_eq!(after, expected);
    assert_eq!(transcript::compare(&after, home.path()).0, "");
}
