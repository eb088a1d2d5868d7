//! The output of `make demo`, with a real MCP client and server; and the command line's own stories.

use std::path::Path;
use std::process::Command;

use crate::support::daemon::{Guillemet, PROGRAM};
use guillemet_testing::mcp::{self, McpServer};
use guillemet_testing::missing;

#[test]
fn the_demo_goes_as_it_should() {
    let mut command = Command::new(PROGRAM);
    command.arg("demo").env_remove("GUILLEMET_HOME").env_remove("GUILLEMET_SOCKET");
    if let Some(mcp) = mcp::program(PROGRAM) {
        command.arg("--mcp").arg(mcp);
    }
    let output = command.output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{errors}");
    for word in [
        "«calendar-token-production»",
        "secret_unavailable",
        "conflict",
        "was rotated on `office`",
        "on `laptop`",
        "Every step succeeded",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains("p\"a'ss") && !errors.contains("p\"a'ss"), "a value was shown without --reveal");
    if command.get_args().any(|argument| argument == "--mcp") {
        assert!(said.contains("tomorrow 09:30"), "{said}");
    }
}

#[test]
fn the_mcp_server_really_demands_the_credentials() {
    let Some(mcp) = mcp::program(PROGRAM) else { return };
    let demanded = r#"{"headers": {"Authorization": "Bearer a b\"c"}, "query": {"k": "x&y z"}}"#;
    let server = McpServer::start(&mcp, demanded);
    let url = server.url();

    let guillemet = Guillemet::start();
    guillemet.write(
        "mcp-server/a.yaml",
        &format!(
            "name: a\nurl: {url}\nheaders:\n  Authorization: Bearer << secret \"token\" >>\nquery_params:\n  k: << secret \"query\" >>\n"
        ),
    );
    guillemet.add("token", "a b\"c");
    guillemet.add("query", "x&y z");
    let call = |config: &[u8]| mcp::call(&mcp, config);
    let config = guillemet.get("/v1/render/mcp-server/a").body;
    let answer = call(&config);
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&config));
    assert!(String::from_utf8_lossy(&answer.stdout).contains("check_availability"));
    for (right, wrong) in [("x%26y%20z", "x%26y+z"), ("Bearer a b", "Bearer a  b"), ("?k=", "?j=")] {
        let spoiled = String::from_utf8_lossy(&config).replace(right, wrong);
        assert!(!call(spoiled.as_bytes()).status.success(), "{wrong} was taken");
    }
}

fn texts(output: &std::process::Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_command_line_tells_the_story_of_a_secret() {
    let guillemet = Guillemet::start();
    guillemet.write("cal-com/desk.toml", "api_key = '<< secret \"calcom-api-key-prod\" >>'\n");
    let output = guillemet.command(&["secret", "list"]);
    assert_eq!(texts(&output).0, "Name\tStatus\tUsage count\tLast used\ncalcom-api-key-prod\tmissing\t1\tnever\n");
    let output = guillemet.command_with(&["secret", "add", "calcom-api-key-prod"], b"cal_1\n");
    assert_eq!(texts(&output), (String::new(), "created calcom-api-key-prod (active)\n".into()));
    let output = guillemet.command_with(&["secret", "add", "api-key", "--disabled"], b"x");
    assert!(texts(&output).1.contains("provider-purpose-environment"));
    assert!(output.status.success());

    let output = guillemet.command(&["render", "cal-com/desk", "--target", "dotenv"]);
    assert_eq!(texts(&output), ("CAL_API_KEY=cal_1\n".into(), String::new()));
    let file = guillemet.path("out.env");
    let output = guillemet.command(&["render", "cal-com/desk", "--target", "dotenv", "--out", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", texts(&output).1);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "CAL_API_KEY=cal_1\n");

    // A former name works, with a warning that programs see too.
    let output = guillemet.command(&["render", "cal-com/desk", "--target", "env"]);
    let warning = "the target `env` is now called `dotenv`; the old name still works";
    assert_eq!(texts(&output), ("CAL_API_KEY=cal_1\n".into(), format!("warning: {warning}\n")));
    let answer = guillemet.get("/v1/render/cal-com/desk?target=env");
    assert_eq!(answer.headers["warning"], format!("299 - \"{warning}\""));
    assert_eq!(answer.headers["guillemet-target"], "dotenv");
    let answer = guillemet.get("/v1/render/cal-com/desk?target=dotenv");
    assert_eq!((answer.headers.get("warning"), answer.headers["guillemet-target"].as_str()), (None, "dotenv"));
    for command in ["check", "explain"] {
        let output = guillemet.command(&["template", command, "cal-com/desk", "--target", "env"]);
        assert!(output.status.success() && texts(&output).1.contains(warning), "{command}: {:?}", texts(&output));
        let output = guillemet.command(&["template", command, "cal-com/desk", "--target", "dotenv"]);
        assert!(output.status.success() && !texts(&output).1.contains(warning), "{command}: {:?}", texts(&output));
    }

    let output = guillemet.command(&["template", "explain", "cal-com/desk"]);
    let (said, _) = texts(&output);
    assert!(said.contains("Bearer «calcom-api-key-prod»") && said.contains("header-value → json"), "{said}");
    let output = guillemet.command(&["secret", "delete", "calcom-api-key-prod"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(texts(&output).1.contains("--yes"));
    let output = guillemet.command(&["secret", "delete", "calcom-api-key-prod", "--yes"]);
    let (_, said) = texts(&output);
    assert!(!output.status.success());
    assert!(said.contains("cal-com/desk:1:12 api_key") && said.contains("  1 | api_key = "), "{said}");
    let output = guillemet.command(&["secret", "disable", "calcom-api-key-prod"]);
    let (_, said) = texts(&output);
    assert!(said.starts_with("calcom-api-key-prod is disabled\n1 reference is refused"), "{said}");
    let output = guillemet.command(&["render", "cal-com/desk", "--out", file.to_str().unwrap(), "--force"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "CAL_API_KEY=cal_1\n", "a refused render writes nothing");
    let output = guillemet.command(&["secret", "show", "api-key"]);
    assert!(texts(&output).0.contains("No active references yet"));
    let output = guillemet.command(&["plugin", "show", "cal-com", "--schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["required"][0], "api_key");
}

#[test]
fn templates_are_checked_without_a_daemon() {
    let guillemet = Guillemet::init();
    guillemet.write("cal-com/good.toml", "api_key = '<< secret \"calcom-api-key-prod\" >>'\n");
    let output = guillemet.command(&["template", "check"]);
    assert!(output.status.success(), "{}", texts(&output).1);
    guillemet.write("cal-com/bad.toml", "api_ky = 'x'\n\ntimezone = 'nowhere'\n");
    guillemet
        .write("mcp-server/query.toml", "name = 'a'\nurl = 'https://h'\n[query_params]\nk = '<< secret \"q\" >>'\n");
    guillemet.write(
        "custom-action/signed.toml",
        "name = 'a'\nmethod = 'POST'\nurl = 'https://h'\n[auth]\ntype = 'hmac'\nkey = '<< secret \"k\" >>'\nsignature_header = 'X-S'\n",
    );
    let output = guillemet.command(&["template", "check"]);
    let (said, problems) = texts(&output);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(said, "cal-com/bad broken\ncal-com/good ok\ncustom-action/signed ok\nmcp-server/query ok\n");
    for word in ["did you mean `api_key`", "timezone", "prefer a header", "1 template has errors"] {
        assert!(problems.contains(word), "{word}: {problems}");
    }
    // A target that has no place for a field of the template is only reported if it is asked for.
    assert!(!problems.contains("custom-action/signed"), "{problems}");
    let curl = guillemet.command(&["template", "check", "custom-action/signed", "--target", "curl"]);
    assert_eq!((curl.status.code(), texts(&curl).0.as_str()), (Some(1), "custom-action/signed broken\n"));
    let json = guillemet.command(&["template", "check", "custom-action/signed", "--target", "json"]);
    assert_eq!((json.status.code(), texts(&json).1.as_str()), (Some(0), ""));
    let none = guillemet.command(&["template", "check", "custom-action/signed", "--target", "pjsip"]);
    assert!(texts(&none).1.contains("elevenlabs"), "the targets there are: {}", texts(&none).1);
    assert_eq!(guillemet.command(&["template", "check", "cal-com/none"]).status.code(), Some(1));
    assert_eq!(guillemet.command(&["template", "chek"]).status.code(), Some(2));
    assert!(!texts(&guillemet.command(&["completions", "bash"])).0.is_empty());
}

/// Runs the recipes of the README with the programs they are for.
#[test]
fn agents_render_their_config_at_start() {
    let guillemet = Guillemet::start();
    guillemet.write("cal-com/desk.toml", "api_key = '<< secret \"calcom-api-key-prod\" >>'\n");
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/recipes");
    for (program, recipe, package) in
        [("sh", "render.sh", "curl"), ("python3", "render.py", "python3"), ("node", "render.mjs", "nodejs")]
    {
        if !missing::has_program(if program == "sh" { "curl" } else { program }, package) {
            continue;
        }
        let run = || {
            Command::new(program)
                .arg(recipes.join(recipe))
                .arg("cal-com/desk")
                .env("GUILLEMET_SOCKET", guillemet.path("run/guillemet.sock"))
                .output()
                .unwrap()
        };
        let refused = run();
        assert!(!refused.status.success() && refused.stdout.is_empty(), "{recipe} did not fail without the secret");
        assert!(texts(&refused).1.contains("calcom-api-key-prod"), "{recipe}: {:?}", texts(&refused));
        guillemet.add("calcom-api-key-prod", "cal_1");
        let output = run();
        assert!(texts(&output).0.contains("Bearer cal_1"), "{recipe}: {:?}", texts(&output));
        guillemet.set_enabled("calcom-api-key-prod", false);
        std::fs::remove_file(guillemet.path("templates/cal-com/desk.toml")).unwrap();
        assert!(guillemet.command(&["secret", "delete", "calcom-api-key-prod", "--yes"]).status.success());
        guillemet.write("cal-com/desk.toml", "api_key = '<< secret \"calcom-api-key-prod\" >>'\n");
    }
}
