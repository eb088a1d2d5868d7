//! Which callers may ask for what: real processes of other users and groups, against the rules of a real daemon.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::daemon::{Guillemet, PROGRAM};
use crate::support::listening::Listening;
use crate::support::users::{AGENT, GROUP, OTHER, as_user, can};
use guillemet_daemon::api::routes::{Endpoint, ROUTES};
use guillemet_testing::missing;
use serde_json::{Value, json};

const TEMPLATE: &str = "name = \"calendar\"\nurl = \"https://mcp.example.com/mcp\"\n[headers]\n\
                        Authorization = \"Bearer << secret \"calendar-token\" >>\"\n";
const PHONE: &str = "name: desk\ntermination_uri: 'sip.telnyx.com:5061'\nnumbers: ['+493012345678']\ntransport: tls\n\
                     username: desk\npassword: << secret \"phone-password\" >>\n";

fn configured(rules: &str) -> Guillemet {
    let mut guillemet = Guillemet::init();
    configure(&guillemet, rules);
    guillemet.run();
    guillemet.write("mcp-server/calendar.toml", TEMPLATE);
    guillemet.write("mcp-server/other.toml", &TEMPLATE.replace("calendar-token", "other-token"));
    guillemet.write("sip-trunk/desk.yaml", PHONE);
    for name in ["calendar-token", "other-token", "phone-password"] {
        guillemet.add(name, &format!("value-of-{name}"));
    }
    guillemet
}

fn configure(guillemet: &Guillemet, rules: &str) {
    let file = guillemet.path("guillemet.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.split("\n# Rules of a test").next().unwrap().to_owned();
    std::fs::write(file, format!("{text}\n# Rules of a test\n{rules}")).unwrap();
}

/// A process of another user.
#[derive(Clone, Copy)]
struct As<'a> {
    uid: u32,
    gid: u32,
    groups: &'a str,
}

const AGENT_ALONE: As<'_> = As { uid: AGENT, gid: AGENT, groups: "61100" };

impl As<'_> {
    fn command(self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={}", self.uid), format!("--regid={}", self.gid)]);
        let groups = if self.groups.is_empty() { "--clear-groups".into() } else { format!("--groups={}", self.groups) };
        command.arg(groups).arg(program).current_dir("/").stdin(Stdio::null());
        command
    }

    /// Sends a request. Returns status and body; status 0 if it cannot connect.
    fn ask(self, guillemet: &Guillemet, method: &str, path: &str, headers: &[&str], body: &str) -> (u16, String) {
        let mut command = self.command("curl");
        command.args(["--silent", "--max-time", "20", "--write-out", "\n%{http_code}", "--request", method]);
        command.arg("--unix-socket").arg(guillemet.path("run/guillemet.sock"));
        for header in headers {
            command.args(["--header", header]);
        }
        if !body.is_empty() {
            command.args(["--data-binary", body]);
        }
        let output = command.arg(format!("http://guillemet{path}")).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    fn get(self, guillemet: &Guillemet, path: &str) -> (u16, String) {
        self.ask(guillemet, "GET", path, &[], "")
    }

    fn post(self, guillemet: &Guillemet, path: &str, body: &Value) -> (u16, String) {
        self.ask(guillemet, "POST", path, &[], &body.to_string())
    }
}

const API: &str = "[api]\ngroup = 61100\n";

#[test]
fn without_a_group_nobody_else_connects_and_without_a_rule_nobody_else_gets_anything() {
    if !can() {
        return;
    }
    let closed = configured("");
    assert_eq!(AGENT_ALONE.get(&closed, "/healthz").0, 0);
    assert_eq!(closed.get("/v1/secrets").status, 200);
    let open = configured(API);
    for path in ["/healthz", "/v1/render/mcp-server/calendar", "/v1/secrets", "/nowhere"] {
        let (status, body) = AGENT_ALONE.get(&open, path);
        assert_eq!(status, 403, "{body}");
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["code"], "forbidden");
    }
    assert_eq!(As { groups: "", ..AGENT_ALONE }.get(&open, "/healthz").0, 0);
    assert_eq!(open.get("/v1/secrets").status, 200);
}

#[test]
fn a_group_gets_the_socket_and_nothing_else_of_the_home() {
    if !can() {
        return;
    }
    let mut guillemet = configured(&format!("{API}[[client]]\ngroup = 61100\ntemplates = ['mcp-server/calendar']\n"));
    assert_eq!(AGENT_ALONE.get(&guillemet, "/v1/render/mcp-server/calendar").0, 200);
    let mode = |path: &str| {
        let metadata = std::fs::symlink_metadata(guillemet.path(path)).unwrap();
        (metadata.gid(), metadata.mode() & 0o777)
    };
    assert_eq!([mode("run"), mode("run/guillemet.sock"), mode("")], [(GROUP, 0o710), (GROUP, 0o660), (GROUP, 0o710)]);
    // The mode that `init` gives it.
    std::fs::set_permissions(guillemet.path("templates"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut seen = 0;
    let mut folders = vec![guillemet.path("")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let read = AGENT_ALONE.command(if path.is_dir() { "ls" } else { "cat" }).arg(&path).output().unwrap();
            assert!(!read.status.success() && read.stdout.is_empty(), "{} can be read", path.display());
            seen += 1;
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    assert!(seen > 8);
    // The next start revokes it.
    assert!(guillemet.stop());
    configure(&guillemet, "");
    guillemet.run();
    assert_eq!(AGENT_ALONE.get(&guillemet, "/healthz").0, 0);
    // A folder that everybody can write to is not used.
    assert!(guillemet.stop());
    std::fs::set_permissions(guillemet.path("run"), std::fs::Permissions::from_mode(0o770)).unwrap();
    assert!(!guillemet.try_run(&[]));
    assert!(guillemet.log().contains("chmod 700"), "{}", guillemet.log());
}

#[test]
fn a_command_that_may_not_connect_says_which_folder_is_closed() {
    if !can() {
        return;
    }
    // The program is copied to a place where the other user can run it, wherever it was built.
    let programs = tempfile::tempdir().unwrap();
    std::fs::set_permissions(programs.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = programs.path().join("guillemet");
    std::fs::copy(PROGRAM, &program).unwrap();
    let status = |guillemet: &Guillemet, who: As<'_>| {
        let mut command = who.command(program.to_str().unwrap());
        let output = command.arg("--home").arg(guillemet.dir.path()).arg("status").output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let closed = configured("");
    let told = status(&closed, AGENT_ALONE);
    assert!(told.contains("(owner root, group root, mode 0700)"), "{told}");
    assert!(told.contains("`[api] group`"), "{told}");
    // A member of the group can connect and gets an answer.
    let open = configured(API);
    assert!(status(&open, AGENT_ALONE).contains("[[client]] rule"));
    assert!(status(&open, As { groups: "", ..AGENT_ALONE }).contains("you have no access to"));
}

#[test]
fn one_template_and_target_is_all_that_a_rule_for_it_opens() {
    if !can() {
        return;
    }
    let guillemet = configured(&format!(
        "{API}[[client]]\nuid = {AGENT}\ntemplates = ['mcp-server/calendar:mcp-json', 'sip-trunk/*:pjsip']\n"
    ));
    let etag = guillemet.get("/v1/render/mcp-server/calendar").headers["etag"].clone();
    for path in ["/v1/render/mcp-server/calendar", "/v1/render/mcp-server/calendar?target=mcp-json"] {
        let (status, body) = AGENT_ALONE.get(&guillemet, path);
        assert!(status == 200 && body.contains("value-of-calendar-token"), "{body}");
        let known = format!("If-None-Match: {etag}");
        assert_eq!(AGENT_ALONE.ask(&guillemet, "GET", path, &[&known], "").0, 304);
    }
    assert_eq!(AGENT_ALONE.get(&guillemet, "/healthz").0, 200);
    assert_eq!(AGENT_ALONE.get(&guillemet, "/v1/render/sip-trunk/desk?target=pjsip").0, 200);
    // An error about another's broken template reveals nothing of it.
    guillemet.write("mcp-server/broken.toml", "url = '<< secret calendar");

    let other_tag = guillemet.get("/v1/render/mcp-server/other").headers["etag"].clone();
    let inline = |format: &str, text: &str| {
        json!({"feature": "mcp-server", "format": format, "template": text, "vars": null})
            .to_string()
            .replace(",\"vars\":null", "")
    };
    let requests = [
        ("GET", "/v1/render/mcp-server/other", String::new()),
        ("GET", "/v1/render/mcp-server/calendar?target=other", String::new()),
        ("GET", "/v1/render/mcp-server/none", String::new()),
        ("GET", "/v1/render/mcp-server/broken", String::new()),
        // A right to one target does not include another, which can contain more.
        ("GET", "/v1/render/sip-trunk/desk", String::new()),
        ("POST", "/v1/resolve", json!({"secrets": ["calendar-token"]}).to_string()),
        ("POST", "/v1/resolve", json!({"secrets": ["no-such-secret"]}).to_string()),
        ("POST", "/v1/render", inline("toml", TEMPLATE)),
        (
            "POST",
            "/v1/render",
            inline(
                "toml",
                &TEMPLATE.replace("<< secret", "<% if false %><< secret").replace("\" >>", "\" >><% endif %>"),
            ),
        ),
    ];
    for (method, path, body) in &requests {
        let (status, told) = AGENT_ALONE.ask(&guillemet, method, path, &[], body);
        assert_eq!(status, 403, "{method} {path}: {told}");
        assert!(!told.contains("value-of"), "{told}");
    }
    let known = format!("If-None-Match: {other_tag}");
    assert_eq!(AGENT_ALONE.ask(&guillemet, "GET", "/v1/render/mcp-server/other", &[&known], "").0, 403);
    // The answer does not reveal whether a template exists.
    let told = |path| AGENT_ALONE.get(&guillemet, path).1;
    assert_eq!(told("/v1/render/mcp-server/other"), told("/v1/render/mcp-server/none"));
    // Every other route, including future ones.
    let open = [Endpoint::Render, Endpoint::RenderInline, Endpoint::Resolve, Endpoint::Health];
    for (method, path, endpoint) in ROUTES {
        if open.contains(&endpoint) {
            continue;
        }
        let path = path.replace("{feature}", "mcp-server").replace("{name}", "calendar");
        let (status, told) = AGENT_ALONE.ask(&guillemet, method, &path, &[], "{}");
        assert_eq!(status, 403, "{method} {path}: {told}");
    }
    // The right does not extend to another user.
    assert_eq!(As { uid: OTHER, ..AGENT_ALONE }.get(&guillemet, "/v1/render/mcp-server/calendar").0, 403);
}

/// Case matters in ids of templates and targets, but not in names of secrets.
#[test]
fn a_rule_opens_no_template_of_another_case() {
    if !can() {
        return;
    }
    let guillemet = configured(&format!(
        "{API}[[client]]\nuid = {AGENT}\ntemplates = ['mcp-server/calendar:mcp-json', 'MCP-server/*', 'mcp-server/Oth*']\n\
         secrets = ['Calendar-*']\n"
    ));
    guillemet.write("mcp-server/CALENDAR.toml", TEMPLATE);
    let status = |path: &str| AGENT_ALONE.get(&guillemet, path).0;
    assert_eq!(status("/v1/render/mcp-server/calendar"), 200);
    for path in [
        "/v1/render/mcp-server/CALENDAR",
        "/v1/render/mcp-server/CALENDAR?target=mcp-json",
        "/v1/render/mcp-server/calendar?target=MCP-JSON",
        "/v1/render/mcp-server/other",
    ] {
        assert_eq!(status(path), 403, "{path}");
    }
    assert_eq!(guillemet.get("/v1/render/mcp-server/CALENDAR").status, 200);
    assert_eq!(guillemet.get("/v1/render/mcp-server/calendar?target=MCP-JSON").status, 404);
    assert_eq!(AGENT_ALONE.post(&guillemet, "/v1/resolve", &json!({"secrets": ["CALENDAR-token"]})).0, 200);
}

/// A template whose text concerns only its author.
const CANARY: &str = "name = \"canary-name\"\nurl = \"https://canary.example.com/\"\n";

/// A rule that names a target by its former name means that target, and no other. The same holds for a request.
#[test]
fn a_rule_for_a_former_name_of_a_target_is_about_that_target_alone() {
    if !can() {
        return;
    }
    for rule in ["cal-com/desk:env", "cal-com/desk:dotenv", "cal-com/desk:e*"] {
        let guillemet = configured(&format!("{API}[[client]]\nuid = {AGENT}\ntemplates = [\"{rule}\"]\n"));
        guillemet.write("cal-com/desk.toml", "api_key = \"<< secret 'calendar-token' >>\"\n");
        guillemet.write("cal-com/other.toml", "api_key = \"<< secret 'calendar-token' >>\"\n");
        let status = |id: &str| AGENT_ALONE.get(&guillemet, &format!("/v1/render/{id}")).0;
        for (id, expected) in [
            ("cal-com/desk?target=dotenv", 200),
            ("cal-com/desk?target=env", 200),
            ("cal-com/desk", 403),
            ("cal-com/desk?target=json", 403),
            ("cal-com/desk?target=retell-connection", 403),
            ("cal-com/desk?target=other", 403),
            ("cal-com/other?target=env", 403),
        ] {
            assert_eq!(status(id), expected, "{rule}: {id}");
        }
        // The trail has the present name.
        let events = guillemet.get("/v1/usage").json();
        let answered: Vec<&Value> =
            events["items"].as_array().unwrap().iter().filter(|event| event["outcome"] == "answered").collect();
        assert!(answered.len() == 2 && answered.iter().all(|event| event["target"] == "dotenv"), "{rule}: {events}");
    }
}

/// A template that is a link must not give access to just any file that the daemon can read.
#[test]
fn a_link_leads_to_no_file_of_another_user() {
    if !can() {
        return;
    }
    let guillemet = configured(&format!("{API}[[client]]\nuid = {AGENT}\ntemplates = ['mcp-server/*', 'theirs/*']\n"));
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::set_permissions(elsewhere.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let file = |name: &str, owner: u32, mode: u32| {
        let path = elsewhere.path().join(name);
        std::fs::write(&path, CANARY).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        chown(&path, Some(owner), None).unwrap();
        path
    };
    let link = |to: &Path, name: &str, owner: u32| {
        let path = guillemet.path("templates").join(name);
        symlink(to, &path).unwrap();
        lchown(path, Some(owner), None).unwrap();
    };
    // A link of the administrator's, and one in a folder that belongs to the agent's user.
    std::fs::create_dir(guillemet.path("templates/theirs")).unwrap();
    chown(guillemet.path("templates/theirs"), Some(AGENT), None).unwrap();
    let private = file("private.toml", 0, 0o600);
    let foreign = file("foreign.toml", OTHER, 0o644);
    for (name, to, owner) in [
        ("mcp-server/foreign.toml", &foreign, 0),
        ("mcp-server/foreign-2.toml", &foreign, AGENT),
        ("mcp-server/private.toml", &private, AGENT),
        ("theirs/private.toml", &private, AGENT),
        ("theirs/private-2.toml", &private, 0),
        ("theirs/foreign.toml", &foreign, AGENT),
    ] {
        link(to, name, owner);
        let id = name.trim_end_matches(".toml");
        let (status, told) = AGENT_ALONE.get(&guillemet, &format!("/v1/render/{id}"));
        assert!(!told.contains("canary"), "{id}: {told}");
        // Without a plugin for its feature there is no plan in any case.
        if id.starts_with("mcp-server") {
            assert_eq!(status, 422, "{id}: {told}");
            assert!(told.contains("a file of another user"), "{id}: {told}");
        }
        let shown = guillemet.get(&format!("/v1/templates/{id}"));
        assert!(shown.json()["status"] == "broken" && !shown.text().contains("canary"), "{id}: {}", shown.text());
        let checked = guillemet.command(&["template", "check", id, "--json"]);
        let checked = String::from_utf8(checked.stdout).unwrap();
        assert!(!checked.contains("canary"), "{id}: {checked}");
        if id.starts_with("mcp-server") {
            assert!(checked.contains("a file of another user"), "{id}: {checked}");
        }
    }
    assert!(!guillemet.log().contains("canary"));
    // The files that each owner may link to.
    link(&private, "mcp-server/mine.toml", 0);
    link(&file("public.toml", 0, 0o644), "mcp-server/public.toml", AGENT);
    for id in ["mine", "public"] {
        let (status, told) = AGENT_ALONE.get(&guillemet, &format!("/v1/render/mcp-server/{id}"));
        assert!(status == 200 && told.contains("canary"), "{id}: {told}");
    }
    // The owner of the file is checked again each time, not remembered.
    chown(&private, Some(OTHER), None).unwrap();
    let (status, told) = AGENT_ALONE.get(&guillemet, "/v1/render/mcp-server/mine");
    assert!(status == 422 && told.contains("a file of another user") && !told.contains("canary"), "{told}");
}

#[test]
fn who_may_only_render_a_template_is_told_where_it_is_broken_and_not_what_stands_there() {
    if !can() {
        return;
    }
    let guillemet = configured(&format!("{API}[[client]]\nuid = {AGENT}\ntemplates = ['mcp-server/*']\n"));
    for (name, text, line) in [
        ("twice.yaml", "canary_key: 1\ncanary_key: canary-value\n", 2),
        ("twice.json", "{\"canary_key\": 1,\n\"canary_key\": 2}", 2),
        ("shadow.toml", "canary:$6$canary:19000:0\n", 1),
        ("field.toml", "name = 'a'\nurl = 'https://example.com/'\ncanary_field = 'canary-value'\n", 3),
        ("lexer.toml", "name = 'a'\nurl = '<< canary(x) >> << secret canary >>'\n", 2),
        ("name.toml", "name = 'a'\nurl = '<< canary_variable >>'\n", 2),
    ] {
        let id = name.split('.').next().unwrap();
        let path = guillemet.path("templates/mcp-server");
        for extension in ["yaml", "json", "toml"] {
            let _ = std::fs::remove_file(path.join(format!("{id}.{extension}")));
        }
        guillemet.write(&format!("mcp-server/{name}"), text);
        let path = format!("/v1/render/mcp-server/{id}");
        let (status, told) = AGENT_ALONE.get(&guillemet, &path);
        assert_eq!(status, 422, "{name}: {told}");
        assert!(!told.contains("canary"), "{name}: {told}");
        let errors = serde_json::from_str::<Value>(&told).unwrap()["errors"].clone();
        assert_eq!(errors[0]["line"], line, "{name}: {told}");
        // A caller with the right to administer sees everything.
        let known = guillemet.get(&path);
        assert_eq!(known.json()["errors"].as_array().unwrap().len(), errors.as_array().unwrap().len());
    }
}

#[test]
fn rules_are_by_user_and_by_either_kind_of_group_and_add_up() {
    if !can() {
        return;
    }
    let guillemet = configured(&format!(
        "{API}[[client]]\nuid = {AGENT}\nsecrets = ['calendar-*']\n[[client]]\ngroup = {OTHER}\nsecrets = ['phone-*']\n\
         [[client]]\nuid = {OTHER}\nadmin = true\n"
    ));
    let resolve = |who: As<'_>, names: &[&str]| who.post(&guillemet, "/v1/resolve", &json!({"secrets": names}));
    let groups = format!("{GROUP},{OTHER}");
    let in_other = As { groups: &groups, ..AGENT_ALONE };
    assert_eq!(resolve(AGENT_ALONE, &["Calendar-Token"]).0, 200);
    assert_eq!(resolve(AGENT_ALONE, &["calendar-token", "phone-password"]).0, 403);
    assert_eq!(resolve(in_other, &["calendar-token", "phone-password"]).0, 200);
    assert_eq!(resolve(As { gid: OTHER, ..AGENT_ALONE }, &["phone-password"]).0, 200);
    // Every refused name is listed, by its position in the request.
    let (status, told) = resolve(AGENT_ALONE, &["phone-password", "calendar-token", "other-token"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    let fields: Vec<&str> = told["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    assert_eq!((status, fields), (403, vec!["secrets.0", "secrets.2"]));
    // A missing secret under an allowed name is reported as missing, and a renamed one cannot be reached by its former
    // name.
    assert_eq!(resolve(AGENT_ALONE, &["calendar-none"]).0, 409);
    let rename = json!({"name": "root-token"}).to_string();
    assert_eq!(guillemet.ask("PATCH", "/v1/secrets/calendar-token", &[], rename.as_bytes()).status, 200);
    assert_eq!(resolve(AGENT_ALONE, &["calendar-token"]).0, 403);
    // The right to administer includes everything.
    let admin = As { uid: OTHER, ..AGENT_ALONE };
    assert_eq!(admin.get(&guillemet, "/v1/secrets").0, 200);
    assert_eq!(admin.get(&guillemet, "/v1/render/sip-trunk/desk").0, 200);
    assert_eq!(resolve(admin, &["root-token"]).0, 200);
}

#[test]
fn an_inline_template_needs_the_right_to_every_secret_in_it_and_sees_no_variables() {
    if !can() {
        return;
    }
    let guillemet = configured(&format!("{API}[[client]]\nuid = {AGENT}\nsecrets = ['calendar-*']\n"));
    let inline = |text: &str| json!({"feature": "mcp-server", "format": "toml", "template": text});
    let (status, body) = AGENT_ALONE.post(&guillemet, "/v1/render", &inline(TEMPLATE));
    assert!(status == 200 && body.contains("Bearer value-of-calendar-token"), "{body}");
    let both = format!("{TEMPLATE}<% if false %>X = \"<< secret \"other-token\" >>\"<% endif %>\n");
    let (status, told) = AGENT_ALONE.post(&guillemet, "/v1/render", &inline(&both));
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (status, told["errors"][0]["line"].as_u64(), told["errors"].as_array().unwrap().len()),
        (403, Some(5), 1)
    );
    let vars = TEMPLATE.replace("https://mcp.example.com/mcp", "<< vars.mcp_url >>");
    let (status, told) = AGENT_ALONE.post(&guillemet, "/v1/render", &inline(&vars));
    assert_eq!(status, 422, "{told}");

    // An administrator may do both. It is recorded, and leaves no lasting reference.
    let rendered = guillemet.post("/v1/render", &inline(&vars.replace("calendar-token", "other-token")));
    assert_eq!(rendered.status, 200, "{}", rendered.text());
    assert_eq!(rendered.headers["content-type"], "application/json");
    let again = guillemet.ask(
        "POST",
        "/v1/render",
        &[("if-none-match", &rendered.headers["etag"])],
        inline(&vars.replace("calendar-token", "other-token")).to_string().as_bytes(),
    );
    assert_eq!(again.status, 304);
    let shown = guillemet.get("/v1/secrets/other-token").json();
    assert_eq!((shown["usage_count"].as_u64(), shown["resolution_count"].as_u64()), (Some(1), Some(1)));
    assert_eq!(shown["usage"]["by_template"][0]["template"], Value::Null);
    assert_eq!(shown["usage"]["by_template"][0]["field"], "headers.Authorization");
    assert_eq!(guillemet.get("/v1/templates").json()["count"], 3);
}

#[test]
fn an_inline_template_that_is_wrong_is_told_with_its_places() {
    let guillemet = Guillemet::start();
    let post = |body: Value| guillemet.post("/v1/render", &body);
    let wrong = post(json!({"feature": "mcp-server", "format": "ini", "template": 1, "target": [], "more": 1}));
    assert_eq!(
        (wrong.status, wrong.errors("field")),
        (422, ["format", "template", "target", "more"].map(String::from).to_vec())
    );
    let broken = post(json!({"feature": "mcp-server", "format": "toml", "template": "a = 1\nb = '<< secret x >>'"}));
    assert_eq!((broken.status, broken.json()["code"].as_str()), (422, Some("template_invalid")));
    assert_eq!((&broken.json()["errors"][0]["line"], &broken.json()["errors"][0]["column"]), (&json!(2), &json!(16)));
    let unfit = post(json!({"feature": "mcp-server", "format": "json", "template": "{\"name\": \"a\"}"}));
    assert_eq!(unfit.json()["code"], "template_invalid", "{}", unfit.text());
    assert_eq!(post(json!({"feature": "none", "format": "json", "template": "{}"})).errors("field"), ["feature"]);
    let target = post(json!({"feature": "mcp-server", "format": "toml", "template": TEMPLATE, "target": "none"}));
    assert_eq!(target.status, 404);
    let missing = post(json!({"feature": "mcp-server", "format": "toml", "template": TEMPLATE}));
    assert_eq!((missing.status, missing.errors("name")), (409, vec!["calendar-token".to_owned()]));
    assert_eq!(missing.json()["errors"][0]["line"], 4);
    let large = post(json!({"feature": "mcp-server", "format": "toml", "template": "#".repeat(300 << 10)}));
    assert_eq!((large.status, large.errors("field")), (422, vec!["template".to_owned()]));
}

/// Sends one request on a connection that stays open. Returns the status of the answer.
fn ask_on(stream: &mut BufReader<UnixStream>) -> u16 {
    stream.get_mut().write_all(b"GET /v1/secrets HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let mut length = 0;
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).unwrap();
        if let Some(announced) = line.to_lowercase().strip_prefix("content-length: ") {
            length = announced.trim().parse().unwrap();
        }
    }
    stream.read_exact(&mut vec![0; length]).unwrap();
    status
}

#[test]
fn new_rules_are_in_force_for_connections_that_are_open() {
    let guillemet = configured("");
    let stream = UnixStream::connect(guillemet.path("run/guillemet.sock")).unwrap();
    let mut stream = BufReader::new(stream);
    assert_eq!(ask_on(&mut stream), 200);
    let own = rustix::process::geteuid().as_raw();
    configure(&guillemet, &format!("[[client]]\nuid = {own}\nsecrets = ['calendar-*']\n"));
    guillemet.signal(rustix::process::Signal::HUP);
    let deadline = Instant::now() + Duration::from_secs(30);
    while ask_on(&mut stream) != 403 {
        assert!(Instant::now() < deadline, "the rules are not in force: {}", guillemet.log());
    }
    let resolved = guillemet.post("/v1/resolve", &json!({"secrets": ["calendar-token"]}));
    assert_eq!(resolved.status, 200);
    // Rules with a mistake change nothing.
    configure(&guillemet, "[[client]]\nuid = 'no-such-user-here'\nadmin = 1\n");
    guillemet.signal(rustix::process::Signal::HUP);
    while !guillemet.log().contains("`client[1].admin` must be true or false") {
        assert!(Instant::now() < deadline, "the mistake is not told: {}", guillemet.log());
    }
    assert_eq!(ask_on(&mut stream), 403);
}

#[test]
fn who_loses_every_right_loses_its_connections() {
    if !can() {
        return;
    }
    let rules =
        format!("{API}[[client]]\nuid = {AGENT}\nsecrets = ['calendar-*']\n[[client]]\nuid = {OTHER}\nadmin = true\n");
    let guillemet = configured(&rules);
    let socket = guillemet.path("run/guillemet.sock");
    let connect = || {
        let stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        BufReader::new(stream)
    };
    let (mut idle, mut busy) = as_user(AGENT, || (connect(), connect()));
    assert_eq!(ask_on(&mut idle), 403);
    let half = "POST /v1/resolve HTTP/1.1\r\nhost: x\r\ncontent-length: 30\r\n\r\n{\"secrets\":";
    busy.get_mut().write_all(half.as_bytes()).unwrap();
    let mut listening = as_user(OTHER, || Listening::to(&guillemet));
    // This connection may go on.
    let mut own = connect();
    assert_eq!(ask_on(&mut own), 200);
    configure(
        &guillemet,
        &rules.replace("admin = true", "secrets = ['phone-*']").replace(&format!("uid = {AGENT}"), "uid = 1"),
    );
    guillemet.signal(rustix::process::Signal::HUP);
    assert_eq!(idle.read(&mut [0; 16]).unwrap(), 0);
    while listening.line().is_some() {}
    assert_eq!(ask_on(&mut own), 200);
    // A request under way gets nothing more, and the next one on its connection is the last.
    let rest = "[\"calendar-token\"]}GET /v1/secrets HTTP/1.1\r\nhost: x\r\n\r\n";
    busy.get_mut().write_all(rest.as_bytes()).unwrap();
    let mut text = String::new();
    busy.read_to_string(&mut text).unwrap();
    let statuses: Vec<&str> = text.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["403", "403"], "{text}");
    assert!(text.contains("connection: close"), "{text}");
    assert_eq!(AGENT_ALONE.get(&guillemet, "/healthz").0, 403);
}

/// Files that name users and groups, which one daemon sees in place of the machine's own.
struct Databases(tempfile::TempDir);

impl Databases {
    fn new() -> Self {
        let databases = Self(tempfile::tempdir().unwrap());
        databases.write("", "");
        databases
    }

    /// Writes both files again, with the machine's own entries before these. They stay the same inodes, because they
    /// are mounted.
    fn write(&self, users: &str, groups: &str) {
        for (name, more) in [("passwd", users), ("group", groups)] {
            let own = std::fs::read_to_string(Path::new("/etc").join(name)).unwrap();
            std::fs::write(self.0.path().join(name), own + more).unwrap();
        }
    }

    /// Returns the words to put before a daemon so that it sees these files.
    fn by_way_of(&self) -> Vec<String> {
        let folder = self.0.path().display();
        let mount = |name: &str| format!("mount --bind {folder}/{name} /etc/{name}");
        let script = format!("{} && {} && exec \"$@\"", mount("passwd"), mount("group"));
        ["unshare", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
    }
}

fn user(name: &str, uid: u32) -> String {
    format!("{name}:x:{uid}:{uid}::/nonexistent:/usr/sbin/nologin\n")
}

/// Reports whether mount namespaces can be made, which a container may not be allowed to do.
fn can_mount() -> bool {
    let mut mount = Command::new("unshare");
    mount.args(["--mount", "sh", "-c", "mount --bind /etc/passwd /etc/passwd"]);
    let mut can_mount = || mount.status().is_ok_and(|status| status.success());
    can()
        && missing::has(can_mount(), "mount namespaces (unshare --mount)", "run the tests as root, with CAP_SYS_ADMIN")
}

/// Runs a daemon with these rules that sees these users.
fn configured_among(databases: &Databases, rules: &str) -> Guillemet {
    let mut guillemet = Guillemet::init();
    configure(&guillemet, rules);
    assert!(guillemet.try_run(&databases.by_way_of()), "{}", guillemet.log());
    guillemet.add("calendar-token", "value");
    guillemet
}

/// Returns the status that a user with this number gets for a request of the value.
fn resolve_as(uid: u32, guillemet: &Guillemet) -> u16 {
    let asked = json!({"secrets": ["calendar-token"]});
    As { uid, ..AGENT_ALONE }.post(guillemet, "/v1/resolve", &asked).0
}

#[test]
fn a_rule_with_a_name_never_applies_to_the_next_owner_of_the_number() {
    if !can_mount() {
        return;
    }
    let databases = Databases::new();
    databases.write(&user("guillemet-agent", AGENT), "");
    let rules = format!("{API}[[client]]\nuid = 'guillemet-agent'\nsecrets = ['calendar-*']\n");
    let guillemet = configured_among(&databases, &rules);
    let socket = guillemet.path("run/guillemet.sock");
    let connect = || {
        let stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        BufReader::new(stream)
    };
    for round in 0..3 {
        databases.write(&user("guillemet-agent", AGENT), "");
        let deadline = Instant::now() + Duration::from_secs(30);
        // The name did not exist until now. That it does is noticed soon, but not at once.
        while resolve_as(AGENT, &guillemet) != 200 {
            assert!(Instant::now() < deadline, "round {round}: {}", guillemet.log());
        }
        let mut open = as_user(AGENT, connect);
        assert_eq!(ask_on(&mut open), 403, "it may not list");
        // The user is removed, and another one gets its number. From the next request on, it has no right, not even on
        // a connection of the former owner. Nothing is waited for.
        databases.write(&user("guillemet-other", AGENT), "");
        assert_eq!(resolve_as(AGENT, &guillemet), 403, "round {round}");
        let mut rest = String::new();
        let _ = open.get_mut().write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
        let _ = open.read_to_string(&mut rest);
        assert!(rest.is_empty() || rest.contains("403"), "round {round}: {rest}");
        let warnings = guillemet.get("/v1/status").json()["warnings"].to_string();
        assert!(warnings.contains("there is no user `guillemet-agent`"), "{warnings}");
        assert_eq!(guillemet.get("/v1/secrets").status, 200);
    }
    // The same user with another number keeps its right, and the former number has none.
    databases.write(&user("guillemet-agent", OTHER), "");
    let deadline = Instant::now() + Duration::from_secs(30);
    while resolve_as(OTHER, &guillemet) != 200 {
        assert!(Instant::now() < deadline, "{}", guillemet.log());
    }
    assert_eq!(resolve_as(AGENT, &guillemet), 403);
    assert_eq!(guillemet.get("/v1/status").json()["warnings"], json!([]));
}

#[test]
fn a_group_of_a_rule_is_known_by_its_name_too_and_a_number_is_a_number() {
    if !can_mount() {
        return;
    }
    let databases = Databases::new();
    let group = |name: &str| format!("{name}:x:{GROUP}:\n");
    databases.write(&user("guillemet-other", OTHER), &group("guillemet-agents"));
    let rules = format!(
        "{API}[[client]]\ngroup = 'guillemet-agents'\nsecrets = ['calendar-*']\n\
         [[client]]\nuid = {OTHER}\nsecrets = ['calendar-*']\n"
    );
    let guillemet = configured_among(&databases, &rules);
    assert_eq!([resolve_as(AGENT, &guillemet), resolve_as(OTHER, &guillemet)], [200, 200]);
    databases.write(&user("guillemet-third", OTHER), &group("guillemet-others"));
    assert_eq!([resolve_as(AGENT, &guillemet), resolve_as(OTHER, &guillemet)], [403, 200]);
}
