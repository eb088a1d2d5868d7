//! `plugin test` as an author uses it: the real binary on a project's folder with a real component. It needs neither
//! daemon nor vault, so there is none.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::component::{componentize, module, pager};

const PROGRAM: &str = env!("CARGO_BIN_EXE_guillemet");
/// A path at which nobody can make a folder, not even root.
const NO_HOME: &str = concat!(env!("CARGO_BIN_EXE_guillemet"), "/no-home");

/// The folder of a project, with the component and the cases that its author wrote.
struct Project(tempfile::TempDir);

impl Project {
    fn new() -> Self {
        let project = Self::empty();
        fs::write(project.0.path().join("pager.wasm"), pager()).unwrap();
        for name in ["json.toml", "env.toml"] {
            let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/pager/cases").join(name);
            fs::copy(case, project.0.path().join("cases").join(name)).unwrap();
        }
        project
    }

    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("cases")).unwrap();
        Self(dir)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    /// Runs `plugin test` in this folder.
    fn test(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(PROGRAM);
        command.args(["plugin", "test"]).args(arguments).current_dir(self.0.path());
        // There is no home; everything it needs is in the folder.
        command.env_clear().env("HOME", NO_HOME);
        command.output().unwrap().into()
    }
}

#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

#[test]
fn cases_that_hold_are_told_one_by_one() {
    let ran = Project::new().test(&[]);
    let expected = "\
env.toml
  ok      an environment
json.toml
  ok      an alert
  ok      nothing at all
all 3 cases pass, for every target: json, env
";
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), expected));
    // On a busy machine, a note says what takes so long.
    assert!(ran.err.lines().all(|line| line.starts_with("compiling ")), "{}", ran.err);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one case after the other")]
fn what_differs_is_shown_line_by_line_and_blessed_on_demand() {
    let project = Project::new();
    let cases = "\
# The level has another name.
[[case]]
name = \"an alert\" # of a team
config = { url = \"https://pager.example/v1/alerts\", token = \"«pager-key»\", level = 1, labels = { team = \"«team»\" } }
document = '''
{
  \"url\": \"https://pager.example/v1/alerts\",
  \"headers\": { \"X-Routing-Key\": \"«pager-key»\" },
  \"severity\": \"info\",
  \"labels\": { \"team\": \"«team»\" }
}
'''
# The end.

[[case]]
name = \"nothing at all\"
config = { }
problems = [\"url: is required\", \"token: is missing\"]

[[case]]
name = \"a header that would end\"
config = { url = \"https://pager.example\", token = \"a\\r\\nb\" }

[[case]]
name = \"urgent\"
config = { url = \"«u»\", token = \"«t»\", level = 7 }
";
    project.write("cases/json.toml", cases);
    let ran = project.test(&[]);
    let expected = "\
env.toml
  ok      an environment
json.toml
  failed  an alert (line 2)
    the document differs; - is the case, + was found:
      {
        \"url\": \"https://pager.example/v1/alerts\",
        \"headers\": {
    -     \"X-Routing-Key\": \"«pager-key»\"
    +     \"X-Routing-Key\": \"«header-value(«pager-key»)»\"
        },
    -   \"severity\": \"info\",
    +   \"severity\": \"warning\",
        \"labels\": {
          \"team\": \"«team»\"
        }
      …
  failed  nothing at all (line 15)
    the problems differ; - are the case's, + were found:
    - token: is missing
    + token: is required
  failed  a header that would end (line 20)
    the case has neither a `document` nor `problems`; these problems were found:
    + token: a header value cannot contain a line break or NUL (change this text in the template)
  failed  urgent (line 24)
    it panicked: index out of bounds: the len is 3 but the index is 7 (pager/src/lib.rs:";
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(&ran.out[..expected.len()], expected, "{}", ran.out);
    assert!(ran.err.contains("error: 4 cases of 5 failed; fix the plugin, or write"), "{}", ran.err);
    assert_eq!(project.read("cases/json.toml"), cases, "nothing is written without being asked");

    let ran = project.test(&["--bless"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("json.toml: wrote the result for \"a header that would end\"\n"), "{}", ran.out);
    assert!(ran.err.contains("error: one case of 5 failed; the result of a failing plugin"), "{}", ran.err);
    let blessed = project.read("cases/json.toml");
    let document = "document = '''
{
  \"url\": \"https://pager.example/v1/alerts\",
  \"headers\": {
    \"X-Routing-Key\": \"«header-value(«pager-key»)»\"
  },
  \"severity\": \"warning\",
  \"labels\": {
    \"team\": \"«team»\"
  }
}
'''
# The end.
";
    for kept in
        [document, "# The level has another name.\n[[case]]\nname = \"an alert\" # of a team\nconfig = { url = "]
    {
        assert!(blessed.contains(kept), "{blessed}");
    }
    assert!(blessed.contains("problems = [\n  \"url: is required\",\n  \"token: is required\",\n]\n"), "{blessed}");
    assert!(
        blessed.contains("problems = [\"token: a header value cannot contain a line break or NUL\"]\n"),
        "{blessed}"
    );
    let ran = project.test(&["--bless"]);
    assert_eq!((ran.code, ran.out.matches("  ok  ").count()), (Some(1), 4), "{ran:?}");
    assert_eq!(project.read("cases/json.toml"), blessed, "what holds stays as it is");
}

#[test]
fn a_case_that_has_nothing_yet_is_given_its_document_and_its_warnings() {
    let project = Project::new();
    let config = "config = { url = \"«u»\", token = \"«t»\", labels = { team = \"a\" } }\n";
    project.write("cases/new.toml", &format!("[[case]]\nname = \"new\"\ntarget = \"env\"\n{config}"));
    let ran = project.test(&[]);
    let shown = "\
  failed  new (line 1)
    the case has neither a `document` nor `problems`; this document was found:
    + PAGER_URL=«dotenv(«url(«u»)»)»
    + PAGER_TOKEN=«dotenv(«header-value(«t»)»)»
    the warnings differ; - are the case's, + were found:
    + labels.team: is left out: an environment has no labels
";
    assert!(ran.code == Some(1) && ran.out.contains(shown), "{}", ran.out);
    let ran = project.test(&["--bless"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let blessed = format!(
        "[[case]]\nname = \"new\"\ntarget = \"env\"\n{config}document = '''\nPAGER_URL=«dotenv(«url(«u»)»)»\n\
         PAGER_TOKEN=«dotenv(«header-value(«t»)»)»\n'''\nwarnings = [\"labels.team: is left out: an environment has no \
         labels\"]\n"
    );
    assert_eq!(project.read("cases/new.toml"), blessed);
    assert_eq!(project.test(&[]).code, Some(0));
}

#[test]
fn what_is_wrong_with_the_cases_is_told_all_at_once_with_its_place() {
    let project = Project::new();
    let cases = "\
[[case]]
name = \"a\"
confg = { }

[[case]]
config = { a = \"«no name»\", b = \"«open\", c = nan }
problems = [1]

[[cases]]
";
    project.write("cases/a.toml", cases);
    project.write("cases/b.toml", "[[case]\n");
    let ran = project.test(&[]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    for line in [
        "a.toml:3: unknown key `confg` in a case; use name, target, config, document, warnings, problems",
        "a.toml:1: a case needs a `config`",
        "a.toml:5: a case needs a `name`",
        "a.toml:6: `«no name»`: not a valid secret name",
        "a.toml:6: `«` without `»`",
        "a.toml:6: this number cannot be used in a config",
        "a.toml:7: `problems` must be a list of strings",
        "a.toml:9: unknown key `cases`",
        "b.toml:1: ",
    ] {
        assert!(ran.err.contains(line), "{line}\n{}", ran.err);
    }
}

#[test]
fn a_project_that_is_not_ready_says_what_to_type() {
    let project = Project::empty();
    let ran = project.test(&[]);
    assert!(ran.code == Some(1) && ran.err.contains("\n    guillemet plugin build\n"), "{ran:?}");
    project.write("pager.wasm", "");
    let ran = project.test(&[]);
    assert!(ran.code == Some(1) && ran.err.contains("there are no cases in "), "{ran:?}");
    project.write("cases/a.toml", "[[case]]\nname = \"a\"\nconfig = {}\n");
    let ran = project.test(&[]);
    assert!(ran.code == Some(1) && ran.err.contains("it is not a WebAssembly component"), "{ran:?}");

    // The sources were changed after the build.
    let project = Project::new();
    project.write("lib.rs", "");
    let future = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    fs::File::options().write(true).open(project.0.path().join("lib.rs")).unwrap().set_modified(future).unwrap();
    let ran = project.test(&[]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.err.contains("note: pager.wasm is older than lib.rs; rebuild it with:\n\n    guillemet"), "{ran:?}");
    let ran = project.test(&["--bless"]);
    assert!(ran.code == Some(1) && ran.err.contains("error: pager.wasm is older than lib.rs"), "{ran:?}");
}

#[test]
fn targets_and_fields_without_a_case_are_told() {
    let project = Project::new();
    fs::remove_file(project.0.path().join("cases/env.toml")).unwrap();
    let ran = project.test(&[]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.out.contains("no case has a document for the target `env`; add one\n"), "{ran:?}");
    assert!(ran.err.contains("error: the cases are incomplete"), "{ran:?}");
}

#[test]
fn a_component_is_compiled_once_for_this_user_alone() {
    use std::os::unix::fs::MetadataExt;
    let (project, cache) = (Project::new(), tempfile::tempdir().unwrap());
    let test = || {
        let mut command = Command::new(PROGRAM);
        command.args(["plugin", "test"]).current_dir(project.0.path());
        command.env_clear().env("HOME", NO_HOME).env("XDG_CACHE_HOME", cache.path());
        assert_eq!(Ran::from(command.output().unwrap()).code, Some(0));
        let kept = fs::read_dir(cache.path().join("guillemet")).unwrap().map(|entry| entry.unwrap());
        let kept = kept.filter(|entry| entry.file_name().to_string_lossy().ends_with(".compiled"));
        kept.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let first = test();
    let [form] = first.as_slice() else { panic!("{first:?}") };
    let inode = || fs::metadata(form).unwrap().ino();
    let written = inode();
    assert_eq!(test(), first);
    assert_eq!(inode(), written, "it was not compiled again");
    // A changed form is ignored, and a new one replaces it.
    let mut bytes = fs::read(form).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(form, bytes).unwrap();
    assert_eq!(test(), first);
    assert_ne!(inode(), written);
}

#[test]
fn the_folder_of_another_project_can_be_named() {
    let project = Project::new();
    let mut command = Command::new(PROGRAM);
    command.args(["plugin", "test"]).arg(project.0.path()).current_dir("/");
    command.env_clear().env("HOME", NO_HOME);
    assert_eq!(Ran::from(command.output().unwrap()).code, Some(0));
}

/// Cases whose documents are the expected ones, but in which a value would not stay one value.
#[test]
fn a_document_that_cannot_hold_its_values_fails_the_case() {
    let project = Project::empty();
    fs::write(project.0.path().join("forgetful.wasm"), componentize(&module("forgetful"))).unwrap();
    let case = |target: &str, document: &str| {
        let config = "config = { token = \"«t»\" }";
        let document = format!("document = '''\n{document}\n'''");
        format!("[[case]]\nname = \"{target}\"\ntarget = \"{target}\"\n{config}\n{document}\n")
    };
    let cases = [
        case("curl", "user = «curl-config(«t»)»"),
        case("curl-quoted-twice", "user = \"«curl-config(«t»)»\""),
        case("token-with-xml", "token: «xml(«url-query(«t»)»)»"),
        case("yaml-with-curl", "token: another"),
        case("table", "token «escape(\"…\"; «t»)»"),
    ]
    .concat();
    project.write("cases/all.toml", &cases);
    let ran = project.test(&[]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for line in [
        "  ok      curl\n  failed",
        "  ok      table\n    not read back: there is no reader for this kind of document; relies on the encoders\n",
        "  failed  curl-quoted-twice (line 8)\n    the target `curl-quoted-twice` writes values with `curl-config` into a \
         document that is not valid curl: line 1: text follows the closing quote",
        "into a document that is not valid XML",
        "`curl-config` is not an encoder for a YAML document; use `yaml-string` (target `yaml-with-curl`)\n",
    ] {
        assert!(ran.out.contains(line), "{line}\n{}", ran.out);
    }
    // None of them is written into the cases.
    let ran = project.test(&["--bless"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("3 cases of 5 failed; the result of a failing plugin cannot be written"), "{}", ran.err);
    assert_eq!(project.read("cases/all.toml"), cases);
}

/// Values in a case: what is rendered, read back and refused with them is compared, and written by `--bless`.
#[test]
fn a_case_can_give_values_and_say_what_becomes_of_them() {
    let project = Project::new();
    let case = |name: &str, token: &str, expected: &str| {
        format!(
            "[[case]]\nname = '{name}'\ntarget = 'env'\nconfig = {{ url = 'https://p.example/v2', token = '«t»' }}\n\
             secrets = {{ t = {token:?} }}\n{expected}\n"
        )
    };
    let rendered = "PAGER_URL=https://p.example/v2\nPAGER_TOKEN=\"it's\"\n";
    let cases = [
        case("a quote", "it's", &format!("rendered = {rendered:?}\nread = {{ PAGER_TOKEN = \"it's\" }}")),
        case("two lines", "a\nb", "refused = ['token: a header value cannot contain a line break']"),
        case("another rendering", "x", "rendered = 'PAGER_TOKEN=y'"),
        case("another value", "x", "read = { PAGER_TOKEN = 'y', PAGER = 'z' }"),
        case("another reason", "a\nb", "refused = ['token: is too long']"),
    ];
    project.write("cases/values.toml", &cases.concat());
    let ran = project.test(&[]);
    for words in [
        "  ok      a quote\n  ok      two lines\n  failed  another rendering",
        "the rendered document differs; - is the case, + was found:\n    - PAGER_TOKEN=y\n",
        "another value is read back from `PAGER_TOKEN`; - is the case's, + was found:\n    - y\n    + x\n",
        "nothing is read back from `PAGER`; these paths have a value:\n    + PAGER_URL\n    + PAGER_TOKEN\n",
        "the refusals differ; - are the case's, + were found:\n    - token: is too long\n    + token: the value cannot be used",
    ] {
        assert!(ran.out.contains(words), "{words} is not in {}{}", ran.out, ran.err);
    }
    assert_eq!(ran.code, Some(1));
    project.write("cases/values.toml", &cases[..3].concat());
    let blessed = project.test(&["--bless"]);
    assert_eq!(blessed.code, Some(0), "{}{}", blessed.out, blessed.err);
    assert!(project.read("cases/values.toml").contains("PAGER_TOKEN=x"), "{}", project.read("cases/values.toml"));
    assert_eq!(project.test(&[]).code, Some(0));

    project.write("cases/values.toml", &case("nothing is said", "x", ""));
    let ran = project.test(&[]);
    assert!(ran.err.contains("values.toml:1: `secrets` goes with `rendered`, `read` or `refused`"), "{}", ran.err);
}

/// A config that the plugin takes and its schema refuses would be marked by every editor.
#[test]
fn a_config_that_the_schema_refuses_fails_its_case() {
    let mut component = componentize(&module("later"));
    let (sound, mistaken) = (br#"{"token":{"type":"string"}}"#, br#"{"token":{"type":"number"}}"#);
    let at = component.windows(sound.len()).position(|window| window == sound).unwrap();
    component[at..at + mistaken.len()].copy_from_slice(mistaken);
    let project = Project::empty();
    fs::write(project.0.path().join("later.wasm"), component).unwrap();
    let document = r#"document = '{"token": "«header-value(«t»)»"}'"#;
    project.write("cases/a.toml", &format!("[[case]]\nname = 'a token'\nconfig = {{ token = '«t»' }}\n{document}\n"));
    let ran = project.test(&[]);
    let words = "  failed  a token (line 1)\n    the plugin takes this config, and its schema refuses it: ";
    assert!(ran.code == Some(1) && ran.out.contains(words), "{}{}", ran.out, ran.err);
}
