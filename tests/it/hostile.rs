//! Hostile plugins in the real daemon: whatever a component does becomes an error that names it, while eight clients
//! render another feature's template without a single failure (promise Isolated).

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::component::{componentize, hostile, hostile_in, module};
use crate::support::daemon::{Answer, Guillemet, try_ask};
use crate::support::wasm::{self, appended, core_module, core_modules, leb, replaced, vector};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The template that clients render while others do harm.
const CALENDAR: &str = r#"
name = "calendar"
url = "https://mcp.example.com/mcp"
[headers]
Authorization = "Bearer << secret "calendar-token" >>"
"#;
const VALUE: &str = "canary-value";

fn daemon() -> Guillemet {
    let guillemet = Guillemet::start();
    guillemet.add("calendar-token", VALUE);
    guillemet.write("mcp-server/calendar.toml", CALENDAR);
    assert_eq!(guillemet.get("/v1/render/mcp-server/calendar").status, 200);
    guillemet.write("hostile/a.toml", "token = '<< secret \"calendar-token\" >>'\n");
    guillemet
}

/// Does some work while eight clients render. Each of them has to get an answer, and a good one every time.
fn among_clients(guillemet: &Guillemet, work: impl FnOnce()) {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let socket = guillemet.path("run/guillemet.sock");
    let stop = AtomicBool::new(false);
    let rendered: Vec<usize> = std::thread::scope(|scope| {
        let client = || {
            let mut rendered = 0;
            while !stop.load(Ordering::SeqCst) {
                let answer = try_ask(&socket, "GET", "/v1/render/mcp-server/calendar", &[], b"").unwrap();
                assert!(answer.status == 200 && answer.text().contains(VALUE), "{}", answer.text());
                rendered += 1;
            }
            rendered
        };
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(client)).collect();
        {
            // Dropped also when the work fails, so that the clients end.
            let _stop = Stop(&stop);
            work();
        }
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert!(rendered.iter().all(|count| *count > 10), "{rendered:?}");
}

fn file(guillemet: &Guillemet, component: &[u8]) -> PathBuf {
    let file = guillemet.path("stranger.wasm");
    std::fs::write(&file, component).unwrap();
    file
}

/// Asks the daemon about a component, as `plugin add` does before it confirms.
fn look(guillemet: &Guillemet, component: &[u8]) -> Answer {
    guillemet.post("/v1/plugins", &json!({"file": file(guillemet, component)}))
}

/// Adds a component as a client of the API that never looks and accepts whatever breaks.
fn add(guillemet: &Guillemet, component: &[u8]) {
    let plugins = guillemet.get("/v1/plugins").json();
    let present = plugins["items"].as_array().unwrap().iter().find(|plugin| plugin["feature"] == "hostile");
    let body = json!({
        "file": file(guillemet, component),
        "confirm": true,
        "digest": data_encoding::HEXLOWER.encode(&Sha256::digest(component)),
        "replaces": present.map(|plugin| &plugin["digest"]),
        "break": true,
    });
    let added = guillemet.post("/v1/plugins", &body);
    assert_eq!(added.status, 201, "{}", added.text());
}

/// Renders `hostile/a`, which has to fail with these words, naming the plugin and no value.
fn fails(guillemet: &Guillemet, target: &str, words: &str) {
    let answer = guillemet.get(&format!("/v1/render/hostile/a?target={target}"));
    assert_eq!((answer.status, answer.json()["code"].as_str()), (502, Some("plugin_failed")), "{target}");
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    let named = message.starts_with("template `hostile/a` cannot be rendered: plugin `hostile`");
    assert!(named && message.contains(words) && message.len() < 1_000, "{target}: {message}");
    assert!(!answer.text().contains(VALUE), "{target}");
}

fn works(guillemet: &Guillemet) {
    let answer = guillemet.get("/v1/render/hostile/a?target=ok");
    assert!(answer.status == 200 && answer.text().contains(VALUE), "{}", answer.text());
}

/// A plugin makes a value grow without end. The process with the keys does not grow with it.
#[test]
fn a_value_does_not_grow_without_end() {
    let guillemet = daemon();
    add(&guillemet, hostile());
    guillemet.add("quotes", &"\"".repeat(65_536));
    guillemet.write("hostile/b.toml", "token = '<< secret \"quotes\" >>'\n");
    among_clients(&guillemet, || {
        let answer = guillemet.get("/v1/render/hostile/b?target=swell");
        let text = answer.text();
        assert!(answer.status == 422 && text.contains("longer than 4 MiB") && !text.contains("\\\"\\\""), "{text}");
    });
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", guillemet.get("/v1/status").json()["pid"])).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")).unwrap();
    assert!(peak.parse::<u64>().unwrap() < 150 << 10, "{peak} KiB");
}

/// What the plugin does with a config, by target, and the resulting message.
const DEEDS: [(&str, &str); 35] = [
    // The plugin does not come to an end, or dies.
    ("loop", "ran longer than 2 s and was stopped"),
    ("panic", "plugin `hostile` stopped without a message: it panicked without `encode.panic`"),
    ("abort", "plugin `hostile` stopped without a message"),
    // Its own message is reported, without characters that could drive a terminal.
    (
        "last-words",
        "plugin `hostile` panicked: no route for «secret» and «secret»[2J]0;owned error: forged31m; this is",
    ),
    ("last-words-refused", "plugin `hostile` panicked: thrown; this is"),
    ("last-words-huge", "plugin `hostile` panicked: xxxxxxxxxxxxxxxxxxxx"),
    ("recurse", "because of deep recursion"),
    ("divide", "plugin `hostile` trapped: wasm trap: integer divide by zero"),
    ("wild-read", "accessed memory out of bounds"),
    ("wild-call", "plugin `hostile` trapped: wasm trap: undefined element"),
    // The plugin uses more than its limit.
    ("memory", "needed more than 64 MiB of memory"),
    ("grow", "needed more than 64 MiB of memory"),
    ("huge", "its document is larger than 4 MiB"),
    ("deep", "deeper than 64 levels"),
    ("abyss", "not valid JSON"),
    ("slots", "made more than 10000 slots"),
    ("million", "made more than 10000 slots"),
    ("nest", "nested more than 16 encoders"),
    // The plugin breaks the rules of slots.
    ("forge", "looks like a slot but is not one (forged)"),
    ("forge-encode", "looks like a slot but is not one (forged)"),
    ("drop", "omitted the secret \"calendar-token\" (line 1, column 10) of the field `token` (dropped)"),
    ("double", "twice, the second time into"),
    ("key", "of the field `token` into a key of the document"),
    ("bare", "without a terminal encoder (bare)"),
    ("url-in-text", "without a terminal encoder (bare)"),
    ("wrapped-url", "added text around the result of `url`"),
    ("forbid-nothing", "called `forbid` without a character"),
    // The plugin's answer or request is not in the contract.
    ("garbage-json", "not valid JSON (line 1, column 5)"),
    ("duplicate-key", "a key appears twice"),
    ("digest", "unknown digest algorithm, \"ROT13\""),
    ("refuse", "rejected the config without a reason"),
    ("not-utf8", "does not match the contract: invalid utf-8"),
    ("beyond-memory", "pointer/length out of bounds of memory"),
    ("encode-not-utf8", "does not match the contract: invalid utf-8"),
    ("encode-beyond-memory", "pointer/length out of bounds of memory"),
];

/// What the plugin does with memory that the host requests or frees, by mode.
const MEMORY_DEEDS: [(&str, &str); 5] = [
    ("realloc-outside", "realloc return: beyond end of memory"),
    ("realloc-loop", "ran longer than 2 s and was stopped"),
    ("realloc-calls-out", "cannot leave component instance"),
    ("free-loop", "ran longer than 2 s and was stopped"),
    ("free-panic", "plugin `hostile` stopped without a message"),
];

#[test]
fn whatever_a_plugin_does_with_a_config_is_an_error_that_names_it() {
    let guillemet = daemon();
    add(&guillemet, hostile());
    guillemet.write("hostile/outside.toml", "other = '<< secret \"calendar-token\" >>'\n");
    among_clients(&guillemet, || {
        for (target, words) in DEEDS {
            fails(&guillemet, target, words);
        }
        let outside = guillemet.get("/v1/render/hostile/outside?target=ok");
        assert_eq!((outside.status, outside.errors("path")), (422, vec!["other".into()]), "{}", outside.text());
        works(&guillemet);
        assert_eq!(guillemet.get("/v1/render/hostile/a?target=last-words-unsaid").status, 200);
        for (mode, words) in MEMORY_DEEDS {
            add(&guillemet, &hostile_in(mode));
            fails(&guillemet, "ok", words);
        }
        add(&guillemet, hostile());
        works(&guillemet);
    });
}

/// Modes in which the component cannot be added as a plugin, and the reason.
const MODES: [(&str, &str); 22] = [
    ("start-loop", "ran longer than 2 s and was stopped"),
    ("start-panic", "without a message: it panicked without `encode.panic`"),
    ("start-grow", "needed more than 64 MiB of memory"),
    ("describe-loop", "ran longer than 2 s and was stopped"),
    ("describe-panic", "without a message: it panicked without `encode.panic`"),
    ("describe-memory", "needed more than 64 MiB of memory"),
    ("describe-recurse", "because of deep recursion"),
    ("describe-huge", "too much data"),
    ("describe-many", "`targets` must have 1 to 64 entries"),
    ("describe-not-utf8", "invalid utf-8"),
    ("describe-beyond", "out of bounds of memory"),
    ("feature-path", "the feature must be 1 to 64 of"),
    ("media-type", "`media-type` of the target `ok` is not a media type"),
    ("file-name", "`file-name` of the target `ok` is not a plain file name"),
    ("no-targets", "`targets` must have 1 to 64 entries"),
    ("equal-targets", "the target `ok` is listed twice"),
    ("target-id", "the id of a target must be"),
    ("secret-fields", "`secret-fields` contains \"**.a\""),
    ("schema-list", "`schema` is not a JSON object"),
    ("schema-huge", "`schema` is larger than 256 KiB"),
    ("schema-targets", "`schema` has a top-level field `targets`"),
    ("schema-texts", "`schema` contains control characters"),
];

#[test]
fn what_a_component_is_before_it_is_added_is_an_error_that_names_its_file() {
    let guillemet = daemon();
    let refused = |name: &str, component: &[u8], words: &[&str]| {
        let answer = look(&guillemet, component);
        assert_eq!(answer.status, 422, "{name}: {}", answer.text());
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        let told = words.iter().any(|words| message.contains(words)) && message.contains("stranger.wasm");
        assert!(told && message.len() < 1_000, "{name}: {message}");
    };
    among_clients(&guillemet, || {
        for (mode, words) in MODES {
            refused(mode, &hostile_in(mode), &[words]);
        }
        for mode in ["schema-not-json", "schema-deep"] {
            refused(mode, &hostile_in(mode), &["`schema` is not a JSON object"]);
        }
        let core = module("hostile");
        let table = replaced(&core, wasm::TABLE, &[&[1, 0x70, 0][..], &leb(200_000)].concat());
        refused("table", &componentize(&table), &["needed tables that are too large"]);
        let memory = replaced(&core, wasm::MEMORY, &[&[1, 0][..], &leb(2_000)].concat());
        refused("memory", &componentize(&memory), &["needed more than 64 MiB of memory"]);
        refused("crowd", &crowd(64), &["instance count too high"]);
        // A Python component has this many.
        assert_eq!(look(&guillemet, &crowd(56)).status, 200);
        refused("import", &importing("wasi:clocks/wall-clock@0.2.0"), &["it imports `wasi:clocks/wall-clock@0.2.0`"]);
        refused("plain import", &importing("environment"), &["it imports `environment`"]);
        // The engine has no limits of its own for these, so they end its process.
        refused("table bomb", &table_bomb(), &["exited before it responded", "exceeded its memory limit"]);
        refused("code bomb", &code_bomb(), &["s to load it and was stopped", "exceeded its memory limit"]);
        assert_eq!(guillemet.get("/v1/plugins").json()["count"], 4);
        add(&guillemet, hostile());
        works(&guillemet);
    });
    assert!(!guillemet.path("vault.wasm").exists());
}

/// Returns a component with `count` instances of an empty module.
fn crowd(count: usize) -> Vec<u8> {
    let component = appended(hostile(), wasm::CORE_MODULE, &core_module(&[]));
    let instance = [vec![0], leb(core_modules(hostile())), vec![0]].concat();
    appended(&component, wasm::CORE_INSTANCE, &vector(&vec![instance.as_slice(); count]))
}

/// Returns a component with an import beyond `encode`: a resource type with this name.
fn importing(name: &str) -> Vec<u8> {
    let import = [&[0][..], &leb(name.len() as u32), name.as_bytes(), &[3, 1]].concat();
    appended(hostile(), wasm::IMPORT, &vector(&[&import]))
}

/// Returns a component of a few kilobytes with more tables than a planner has memory for while it compiles.
fn table_bomb() -> Vec<u8> {
    const ENTRIES: u32 = 1 << 20;
    let table = [&[0x70, 0][..], &leb(ENTRIES)].concat();
    let element = |table: u32| [&[2][..], &leb(table), &[0x41], &leb(ENTRIES - 1), &[0x0b, 0, 1, 0]].concat();
    let elements: Vec<Vec<u8>> = (0..100).map(element).collect();
    let module = core_module(&[
        (wasm::TYPE, vec![1, 0x60, 0, 0]),
        (wasm::FUNCTION, vec![1, 0]),
        (wasm::TABLE, vector(&[table.as_slice(); 100])),
        (wasm::ELEMENT, vector(&elements.iter().map(Vec::as_slice).collect::<Vec<_>>())),
        (wasm::CODE, vec![1, 2, 0, 0x0b]),
    ]);
    (0..4).fold(hostile().to_vec(), |component, _| appended(&component, wasm::CORE_MODULE, &module))
}

/// Returns a component of a few kilobytes whose code is expensive to compile, because every local lives through every
/// loop.
fn code_bomb() -> Vec<u8> {
    const LOOPS: usize = 3_000;
    const LOCALS: u32 = 2_000;
    // local.get, i32.const 1, i32.add, local.set
    let count = |local: u32| [&[0x20][..], &leb(local), &[0x41, 1, 0x6a, 0x21], &leb(local)].concat();
    let body = [
        [&[1][..], &leb(LOCALS), &[0x7f]].concat(),
        [0x03, 0x40].repeat(LOOPS),
        (1..=LOCALS).flat_map(count).collect(),
        // local.get 0, br_if 0, end
        [0x20, 0, 0x0d, 0, 0x0b].repeat(LOOPS),
        vec![0x0b],
    ]
    .concat();
    let function = [leb(body.len() as u32), body].concat();
    let module = core_module(&[
        (wasm::TYPE, vec![1, 0x60, 1, 0x7f, 0]),
        (wasm::FUNCTION, vec![1, 0]),
        (wasm::CODE, vector(&[&function])),
    ]);
    appended(hostile(), wasm::CORE_MODULE, &module)
}

#[test]
fn a_planner_that_is_killed_or_held_is_an_error_that_names_its_plugin() {
    use rustix::process::{Pid, Signal, kill_process};
    let guillemet = daemon();
    // A listing starts the planners of all plugins.
    assert_eq!(guillemet.get("/v1/plugins").status, 200);
    let others = guillemet.planners();
    add(&guillemet, hostile());
    works(&guillemet);
    let signal = |signal| {
        let own: Vec<u32> = guillemet.planners().into_iter().filter(|pid| !others.contains(pid)).collect();
        assert_eq!(own.len(), 1, "{own:?}");
        kill_process(Pid::from_raw(own[0] as i32).unwrap(), signal).unwrap();
        own[0]
    };
    among_clients(&guillemet, || {
        // Kills the planner in the middle of a plan: once it uses processor time, the endless loop is running.
        for (deed, words) in [(Signal::KILL, "signal: 9"), (Signal::ABORT, "signal: 6")] {
            std::thread::scope(|scope| {
                let asked = scope.spawn(|| fails(&guillemet, "loop", words));
                let [planner] = working(&guillemet, &others)[..] else { panic!("not one planner") };
                kill_process(Pid::from_raw(planner as i32).unwrap(), deed).unwrap();
                asked.join().unwrap();
            });
            // A failure is remembered for a moment before it is tried again, but another template is another plan.
            guillemet.write("hostile/a.toml", "token = '<< secret \"calendar-token\" >>' # again\n");
            works(&guillemet);
        }
        let held = signal(Signal::STOP);
        fails(&guillemet, "encoded", "took longer than 5 s and was stopped");
        let deadline = Instant::now() + Duration::from_secs(30);
        while guillemet.planners().contains(&held) {
            assert!(Instant::now() < deadline, "a planner that is held is killed");
        }
        works(&guillemet);
    });
}

/// Waits until planners other than `others` use the processor, and returns them. Returns none if that does not happen
/// within 30 seconds.
fn working(guillemet: &Guillemet, others: &[u32]) -> Vec<u32> {
    let ticks = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        fields.get(11).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0)
    };
    let own = || guillemet.planners().into_iter().filter(|pid| !others.contains(pid));
    let before: Vec<(u32, u64)> = own().map(|pid| (pid, ticks(pid))).collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let busy: Vec<u32> = before.iter().filter(|(pid, then)| ticks(*pid) > then + 10).map(|(pid, _)| *pid).collect();
        if !busy.is_empty() || Instant::now() > deadline {
            return busy;
        }
        std::thread::yield_now();
    }
}

/// Reports whether a text could clear a terminal, forge a line on it, or change the direction of text.
fn drives_a_terminal(text: &str) -> bool {
    text.contains(|c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || "\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}"
                .contains(c)
    })
}

/// Reports whether any text of an answer could do that, or breaks a line.
fn stirs(value: &Value) -> bool {
    match value {
        Value::String(text) => drives_a_terminal(text) || text.contains(['\n', '\t']),
        Value::Array(items) => items.iter().any(stirs),
        Value::Object(map) => map.values().any(stirs),
        _ => false,
    }
}

#[test]
fn texts_of_a_plugin_cannot_drive_a_terminal() {
    let guillemet = daemon();
    add(&guillemet, &hostile_in("describe-texts"));
    let plugins = guillemet.get("/v1/plugins").json();
    let shown = plugins["items"].as_array().unwrap().iter().find(|plugin| plugin["feature"] == "hostile").unwrap();
    for text in [&shown["title"], &shown["version"], &shown["targets"][0]["title"]] {
        assert!(text.as_str().unwrap().contains("error: forged"), "the text came through: {text}");
    }
    assert!(!stirs(&plugins), "{plugins}");
    let refused = guillemet.get("/v1/render/hostile/a?target=texts");
    assert_eq!(refused.status, 422);
    assert!(refused.errors("help")[0].contains("error: forged"), "{}", refused.text());
    assert!(!stirs(&refused.json()), "{}", refused.text());
    let mut explained = guillemet.get("/v1/templates/hostile/a/explain?target=warn").json();
    assert!(explained["warnings"][0]["help"].as_str().unwrap().contains("error: forged"), "{explained}");
    explained["document"] = Value::Null;
    assert!(!stirs(&explained), "{explained}");

    let file = guillemet.path("stranger.wasm");
    for command in [
        &["plugin", "list"][..],
        &["plugin", "list", "--json"],
        &["plugin", "show", "hostile"],
        &["plugin", "show", "hostile", "--schema"],
        &["plugin", "add", file.to_str().unwrap()],
        &["render", "hostile/a", "--target", "texts"],
        &["template", "explain", "hostile/a", "--target", "warn"],
        &["template", "explain", "hostile/a", "--target", "warn", "--json"],
        &["template", "list"],
        &["template", "check"],
    ] {
        let output = guillemet.command(command);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(out.len() + err.len() > 20, "{command:?}: {out}{err}");
        assert!(!drives_a_terminal(&out) && !drives_a_terminal(&err), "{command:?}: {out:?}{err:?}");
        assert!(!format!("\n{out}\n{err}").contains("\nerror: forged"), "{command:?}: {out}{err}");
    }
    assert!(!drives_a_terminal(&guillemet.log()));
}

#[test]
fn a_plugin_that_lies_about_itself_changes_nothing_else() {
    let guillemet = daemon();
    // Its schema allows nothing where `token` is, and names a place from which more of it has to be fetched.
    add(&guillemet, &hostile_in("schema-lies"));
    works(&guillemet);
    let plugins = guillemet.get("/v1/plugins").json();
    assert!(plugins["items"].as_array().unwrap().iter().any(|plugin| plugin["schema"]["type"] == "array"));
    // It claims a built-in feature. Without a yes to exactly this, the built-in plugin stays.
    let seen = look(&guillemet, &hostile_in("feature-taken"));
    assert_eq!((seen.status, seen.json()["feature"].as_str()), (200, Some("mcp-server")));
    let file = guillemet.path("stranger.wasm");
    let output = guillemet.command(&["plugin", "add", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(guillemet.get("/v1/plugins").json()["count"], 5);
    assert_eq!(guillemet.get("/v1/render/mcp-server/calendar").status, 200);
    // The file that is added has to be the one that was looked at.
    std::fs::write(&file, hostile()).unwrap();
    let body = json!({"file": file, "confirm": true, "digest": seen.json()["digest"]});
    assert_eq!(guillemet.post("/v1/plugins", &body).status, 409);
}
