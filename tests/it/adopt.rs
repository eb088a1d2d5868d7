//! `adopt` as a person meets it: what it shows, what a yes does, and that nothing happens without one.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::adopt::Adopting;
use crate::support::consumers;
use crate::support::daemon::PROGRAM;

const TOKEN: &str = "t0ken \"<< %q'";
const KEY: &str = "ws_9182-x";

fn mcp_json() -> String {
    let token = serde_json::Value::from(format!("Bearer {TOKEN}"));
    format!(
        "{{\n  // mine\n  \"mcpServers\": {{\n    \"calendar\": {{\n      \"type\": \"http\",\n      \"url\": \
         \"https://mcp.example.com/mcp?tenant=a%2Fb&key={KEY}\",\n      \"headers\": {{ \"Authorization\": {token}, \
         \"Accept-Language\": \"en\" }},\n      \"disabled\": false\n    }},\n    \"files\": {{ \"command\": \"npx\" }}\n  }}\n}}\n"
    )
}

const CHOSEN: [&str; 2] = ["--server", "calendar"];

#[test]
fn a_config_becomes_a_template_and_secrets() {
    let adopting = Adopting::start();
    let file = adopting.file("mcp.json", &mcp_json());
    let before = std::fs::read(&file).unwrap();
    let ran = adopting.adopt(&file, "mcp-server", "calendar", &["--server", "calendar", "--yes"]).done();
    ran.never_says(&[TOKEN, KEY]);
    for shown in [
        "headers.Authorization\texample-token-prod\tnew\t13\t",
        "query_params.key\texample-key-prod\tnew\t9\t",
        "\n- headers.authorization = Bearer ••••••\n+ headers.authorization = Bearer «example-token-prod»\n",
        "\n  headers.accept-language = en\n",
        "\n- disabled = false\n",
        "    \"Authorization\": \"Bearer << secret 'example-token-prod' >>\"",
    ] {
        assert!(ran.stdout.contains(shown), "{shown:?} is not in: {}", ran.stdout);
    }
    for said in ["disabled is omitted", "other servers, which are not adopted: files", "created example-key-prod"] {
        assert!(ran.stderr.contains(said), "{said:?} is not in: {}", ran.stderr);
    }
    assert_eq!(adopting.value("example-token-prod"), TOKEN);
    assert_eq!(adopting.value("example-key-prod"), KEY);
    assert_eq!(std::fs::read(&file).unwrap(), before, "the plain file is left alone");

    let rendered: serde_json::Value =
        serde_json::from_str(&adopting.render("mcp-server/calendar", "mcp-json")).unwrap();
    let server = &rendered["mcpServers"]["calendar"];
    assert_eq!(server["url"], format!("https://mcp.example.com/mcp?tenant=a%2Fb&key={KEY}"));
    assert_eq!(server["headers"]["Authorization"], format!("Bearer {TOKEN}"));
    assert_eq!(server["headers"]["Accept-Language"], "en");
}

#[test]
fn without_a_yes_nothing_is_changed() {
    let adopting = Adopting::start();
    let file = adopting.file("mcp.json", &mcp_json());
    let before = adopting.state();
    for more in [&CHOSEN[..], &["--server", "calendar", "--replace"]] {
        let ran = adopting.adopt(&file, "mcp-server", "calendar", more).refused(&["nothing was changed", "--yes"]);
        ran.never_says(&[TOKEN, KEY]);
        assert!(ran.stdout.contains("+ headers.authorization"), "it is shown all the same: {}", ran.stdout);
        assert_eq!(adopting.state(), before);
    }
}

/// The answer at a terminal decides. Python's `pty` provides the terminal.
#[test]
fn a_person_is_asked() {
    if !consumers::has(Path::new("python3"), "`sudo apt-get install python3`") {
        return;
    }
    let adopting = Adopting::start();
    let file = adopting.file("mcp.json", &mcp_json());
    let script = "import os, pty, sys\nanswer = sys.argv[1].encode() + b'\\n'\ndata = b''\npid, fd = pty.fork()\n\
                  if pid == 0: os.execv(sys.argv[2], sys.argv[2:])\nasked = False\nwhile True:\n  try: chunk = os.read(fd, 4096)\n  \
                  except OSError: break\n  if not chunk: break\n  data += chunk\n  if not asked and b'[y/N]' in data:\n    asked = True\n    \
                  os.write(fd, answer)\nsys.stdout.buffer.write(data)\nsys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n";
    let home = adopting.guillemet.dir.path().to_str().unwrap();
    let ask = |answer: &str| {
        let output = Command::new("python3")
            .args(["-c", script, answer, PROGRAM, "--home", home, "adopt", file.to_str().unwrap()])
            .args(["--feature", "mcp-server", "--name", "calendar", "--server", "calendar"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let before = adopting.state();
    let (code, said) = ask("n");
    assert_eq!(code, Some(1), "{said}");
    let question = "Create 2 secrets and write mcp-server/calendar, although 1 setting differs? [y/N]";
    assert!(said.contains(question) && said.contains("nothing was changed"), "{said}");
    assert_eq!(adopting.state(), before);
    let (code, said) = ask("y");
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains(KEY), "{said}");
    assert_eq!(adopting.names(), ["example-key-prod", "example-token-prod"]);
}

#[test]
fn taken_names_are_left_and_the_same_value_can_be_used_again() {
    let adopting = Adopting::start();
    adopting.guillemet.add("example-token-prod", "someone's");
    adopting.guillemet.add("Mine", KEY);
    adopting.guillemet.write("cal-com/x.toml", "api_key = \"<< secret 'example-token-prod-2' >>\"\n");
    let file = adopting.file("mcp.json", &mcp_json());
    let before = adopting.state();
    // Another value under that name: refused, and nothing is overwritten.
    let other = ["--server", "calendar", "--yes", "--secret", "query_params.key=example-token-prod"];
    adopting.adopt(&file, "mcp-server", "calendar", &other).refused(&["a different value", "Nothing was changed"]);
    let without_use = |state: String| state.lines().skip(1).collect::<Vec<_>>().join("\n");
    assert_eq!(without_use(adopting.state()), without_use(before));
    assert_eq!(adopting.value("example-token-prod"), "someone's");

    let same = ["--server", "calendar", "--yes", "--secret", "query_params.key=mine"];
    let ran = adopting.adopt(&file, "mcp-server", "calendar", &same).done();
    assert!(ran.stdout.contains("query_params.key\tmine\texists"), "{}", ran.stdout);
    // The name ending in -2 is one that a template waits for, so it is not taken.
    assert_eq!(adopting.value("example-token-prod-3"), TOKEN);
    assert_eq!(adopting.names().len(), 4, "{:?}", adopting.names());
    adopting.render("mcp-server/calendar", "mcp-json");
}

#[test]
fn a_name_that_templates_wait_for_can_be_chosen() {
    let adopting = Adopting::start();
    adopting
        .guillemet
        .write("mcp-server/old.toml", "name = \"a\"\nurl = \"https://x/<< secret 'acme-key' | url >>\"\n");
    let file = adopting.file("mcp.json", &mcp_json());
    let more =
        ["--server", "calendar", "--yes", "--secret", "query_params.key=acme-key", "--keep", "headers.Authorization"];
    adopting.adopt(&file, "mcp-server", "new", &more).done();
    assert_eq!(adopting.value("acme-key"), KEY);
    // A value that stays in the clear is in the template, where every reader sees it.
    let template: serde_json::Value = {
        let text = adopting.template("mcp-server/new.json");
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(template["headers"]["Authorization"], "<% raw %>Bearer t0ken \"<< %q'<% endraw %>");
    assert_eq!(adopting.names(), ["acme-key"]);
    adopting.render("mcp-server/new", "mcp-json");
}

#[test]
fn all_that_is_wrong_is_told_at_once_with_its_place() {
    let adopting = Adopting::start();
    let file = adopting.file(
        "mcp.json",
        "{\n \"servers\": {\n  \"a\": {\"type\": \"ftp\",\n   \"url\": \"https://x/?token=s3cret-1\",\n   \"headers\": {\"A\": \
         \"${input:key}\", \"B\": 7, \"C\": \"Bearer «example»\"}}}}\n",
    );
    let before = adopting.state();
    let more = ["--yes", "--secret", "headers.Nope=x", "--secret", "name=y", "--keep", "headers.Neither"];
    let ran = adopting.adopt(&file, "mcp-server", "a", &more).refused(&[
        "mcp.json:3:17 servers.a.type: is not http or sse",
        "mcp.json:5:21 servers.a.headers.A: is prompted for by Visual Studio Code",
        "mcp.json:5:42 servers.a.headers.B: is not text",
        "headers.C: contains a Guillemet placeholder",
        "--secret names the field `headers.Nope`",
        "--keep names the field `headers.Neither`",
        "name: cannot be a secret",
    ]);
    ran.never_says(&["s3cret-1"]);
    assert_eq!(adopting.state(), before);
}

#[test]
fn what_its_place_cannot_hold_is_refused_with_the_reason() {
    let adopting = Adopting::start();
    let file = adopting.file(
        "mcp.json",
        r#"{"mcpServers": {"a": {"url": "https://x/", "headers": {
            "X-Key": "s3cret ${ value", "X-Token": "s3crét", "Authorization": "Bearer s3cret\n"}}}}"#,
    );
    let before = adopting.state();
    let ran = adopting.adopt(&file, "mcp-server", "a", &["--yes", "--secret", "headers.X-Key=a-key"]).refused(&[
        "headers.X-Key: the value cannot be used here: the MCP client would expand",
        "headers.X-Token: the value cannot be used here: a header value can only contain ASCII characters",
        "headers.Authorization: the value cannot be used here: a header value cannot contain a line break",
        "nothing was changed",
    ]);
    ran.never_says(&["s3cret"]);
    assert_eq!(adopting.state(), before);
}

#[test]
fn a_template_that_is_there_is_not_overwritten() {
    let adopting = Adopting::start();
    adopting.guillemet.write("mcp-server/calendar.yaml", "name: a\n");
    let file = adopting.file("mcp.json", &mcp_json());
    let before = adopting.state();
    let more = ["--server", "calendar", "--yes"];
    adopting.adopt(&file, "mcp-server", "calendar", &more).refused(&["calendar.yaml", "choose another --name"]);
    assert_eq!(adopting.state(), before);
}

#[test]
fn what_fails_half_way_is_taken_back() {
    let adopting = Adopting::start();
    // Here the folder of the template cannot be made.
    std::fs::create_dir(adopting.guillemet.path("templates")).unwrap();
    std::fs::write(adopting.guillemet.path("templates/mcp-server"), "in the way").unwrap();
    let file = adopting.file("mcp.json", &mcp_json());
    let before = adopting.state();
    let more = ["--server", "calendar", "--yes", "--replace"];
    let ran = adopting.adopt(&file, "mcp-server", "calendar", &more);
    ran.refused(&["cannot be written", "everything was undone; nothing was changed"]).never_says(&[TOKEN, KEY]);
    assert_eq!(adopting.state(), before);
}

#[test]
fn the_values_are_taken_out_of_the_file_where_that_is_wanted() {
    let adopting = Adopting::start();
    let file = adopting.file("mcp.json", &mcp_json());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    // If the test runs as root, the file gets another owner, which has to be kept.
    let _ = std::os::unix::fs::chown(&file, Some(12_345), Some(54_321));
    let owner = |path| std::fs::metadata(path).map(|file| (file.uid(), file.gid(), file.mode() & 0o7777)).unwrap();
    let before = owner(&file);
    let more = ["--server", "calendar", "--yes", "--replace"];
    let ran = adopting.adopt(&file, "mcp-server", "calendar", &more).done();
    ran.never_says(&[TOKEN, KEY]);
    let after = std::fs::read_to_string(&file).unwrap();
    let expected = mcp_json()
        .replace(&serde_json::Value::from(format!("Bearer {TOKEN}")).to_string(), "\"Bearer «example-token-prod»\"")
        .replace(KEY, "«example-key-prod»");
    assert_eq!(after, expected, "everything else stays, byte for byte");
    assert_eq!(owner(&file), before);
    assert_eq!(std::fs::read_dir(adopting.files.path()).unwrap().count(), 1, "nothing is left beside it");
    assert_eq!((adopting.value("example-token-prod"), adopting.value("example-key-prod")), (TOKEN.into(), KEY.into()));
    // A second time there is nothing to find.
    adopting.adopt(&file, "mcp-server", "again", &more).refused(&["contains a Guillemet placeholder"]);
}

#[test]
fn a_file_that_would_keep_a_value_is_not_replaced() {
    let adopting = Adopting::start();
    let second = format!("// was {KEY}\n{}", mcp_json());
    let real = adopting.file("real.json", &mcp_json());
    std::os::unix::fs::symlink(&real, adopting.files.path().join("link.json")).unwrap();
    std::fs::hard_link(&real, adopting.files.path().join("other.json")).unwrap();
    let twice = adopting.file("twice.json", &second);
    let before = adopting.state();
    let more = ["--server", "calendar", "--yes", "--replace"];
    let refused = [
        (twice, "a second time, outside of query_params.key: line 1"),
        (adopting.files.path().join("link.json"), "is a symbolic link"),
        (real, "has other names (hard links)"),
    ];
    for (file, why) in refused {
        adopting
            .adopt(&file, "mcp-server", "calendar", &more)
            .refused(&[why, "nothing was changed"])
            .never_says(&[TOKEN, KEY]);
        assert_eq!(adopting.state(), before);
    }
}

#[test]
fn standard_input_is_read_and_cannot_be_replaced() {
    let adopting = Adopting::start();
    let stdin = Path::new("-");
    let more = ["--server", "calendar", "--yes", "--replace"];
    let input = mcp_json();
    adopting.adopt_with(stdin, "mcp-server", "calendar", &more, input.as_bytes()).refused(&["cannot be replaced"]);
    adopting.adopt_with(stdin, "mcp-server", "calendar", &more[..3], input.as_bytes()).done();
    assert_eq!(adopting.names(), ["example-key-prod", "example-token-prod"]);
}

#[test]
fn what_is_not_read_here_is_said() {
    let adopting = Adopting::start();
    let file = adopting.file("a", "text\n");
    adopting.adopt(&file, "slack", "a", &["--yes"]).refused(&["there is no plugin for the feature `slack`"]);
    for (feature, text, words) in [
        ("mcp-server", "{\"a\": 1}", &["it has no MCP servers"][..]),
        (
            "mcp-server",
            "{\"mcpServers\": {\"a\": {\"command\": \"npx\"}}}",
            &["a local program that the client starts"],
        ),
        ("mcp-server", "{\"mcpServers\": {", &["a:1:", "not valid JSON"]),
        (
            "mcp-server",
            "{\"mcpServers\": {\"a\": {\"url\": \"https://x/\"}}}",
            &["nothing in it looks like a credential", "url"],
        ),
        ("sip-trunk", "[a]\ntype=auth\n", &["has no endpoint"]),
        ("sip-trunk", "{\"a\": 1}", &["is not a LiveKit trunk"]),
        ("custom-action", "{\"a\": 1}", &["is not a custom action"]),
        ("cal-com", "A=b\n", &["has no CAL_API_KEY"]),
    ] {
        let file = adopting.file("a", text);
        adopting.adopt(&file, feature, "a", &["--yes"]).refused(words);
    }
    std::fs::write(&file, b"a\n\xff").unwrap();
    adopting.adopt(&file, "cal-com", "a", &["--yes"]).refused(&["a:2 is not UTF-8"]);
    assert!(adopting.names().is_empty());
}
