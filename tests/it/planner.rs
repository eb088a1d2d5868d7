//! The planner as the daemon uses it: the real child process, driven through its client, with a plugin that keeps the
//! contract and one that breaks each of its rules (promises Blind, Once, Whole and Isolated).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::component::{componentize, hostile, module, pager};
use crate::support::daemon::Guillemet;
use guillemet_base::problem::Problem;
use guillemet_plan::expr::{Expr, Op, Part};
use guillemet_plan::protocol::{
    Description, DocumentKind, PlanReference, PlanRequest, Planned, PlannerRequest, Target,
};
use guillemet_plugin::client::{CompileError, CompiledCache, NoCache, Planner, PlannerError, PlannerOptions};
use guillemet_template::{Format, ValueFilter};
use guillemet_testing::missing;

const PROGRAM: &str = env!("CARGO_BIN_EXE_guillemet");

/// A planner of this program.
fn of(program: impl Into<PathBuf>) -> PlannerOptions {
    PlannerOptions { program: program.into(), ..PlannerOptions::default() }
}

fn planner() -> Planner {
    Planner::with_options("hostile", hostile(), Arc::new(NoCache), of(PROGRAM))
}

/// Makes a request as the daemon's lexer does. `@0` marks the tag of the first secret.
fn request(format: Format, text: &str, target: &str) -> PlanRequest {
    let mut references = Vec::new();
    let mut engine = text.to_owned();
    for index in 0..10 {
        let Some(at) = text.find(&format!("@{index}")) else { break };
        let line = text[..at].matches('\n').count() + 1;
        let column = text[..at].chars().rev().take_while(|c| *c != '\n').count() + 1;
        references.push(PlanReference {
            name: format!("secret-{index}"),
            line: line as u32,
            column: column as u32,
            filters: Vec::new(),
        });
        engine = engine.replace(&format!("@{index}"), &format!("\u{e002} call{index}() \u{e003}"));
    }
    for (own, private) in [("<% ", "\u{e000} "), (" %>", " \u{e001}"), ("<< ", "\u{e002} "), (" >>", " \u{e003}")] {
        engine = engine.replace(own, private);
    }
    PlanRequest {
        text: engine,
        format,
        call_prefix: "call".into(),
        references,
        vars: serde_json::json!({"region": "eu", "ids": [1, 2]}),
        env: BTreeMap::from([("HOST".into(), "example.org".into())]),
        target: target.into(),
    }
}

fn yaml(text: &str, target: &str) -> PlanRequest {
    request(Format::Yaml, text, target)
}

async fn planned(planner: &Planner, request: PlanRequest) -> Planned {
    planner.plan(request).await.expect("a plan")
}

async fn problems(planner: &Planner, request: PlanRequest) -> Vec<Problem> {
    match planner.plan(request).await {
        Err(CompileError::Problems(problems)) => problems,
        other => panic!("no problems: {other:?}"),
    }
}

async fn failed(planner: &Planner, target: &str) -> String {
    match planner.plan(yaml("token: @0\nheaders:\n  a: Bearer @1\n", target)).await {
        Err(failure @ (CompileError::Broken { .. } | CompileError::Failed { .. })) => failure.to_string(),
        other => panic!("{target} did not fail: {other:?}"),
    }
}

#[tokio::test]
async fn a_plugin_says_what_it_knows() {
    let Description { feature, targets, .. } = planner().load().await.unwrap();
    assert_eq!(feature, "hostile");
    assert_eq!(targets[0].title, "Does [1mok", "control characters are gone");
}

#[tokio::test]
async fn what_a_plugin_panics_with_and_where_reaches_its_author() {
    let planner = Planner::with_options("pager", pager(), Arc::new(NoCache), of(PROGRAM));
    let config = |level| yaml(&format!("url: https://pager.example\ntoken: @0\nlevel: {level}\n"), "json");
    planned(&planner, config(2)).await;
    let Err(failure @ CompileError::Broken { .. }) = planner.plan(config(3)).await else { panic!("no failure") };
    let message = failure.to_string();
    let line = include_str!("../plugins/pager/src/lib.rs").lines().position(|line| line.contains("LEVELS[level]"));
    let place = format!("(pager/src/lib.rs:{}:", line.unwrap() + 1);
    assert!(message.starts_with("it panicked: index out of bounds: the len is 3 but the index is 3 "), "{message}");
    assert!(message.contains(&place) && message.ends_with("report it to its author"), "{message}");
    planned(&planner, config(2)).await;
}

#[tokio::test]
async fn a_template_becomes_a_plan_in_each_format() {
    let planner = planner();
    let texts = [
        (Format::Yaml, "name: << vars.region >>-<< env.HOST >>\ntoken: @0\nheaders:\n  A: \"Bearer @1\"\n"),
        (Format::Toml, "name = '<< vars.region >>-<< env.HOST >>'\ntoken = '@0'\n[headers]\nA = 'Bearer @1'\n"),
        (
            Format::Json,
            "{\"name\": \"<< vars.region >>-<< env.HOST >>\", \"token\": \"@0\", \"headers\": {\"A\": \"Bearer @1\"}}",
        ),
        (
            Format::Jsonc,
            "{\"name\": \"<< vars.region >>-<< env.HOST >>\", // a\n\"token\": \"@0\", \"headers\": {\"A\": \"Bearer @1\",},}",
        ),
    ];
    for (format, text) in texts {
        let planned = planned(&planner, request(format, text, "ok")).await;
        assert_eq!(planned.kind, DocumentKind::Json);
        let [token, header] = planned.slots.as_slice() else { panic!("{format:?}: {:?}", planned.slots) };
        let expected = format!(
            "{{\n  \"name\": \"eu-example.org\",\n  \"token\": \"{}\",\n  \"headers\": {{\n    \"A\": \"Bearer {}\"\n  }}\n}}\n",
            token.slot, header.slot
        );
        assert_eq!(planned.document, expected, "{format:?}");
        assert_eq!((&token.expr, &header.expr), (&Expr::Secret(0), &Expr::Secret(1)));
        let fields: Vec<_> = planned.emissions.iter().map(|e| (e.reference, e.field.as_str())).collect();
        assert_eq!(fields, [(0, "token"), (1, "headers.A")]);
    }
}

#[tokio::test]
async fn each_emission_is_a_slot_of_its_own() {
    let planner = planner();
    let text = "body:\n<% for id in vars.ids %>\n- id: << id >>\n  key: @0\n<% endfor %>\n<% set x %>@1<% endset %>\nheaders: {a: << x >>, b: << x >>}\n";
    let planned_loop = planned(&planner, yaml(text, "ok")).await;
    let fields: Vec<_> = planned_loop.emissions.iter().map(|e| (e.reference, e.field.as_str())).collect();
    assert_eq!(fields, [(0, "body.0.key"), (0, "body.1.key"), (1, "headers.a"), (1, "headers.b")]);

    let text = "body:\n  base: &b {key: @0}\n  one: {<<: *b, x: 1}\n  two: *b\n";
    let aliases = planned(&planner, yaml(text, "ok")).await;
    let fields: Vec<_> = aliases.emissions.iter().map(|e| e.field.as_str()).collect();
    assert_eq!(fields, ["body.base.key", "body.one.key", "body.two.key"]);
    assert_eq!(aliases.slots.len(), 3);
}

#[tokio::test]
async fn filters_and_encoders_become_expressions() {
    let planner = planner();
    let mut request = yaml("token: @0\n", "encoded");
    request.references[0].filters = vec![ValueFilter::Trim, ValueFilter::Hex];
    let planned = planned(&planner, request).await;
    let filter = |filter, inner| Expr::Apply { op: Op::Filter(filter), args: vec![vec![Part::Expr(inner)]] };
    let secret = filter(ValueFilter::Hex, filter(ValueFilter::Trim, Expr::Secret(0)));
    let bearer = vec![Part::Literal("Bearer ".into()), Part::Expr(secret)];
    assert_eq!(planned.slots[0].expr, Expr::Apply { op: Op::HeaderValue, args: vec![bearer] });
}

#[tokio::test]
async fn text_documents_and_other_cases_of_slots_are_written_canonically() {
    let planner = planner();
    let text = planned(&planner, yaml("token: @0\n", "text")).await;
    assert_eq!(text.kind, DocumentKind::Text);
    assert_eq!(text.document, format!("v = {}\n", text.slots[0].slot));
    let upper = planned(&planner, yaml("token: @0\n", "upper")).await;
    assert!(upper.document.contains(&upper.slots[0].slot) && upper.slots[0].slot.starts_with('Z'));
}

#[tokio::test]
async fn problems_of_a_plugin_get_their_places() {
    let planner = planner();
    let text = "name: x\ntoken: @0\nheaders:\n  a: 1\n";
    let told = problems(&planner, yaml(text, "problems")).await;
    let places: Vec<_> = told.iter().map(|p| (p.path.as_str(), p.line, p.column)).collect();
    assert_eq!(
        places,
        [
            ("name", Some(1), Some(7)),
            ("name.missing", Some(1), Some(7)),
            ("token", Some(2), Some(8)),
            ("headers", Some(4), Some(3)),
            ("", None, None),
        ]
    );
    let warned = planned(&planner, yaml(text, "warn")).await;
    assert_eq!((warned.warnings[0].message.as_str(), warned.warnings[0].line), ("beware", Some(2)));
    let target = problems(&planner, yaml("token: @0\nnope: << nope >>\n", "pjsip")).await;
    assert_eq!(target.len(), 2, "the template's own mistake too: {target:?}");
    assert!(target[1].help.as_ref().unwrap().contains("ok, text"));
}

#[tokio::test]
async fn a_secret_in_a_key_a_comment_or_a_wrong_field_is_told_with_its_place() {
    let planner = planner();
    let text = "name: @0\n\"@1\": x\ntoken: a # @2\nheaders: {a: {b: @3}}\n";
    let told = problems(&planner, yaml(text, "ok")).await;
    let seen: Vec<_> = told.iter().map(|p| (p.line, p.column, p.path.as_str())).collect();
    assert_eq!(
        seen,
        [
            (Some(1), Some(7), "name"),
            (Some(2), Some(2), ""),
            (Some(3), Some(12), ""),
            (Some(4), Some(18), "headers.a.b")
        ]
    );
    for (problem, (name, word)) in told.iter().zip([
        ("secret-0", "does not allow secrets"),
        ("secret-1", "as a key"),
        ("secret-2", "in a comment"),
        ("secret-3", "does not allow secrets"),
    ]) {
        assert!(problem.message.contains(name) && problem.message.contains(word), "{problem:?}");
    }
    assert!(told[0].help.as_ref().unwrap().contains("`headers.*`"));
    assert!(told[2].help.as_ref().unwrap().contains("<#"));
    let forged = format!("{{\"token\": \"\\u005a{}\"}}", "1".repeat(39));
    assert!(problems(&planner, request(Format::Json, &forged, "ok")).await[0].message.contains("looks like a slot"));
}

#[tokio::test]
async fn each_broken_rule_is_told_and_the_planner_goes_on() {
    let planner = planner();
    let rules = [
        ("panic", "panicked"),
        ("memory", "needed more than 64 MiB"),
        ("recurse", "deep recursion"),
        ("refuse", "without a reason"),
        ("forge", "forged"),
        ("forge-encode", "forged"),
        (
            "drop",
            "omitted the secret \"secret-0\" (line 1, column 8) of the field `token` (dropped); it omitted the secret \
             \"secret-1\"",
        ),
        ("double", "doubled"),
        ("key", "into a key of the document"),
        ("bare", "terminal encoder (bare)"),
        ("huge", "larger than 4 MiB"),
        ("deep", "deeper than 64"),
        ("garbage-json", "not valid JSON (line 1, column 5)"),
        ("duplicate-key", "a key appears twice"),
        ("wrapped-url", "around the result of `url`"),
        ("nest", "more than 16 encoders"),
        ("slots", "more than 10000 slots"),
        ("digest", "unknown digest algorithm, \"ROT13\""),
    ];
    for (target, rule) in rules {
        let message = failed(&planner, target).await;
        assert!(message.contains(rule), "{target}: {message}");
        assert!(message.starts_with("it") && message.ends_with("report it to its author"), "{message}");
    }
    assert!(failed(&planner, "loop").await.contains("ran longer than 2 s and was stopped"));
    planned(&planner, yaml("token: @0\n", "ok")).await;
}

#[tokio::test]
async fn a_template_names_its_targets_in_each_format() {
    let planner = planner();
    let formats = [
        (Format::Yaml, "name: x\ntargets:\n- text\n- ok\ntoken: @0\n"),
        (Format::Toml, "name = 'x'\ntargets = ['text', 'ok']\ntoken = '@0'\n"),
        (Format::Json, "{\"name\": \"x\",\n\"targets\": [\"text\", \"ok\"], \"token\": \"@0\"}"),
        (Format::Jsonc, "{\"name\": \"x\", // a\n\"targets\": [\"text\", \"ok\",], \"token\": \"@0\"}"),
    ];
    let ids = |targets: Vec<Target>| targets.into_iter().map(|target| target.id).collect::<Vec<_>>();
    for (format, text) in formats {
        assert_eq!(ids(planner.targets(request(format, text, "")).await.unwrap()), ["text", "ok"], "{format:?}");
        // The plugin gets the config without the `targets`.
        let planned = planned(&planner, request(format, text, "ok")).await;
        assert!(planned.document.starts_with("{\n  \"name\": \"x\",\n  \"token\": "), "{}", planned.document);
        // Each mistake is reported on its line by either request, together with the template's others.
        let wrong = text.replace("text", "pjsip").replace("@0", "@0\u{e002} nope \u{e003}");
        for wrong in [&wrong, &text.replace("ok", "text"), &text.replace("text", "@1")] {
            let asked = planner.targets(request(format, wrong, "")).await;
            let Err(CompileError::Problems(told)) = asked else { panic!("{format:?}: {asked:?}") };
            assert_eq!(problems(&planner, request(format, wrong, "ok")).await, told);
        }
    }
    assert!(ids(planner.targets(yaml("token: @0\n", "")).await.unwrap()).is_empty());
    // A value from a variable counts like literal text.
    let target = "<% if vars.region == 'eu' %>text<% else %>ok<% endif %>";
    assert_eq!(ids(planner.targets(yaml(&format!("targets: [{target}]\n"), "")).await.unwrap()), ["text"]);
    for (text, line, words) in [
        ("name: x\ntargets: text\n", 2, "`targets` is not a list"),
        ("name: x\ntargets: {text: true}\n", 2, "`targets` is not a list"),
        ("name: x\ntargets: []\n", 2, "`targets` is an empty list"),
        ("targets:\n- text\n- 1\n", 3, "is not a target id"),
        ("targets:\n- text\n- ''\n", 3, "is not a target id"),
        ("targets:\n- text\n- pjsip\n", 3, "has no target \"pjsip\""),
        ("targets:\n- text\n- ok\n- text\n", 4, "\"text\" is listed twice"),
        ("targets:\n- text\n- '@0'\n", 3, "the secret \"secret-0\" is in `targets`"),
        ("targets: {'@0': a}\n", 1, "the secret \"secret-0\" is in `targets`"),
    ] {
        let told = problems(&planner, yaml(text, "ok")).await;
        let found = told.iter().any(|problem| problem.message.contains(words) && problem.line == Some(line));
        assert!(found, "{text}: {told:?}");
        assert!(!format!("{told:?}").contains("comment"), "{told:?}");
    }
}

#[tokio::test]
async fn a_secret_in_a_url_must_be_percent_encoded() {
    let planner = planner();
    let told = problems(&planner, yaml("token: @0\n", "url")).await;
    assert!(told[0].message.contains("percent-encoded") && told[0].path == "token" && told[0].line == Some(1));
    let mut request = yaml("token: @0\n", "url");
    request.references[0].filters = vec![ValueFilter::Url];
    assert!(matches!(&planned(&planner, request).await.slots[0].expr, Expr::Apply { op: Op::Url, .. }));
}

#[tokio::test]
async fn a_template_that_never_ends_or_grows_is_a_problem_of_its_own() {
    let planner = planner();
    let doubling = format!("<% set x = 'aaaaaaaa' %>{}name: << x >>\n", "<% set x = x ~ x %>".repeat(30));
    let endless = "<% for a in range(9999) %><% for b in range(9999) %><% endfor %><% endfor %>";
    for text in [doubling.as_str(), endless] {
        assert!(problems(&planner, yaml(text, "ok")).await[0].message.contains("too long"));
    }
}

#[tokio::test]
async fn a_request_given_up_on_leaves_no_answer_for_the_next() {
    let planner = planner();
    planner.load().await.unwrap();
    let given_up = tokio::time::timeout(Duration::from_millis(200), planner.plan(yaml("token: @0\n", "loop"))).await;
    assert!(given_up.is_err());
    planned(&planner, yaml("token: @0\n", "ok")).await;
}

#[tokio::test]
async fn what_is_not_a_plugin_is_refused_by_name() {
    let core = module("hostile");
    let empty = b"\0asm\x0d\0\x01\0".to_vec();
    let mut other_version = componentize(&core);
    let name = b"guillemet:feature/encode@1.1.0";
    let found: Vec<usize> =
        (0..other_version.len() - name.len()).filter(|at| other_version[*at..].starts_with(name)).collect();
    for at in found {
        other_version[at..at + 16].copy_from_slice(b"wasi-cli:feature");
    }
    for (bytes, word) in [
        (b"not wasm".to_vec(), "not a WebAssembly component"),
        (core, "not a WebAssembly component"),
        (empty, "does not export `guillemet:feature/plugin@1.1.0`"),
        (other_version, "`wasi-cli:feature"),
    ] {
        let planner = Planner::with_options("x", bytes, Arc::new(NoCache), of(PROGRAM));
        let error = planner.load().await.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[derive(Default)]
struct Kept(Mutex<Option<Vec<u8>>>);

impl CompiledCache for Kept {
    fn get(&self, _: &[u8; 32]) -> Option<Vec<u8>> {
        self.0.lock().unwrap().clone()
    }

    fn put(&self, _: &[u8; 32], form: &[u8]) {
        *self.0.lock().unwrap() = Some(form.to_vec());
    }
}

#[tokio::test]
async fn the_compiled_form_is_kept_and_a_foreign_one_is_made_anew() {
    let kept = Arc::new(Kept(Mutex::new(Some(b"of another version".to_vec()))));
    let planner = || Planner::with_options("hostile", hostile(), kept.clone(), of(PROGRAM));
    let compiling = Instant::now();
    let first = planner().load().await.unwrap();
    let compiling = compiling.elapsed();
    let form = kept.0.lock().unwrap().clone().unwrap();
    assert!(form.len() > 1_000);

    let again = planner();
    let loading = Instant::now();
    assert_eq!(again.load().await.unwrap(), first);
    let loading = loading.elapsed();
    let planning = Instant::now();
    for _ in 0..20 {
        planned(&again, yaml("token: @0\nheaders: {a: @1}\n", "ok")).await;
    }
    println!("component {compiling:?}, compiled form {loading:?}, plan {:?}", planning.elapsed() / 20);
    assert_eq!(kept.0.lock().unwrap().as_ref(), Some(&form), "not compiled again");
}

#[tokio::test]
async fn an_idle_child_is_ended_and_started_again() {
    let options = PlannerOptions { idle_time: Duration::from_millis(1), ..of(PROGRAM) };
    let planner = Planner::with_options("hostile", hostile(), Arc::new(NoCache), options);
    planned(&planner, yaml("token: @0\n", "ok")).await;
    planned(&planner, yaml("token: @0\n", "ok")).await;
}

/// Makes a script that runs in place of the planner.
fn script(name: &str, body: &str) -> (tempfile::TempDir, Planner) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let planner = Planner::with_options("odd\u{1b}", hostile(), Arc::new(NoCache), of(&path));
    (folder, planner)
}

#[tokio::test]
async fn a_planner_that_talks_nonsense_is_an_error_and_no_more() {
    let cases = [
        ("exit 7", "exited before it responded (exit status: 7)"),
        ("kill -9 $$", "signal: 9"),
        ("echo memory allocation of 9 bytes failed >&2; kill -ABRT $$", "exceeded its memory limit"),
        ("printf '\\377\\377\\377\\377'; exec cat >/dev/null", "sent an invalid response"),
        ("printf '\\004\\000\\000\\000null'; exec cat >/dev/null", "sent an invalid response"),
        ("printf '\\017\\000\\000\\000{\"problems\":[]} '; exec cat >/dev/null", "sent an invalid response"),
    ];
    for (body, word) in cases {
        let (_folder, planner) = script("planner", body);
        let error = planner.load().await.unwrap_err().to_string();
        assert!(error.contains(word), "{body}: {error}");
        assert!(error.starts_with("the planner for odd "), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let absent = Planner::with_options("x", hostile(), Arc::new(NoCache), of(folder.path().join("planner")));
    assert!(matches!(absent.load().await, Err(PlannerError::Start { .. })));
}

#[tokio::test]
async fn a_child_has_nothing_of_its_parent() {
    let (folder, planner) =
        script("planner", "env > \"$(dirname \"$0\")/seen\"; pwd >> \"$(dirname \"$0\")/seen\"; exit 1");
    planner.load().await.unwrap_err();
    let seen = std::fs::read_to_string(folder.path().join("seen")).unwrap();
    // The shell adds descriptors of its own.
    let foreign =
        seen.lines().filter(|line| !["PWD=", "_=", "SHLVL=", "OLDPWD="].iter().any(|own| line.starts_with(own)));
    assert_eq!(foreign.collect::<Vec<_>>(), ["/"]);
}

/// Returns the numbers of a process's descriptors with what each is. The kernel shows a planner's descriptors only to
/// root.
fn descriptors(pid: u32) -> BTreeMap<u32, String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|entry| entry.unwrap());
    let number = |entry: &std::fs::DirEntry| entry.file_name().to_str().unwrap().parse().unwrap();
    let what = |entry: &std::fs::DirEntry| std::fs::read_link(entry.path()).unwrap().to_string_lossy().into_owned();
    entries.map(|entry| (number(&entry), what(&entry))).collect()
}

fn has_only_its_pipes(pid: u32) {
    let found = descriptors(pid);
    let is_pipe = |what: &String| what.starts_with("pipe:");
    assert!(found.keys().copied().eq(0..3) && found.values().all(is_pipe), "{found:?}");
}

/// The process that starts the daemon may leave descriptors open, even of a vault or a terminal.
#[test]
fn no_inherited_descriptor_reaches_a_planner() {
    if !missing::is_root("look at the descriptors of a planner") {
        return;
    }
    let careless = ["/bin/sh", "-c", "exec 7</etc/passwd 9<>/dev/zero; exec \"$0\" \"$@\""].map(str::to_owned);
    // The planner closes inherited descriptors.
    let mut planner = Command::new(&careless[0])
        .args(&careless[1..])
        .args([PROGRAM, "planner"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let asked = serde_json::to_vec(&PlannerRequest::Plan(yaml("token: @0\n", "ok"))).unwrap();
    let input = planner.stdin.as_mut().unwrap();
    input.write_all(&[&(asked.len() as u32).to_le_bytes()[..], &asked].concat()).unwrap();
    // By the time it answers, it has closed them.
    planner.stdout.as_mut().unwrap().read_exact(&mut [0; 4]).unwrap();
    has_only_its_pipes(planner.id());
    planner.kill().unwrap();
    planner.wait().unwrap();

    // The daemon passes no descriptor on to it either.
    let mut guillemet = Guillemet::init();
    guillemet.write("mcp-server/a.toml", "name = 'a'\nurl = 'https://example.com'\n");
    assert!(guillemet.try_run(&careless), "{}", guillemet.log());
    assert_eq!(guillemet.get("/v1/render/mcp-server/a").status, 200);
    let open = descriptors(guillemet.pid());
    for (number, what) in [(7, "/etc/passwd"), (9, "/dev/zero")] {
        assert_eq!(open.get(&number).map(String::as_str), Some(what), "the test hands nothing over: {open:?}");
        let info = std::fs::read_to_string(format!("/proc/{}/fdinfo/{number}", guillemet.pid())).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
        assert!(flags & 0o2_000_000 != 0, "{what} is not closed on exec: {flags:o}");
    }
    let planners = guillemet.planners();
    assert!(!planners.is_empty());
    planners.into_iter().for_each(has_only_its_pipes);
}
