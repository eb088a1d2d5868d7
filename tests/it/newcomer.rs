//! The first minutes: the README's quick start and recipes exactly as written, the templates that `template new`
//! writes, and text that is almost a placeholder.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::support::daemon::{Guillemet, PROGRAM};
use guillemet_testing::missing;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

/// The longest time that one command may take.
const PATIENCE: Duration = Duration::from_secs(50);
const VALUE: &str = "cal_live_0123";

/// Returns the code blocks of a section of the README, each with its language and text.
fn blocks(section: &str) -> Vec<(String, String)> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, rest) = readme.split_once(&format!("\n## {section}\n")).expect(section);
    let section = rest.split("\n## ").next().unwrap();
    let blocks = section.split("\n```").skip(1).step_by(2);
    blocks.map(|block| block.split_once('\n').unwrap()).map(|(language, text)| (language.into(), text.into())).collect()
}

/// Reports whether a line is a command's question for the value of a secret.
fn is_question(line: &str) -> bool {
    line.ends_with(": ") && (line.starts_with("Value of ") || line == "Repeat: ")
}

/// A shell at a terminal, in the home of a new user.
struct Terminal {
    child: Child,
    output: Receiver<Vec<u8>>,
    /// The output since the last command.
    said: String,
    /// The process id of the daemon that was started here.
    daemon: Option<i32>,
}

impl Terminal {
    fn open(user: &Path) -> Self {
        let bin = Path::new(PROGRAM).parent().unwrap().display();
        let path = std::env::var("PATH").unwrap();
        let mut child = Command::new("script")
            .args(["-qfec", "bash --noprofile --norc --noediting -i", "/dev/null"])
            .env_clear()
            .envs([("HOME", user.to_str().unwrap()), ("TERM", "dumb"), ("PS1", "[ended $?]"), ("NO_COLOR", "1")])
            .env("PATH", format!("{bin}:{path}"))
            .current_dir(user)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = stdout.read(&mut bytes) {
                if sender.send(bytes[..len].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut terminal = Self { child, output, said: String::new(), daemon: None };
        terminal.wait_until(|said| said.ends_with("]"));
        terminal
    }

    fn type_line(&mut self, line: &str) {
        self.said.clear();
        self.child.stdin.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn wait_until(&mut self, seen: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !seen(&self.said) {
            let wait = deadline.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.output.recv_timeout(wait) else { panic!("the terminal says only:\n{}", self.said) };
            self.said.push_str(&String::from_utf8_lossy(&bytes).replace('\r', ""));
        }
    }

    /// Runs commands as they are written, and answers a prompt for a value. Returns their output and the exit status of
    /// the last one.
    fn run(&mut self, commands: &str) -> (String, i32) {
        let mut printed = String::new();
        let mut status = 0;
        for line in commands.lines() {
            assert_eq!(status, 0, "before `{line}`: {printed}");
            self.type_line(line);
            loop {
                let ended = |said: &str| said.rsplit_once("[ended ").is_some_and(|(_, status)| status.contains(']'));
                // Only the question for a value counts. An error can arrive in pieces, the first of which ends like a
                // question.
                let asks = |said: &str| said.rsplit('\n').next().is_some_and(is_question);
                self.wait_until(|said| ended(said) || asks(said));
                if ended(&self.said) {
                    break;
                }
                printed.push_str(&self.said);
                self.type_line(VALUE);
            }
            let (said, ended) = self.said.rsplit_once("[ended ").unwrap();
            // The daemon logs to the same terminal, so other output may follow.
            status = ended.split(']').next().unwrap().parse().unwrap();
            printed.push_str(said);
        }
        (printed, status)
    }

    fn done(&mut self, commands: &str) -> String {
        let (printed, status) = self.run(commands);
        assert_eq!(status, 0, "{commands}: {printed}");
        printed
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(pid) = self.daemon.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_readme_runs_exactly_as_it_is_written() {
    for (program, package) in [("script", "bsdutils"), ("curl", "curl"), ("python3", "python3"), ("node", "nodejs")] {
        if !missing::has_program(program, package) {
            return;
        }
    }
    let user = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::open(user.path());
    let start = blocks("Your own");
    let lines: Vec<&str> = start.iter().flat_map(|(_, text)| text.lines()).collect();
    assert!(start.iter().all(|(language, _)| language == "sh"));
    assert!(lines.len() <= 7, "a newcomer has a config within a few lines");
    let (install, lines) = lines.split_first().unwrap();
    // The test uses the program of this build in place of the one that this command would install.
    assert_eq!(*install, "cargo install --path .");
    let mut rendered = String::new();
    for line in lines {
        rendered = terminal.done(line);
        if line.ends_with('&') {
            let pid = terminal.done("echo pid=$!=");
            terminal.daemon = pid.split("pid=").nth(2).and_then(|rest| rest.split('=').next()?.parse().ok());
            // A person types more slowly than this test.
            let socket = user.path().join(".local/share/guillemet/run/guillemet.sock");
            let deadline = Instant::now() + PATIENCE;
            while std::os::unix::net::UnixStream::connect(&socket).is_err() {
                assert!(Instant::now() < deadline, "the daemon does not answer");
                std::thread::yield_now();
            }
        }
    }
    assert!(rendered.contains(&format!("\"Authorization\": \"Bearer {VALUE}\"")), "{rendered}");

    let mut languages = Vec::new();
    let recipes = blocks("At an agent's start");
    let ask = |terminal: &mut Terminal, language: &str, text: &str| match language {
        "sh" => terminal.run(text),
        "python" | "js" => {
            let (program, file) = if language == "js" { ("node", "recipe.mjs") } else { ("python3", "recipe.py") };
            std::fs::write(user.path().join(file), text).unwrap();
            terminal.run(&format!("{program} {file}"))
        }
        other => panic!("nobody runs {other}"),
    };
    for (language, text) in &recipes {
        let (printed, status) = ask(&mut terminal, language, text);
        assert_eq!(status, 0, "{language}: {printed}");
        assert!(text.starts_with("export ") || printed.contains("https://api.cal.com/v2"), "{language}: {printed}");
        languages.push(language.as_str());
    }
    assert_eq!(languages, ["sh", "sh", "python", "js"]);
    terminal.done("guillemet secret disable cal-com-frontdesk-production");
    for (language, text) in &recipes[1..] {
        let (printed, status) = ask(&mut terminal, language, text);
        let name = "cal-com-frontdesk-production";
        assert!(status != 0 && printed.contains(name), "{language} does not say what is disabled: {printed}");
    }
}

fn texts(output: &std::process::Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_new_home_needs_no_secret() {
    let mut guillemet = Guillemet::nowhere();
    let made = guillemet.command(&["init"]);
    assert!(made.status.success() && texts(&made).1.contains("template new FEATURE/NAME"), "{made:?}");
    assert_eq!(std::fs::read_dir(guillemet.path("templates")).unwrap().count(), 0);
    guillemet.run();
    assert_eq!(guillemet.get("/v1/secrets").json()["count"], 0);
    assert_eq!(guillemet.get("/v1/templates").json()["count"], 0);
}

#[test]
fn a_new_template_renders_once_its_secrets_are_there() {
    let guillemet = Guillemet::start();
    for feature in ["cal-com", "custom-action", "mcp-server", "sip-trunk"] {
        for format in ["toml", "json", "jsonc", "yaml"] {
            let (name, id) = (format!("new-{format}"), format!("{feature}/new-{format}"));
            let made = guillemet.command(&["template", "new", &id, "--format", format]);
            let (_, said) = texts(&made);
            assert!(made.status.success(), "{said}");
            let file = guillemet.path(&format!("templates/{id}.{format}"));
            assert!(said.starts_with(&format!("wrote {}\n", file.display())), "{said}");
            let text = std::fs::read_to_string(&file).unwrap();
            let comment = match format {
                "jsonc" => "// ",
                _ => "# ",
            };
            assert_eq!(text.contains(comment), format != "json", "{text}");
            assert!(format != "json" || serde_json::from_str::<Value>(&text).is_ok(), "{text}");
            let named: Vec<&str> = said.lines().filter_map(|line| Some(line.split_once(" secret add ")?.1)).collect();
            assert!(!named.is_empty() && said.contains(&format!(" render {id}\n")), "{said}");
            assert_eq!(text.matches("<< secret '").count(), named.len(), "{text}");
            for secret in named {
                assert!(secret.contains(&name) && text.contains(&format!("<< secret '{secret}' >>")), "{text}");
                guillemet.add(secret, "v4lue");
            }
            let rendered = guillemet.get(&format!("/v1/render/{id}"));
            assert!(rendered.status == 200 && rendered.text().contains("v4lue"), "{id}: {}", rendered.text());
            // The config contains the name, if the feature has names.
            assert!(feature == "cal-com" || rendered.text().contains(&name), "{}", rendered.text());

            let before = std::fs::read(&file).unwrap();
            for other in ["toml", format] {
                let again = guillemet.command(&["template", "new", &id, "--format", other]);
                assert!(!again.status.success() && texts(&again).1.contains("already exists"), "{again:?}");
            }
            assert_eq!(std::fs::read(&file).unwrap(), before);
        }
    }
    let checked = guillemet.command(&["template", "check"]);
    assert!(checked.status.success(), "{}", texts(&checked).1);
    assert_eq!(texts(&checked).0.matches(" ok\n").count(), 16);
    for (id, why) in
        [("nothing/a", "there is no plugin for the feature"), ("cal-com", "FEATURE/NAME"), ("cal-com/../a", "letters")]
    {
        let refused = guillemet.command(&["template", "new", id]);
        assert!(!refused.status.success() && texts(&refused).1.contains(why), "{}", texts(&refused).1);
    }
    let nowhere = Guillemet::nowhere();
    std::fs::remove_dir(nowhere.dir.path()).unwrap();
    let refused = nowhere.command(&["template", "new", "cal-com/a"]);
    assert!(!refused.status.success() && texts(&refused).1.contains("there is no home at"), "{}", texts(&refused).1);
    std::fs::create_dir(nowhere.dir.path()).unwrap();
}

#[test]
fn a_plugin_gets_a_new_template_made_of_its_schema() {
    let guillemet = Guillemet::start();
    std::fs::create_dir_all(guillemet.path("plugins")).unwrap();
    std::fs::write(guillemet.path("plugins/pager.wasm"), crate::support::component::pager()).unwrap();
    let made = guillemet.command(&["template", "new", "pager/on-call"]);
    let (_, said) = texts(&made);
    assert!(made.status.success() && said.contains(" secret add pager-on-call-production\n"), "{said}");
    let text = std::fs::read_to_string(guillemet.path("templates/pager/on-call.toml")).unwrap();
    assert!(text.starts_with("# ") && text.contains("<< secret 'pager-on-call-production' >>"), "{text}");
    let checked = guillemet.command(&["template", "check", "pager/on-call"]);
    assert_eq!(checked.status.success(), !said.contains("template check"), "{}{said}", texts(&checked).1);
}

/// Lines of a text, each with the resulting text of the config, or `None` for an error.
const LINES: [(&str, Option<&str>); 25] = [
    ("plain > text", Some("plain > text")),
    ("u << vars.mcp_url >>", Some("u https://mcp.example.com/mcp")),
    ("k << secret \"a\" >>", Some("k v4lue")),
    ("k <<- secret 'a' | hex ->>.", Some("k76346c7565.")),
    ("<# << secret \"b\" >> #>c", Some("c")),
    ("<% raw %><<secret 'a'>><% endraw %>", Some("<<secret 'a'>>")),
    ("cat << EOF", Some("cat << EOF")),
    ("cat <<-'END'", Some("cat <<-'END'")),
    ("<<: *base", Some("<<: *base")),
    ("cout << x << y;", Some("cout << x << y;")),
    ("echo >> log", Some("echo >> log")),
    ("1 << 4 ${x} %>", Some("1 << 4 ${x} %>")),
    ("<<a>> <b> «c»", Some("<<a>> <b> «c»")),
    ("<<secret \"a\">>", None),
    ("<< secrets 'a' >>", None),
    ("<<< secret \"a\" >>>", None),
    ("<< secret a >>", None),
    ("<< secret \"a\" >", None),
    ("<<vars.x>>", None),
    ("<< vars.mcp_url", None),
    ("«secret 'a'»", None),
    ("<%if x%>", None),
    ("<#x#>", None),
    ("<< unknown >>", None),
    ("<< x $ >>", None),
];

/// `template check` agrees with what a render does, and the rendered config contains nothing that was meant as template
/// syntax.
#[test]
fn check_and_render_agree_about_text_that_is_nearly_ours() {
    let guillemet = Guillemet::start();
    guillemet.add("a", "v4lue");
    // Most lines are good, because a single wrong one decides.
    let line = prop_oneof![4 => 0..13usize, 1 => 13..LINES.len()];
    let texts_of = proptest::collection::vec(proptest::collection::vec(line, 1..6), 60);
    let mut runner = TestRunner::new(Config { cases: 1, failure_persistence: None, ..Config::default() });
    let each: Vec<Vec<usize>> = (0..LINES.len()).map(|line| vec![line]).collect();
    runner
        .run(&texts_of, |random| {
            let chosen: Vec<&Vec<usize>> = each.iter().chain(&random).collect();
            for (index, lines) in chosen.iter().enumerate() {
                let body: String = lines.iter().map(|line| format!("    {}\n", LINES[*line].0)).collect();
                let head = "name: t\nmethod: POST\nurl: https://api.example.com/x\nbody:\n  text: |\n";
                guillemet.write(&format!("custom-action/t{index}.yaml"), &format!("{head}{body}"));
            }
            let checked = guillemet.command(&["template", "check", "--json"]);
            let checked: Value = serde_json::from_slice(&checked.stdout).unwrap();
            for (index, lines) in chosen.iter().enumerate() {
                let id = format!("custom-action/t{index}");
                let items = checked["items"].as_array().unwrap();
                let verdict = items.iter().find(|item| item["id"] == id.as_str()).unwrap();
                let rendered = guillemet.get(&format!("/v1/render/{id}"));
                let expected: Option<Vec<&str>> = lines.iter().map(|line| LINES[*line].1).collect();
                let shown: Vec<&str> = lines.iter().map(|line| LINES[*line].0).collect();
                match expected {
                    Some(expected) => {
                        prop_assert_eq!(&verdict["status"], "ok", "{:?}: {}", shown, verdict);
                        prop_assert_eq!(rendered.status, 200, "{:?}: {}", shown, rendered.text());
                        let text = rendered.json()["body"]["text"].clone();
                        prop_assert_eq!(text, json!(expected.join("\n") + "\n"));
                    }
                    None => {
                        prop_assert_eq!(&verdict["status"], "broken", "{:?}", shown);
                        prop_assert_eq!(rendered.status, 422, "{:?}: {}", shown, rendered.text());
                        let said = rendered.text();
                        for problem in verdict["problems"].as_array().unwrap() {
                            prop_assert!(said.contains(&problem["message"].to_string()), "{}: {}", problem, said);
                        }
                    }
                }
            }
            Ok(())
        })
        .unwrap();
}

/// The name in text that is almost a placeholder counts as a reference.
#[test]
fn a_near_placeholder_is_an_error_at_its_line_and_guards_its_secret() {
    let guillemet = Guillemet::start();
    guillemet.add("tok", "v4lue");
    guillemet.write(
        "mcp-server/t.yaml",
        "name: x\nurl: https://e.example/mcp\nheaders:\n  X-A: <<vars.mcp_url>>\n  X-B: <<< secret \"tok\" >>>\n  X-C: <<secret \"tok\">>\n",
    );
    let rendered = guillemet.get("/v1/render/mcp-server/t");
    assert_eq!(rendered.status, 422, "{}", rendered.text());
    let errors = rendered.json()["errors"].clone();
    let place = |error: &Value| (error["line"].as_u64().unwrap(), error["column"].as_u64().unwrap());
    assert_eq!(errors.as_array().unwrap().iter().map(place).collect::<Vec<_>>(), [(4, 8), (5, 8), (6, 8)]);
    assert!(rendered.errors("help")[0].starts_with("did you mean `<< vars.mcp_url >>`?"), "{errors}");
    assert!(rendered.errors("help")[2].starts_with("did you mean `<< secret \"tok\" >>`?"), "{errors}");
    let refused = guillemet.ask("DELETE", "/v1/secrets/tok", &[], b"");
    assert_eq!((refused.status, refused.json()["errors"][0]["reason"].as_str()), (409, Some("in_broken_text")));
    let inline =
        json!({"feature": "mcp-server", "format": "yaml", "template": "name: x\nurl: https://<<secret \"tok\">>\n"});
    let inline = guillemet.post("/v1/render", &inline);
    assert!(inline.status == 422 && inline.text().contains("did you mean"), "{}", inline.text());
}
