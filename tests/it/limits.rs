//! How much callers can take from the daemon, and how much the daemon keeps for itself: connections, time, descriptors,
//! memory.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::component::hostile;
use crate::support::daemon::{Guillemet, PROGRAM, receive, send, try_ask};
use crate::support::strace::{self, Fault};
use crate::support::users::{self, AGENT, GROUP, OTHER, as_user};
use guillemet_testing::missing;
use guillemet_testing::wait::until_holds;
use serde_json::json;

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";

fn with_limits(limits: &str) -> Guillemet {
    configured(&format!("[limits]\n{limits}\n"))
}

fn configured(text: &str) -> Guillemet {
    let mut guillemet = Guillemet::init();
    std::fs::write(guillemet.path("guillemet.toml"), text).unwrap();
    guillemet.run();
    guillemet
}

fn connect(guillemet: &Guillemet) -> UnixStream {
    let stream = UnixStream::connect(guillemet.path("run/guillemet.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Sends a request and reads one answer. The connection stays open.
fn healthy(stream: &mut UnixStream) -> bool {
    let mut answer = [0; 4096];
    stream.write_all(HEALTH).is_ok()
        && stream.read(&mut answer).is_ok_and(|len| answer[..len].starts_with(b"HTTP/1.1 200"))
}

/// Reads one answer, and returns the length of its body. The connection stays open.
fn answered(stream: &UnixStream) -> usize {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    let mut len = 0;
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
        len = line.strip_prefix("content-length: ").map_or(len, |number| number.trim().parse().unwrap());
    }
    assert_eq!(std::io::copy(&mut reader.take(len), &mut std::io::sink()).unwrap(), len);
    len as usize
}

/// Reads everything until the daemon ends the connection.
fn rest(mut stream: UnixStream) -> String {
    let mut text = Vec::new();
    // The daemon may end it while bytes from here are still unread there.
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn slow_and_silent_callers_are_cut_off() {
    let guillemet = with_limits("idle_seconds = 1\ntransfer_seconds = 1");
    // Each of these requests would wait forever if the daemon did.
    let silent = connect(&guillemet);
    let mut kept = connect(&guillemet);
    assert!(healthy(&mut kept));
    let mut head = connect(&guillemet);
    head.write_all(&HEALTH[..20]).unwrap();
    let mut body = connect(&guillemet);
    body.write_all(b"POST /v1/secrets HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"name\":").unwrap();
    assert_eq!(rest(silent), "");
    assert_eq!(rest(kept), "");
    assert!(!rest(head).contains("200 OK"));
    let told = rest(body);
    assert!(told.starts_with("HTTP/1.1 400") && told.contains("did not arrive in time"), "{told}");

    // A client that keeps sending requests and reads no answer. At some point the system's buffers are full.
    let mut deaf = connect(&guillemet);
    while deaf.write_all(HEALTH).is_ok() {}
    assert!(healthy(&mut connect(&guillemet)));
}

#[test]
fn one_caller_cannot_take_all_connections() {
    let guillemet = with_limits("connections = 8");
    let mut greedy: Vec<UnixStream> = (0..8).map(|_| connect(&guillemet)).collect();
    assert!(greedy.iter_mut().all(healthy));
    let refused = rest(connect(&guillemet));
    assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("\"rate_limit_exceeded\""), "{refused}");
    // The first connection has been silent for the longest time.
    assert!(greedy[1..].iter_mut().all(healthy));
    // Another process gets its place.
    let other = guillemet.command(&["secret", "list"]);
    assert!(other.status.success(), "{}", String::from_utf8_lossy(&other.stderr));
    // It is closed a moment after its place has been given away.
    while healthy(&mut greedy[0]) {}
    assert!(greedy[1..].iter_mut().all(healthy));
    // The place that it gave back is available again.
    greedy[0] = connect(&guillemet);
    while !healthy(&mut greedy[0]) {
        greedy[0] = connect(&guillemet);
    }
}

/// Answers of 4 MiB, of which every part is opened and encoded, beside a hundred small ones.
#[test]
fn a_large_answer_holds_up_no_small_one() {
    let guillemet = Guillemet::start();
    let names: Vec<String> = (0..70).map(|number| format!("s{number}")).collect();
    for name in &names {
        let created = guillemet.post("/v1/secrets", &json!({"name": name, "value": "v".repeat(60 << 10)}));
        assert_eq!(created.status, 201);
    }
    guillemet.add("small", "v");
    let template = |secrets: &[String]| {
        let header = |name: &String| format!("X-{name} = '<< secret \"{name}\" >>'\n");
        let headers: String = secrets.iter().map(header).collect();
        format!("name = \"a\"\nurl = \"https://mcp.example.com/mcp\"\n[headers]\n{headers}")
    };
    guillemet.write("mcp-server/large.toml", &template(&names));
    guillemet.write("mcp-server/small.toml", &template(&["small".into()]));
    let render = |id: &str| format!("GET /v1/render/{id} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes();
    let names = json!({"secrets": names}).to_string();
    let resolve = format!("POST /v1/resolve HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{names}", names.len());
    let small = render("mcp-server/small");
    let mut others: Vec<UnixStream> = (0..100).map(|_| connect(&guillemet)).collect();
    let mut waiting = connect(&guillemet);
    for large in [render("mcp-server/large"), resolve.into_bytes()] {
        // The first time, it is planned too.
        waiting.write_all(&large).unwrap();
        assert!(answered(&waiting) > 4 << 20);
        // Some of the hundred are on the same thread. If that thread makes the large answer, it begins to leave before
        // theirs, in every round.
        let is_held_up = |_| {
            waiting.write_all(&large).unwrap();
            others.iter_mut().for_each(|stream| stream.write_all(&small).unwrap());
            others.iter().for_each(|stream| assert!(answered(stream) < 1_000));
            let has_begun = rustix::io::ioctl_fionread(&waiting).unwrap() > 0;
            answered(&waiting);
            has_begun
        };
        assert!(!(0..20).all(is_held_up));
    }
}

/// After the first large block that is freed, the allocator would otherwise keep what smaller ones have used.
#[test]
fn the_memory_of_large_answers_is_returned() {
    const AT_A_TIME: u64 = 8;
    const VALUE: usize = 60 << 10;
    let guillemet = Guillemet::start();
    let names: Vec<String> = (0..70).map(|number| format!("s{number}")).collect();
    for name in &names {
        let created = guillemet.post("/v1/secrets", &json!({"name": name, "value": "v".repeat(VALUE)}));
        assert_eq!(created.status, 201);
    }
    let own = || guillemet.get("/v1/status").json()["memory"]["own_bytes"].as_u64().unwrap();
    let before = own();
    for values in [70, 25] {
        let body = json!({"secrets": &names[..values]}).to_string();
        let head = format!("POST /v1/resolve HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        // All answers exist at the same time, because nobody reads.
        let mut waiting: Vec<UnixStream> = (0..AT_A_TIME).map(|_| connect(&guillemet)).collect();
        waiting.iter_mut().for_each(|stream| stream.write_all((head.clone() + &body).as_bytes()).unwrap());
        let len = (values * VALUE) as u64;
        until_holds("the answers exist", || own() > before + AT_A_TIME * len * 3 / 4);
        waiting.iter().for_each(|stream| assert!(answered(stream) as u64 > len));
    }
    until_holds("their memory is returned", || own() < before + (4 << 20));
}

/// The head and a part of the body of a request, which is being read until the rest comes.
const HALF: &[u8] = b"POST /v1/resolve HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: 100-continue\r\n\
                      content-length: 15\r\n\r\n{\"secrets\"";

/// Opens a connection with a request that is being read, once the daemon accepts it.
fn half(guillemet: &Guillemet) -> UnixStream {
    let (mut stream, mut told) = (connect(guillemet), [0; 25]);
    let _ = stream.write_all(HALF);
    // The daemon sends this once it waits for the body.
    if stream.read_exact(&mut told[..12]).is_ok() && &told[..12] == b"HTTP/1.1 100" {
        stream.read_exact(&mut told[12..]).unwrap();
    }
    stream
}

#[test]
fn strangers_lock_nobody_out() {
    if !users::can() {
        return;
    }
    const THREADS: usize = 4;
    const STRANGERS: usize = 5_000;
    let guillemet = configured(&format!("[limits]\nconnections = 16\n[api]\ngroup = {GROUP}\n"));
    let socket = guillemet.path("run/guillemet.sock");
    let stranger = || {
        let (mut silent, mut refused) = (VecDeque::new(), 0);
        for number in 0..STRANGERS / THREADS {
            let mut stream = UnixStream::connect(&socket).unwrap();
            if number % 2 == 0 {
                // As many connections as this process may have open. The daemon ends them at any time.
                silent.push_back(stream);
                if silent.len() > 100 {
                    silent.pop_front();
                }
                continue;
            }
            // The answer may arrive before the request is sent.
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            let told = rest(stream);
            assert!(told.starts_with("HTTP/1.1 403") && told.ends_with("in guillemet.toml allows\"}\n"), "{told}");
            refused += 1;
        }
        refused
    };
    let mut kept = connect(&guillemet);
    assert!(healthy(&mut kept));
    let mut answered = 0;
    std::thread::scope(|scope| {
        let strangers: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| as_user(AGENT, stranger))).collect();
        while !strangers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            assert!(healthy(&mut kept), "a connection of the daemon's user is cut off");
            assert_eq!(guillemet.get("/v1/secrets").status, 200);
            let command = guillemet.command(&["secret", "list"]);
            assert!(command.status.success(), "{}", String::from_utf8_lossy(&command.stderr));
            answered += 1;
        }
        let refused: usize = strangers.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(refused, STRANGERS / 2);
    });
    assert!(answered > 0);
    // The log does not grow with the number of callers.
    assert!(guillemet.log().matches("callers without any permission were refused").count() < 10);
}

#[test]
fn a_request_under_way_is_not_cut_off_for_another_caller() {
    let guillemet = with_limits("connections = 8");
    let busy: Vec<UnixStream> = (0..8).map(|_| half(&guillemet)).collect();
    // Nobody else can connect now.
    let other = guillemet.command(&["secret", "list"]);
    let other = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(other.contains("this caller has reached its limit of connections"), "{other}");
    for mut stream in busy {
        stream.write_all(b":[]}\n").unwrap();
        let told = rest(stream);
        assert!(told.starts_with("HTTP/1.1 422"), "{told}");
    }
}

#[test]
fn a_user_with_a_rule_leaves_connections_to_others() {
    if !users::can() {
        return;
    }
    let rules = format!("[[client]]\nuid = {AGENT}\nsecrets = ['a']\n[[client]]\nuid = {OTHER}\nsecrets = ['a']\n");
    let guillemet = configured(&format!("[limits]\nconnections = 16\n[api]\ngroup = {GROUP}\n{rules}"));
    guillemet.add("a", "value");
    // Every connection that the user can get, each with a request under way.
    let mut busy = as_user(AGENT, || (0..20).map(|_| half(&guillemet)).collect::<Vec<_>>());
    let body = json!({"secrets": ["a"]}).to_string();
    let resolve = || try_ask(&guillemet.path("run/guillemet.sock"), "POST", "/v1/resolve", &[], body.as_bytes());
    let other = as_user(OTHER, || resolve().unwrap());
    assert_eq!(other.status, 200, "{}", other.text());
    assert_eq!(resolve().unwrap().status, 200);
    // It got six, and no request on them was cut off.
    let told = busy.drain(..).map(|mut stream| {
        let _ = stream.write_all(b":[]}\n");
        rest(stream)
    });
    let (answered, refused): (Vec<_>, Vec<_>) = told.partition(|told| told.starts_with("HTTP/1.1 422"));
    assert_eq!(answered.len(), 6, "{refused:?}");
    assert!(refused.iter().all(|told| told.contains("rate_limit_exceeded")), "{refused:?}");
}

#[test]
fn streams_of_events_leave_connections_for_requests() {
    let guillemet = with_limits("connections = 16");
    let listen = || {
        let mut stream = connect(&guillemet);
        stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        (String::from_utf8_lossy(&head).into_owned(), stream)
    };
    let streams: Vec<_> = (0..4).map(|_| listen()).collect();
    let statuses: Vec<&str> = streams.iter().map(|(status, _)| &status[9..]).collect();
    assert_eq!(statuses, ["200", "200", "429", "429"]);
    // The end of a connection makes room.
    drop(streams);
    while !listen().0.ends_with("200") {}
}

/// Returns the daemon's present or highest use of memory, in MiB.
fn memory(guillemet: &Guillemet, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", guillemet.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

#[test]
fn answers_that_nobody_reads_have_a_bound() {
    if !users::can() {
        return;
    }
    let rule = format!("[[client]]\nuid = {AGENT}\nsecrets = ['large-*']\n");
    let limits = "[limits]\nin_flight_mib = 128\ntransfer_seconds = 60\n";
    let guillemet = configured(&format!("{limits}[api]\ngroup = {GROUP}\n{rule}"));
    let names: Vec<String> = (0..64).map(|number| format!("large-{number}")).collect();
    for name in &names {
        guillemet.add(name, &"x".repeat(64 << 10));
    }
    let body = json!({"secrets": names}).to_string();
    let socket = guillemet.path("run/guillemet.sock");
    // This resets the highest use of memory (proc(5)).
    std::fs::write(format!("/proc/{}/clear_refs", guillemet.pid()), "5").unwrap();
    let before = memory(&guillemet, "VmHWM:");
    let ask = || send(&socket, "POST", "/v1/resolve", &[], body.as_bytes()).unwrap();
    let unread: Vec<(String, UnixStream)> = as_user(AGENT, || {
        let ask = |_| {
            let (mut stream, mut head) = (ask(), [0; 12]);
            stream.read_exact(&mut head).unwrap();
            (String::from_utf8_lossy(&head).into_owned(), stream)
        };
        (0..60).map(ask).collect()
    });
    // Each answer has 4 MiB, and this user gets 48 MiB of the 128.
    let count = |status: &str| unread.iter().filter(|(head, _)| head.ends_with(status)).count();
    let grown = memory(&guillemet, "VmHWM:") - before;
    assert!(grown < 128, "{grown} MiB for {} answers", count("200"));
    assert!((4..=12).contains(&count("200")) && count("200") + count("503") == 60, "{}", count("200"));
    // The daemon's own user still gets its answers.
    assert_eq!(receive(ask()).unwrap().body.len(), receive(ask()).unwrap().body.len());
    let refused = as_user(AGENT, || receive(ask()).unwrap());
    assert_eq!((refused.status, refused.headers["retry-after"].as_str()), (503, "1"));
    assert_eq!(refused.json()["code"], "service_unavailable");
    // Answers that are given up make room.
    drop(unread);
    while as_user(AGENT, || receive(ask()).unwrap().status) != 200 {}
    // Bodies that never arrive count too.
    let announced = as_user(AGENT, || {
        let head = "POST /v1/resolve HTTP/1.1\r\nhost: x\r\ncontent-length: 1048576\r\n\r\n{";
        let announce = |_| {
            let mut stream = connect(&guillemet);
            let _ = stream.write_all(head.as_bytes());
            stream
        };
        (0..90).map(announce).collect::<Vec<_>>()
    });
    let mut refused = as_user(AGENT, || receive(ask()).unwrap());
    while refused.status == 200 {
        refused = as_user(AGENT, || receive(ask()).unwrap());
    }
    assert_eq!(refused.status, 503, "{}", refused.text());
    drop(announced);
}

/// Starts a process of a user with a rule, which renders its own template for a target of the plugin `hostile` and
/// prints the status.
fn inline(guillemet: &Guillemet, uid: u32, target: &str) -> Child {
    let template = "name: x\ntoken: << secret 'a' >>\n";
    let body = json!({"feature": "hostile", "format": "yaml", "template": template, "target": target}).to_string();
    Command::new("setpriv")
        .args([format!("--reuid={uid}"), format!("--regid={uid}"), format!("--groups={GROUP}")])
        .args(["curl", "--silent", "--max-time", "50", "--output", "/dev/null", "--write-out", "%{http_code}"])
        .arg("--unix-socket")
        .arg(guillemet.path("run/guillemet.sock"))
        .args(["--data-binary", &body, "http://guillemet/v1/render"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until the number of planners satisfies a condition.
fn until_planners(guillemet: &Guillemet, are_so_many: impl Fn(usize) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !are_so_many(guillemet.planners().len()) {
        assert!(Instant::now() < deadline, "{:?}", guillemet.planners());
    }
}

#[test]
fn templates_of_a_user_with_a_rule_hold_up_nobody_elses() {
    if !users::can() {
        return;
    }
    let rules = format!("[[client]]\nuid = {AGENT}\nsecrets = ['a']\n[[client]]\nuid = {OTHER}\nsecrets = ['a']\n");
    let guillemet = configured(&format!("[limits]\nconnections = 64\n[api]\ngroup = {GROUP}\n{rules}"));
    guillemet.add("a", "value");
    std::fs::write(guillemet.path("hostile.wasm"), hostile()).unwrap();
    let file = guillemet.path("hostile.wasm").to_str().unwrap().to_owned();
    let added = guillemet.command(&["plugin", "add", &file, "--yes", "--break"]);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    // A template of the operator's, of the same feature, that was just edited.
    let own = |number: u32| {
        guillemet.write("hostile/own.yaml", &format!("name: own-{number}\n"));
        let answer = guillemet.get("/v1/render/hostile/own");
        assert!(answer.status == 200 && answer.text().contains(&format!("own-{number}")), "{}", answer.text());
    };
    own(0);
    assert_eq!(guillemet.planners().len(), 1);
    let status = |process: Child| String::from_utf8(process.wait_with_output().unwrap().stdout).unwrap();
    // Each takes as long as a plugin may: two seconds.
    let mut agents: Vec<Child> = (0..12).map(|_| inline(&guillemet, AGENT, "loop")).collect();
    until_planners(&guillemet, |count| count == 2);
    // While the first of them is planned and the others wait, everybody else is served.
    own(1);
    assert_eq!(status(inline(&guillemet, OTHER, "ok")), "200");
    let admin = json!({"feature": "hostile", "format": "yaml", "template": "name: x\n", "target": "ok"});
    assert_eq!(guillemet.post("/v1/render", &admin).status, 200);
    // All processes of a user share one planner. The planner of the other user may still be about to end.
    let (known, mut most) = (guillemet.planners(), 0);
    while agents.iter_mut().any(|agent| agent.try_wait().unwrap().is_none()) {
        // A list does not show one moment, but a planner that is in two lists was there in between.
        let (first, second) = (guillemet.planners(), guillemet.planners());
        most = most.max(first.iter().filter(|pid| !known.contains(pid) && second.contains(pid)).count());
    }
    assert_eq!(most, 1, "each of its templates has a planner, one after the other");
    let told: Vec<String> = agents.into_iter().map(status).collect();
    assert!(told.iter().all(|status| status == "502" || status == "503"), "{told:?}");
    assert!(told.iter().any(|status| status == "503"), "not all had a turn in time: {told:?}");
    until_planners(&guillemet, |count| count <= 1);
    // A caller gets no further planner by asking and leaving.
    let gone: Vec<Child> = (0..6).map(|_| inline(&guillemet, AGENT, "loop")).collect();
    until_planners(&guillemet, |count| count == 2);
    for mut process in gone {
        process.kill().unwrap();
        process.wait().unwrap();
        assert!(guillemet.planners().len() <= 2);
    }
    own(2);
}

/// An answer on its way, whose reader does not read on for now.
struct Unread(UnixStream);

impl Unread {
    fn new(guillemet: &Guillemet, method: &str, path: &str, body: &[u8]) -> Self {
        let stream = send(&guillemet.path("run/guillemet.sock"), method, path, &[], body).unwrap();
        let mut head = [0; 12];
        (&stream).read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200", "{}", rest(stream.try_clone().unwrap()));
        Self(stream)
    }

    /// Reads the rest and returns how many bytes of the answer are missing.
    fn missing(mut self) -> usize {
        let mut bytes = Vec::new();
        let _ = self.0.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let announced = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        announced.parse::<usize>().unwrap() - (bytes.len() - end)
    }
}

/// The time it takes shows nothing. But an answer that is still on its way when the change is acknowledged would arrive
/// completely as soon as its reader goes on.
#[test]
fn a_change_is_acknowledged_when_no_answer_of_the_old_state_can_go_on() {
    let guillemet = with_limits("transfer_seconds = 3");
    let large: Vec<String> = (0..40).map(|number| format!("large-{number}")).collect();
    let mut template = "name = \"large\"\nurl = \"https://a.example/mcp\"\n[headers]\n".to_owned();
    for name in &large {
        guillemet.add(name, &"x".repeat(64 << 10));
        template.push_str(&format!("{name} = '<< secret \"{name}\" >>'\n"));
    }
    guillemet.write("mcp-server/large.toml", &template);
    guillemet.add("unused", "v");
    let rotated = json!({"value": "y".repeat(64 << 10)}).to_string();
    guillemet.ask("PATCH", "/v1/secrets/large-5", &[], rotated.as_bytes());
    let names = large.iter().map(String::as_str).chain(["unused"]).collect::<Vec<_>>();
    let resolved = json!({"secrets": names}).to_string();
    let changes = [
        ("PATCH", "/v1/secrets/large-1", r#"{"enabled": false}"#, 200),
        ("PATCH", "/v1/secrets/large-2", r#"{"value": "another"}"#, 200),
        ("PATCH", "/v1/secrets/large-3", r#"{"name": "renamed"}"#, 200),
        // This changes nothing, but an earlier change of the same field may be on its way.
        ("PATCH", "/v1/secrets/large-4", r#"{"enabled": true}"#, 200),
        ("POST", "/v1/secrets/large-5/rollback", r#"{"version": 1}"#, 200),
        ("POST", "/v1/secrets", r#"{"name": "new", "value": "v"}"#, 201),
        ("DELETE", "/v1/secrets/unused", "", 204),
    ];
    let render = || Unread::new(&guillemet, "GET", "/v1/render/mcp-server/large", b"");
    let resolve = || Unread::new(&guillemet, "POST", "/v1/resolve", resolved.as_bytes());
    // Every change waits for all of these answers.
    let unread: Vec<Unread> =
        (0..changes.len()).map(|index| if index % 2 == 0 { render() } else { resolve() }).collect();
    std::thread::scope(|scope| {
        for ((method, path, body, status), unread) in changes.into_iter().zip(unread) {
            let guillemet = &guillemet;
            scope.spawn(move || {
                let answer = guillemet.ask(method, path, &[], body.as_bytes());
                assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
                let missing = unread.missing();
                assert!(missing > 1 << 20, "{method} {path} {body}: {missing} bytes are missing");
            });
        }
    });
    assert_eq!(guillemet.get("/v1/render/mcp-server/large").status, 409);
}

#[test]
fn a_caller_that_never_pauses_does_not_starve_others() {
    let guillemet = with_limits("connections = 16");
    guillemet.add("a", "value");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let body = json!({"secrets": ["a"]}).to_string();
                while !over.load(Ordering::Relaxed) {
                    // Some are refused or cut off to make room for the other caller.
                    let _ = try_ask(&guillemet.path("run/guillemet.sock"), "POST", "/v1/resolve", &[], body.as_bytes());
                }
            });
        }
        for _ in 0..20 {
            let other = guillemet.command(&["secret", "show", "a"]);
            let went = other.status.success();
            if !went {
                over.store(true, Ordering::Relaxed);
            }
            assert!(went, "{}", String::from_utf8_lossy(&other.stderr));
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn the_daemon_keeps_its_memory_and_its_limits() {
    let guillemet = with_limits("connections = 40");
    let read = |what: &str| std::fs::read_to_string(format!("/proc/{}/{what}", guillemet.pid())).unwrap();
    let limits = read("limits");
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(limit("Max core file size"), "0");
    assert_eq!(limit("Max open files"), "296");
    let status = read("status");
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
    let locked: u64 = locked.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(locked > 0, "no page is locked");
}

#[test]
fn more_connections_than_descriptors_is_no_start() {
    let guillemet = Guillemet::init();
    std::fs::write(guillemet.path("guillemet.toml"), "[limits]\nconnections = 65536\n").unwrap();
    let line = format!("ulimit -Hn 1000; exec {PROGRAM} --home {} daemon", guillemet.dir.path().display());
    let output = Command::new("/bin/sh").args(["-c", &line]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("65792 file descriptors") && said.contains("LimitNOFILE"),
        "{said}"
    );
}

/// The kernel gives the files of a process that cannot be dumped to root.
#[test]
fn another_process_of_its_user_cannot_look_into_it() {
    if !missing::is_root("start the daemon as another user") {
        return;
    }
    const USER: u32 = 54_321;
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(USER), Some(USER)).unwrap();
    let as_user = |arguments: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.arg("--home").arg(dir.path()).args(arguments).uid(USER).gid(USER).stdin(Stdio::null());
        command
    };
    let made = as_user(&["init"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut daemon = as_user(&["daemon"]).stderr(Stdio::null()).spawn().unwrap();
    let socket = dir.path().join("run/guillemet.sock");
    while UnixStream::connect(&socket).is_err() {
        assert!(daemon.try_wait().unwrap().is_none(), "the daemon ended");
        std::thread::yield_now();
    }
    for file in ["mem", "environ", "maps"] {
        assert_eq!(std::fs::metadata(format!("/proc/{}/{file}", daemon.id())).unwrap().uid(), 0, "{file}");
    }
    let peek = Command::new("/bin/cat").arg(format!("/proc/{}/environ", daemon.id())).uid(USER).gid(USER).output();
    assert!(!peek.unwrap().status.success());
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn a_kernel_that_lacks_a_layer_of_the_confinement_is_told() {
    if !strace::is_there() {
        return;
    }
    for (call, layer) in [("landlock_create_ruleset", "Landlock"), ("seccomp", "seccomp")] {
        let mut guillemet = Guillemet::init();
        let fault = Fault { call, what: "error=ENOSYS", at: 1, lasting: true };
        assert!(guillemet.try_run(&fault.before()), "{}", guillemet.log());
        let warnings = guillemet.get("/v1/status").json()["warnings"].to_string();
        assert!(warnings.contains(&format!("this kernel has no {layer}")), "{warnings}");
        assert!(guillemet.log().contains(&format!("this kernel has no {layer}")));
        // The other layers of the confinement still apply, and planners work.
        guillemet.write("mcp-server/a.toml", "name = \"a\"\nurl = \"https://example.com\"\n");
        assert_eq!(guillemet.get("/v1/render/mcp-server/a").status, 200);
    }
    let guillemet = Guillemet::start();
    assert_eq!(guillemet.get("/v1/status").json()["warnings"], json!([]));
}
