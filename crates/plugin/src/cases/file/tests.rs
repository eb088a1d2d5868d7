//! The schema of case files, which projects ship for editors, says the same as the reader.

use std::path::{Path, PathBuf};

use super::*;
use crate::schema::Schema;

const SCHEMA: &str = include_str!("../../../../../plugins/scaffolds/common/cases/case.schema.json");

fn tree() -> Json {
    serde_json::from_str(SCHEMA).unwrap()
}

/// Returns what the schema finds in a file of cases.
fn mistakes(text: &str) -> Vec<String> {
    let file: Map<String, Json> = toml_edit::de::from_str(text).unwrap();
    Schema::new(&tree()).unwrap().mistakes(&file)
}

/// Returns the files of cases below a folder of the repository.
fn case_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            case_files(&path, found);
        } else if path.extension().is_some_and(|end| end == "toml") && path.parent().unwrap().ends_with("cases") {
            found.push(path);
        }
    }
}

#[test]
fn the_schema_takes_every_case_there_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = vec![root.join("tests/authors/fields.toml")];
    ["plugins", "tests/plugins"].iter().for_each(|folder| case_files(&root.join(folder), &mut files));
    assert!(files.len() > 20, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(mistakes(&text), Vec::<String>::new(), "{}", file.display());
        // The line by which editors find the schema is in each file of a new project, at its top.
        if file.starts_with(root.join("plugins/scaffolds")) {
            assert!(text.starts_with("#:schema case.schema.json\n"), "{}", file.display());
        }
    }
}

#[test]
fn the_schema_knows_each_key_that_the_reader_knows() {
    let tree = tree();
    let described: Vec<&str> =
        tree["$defs"]["case"]["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(described, FIELDS);
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.toml");
    let filled = "name = 'a'\nconfig = {}\nsecrets = { k = 'v' }\n";
    for (case, is_right) in [
        ("name = 'a'\nconfig = {}", true),
        ("name = 'a'\nconfig = {}\ntarget = 'json'\ndocument = '{}'\nwarnings = ['a: b']", true),
        ("name = 'a'\nconfig = {}\nproblems = ['a: b']", true),
        ("name = 'a'\nconfig = {}\ndocument = '{}'\nproblems = []", true),
        (&format!("{filled}rendered = '{{}}'"), true),
        (&format!("{filled}document = '{{}}'\nread = {{ a = 'v' }}"), true),
        (&format!("{filled}refused = ['k: no']"), true),
        ("name = 'a'\nconfig = {}\nsecrets = {}\nread = {}\nrefused = []", true),
        ("name = 'a'", false),
        ("config = {}", false),
        ("name = 1\nconfig = {}", false),
        ("name = 'a'\nconfig = 'b'", false),
        ("name = 'a'\nconfig = {}\ndokument = ''", false),
        ("name = 'a'\nconfig = {}\nwarnings = 'a: b'", false),
        ("name = 'a'\nconfig = {}\nproblems = [1]", false),
        ("name = 'a'\nconfig = {}\ndocument = '{}'\nproblems = ['a: b']", false),
        ("name = 'a'\nconfig = {}\nrendered = '{}'", false),
        ("name = 'a'\nconfig = {}\nread = { a = 'v' }", false),
        ("name = 'a'\nconfig = {}\nrefused = ['k: no']", false),
        (filled, false),
        (&format!("{filled}read = {{ a = 1 }}"), false),
        (&format!("{filled}problems = ['a: b']\nrefused = ['k: no']"), false),
        (&format!("{filled}rendered = ''\nrefused = ['k: no']"), false),
        (&format!("{filled}read = {{ a = 'v' }}\nrefused = ['k: no']"), false),
        ("name = 'a'\nconfig = {}\nsecrets = { 'k k' = 'v' }\nrendered = ''", false),
    ] {
        let text = format!("[[case]]\n{case}\n");
        std::fs::write(&path, &text).unwrap();
        assert_eq!(read(path.clone()).is_ok(), is_right, "the reader: {text}");
        assert_eq!(mistakes(&text).is_empty(), is_right, "the schema: {text}{:?}", mistakes(&text));
    }
    assert!(!mistakes("cases = []").is_empty());
}
