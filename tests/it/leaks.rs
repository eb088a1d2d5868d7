//! Values go in and come out in every possible way. Afterwards they are nowhere: in no log at trace level, no error, no
//! file, no planner, and not in the daemon's memory (promise Blind).

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use crate::support::browser::{self, Browser, SECRETS as SECRETS_PAGE};
use crate::support::component::hostile;
use crate::support::daemon::{Guillemet, try_ask};
use crate::support::terminal::Terminal;
use data_encoding::BASE64URL_NOPAD;
use guillemet_testing::canary::{Canary, Scanner};
use guillemet_testing::missing;
use guillemet_testing::wait::PATIENCE;
use serde_json::json;

const TEMPLATES: [(&str, &str); 4] = [
    ("mcp-server/calendar.jsonc", include_str!("../../templates/mcp-server/calendar.jsonc")),
    ("cal-com/frontdesk.toml", include_str!("../../templates/cal-com/frontdesk.toml")),
    ("sip-trunk/carrier.yaml", include_str!("../../templates/sip-trunk/carrier.yaml")),
    ("custom-action/crm-lookup.json", include_str!("../../templates/custom-action/crm-lookup.json")),
];

/// The secrets of those templates, with the special characters in the middle of their values.
const SECRETS: [(&str, &str); 9] = [
    ("calendar-token-production", "\"\\ <>&%+/=;$"),
    ("calendar-workspace-production", "{{x}} << secret \"z\" >>"),
    ("calendar-tenant-production", "/?#[]@!$&'()*+,;= ü\t"),
    ("cal-com-booking-production", "+/=%&"),
    ("cal-com-webhook-production", "-_.~"),
    ("telnyx-user-production", "-"),
    ("telnyx-password-production", ";#\\="),
    ("hubspot-crm-production", "~+/"),
    ("gateway-egress-production", "\u{1}\n\"ü€"),
];

/// A config with one secret. `NAME` is replaced by its name.
const CONFIG: &str = "name = 'a'\nurl = 'https://h/mcp'\nheaders.A = \"<< secret 'NAME' >>\"\n";

/// A text that has to be found in memory: text of a template in the daemon's, and a name in a planner's.
const KNOWN: &str = "Pl4inT3xtOfTheTempl4te-7";
const IN_PLANNERS: &str = "guillemet:feature/plugin";

/// Reports whether this process may read another's memory, which takes CAP_SYS_PTRACE. In CI it has to be able to.
fn may_look(pid: u32) -> bool {
    let may = std::fs::File::open(format!("/proc/{pid}/mem")).is_ok();
    missing::has(may, "CAP_SYS_PTRACE, to read the daemon's memory", "run the tests as root")
}

/// Waits until the memory of the daemon and of its planners contains no canary any more.
fn gone_from_memory(guillemet: &Guillemet, scanner: &Scanner) {
    if !may_look(guillemet.pid()) {
        return;
    }
    let of_daemon = scanner.clone().and("known", KNOWN);
    let of_planner = scanner.clone().and("known", IN_PLANNERS);
    // A template that has just changed makes its planner work, however long ago the others worked.
    known(guillemet, &format!("# {:?}\n", Instant::now()));
    guillemet.get("/v1/render/mcp-server/known");
    let planners = guillemet.planners();
    assert!(!planners.is_empty(), "there is no planner to look into");
    for planner in planners {
        // A planner that has ended meanwhile holds nothing.
        let Ok(hits) = of_planner.in_memory(planner) else { continue };
        let leaks: Vec<&String> = hits.iter().filter(|hit| !hit.starts_with("known ")).collect();
        assert!(leaks.is_empty(), "a planner has never had a value: {leaks:?}");
        assert!(!hits.is_empty() || !guillemet.planners().contains(&planner), "the scan finds nothing in a planner");
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (controls, hits): (Vec<String>, Vec<String>) =
            of_daemon.in_memory(guillemet.pid()).unwrap().into_iter().partition(|hit| hit.starts_with("known "));
        assert!(!controls.is_empty(), "the scan does not find what is there");
        if hits.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{} hits:\n{}", hits.len(), hits[..hits.len().min(40)].join("\n"));
    }
}

/// Checks that no canary is in a file of the home, the log, an argument or a variable.
fn gone_from_files(guillemet: &Guillemet, scanner: &Scanner) {
    let mut hits = scanner.in_files(guillemet.dir.path());
    let log = guillemet.log();
    assert!(log.contains("answered"), "the log is written at trace level");
    for (at, label) in scanner.find(log.as_bytes()) {
        let line = log[..at].rfind('\n').map_or(0, |newline| newline + 1);
        hits.push(format!("{label} in the log: {}", log[line..].lines().next().unwrap_or_default()));
    }
    assert!(hits.is_empty(), "{}", hits.join("\n"));
}

fn of_process(guillemet: &Guillemet, scanner: &Scanner) {
    for pid in guillemet.planners().into_iter().chain([guillemet.pid()]) {
        for file in ["cmdline", "environ", "comm"] {
            let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            assert!(!scanner.is_in(&bytes), "{file} of {pid}");
        }
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
        let core = limits.lines().find(|line| line.starts_with("Max core file size"));
        assert!(core.is_none_or(|line| line.split_whitespace().nth(4) == Some("0")), "{core:?}");
    }
}

/// Makes a home whose templates reference every canary.
fn home() -> (Guillemet, Vec<Canary>) {
    let guillemet = Guillemet::init();
    for (file, text) in TEMPLATES {
        guillemet.write(file, text);
    }
    known(&guillemet, "");
    let canaries = SECRETS.map(|(name, special)| Canary::new(name, special));
    (guillemet, canaries.to_vec())
}

/// Writes the template whose text has to be found.
fn known(guillemet: &Guillemet, comment: &str) {
    let text = CONFIG.replace("NAME", "calendar-token-production").replace("'a'", &format!("'{KNOWN}'"));
    guillemet.write("mcp-server/known.toml", &format!("{comment}{text}"));
}

/// A connection that stays open for several requests.
struct Kept(UnixStream);

impl Kept {
    fn new(guillemet: &Guillemet) -> Self {
        let stream = UnixStream::connect(guillemet.path("run/guillemet.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    fn send(&mut self, method: &str, path: &str, headers: &str, body: &str) {
        let len = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len}\r\n{headers}\r\n");
        // The request is sent in one piece or in two, which splits it differently over the daemon's buffers.
        if body.len().is_multiple_of(2) {
            self.0.write_all(format!("{head}{body}").as_bytes()).unwrap();
        } else {
            self.0.write_all(head.as_bytes()).unwrap();
            // An unknown path reads no body and ends the connection.
            let _ = self.0.write_all(body.as_bytes());
        }
    }

    /// Reads one whole answer, head and body.
    fn answer(&mut self) -> String {
        let mut bytes = Vec::new();
        let mut chunk = [0; 16 << 10];
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let len = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= len.map_or(0, |len| len.parse().unwrap()) {
                    return text;
                }
            }
            match self.0.read(&mut chunk).unwrap() {
                0 => panic!("cut off: {text}"),
                count => bytes.extend_from_slice(&chunk[..count]),
            }
        }
    }
}

#[test]
fn the_scanner_finds_every_form() {
    let canary = Canary::new("it", "\"\n");
    let scanner = Scanner::new([&canary]);
    let value = canary.value.as_bytes();
    let forms = [
        canary.value.clone(),
        json!(canary.value).to_string(),
        data_encoding::BASE64.encode(value),
        data_encoding::BASE64.encode(&[b"x", value].concat()),
        data_encoding::BASE64URL_NOPAD.encode(&[b"xy", value].concat()),
        data_encoding::HEXLOWER.encode(value),
        data_encoding::HEXUPPER.encode(value),
        canary.value[8..30].to_owned(),
        format!("{}%22%0A", &canary.value[..24]),
    ];
    for form in forms {
        assert!(scanner.is_in(format!("before {form} after").as_bytes()), "{form}");
    }
    assert!(!scanner.is_in(Canary::new("another", "").value.as_bytes()));
}

/// Requests every config that contains a canary, for each target, and the values themselves. Returns the number of
/// answers that contained a canary.
fn take_out(guillemet: &Guillemet, canaries: &[Canary]) -> usize {
    let scanner = Scanner::new(canaries);
    let mut answers = 0;
    let mut count = |text: &[u8]| answers += usize::from(scanner.is_in(text));
    for plugin in guillemet.get("/v1/plugins").json()["items"].as_array().unwrap() {
        let feature = plugin["feature"].as_str().unwrap();
        for (file, _) in TEMPLATES.iter().filter(|(file, _)| file.starts_with(feature)) {
            let id = file.rsplit_once('.').unwrap().0;
            for target in plugin["targets"].as_array().unwrap() {
                let target = target["id"].as_str().unwrap();
                count(&guillemet.get(&format!("/v1/render/{id}?target={target}")).body);
            }
        }
    }
    let names: Vec<&str> = SECRETS.iter().map(|(name, _)| *name).collect();
    count(&guillemet.post("/v1/resolve", &json!({"secrets": names})).body);
    count(&guillemet.command(&["render", "cal-com/frontdesk", "--target", "dotenv"]).stdout);
    answers
}

#[test]
fn after_every_way_in_and_out_a_value_is_nowhere() {
    let (mut guillemet, canaries) = home();
    guillemet.run();
    let scanner = Scanner::new(&canaries);
    for (index, Canary { label, value, .. }) in canaries.iter().enumerate() {
        // The values come from a request, from standard input, and from a file outside of the home.
        match index % 3 {
            0 => guillemet.add(label, value),
            1 => {
                let output = guillemet.command_with(&["secret", "add", label], value.as_bytes());
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            }
            _ => {
                let file = tempfile::NamedTempFile::new().unwrap();
                std::fs::write(file.path(), value).unwrap();
                let path = file.path().to_str().unwrap();
                let output = guillemet.command(&["secret", "add", label, "--from-file", path]);
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            }
        }
    }
    assert!(take_out(&guillemet, &canaries) >= 8);
    // Each is rotated to itself, so that it is a former version too, and rolled back.
    for Canary { label, value, .. } in &canaries {
        let path = format!("/v1/secrets/{label}");
        let rotated = guillemet.ask("PATCH", &path, &[], json!({"value": value}).to_string().as_bytes());
        assert_eq!(rotated.status, 200);
        assert_eq!(guillemet.post(&format!("{path}/rollback"), &json!({"version": 1})).status, 200);
        let revealed = guillemet.command(&["secret", "reveal", label]);
        assert_eq!(revealed.stdout, format!("{value}\n").as_bytes());
    }
    gone_from_memory(&guillemet, &scanner);
    gone_from_files(&guillemet, &scanner);
    of_process(&guillemet, &scanner);

    // What was opened at the start is sealed again.
    assert!(guillemet.stop());
    guillemet.run();
    gone_from_memory(&guillemet, &scanner);
    assert!(take_out(&guillemet, &canaries) >= 8);
    gone_from_memory(&guillemet, &scanner);
    gone_from_files(&guillemet, &scanner);
}

#[test]
fn what_is_refused_shows_and_leaves_no_value() {
    let (mut guillemet, canaries) = home();
    guillemet.run();
    for Canary { label, value, .. } in &canaries {
        guillemet.add(label, value);
    }
    let file = guillemet.path("stranger.wasm");
    std::fs::write(&file, hostile()).unwrap();
    assert!(guillemet.command(&["plugin", "add", file.to_str().unwrap(), "--yes", "--break"]).status.success());
    guillemet.write("hostile/a.toml", "token = '<< secret \"telnyx-user-production\" >>'\n");
    guillemet.write("mcp-server/unfit.toml", &CONFIG.replace("NAME", "gateway-egress-production"));
    guillemet.write("mcp-server/missing.toml", &CONFIG.replace("NAME", "calendar-token-production' >><< secret 'nope"));
    guillemet.write("mcp-server/broken.toml", &CONFIG.replace("NAME", "telnyx-user-production' | nofilter | x 'y"));
    let lost = Canary::new("lost", "\"\\\n ü%&+/=\u{1}");
    let scanner = Scanner::new(canaries.iter().chain([&lost]));
    let refused = |method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
        let Ok(answer) = try_ask(&guillemet.path("run/guillemet.sock"), method, path, headers, body) else { return };
        assert!(answer.status >= 400, "{method} {path}: {}", answer.text());
        let head = format!("{:?}", answer.headers);
        assert!(!scanner.is_in(&answer.body) && !scanner.is_in(head.as_bytes()), "{method} {path}: {}", answer.text());
    };
    let whole = json!({"name": "x", "value": lost.value}).to_string();
    for end in 0..whole.len() {
        refused("POST", "/v1/secrets", &[], &whole.as_bytes()[..end]);
    }
    let escaped: String = lost.value.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    let large = format!(
        "{{\"name\":\"x\",\"value\":\"{}\"}}",
        lost.value.replace(['"', '\\', '\n', '\u{1}'], "").repeat(20_000)
    );
    let bodies = [
        json!({"name": "-", "value": lost.value}).to_string(),
        json!({"name": "x", "value": lost.value, "more": lost.value}).to_string(),
        json!({"name": "x", "value": [lost.value]}).to_string(),
        json!({"name": "x", "value": {"value": lost.value}}).to_string(),
        json!({"name": 1, "value": lost.value}).to_string(),
        json!({"name": lost.value, "value": lost.value}).to_string(),
        json!({"name": "telnyx-user-production", "value": lost.value}).to_string(),
        json!([lost.value]).to_string(),
        json!(lost.value).to_string(),
        lost.value.clone(),
        format!("name=x&value={}", lost.value),
        format!("{{\"name\":\"x\",\"value\":\"{escaped}\",}}"),
        format!("{{\"name\":\"x\",\"value\":\"{}\\ud800\"}}", &lost.value[..24]),
        large,
    ];
    for body in &bodies {
        refused("POST", "/v1/secrets", &[("content-type", "text/plain")], body.as_bytes());
        refused("POST", "/v1/resolve", &[], body.as_bytes());
        refused("POST", "/v1/plugins", &[], body.as_bytes());
        refused("PATCH", "/v1/secrets/telnyx-user-production", &[("if-match", "\"other\"")], body.as_bytes());
        refused("POST", "/v1/secrets/telnyx-user-production/rollback", &[], body.as_bytes());
        refused("PUT", "/v1/secrets", &[], body.as_bytes());
        refused("POST", "/v1/nowhere", &[], body.as_bytes());
    }
    refused(
        "POST",
        "/v1/resolve",
        &[],
        json!({"secrets": ["telnyx-user-production", lost.value]}).to_string().as_bytes(),
    );
    for id in ["mcp-server/unfit", "mcp-server/missing", "mcp-server/broken", "mcp-server/calendar?target=nope"] {
        refused("GET", &format!("/v1/render/{id}"), &[], b"");
    }
    for target in ["panic", "loop", "huge", "forge", "texts", "memory"] {
        refused("GET", &format!("/v1/render/hostile/a?target={target}"), &[], b"");
    }
    guillemet.set_enabled("telnyx-user-production", false);
    refused("GET", "/v1/render/sip-trunk/carrier", &[], b"");
    refused("POST", "/v1/resolve", &[], br#"{"secrets":["calendar-token-production","telnyx-user-production"]}"#);
    gone_from_memory(&guillemet, &scanner);
    gone_from_files(&guillemet, &scanner);
    of_process(&guillemet, &scanner);
}

#[test]
fn a_value_in_the_wrong_place_is_not_in_the_log_nor_in_memory() {
    let (mut guillemet, _) = home();
    guillemet.run();
    // A value pasted by mistake into the path, the query or a header.
    let lost = Canary::new("lost", "-");
    let scanner = Scanner::new([&lost]);
    let value = &lost.value;
    let mut kept = Kept::new(&guillemet);
    for (method, path) in [
        ("GET", format!("/v1/secrets/{value}")),
        ("DELETE", format!("/v1/secrets/{value}")),
        ("GET", format!("/v1/secrets?query={value}")),
        ("GET", format!("/v1/secrets?{value}=1")),
        ("GET", format!("/v1/usage?secret={value}")),
        ("GET", format!("/v1/usage?since={value}")),
        ("GET", format!("/metrics?{value}")),
        ("GET", format!("/v1/render/mcp-server/{value}")),
        ("GET", format!("/v1/render/mcp-server/known?target={value}")),
        ("GET", format!("/v1/templates/mcp-server/{value}/explain")),
        ("DELETE", format!("/v1/plugins/{value}")),
        ("GET", format!("/{value}")),
        ("GET", format!("//{value}@host/?{value}#{value}")),
    ] {
        guillemet.ask(method, &path, &[("authorization", value)], b"");
        kept.send(method, &path, &format!("x-value: {value}\r\ncookie: {value}\r\n"), "");
        kept.answer();
    }
    let _ = try_ask(&guillemet.path("run/guillemet.sock"), value, "/v1/secrets", &[], b"");
    let _ = try_ask(&guillemet.path("run/guillemet.sock"), "GET", "/v1/secrets", &[(value, "a\u{0}b")], b"");
    gone_from_files(&guillemet, &scanner);
    // The connection is still open.
    gone_from_memory(&guillemet, &scanner);
    drop(kept);
}

#[test]
fn an_open_connection_keeps_no_value_after_its_answer() {
    let (mut guillemet, canaries) = home();
    guillemet.run();
    let scanner = Scanner::new(&canaries);
    let mut open = Vec::new();
    for (index, Canary { label, value, .. }) in canaries.iter().enumerate() {
        let mut kept = Kept::new(&guillemet);
        let mut body = json!({"name": label, "value": value}).to_string();
        // Bodies of several sizes use different buffers.
        body.push_str(&" ".repeat([0, 3_001, 9_000, 60_001, 300_000][index % 5]));
        let headers = format!("x-padding: {}\r\n", "x".repeat([0, 5_000][index % 2]));
        if index % 3 == 0 {
            kept.send("GET", "/healthz", &headers, "");
            kept.answer();
        }
        kept.send("POST", "/v1/secrets", &headers, &body);
        let answer = kept.answer();
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
        open.push(kept);
    }
    gone_from_memory(&guillemet, &scanner);
    let mut answered = 0;
    for id in ["mcp-server/known", "sip-trunk/carrier", "cal-com/frontdesk", "custom-action/crm-lookup"] {
        let mut kept = Kept::new(&guillemet);
        for _ in 0..3 {
            kept.send("GET", &format!("/v1/render/{id}"), "", "");
            answered += usize::from(scanner.is_in(kept.answer().as_bytes()));
        }
        kept.send("POST", "/v1/resolve", "", &json!({"secrets": [SECRETS[0].0]}).to_string());
        answered += usize::from(scanner.is_in(kept.answer().as_bytes()));
        open.push(kept);
    }
    assert_eq!(answered, 16);
    // Requests that are refused as soon as they are read, with and without a good request after them.
    for (path, value) in
        [("/v1/secrets", &canaries[0].value), ("/v1/resolve", &canaries[1].value), ("/v1/nowhere", &canaries[2].value)]
    {
        for padding in ["", " ", "  "] {
            for then in [false, true] {
                let mut kept = Kept::new(&guillemet);
                kept.send("POST", path, "", &format!("{}{padding}", json!({"name": "x", "value": [value]})));
                kept.answer();
                if then && path != "/v1/nowhere" {
                    kept.send("GET", "/healthz", "", "");
                    kept.answer();
                }
                open.push(kept);
            }
        }
    }
    gone_from_memory(&guillemet, &scanner);
    drop(open);
}

/// Anybody who reads the daemon's memory could otherwise use a link or continue a session.
#[test]
fn of_a_link_and_a_cookie_only_hashes_are_kept() {
    let (mut guillemet, _) = home();
    guillemet.run();
    if !may_look(guillemet.pid()) {
        return;
    }
    let words = |scanner: Scanner, label: &str, word: &str| {
        let bytes = BASE64URL_NOPAD.decode(word.as_bytes()).expect("a word of ours");
        scanner.and(label, word).and_key(label, &bytes.try_into().expect("32 bytes"))
    };
    // A link is valid for a minute, and a look into memory takes long on a busy machine. In that case, tries another
    // link.
    let (browser, scanner) = (0..4)
        .find_map(|_| {
            let url = browser::link(&guillemet);
            let scanner = words(Scanner::new([]), "a link", url.split_once("token=").unwrap().1);
            // The memory of the answer is wiped once its connection has ended.
            let is_gone = (0..3).any(|_| scanner.in_memory(guillemet.pid()).unwrap().is_empty());
            let mut browser = Browser::at(&url);
            let was_good = browser.follow(&url).status == 303;
            assert!(scanner.is_in(url.as_bytes()), "the scan finds what is there");
            (is_gone && was_good).then_some((browser, scanner))
        })
        .expect("while a link is good, its word is nowhere in memory");
    let cookie = browser.cookie.clone().unwrap();
    let scanner = words(scanner, "a cookie", cookie.split_once('=').unwrap().1);
    // While the session is used, and after it has ended.
    assert_eq!(browser.get(SECRETS_PAGE).status, 200);
    assert!(browser.post("/settings/developers/secrets", &[("name", "new"), ("value", "x")]).status == 303);
    gone_from_memory(&guillemet, &scanner);
    assert_eq!(browser.post("/logout", &[]).status, 200);
    gone_from_memory(&guillemet, &scanner);
    gone_from_files(&guillemet, &scanner);
    assert!(scanner.is_in(cookie.as_bytes()), "the scan finds what is there");
}

#[test]
fn a_connection_that_breaks_leaves_nothing() {
    let (mut guillemet, canaries) = home();
    guillemet.run();
    let lost = Canary::new("lost", "\n");
    // An answer larger than the kernel's buffers stays in the daemon until it is read.
    let large: Vec<Canary> = (0..40).map(|index| Canary::new(&format!("large-{index}"), &"-".repeat(30_000))).collect();
    for Canary { label, value, .. } in large.iter().chain(&canaries) {
        guillemet.add(label, value);
    }
    let scanner = Scanner::new(canaries.iter().chain(&large).chain([&lost]));
    let body = json!({"name": "x", "value": lost.value}).to_string();
    let head = format!("POST /v1/secrets HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len() + 10);
    for end in [0, 10, 40, body.len() / 2, body.len()] {
        let mut stream = UnixStream::connect(guillemet.path("run/guillemet.sock")).unwrap();
        stream.write_all(format!("{head}{}", &body[..end]).as_bytes()).unwrap();
    }
    let chunked = "POST /v1/secrets HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut stream = UnixStream::connect(guillemet.path("run/guillemet.sock")).unwrap();
    stream
        .write_all(format!("{chunked}{:x}\r\n{body}\r\nnot a length {}\r\n", body.len(), lost.value).as_bytes())
        .unwrap();
    drop(stream);
    gone_from_memory(&guillemet, &scanner);

    let names: Vec<&str> = large.iter().map(|canary| canary.label.as_str()).collect();
    let mut unread = Kept::new(&guillemet);
    unread.send("POST", "/v1/resolve", "", &json!({"secrets": names}).to_string());
    // A value is in memory while it is on its way, so the scan would find one that stayed.
    let deadline = Instant::now() + PATIENCE;
    if may_look(guillemet.pid()) {
        while scanner.in_memory(guillemet.pid()).unwrap().is_empty() {
            assert!(Instant::now() < deadline, "an answer that is under way is in memory");
        }
    }
    // Reads the rest: all of it, or what the daemon had sent before it gave up, however long the look took.
    let mut rest = Vec::new();
    unread.0.shutdown(std::net::Shutdown::Write).unwrap();
    let _ = unread.0.read_to_end(&mut rest);
    assert!(scanner.is_in(&rest));
    gone_from_memory(&guillemet, &scanner);
    // An answer that nobody reads until the daemon gives up.
    let mut never = Kept::new(&guillemet);
    never.send("POST", "/v1/resolve", "", &json!({"secrets": names}).to_string());
    gone_from_memory(&guillemet, &scanner);
    gone_from_files(&guillemet, &scanner);
    drop(never);
}

#[test]
fn a_stop_in_the_middle_of_requests_leaves_nothing() {
    let (mut guillemet, canaries) = home();
    guillemet.run();
    for Canary { label, value, .. } in &canaries {
        guillemet.add(label, value);
    }
    let lost = Canary::new("lost", "\n");
    let scanner = Scanner::new(canaries.iter().chain([&lost]));
    let socket = guillemet.path("run/guillemet.sock");
    let mut half = Kept::new(&guillemet);
    half.0
        .write_all(
            format!("POST /v1/secrets HTTP/1.1\r\nhost: x\r\ncontent-length: 999\r\n\r\n{}", lost.value).as_bytes(),
        )
        .unwrap();
    let answered = std::sync::atomic::AtomicUsize::new(0);
    let stopped = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let body = json!({"secrets": [SECRETS[8].0]}).to_string();
                while let Ok(answer) = try_ask(&socket, "POST", "/v1/resolve", &[], body.as_bytes()) {
                    assert_eq!(answer.status, 200);
                    answered.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                }
            });
        }
        while answered.load(std::sync::atomic::Ordering::SeqCst) < 50 {
            std::thread::yield_now();
        }
        guillemet.stop()
    });
    assert!(stopped);
    gone_from_files(&guillemet, &scanner);
}

/// A daemon that reads its passphrase from a descriptor or a prompt has it nowhere once it is ready.
#[test]
fn a_passphrase_is_nowhere_once_the_vault_is_open() {
    let canary = Canary::new("passphrase", "-ü ");
    let scanner = Scanner::new([&canary]);
    let line = format!("{}\n", canary.value);
    let mut guillemet = Guillemet::nowhere();
    let made = guillemet.command_with(&["init", "--unlock", "passphrase", "--passphrase-fd", "0"], line.as_bytes());
    assert!(made.status.success(), "{made:?}");
    let piped = || {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(line.as_bytes()).unwrap();
        std::process::Stdio::from(reader)
    };
    for way in ["descriptor 0", "descriptor 7", "terminal"] {
        let started = match way {
            "descriptor 0" => guillemet.try_run_with(&[], &["--passphrase-fd", "0"], piped()),
            "descriptor 7" => {
                let redirected = ["sh", "-c", "exec \"$@\" 7<&0 </dev/null", "sh"].map(str::to_owned);
                guillemet.try_run_with(&redirected, &["--passphrase-fd", "7"], piped())
            }
            _ => {
                let mut terminal = Terminal::new();
                let input = terminal.stdio();
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        terminal.expect("Passphrase: ");
                        terminal.types(format!("{}\r", canary.value));
                    });
                    guillemet.try_run_with(&[], &[], input)
                })
            }
        };
        assert!(started, "{way}: {}", guillemet.log());
        if may_look(guillemet.pid()) {
            // Checked at once, so that it does not depend on the memory being overwritten later.
            let argument = guillemet.dir.path().to_str().unwrap();
            let hits = scanner.clone().and("known", argument).in_memory(guillemet.pid()).unwrap();
            let (controls, hits): (Vec<String>, Vec<String>) =
                hits.into_iter().partition(|hit| hit.starts_with("known "));
            assert!(!controls.is_empty(), "the scan does not find what is there");
            assert!(hits.is_empty(), "{way}:\n{}", hits.join("\n"));
        }
        of_process(&guillemet, &scanner);
        assert!(!scanner.is_in(guillemet.log().as_bytes()), "{way}");
        assert!(guillemet.stop());
        let files = scanner.in_files(guillemet.dir.path());
        assert!(files.is_empty(), "{way}: {files:?}");
    }
}
