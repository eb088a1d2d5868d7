//! A planner that is completely taken over: another program runs in its place and answers what it likes. Each wrong
//! answer is an error of that plan within its time limit, and the next request gets a working child (promise Isolated).

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::support::component::hostile;
use guillemet_base::problem::Problem;
use guillemet_plan::expr::Expr;
use guillemet_plan::plan;
use guillemet_plan::protocol::{
    Description, DocumentKind, Emission, PlanReference, PlanRequest, Planned, PlannedSlot, PlannerRequest,
    PlannerResponse, Report, Target,
};
use guillemet_plugin::client::{CompileError, NoCache, Planner, PlannerOptions};
use guillemet_plugin::fill::{Values, fill};
use guillemet_secret::memory::SealedValue;
use guillemet_template::Format;
use guillemet_template::lexer::Reference;
use guillemet_testing::wait::until_holds_async;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_guillemet");
/// Far longer than every deadline of a planner: hanging is a failure, but being slow is not.
const PATIENCE: Duration = Duration::from_secs(120);

const SLOT: &str = "Z000000000000000000000000000000000000001";

fn request(target: &str) -> PlanRequest {
    PlanRequest {
        text: "token: \u{e002} call0() \u{e003}\n".into(),
        format: Format::Yaml,
        call_prefix: "call".into(),
        references: vec![PlanReference { name: "own".into(), line: 1, column: 8, filters: Vec::new() }],
        vars: serde_json::json!({}),
        env: BTreeMap::new(),
        target: target.into(),
    }
}

fn target() -> Target {
    Target {
        id: "ok".into(),
        title: "T".into(),
        media_type: "text/plain".into(),
        file_name: "t".into(),
        aliases: Vec::new(),
    }
}

fn frame(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat()
}

fn message(answer: &PlannerResponse) -> Vec<u8> {
    frame(&serde_json::to_vec(answer).unwrap())
}

fn description() -> Description {
    Description {
        feature: "odd".into(),
        title: "Odd".into(),
        version: "1".into(),
        schema: "{}".into(),
        secret_fields: vec!["token".into()],
        targets: vec![target()],
    }
}

fn report() -> Report {
    Report { description: Some(description()), ..Report::default() }
}

/// Returns a planner's answer after the plugin is loaded.
fn loaded() -> Vec<u8> {
    [message(&PlannerResponse::Loaded(report())), frame(b"a compiled form")].concat()
}

/// Returns a plan that keeps every rule.
fn planned(document: &str) -> Vec<u8> {
    message(&PlannerResponse::Planned(Planned {
        document: format!("{{\"{document}\": \"Bearer {SLOT}\"}}\n"),
        kind: DocumentKind::Json,
        slots: vec![PlannedSlot { slot: SLOT.into(), expr: Expr::Secret(0) }],
        emissions: vec![Emission { reference: 0, field: "token".into() }],
        warnings: vec![Problem { message: "beware".into(), ..Problem::default() }],
        cost: Default::default(),
    }))
}

/// Returns the number of bytes that a planner is sent before its first answer.
fn load_len(component: &[u8]) -> usize {
    4 + serde_json::to_vec(&PlannerRequest::Load { compiled: false }).unwrap().len() + 4 + component.len()
}

/// A program in the planner's place, in a folder of its own.
/// A planner of this program.
fn of(program: impl Into<PathBuf>) -> PlannerOptions {
    PlannerOptions { program: program.into(), ..PlannerOptions::default() }
}

struct Stranger {
    folder: tempfile::TempDir,
    planner: Planner,
}

impl Stranger {
    /// Makes a program from a shell script. In it, `$dir` is the folder, `load` and `plan` read the first and the
    /// second message, and `bytes` are in the file of that name.
    fn new(component: &[u8], deed: &str, bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().display();
        let len = load_len(component);
        let plan = 4 + serde_json::to_vec(&PlannerRequest::Plan(request("ok"))).unwrap().len();
        let text = format!(
            "#!/bin/sh\ndir={dir}\nload() {{ head -c {len} >/dev/null; }}\nplan() {{ head -c {plan} >/dev/null; }}\necho $$ \
             >\"$dir/pid\"\n{deed}\n"
        );
        let path = folder.path().join("stranger");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::write(folder.path().join("bytes"), bytes).unwrap();
        let planner = Planner::with_options("odd", component, Arc::new(NoCache), of(path));
        Self { folder, planner }
    }

    /// Makes a program that does the deed on its first start, and is the real planner after that.
    fn at_first(deed: &str, bytes: &[u8]) -> Self {
        let deed = format!("mkdir \"$dir/once\" 2>/dev/null || exec {PROGRAM} planner\n{deed}");
        Self::new(hostile(), &deed, bytes)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pid(&self) -> u32 {
        std::fs::read_to_string(self.path("pid")).unwrap().trim().parse().unwrap()
    }

    async fn plan(&self, target: &str) -> Result<Planned, CompileError> {
        let planning = self.planner.plan(request(target));
        tokio::time::timeout(PATIENCE, planning).await.expect("a plan comes to an end")
    }
}

/// Reports whether no process with this id runs. A dead process that was not waited for counts as gone.
fn is_gone(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_it_does_is_an_error_in_time_and_the_next_child_works() {
    const LATE: &str = "took longer than 5 s and was stopped";
    const UNFIT: &str = "sent an invalid response";
    let lying = |length: u32| [loaded(), length.to_le_bytes().to_vec(), b"{}".to_vec()].concat();
    let then = |answer: &[u8]| [loaded(), answer.to_vec()].concat();
    let hold = "exec sleep 60";
    let cases: Vec<(String, Vec<u8>, &str)> = vec![
        // It says nothing, either when the plugin is loaded or for the plan.
        ("load; exec sleep 60".into(), vec![], "took longer than 10 s to load it and was stopped"),
        ("exec sleep 60".into(), vec![], "took longer than 10 s to load it and was stopped"),
        (format!("load; cat \"$dir/bytes\"; {hold}"), loaded(), LATE),
        // It ignores every signal but SIGKILL.
        (format!("trap '' TERM INT HUP PIPE; load; cat \"$dir/bytes\"; {hold}"), loaded(), LATE),
        // It answers when nobody waits any more.
        ("load; cat \"$dir/bytes\"; sleep 8; cat \"$dir/bytes\" \"$dir/bytes\"".into(), loaded(), LATE),
        // It ends, or seems to.
        ("load; cat \"$dir/bytes\"; exit 3".into(), loaded(), "exited before it responded (exit status: 3)"),
        ("load; cat \"$dir/bytes\"; kill -SEGV $$".into(), loaded(), "exited before it responded (signal: 11"),
        (format!("load; cat \"$dir/bytes\"; exec >&-; {hold}"), loaded(), "closed its pipe before it responded"),
        // It leaves a process behind that holds the pipe open.
        ("load; cat \"$dir/bytes\"; plan; sleep 30 & exit 0".into(), loaded(), LATE),
        // It sends frames whose length is wrong.
        (format!("load; cat \"$dir/bytes\"; {hold}"), lying(u32::MAX), UNFIT),
        (format!("load; cat \"$dir/bytes\"; {hold}"), lying((16 << 20) + 1), UNFIT),
        (format!("load; cat \"$dir/bytes\"; {hold}"), lying(1), UNFIT),
        (format!("load; cat \"$dir/bytes\"; {hold}"), lying(3), LATE),
        ("load; cat \"$dir/bytes\"; exit 0".into(), lying(3), "exited before it responded (exit status: 0)"),
        // It never stops writing.
        ("load; cat \"$dir/bytes\"; exec cat /dev/zero".into(), loaded(), UNFIT),
        ("load; cat \"$dir/bytes\"; exec yes".into(), loaded(), UNFIT),
        (format!("load; cat \"$dir/bytes\"; cat /dev/zero >&2; {hold}"), loaded(), LATE),
        // It sends valid frames with other content.
        (format!("load; cat \"$dir/bytes\"; {hold}"), then(&frame(b"")), UNFIT),
        (format!("load; cat \"$dir/bytes\"; {hold}"), then(&frame(&[0xff; 100])), UNFIT),
        (format!("load; cat \"$dir/bytes\"; {hold}"), then(&frame("[".repeat(1 << 20).as_bytes())), UNFIT),
        (format!("load; cat \"$dir/bytes\"; {hold}"), then(&frame(b"{\"planned\":{}}")), UNFIT),
        (format!("load; cat \"$dir/bytes\"; {hold}"), then(&message(&PlannerResponse::Problems(vec![]))), UNFIT),
        (format!("load; cat \"$dir/bytes\"; {hold}"), then(&loaded()), UNFIT),
        (format!("load; cat \"$dir/bytes\"; {hold}"), planned("unasked"), UNFIT),
    ];
    // All programs are written before the first is started. A program that another process has open for writing, as a
    // child does for a moment while it starts, cannot be run.
    let written = |(deed, bytes, words): (String, Vec<u8>, &'static str)| {
        let stranger = Stranger::at_first(&deed, &bytes);
        (deed, stranger, words)
    };
    let strangers: Vec<_> = cases.into_iter().map(written).collect();
    let mut running = tokio::task::JoinSet::new();
    for (deed, stranger, words) in strangers {
        running.spawn(async move {
            let Err(CompileError::Failed { message, .. }) = stranger.plan("ok").await else {
                panic!("{deed}: no failure")
            };
            assert!(message.starts_with("the planner for odd ") && message.contains(words), "{deed}: {message}");
            let pid = stranger.pid();
            until_holds_async("a lost child is ended", || is_gone(pid)).await;
            let planned = stranger.plan("ok").await.unwrap_or_else(|failure| panic!("{deed}: {failure:?}"));
            assert!(planned.document.starts_with("{\n  \"token\": \"Z"), "{deed}: {}", planned.document);
        });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_never_that_of_the_next_request() {
    let first = [loaded(), planned("first")].concat();
    // Both answers at once, or the second one when nobody waits.
    for deed in [
        "load; cat \"$dir/bytes\" \"$dir/stale\"; echo >\"$dir/spoke\"; exec cat >/dev/null",
        "load; cat \"$dir/bytes\"; while [ ! -e \"$dir/had\" ]; do sleep 0.01; done; cat \"$dir/stale\"; echo >\"$dir/spoke\"; exec cat >/dev/null",
    ] {
        let stranger = Stranger::at_first(deed, &first);
        std::fs::write(stranger.path("stale"), planned("stale")).unwrap();
        assert!(stranger.plan("ok").await.unwrap().document.contains("first"));
        std::fs::write(stranger.path("had"), "").unwrap();
        until_holds_async("it speaks again", || stranger.path("spoke").exists()).await;
        let second = stranger.plan("ok").await.unwrap();
        assert!(second.document.starts_with("{\n  \"token\": \"Z"), "{}", second.document);
    }
}

/// Otherwise a large plugin would be compiled from the beginning for each caller that has no more patience.
#[tokio::test]
async fn what_is_loaded_when_nobody_waits_any_more_is_there_for_the_next() {
    let slow = "echo >>\"$dir/starts\"; while [ ! -e \"$dir/go\" ]; do sleep 0.01; done";
    let stranger = Stranger::new(hostile(), &format!("{slow}\nexec {PROGRAM} planner"), b"");
    let impatient = tokio::time::timeout(Duration::from_millis(20), stranger.planner.plan(request("ok"))).await;
    assert!(impatient.is_err());
    until_holds_async("it has been started", || stranger.path("starts").exists()).await;
    std::fs::write(stranger.path("go"), "").unwrap();
    stranger.plan("ok").await.unwrap();
    assert_eq!(std::fs::read_to_string(stranger.path("starts")).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn an_idle_child_is_ended() {
    let stranger = Stranger::new(hostile(), &format!("exec {PROGRAM} planner"), b"");
    let options = PlannerOptions { idle_time: Duration::from_millis(300), ..of(stranger.path("stranger")) };
    let planner = Planner::with_options("odd", hostile(), Arc::new(NoCache), options);
    planner.plan(request("ok")).await.unwrap();
    let first = stranger.pid();
    until_holds_async("an idle child is ended", || is_gone(first)).await;
    planner.plan(request("ok")).await.unwrap();
    assert_ne!(stranger.pid(), first);
    drop(planner);
    let second = stranger.pid();
    until_holds_async("the last handle takes the child with it", || is_gone(second)).await;
}

/// A dead child is a zombie until it is waited for. With nothing to plan, that could be for days.
#[tokio::test]
async fn a_child_that_dies_between_two_requests_is_waited_for() {
    let stranger = Stranger::new(hostile(), &format!("exec {PROGRAM} planner"), b"");
    let options = PlannerOptions { idle_time: 10 * PATIENCE, ..of(stranger.path("stranger")) };
    let planner = Planner::with_options("odd", hostile(), Arc::new(NoCache), options);
    planner.plan(request("ok")).await.unwrap();
    assert!(planner.is_running());
    let first = stranger.pid();
    let pid = rustix::process::Pid::from_raw(first as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    until_holds_async("a dead child is waited for", || !is_known(first)).await;
    assert!(!planner.is_running());
    planner.plan(request("ok")).await.unwrap();
    assert_ne!(stranger.pid(), first);
}

#[tokio::test]
async fn a_planner_apart_has_a_child_of_its_own_until_it_is_ended() {
    let stranger = Stranger::new(hostile(), &format!("exec {PROGRAM} planner"), b"");
    stranger.plan("ok").await.unwrap();
    let shared = stranger.pid();
    let apart = stranger.planner.with_own_child();
    apart.plan(request("ok")).await.unwrap();
    let own = stranger.pid();
    assert_ne!(own, shared);
    apart.end().await;
    assert!(!is_known(own) && !apart.is_running());
    assert!(is_known(shared) && stranger.planner.is_running());
}

/// Reports whether the kernel has an entry for this process, dead or alive.
fn is_known(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// SplitMix64, so that every run has the same bodies.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Values that a hostile planner would put in place of others.
const STUFF: [&str; 20] = [
    "null",
    "-1",
    "4294967295",
    "1e300",
    "\"\"",
    "[]",
    "{}",
    "{\"secret\":0}",
    "{\"secret\":4000000000}",
    "{\"apply\":{\"op\":\"xml\",\"args\":[[{\"expr\":{\"secret\":0}}]]}}",
    "{\"apply\":{\"op\":\"base64\",\"args\":[[],[],[]]}}",
    "{\"apply\":{\"op\":{\"filter\":\"url\"},\"args\":[[{\"expr\":{\"secret\":0}}]]}}",
    "\"\\u001b[2J\\u202e\\u0000\"",
    "\"Z000000000000000000000000000000000000001\"",
    "\"{\\\"a\\\":[\\\"Z000000000000000000000000000000000000001\\\",1]}\"",
    "\"Z000000000000000000000000000000000000002 Z000000000000000000000000000000000000001\"",
    "\"text\"",
    "{\"failed\":{\"message\":\"\\u009b2Jerror\"}}",
    "{\"problems\":[{\"path\":\"\\u001b\",\"message\":\"\\n\\u2066\",\"line\":0,\"column\":0,\"help\":null}]}",
    "0",
];

/// Returns the number of nodes in a tree.
fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(nodes).sum(),
        Value::Object(map) => map.values().map(nodes).sum(),
        _ => 0,
    }
}

/// Returns a node by its number, in the order in which `nodes` counts.
fn node<'a>(value: &'a mut Value, number: &mut usize) -> Option<&'a mut Value> {
    if *number == 0 {
        return Some(value);
    }
    *number -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| node(item, number)),
        Value::Object(map) => map.values_mut().find_map(|item| node(item, number)),
        _ => None,
    }
}

/// Replaces one place of a tree by something else.
fn changed(tree: &mut Value, random: &mut Random) {
    let (mut here, mut there) = (random.below(nodes(tree)), random.below(nodes(tree)));
    let other = node(tree, &mut there).cloned();
    let (Some(node), Some(other)) = (node(tree, &mut here), other) else { return };
    match (random.below(5), &mut *node) {
        (0, Value::Array(items)) if !items.is_empty() => items.push(items[0].clone()),
        (0, Value::Object(map)) => {
            let first = map.keys().next().cloned();
            first.and_then(|key| map.remove(&key));
        }
        (0, Value::String(text)) => text.push_str(random.pick(&["\u{202e}", "\"", "\u{9b}", "}", SLOT, "Z"])),
        (1, _) => *node = other,
        _ => *node = serde_json::from_str(random.pick(&STUFF)).unwrap(),
    }
}

/// Returns a correct answer with one place replaced.
fn answer(right: &[u8], random: &mut Random) -> Vec<u8> {
    let mut tree: Value = serde_json::from_slice(&right[4..]).unwrap();
    for _ in 0..=random.below(3) {
        changed(&mut tree, random);
    }
    frame(tree.to_string().as_bytes())
}

/// Returns an answer that a taken-over planner could write: a correct one with one place replaced, or noise.
fn body(random: &mut Random) -> Vec<u8> {
    let mut framed = match random.below(12) {
        0 => return (0..random.below(200)).map(|_| random.next() as u8).collect(),
        1 => frame(&(0..random.below(200)).map(|_| random.next() as u8).collect::<Vec<_>>()),
        2 | 3 => {
            let loaded = answer(&message(&PlannerResponse::Loaded(report())), random);
            return [loaded, frame(b""), planned("fuzz")].concat();
        }
        4 => answer(&message(&PlannerResponse::Problems(vec![Problem::default()])), random),
        _ => answer(&planned("fuzz"), random),
    };
    match random.below(24) {
        0 => framed[random.below(4)] = random.next() as u8,
        1 => framed.truncate(random.below(framed.len())),
        2 => {
            let at = random.below(framed.len());
            framed[at] ^= 1 << random.below(8);
        }
        _ => {}
    }
    [loaded(), framed].concat()
}

/// Reports whether a text could neither clear a terminal nor change the direction of text.
fn is_tidy(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
}

fn are_tidy(problems: &[Problem]) -> bool {
    let texts =
        |problem: &Problem| [problem.path.clone(), problem.message.clone(), problem.help.clone().unwrap_or_default()];
    problems.len() <= 100 && problems.iter().flat_map(texts).all(|text| is_tidy(&text))
}

/// Checks the result of an answer: at most a plan that places the template's own secret, and no text that is unfit to
/// be shown.
fn judge(outcome: Result<Planned, CompileError>) -> &'static str {
    let planned = match outcome {
        Ok(planned) => planned,
        Err(CompileError::Problems(problems)) => {
            assert!(are_tidy(&problems), "{problems:?}");
            return "problems";
        }
        Err(CompileError::Broken { rule: message } | CompileError::Failed { message }) => {
            assert!(is_tidy(&message) && message.len() < 3_000, "{message:?}");
            return "failed";
        }
    };
    let own = Reference { name: "own".parse().unwrap(), line: 1, column: 8, filters: Vec::new() };
    let shown = format!("{planned:?}");
    let Ok(plan) = plan::verify(planned, &[own], target()) else { return "not believed" };
    assert!(are_tidy(&plan.warnings), "{:?}", plan.warnings);
    assert!(plan.uses.iter().all(|usage| usage.key.as_ref() == "own" && usage.count > 0), "{shown}");
    let value = SealedValue::seal("the value of its own secret");
    let filled = fill(&plan, &Values(plan.uses.iter().map(|_| Some(&value)).collect())).expect("a value that fits");
    if plan.kind == DocumentKind::Json {
        assert!(serde_json::from_slice::<Value>(&filled).is_ok(), "{shown}");
    }
    "a plan"
}

/// Checks that the generator reached every kind of result, because otherwise it tries too little.
fn reached(outcomes: &BTreeMap<&str, usize>, expected: usize) {
    println!("{outcomes:?}");
    assert_eq!(outcomes.values().sum::<usize>(), expected);
    for outcome in ["failed", "problems", "not believed", "a plan"] {
        assert!(outcomes.get(outcome).copied().unwrap_or(0) >= 5, "{outcomes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arbitrary_answers_are_errors_or_plans_that_keep_every_rule() {
    const BODIES: usize = 800;
    let mut random = Random(20_261_123);
    let mut outcomes = BTreeMap::new();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..BODIES {
        let body = body(&mut random);
        running.spawn(async move {
            // The stranger ignores the component.
            let deed = "load; cat \"$dir/bytes\"; exec >&-; exec cat >/dev/null";
            judge(Stranger::new(b"any bytes", deed, &body).plan("ok").await)
        });
        if running.len() == 24 {
            *outcomes.entry(running.join_next().await.unwrap().unwrap()).or_insert(0) += 1;
        }
    }
    while let Some(done) = running.join_next().await {
        *outcomes.entry(done.unwrap()).or_insert(0) += 1;
    }
    reached(&outcomes, BODIES);
}

/// The same without a child, a hundred times as fast, and so deeper into the rules of a plan.
#[test]
fn no_changed_plan_is_believed_that_breaks_a_rule() {
    const PLANS: usize = 60_000;
    let mut random = Random(1);
    let (mut refused, mut believed) = (0, 0);
    for _ in 0..PLANS {
        let frame = answer(&planned("fuzz"), &mut random);
        let Ok(PlannerResponse::Planned(planned)) = serde_json::from_slice(&frame[4..]) else { continue };
        match judge(Ok(planned)) {
            "a plan" => believed += 1,
            _ => refused += 1,
        }
    }
    println!("{refused} refused, {believed} believed");
    assert!(refused > 500 && believed > 500, "{refused} refused, {believed} believed");
}
