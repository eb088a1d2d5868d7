//! The console over real TCP: who gets in, what a form may do, what a page contains, and that every flow works without
//! scripts.

use std::collections::HashSet;
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::browser::{Browser, Page, SECRETS, apart, encode, link};
use crate::support::daemon::{Answer, Guillemet, try_ask};
use crate::support::users::{self, AGENT, GROUP, OTHER, as_user};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use guillemet_testing::canary::{Canary, Scanner};
use guillemet_testing::missing;
use serde_json::json;

/// Every path of the console, with an existing name where the path has one.
const PATHS: [(&str, &str); 21] = [
    ("GET", "/"),
    ("GET", "/login?token=x"),
    ("POST", "/logout"),
    ("GET", "/settings/developers/secrets"),
    ("POST", "/settings/developers/secrets"),
    ("GET", "/settings/developers/secrets/live"),
    ("GET", "/settings/developers/secrets/new"),
    ("GET", "/settings/developers/secrets/cal-key/edit"),
    ("POST", "/settings/developers/secrets/cal-key/edit"),
    ("GET", "/settings/developers/secrets/cal-key/rotate"),
    ("POST", "/settings/developers/secrets/cal-key/rotate"),
    ("GET", "/settings/developers/secrets/cal-key/rollback?version=1"),
    ("POST", "/settings/developers/secrets/cal-key/rollback"),
    ("GET", "/settings/developers/secrets/cal-key/delete"),
    ("POST", "/settings/developers/secrets/cal-key/delete"),
    ("POST", "/settings/developers/secrets/cal-key/enable"),
    ("POST", "/settings/developers/secrets/cal-key/disable"),
    ("GET", "/settings/developers/templates"),
    ("GET", "/settings/developers/templates/mcp-server/a"),
    ("GET", "/settings/developers/plugins"),
    ("GET", "/settings/developers/audit"),
];

/// A page or form that these tests do not know cannot be added unnoticed.
#[test]
fn these_tests_know_every_path() {
    let known: HashSet<(&str, &str)> =
        PATHS.iter().map(|(method, path)| (*method, path.split('?').next().unwrap())).collect();
    let mut count = 0;
    for (path, methods, _) in guillemet_daemon::console::routes().filter(|(path, ..)| !path.starts_with("/assets/")) {
        let path = path.replace("{feature}/{name}", "mcp-server/a").replace("{name}", "cal-key");
        for method in methods.split(", ").filter(|method| *method != "HEAD") {
            assert!(known.contains(&(method, path.as_str())), "{method} {path} is in no test");
            count += 1;
        }
    }
    assert_eq!(count, PATHS.len(), "a path is gone");
}

/// A template that references one secret.
const TEMPLATE: &str = r#"name = "calendar"
url = "https://mcp.example/"
[headers]
Authorization = "Bearer << secret 'mcp-calendar-production' >>"
"#;

fn is_sealed(answer: &Answer) {
    let get = |name: &str| answer.headers.get(name).map(String::as_str).unwrap_or_default();
    let policy = get("content-security-policy");
    for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    assert_eq!(get("x-frame-options"), "DENY");
    assert_eq!(get("x-content-type-options"), "nosniff");
    assert_eq!(get("referrer-policy"), "no-referrer");
    assert_eq!(get("cross-origin-opener-policy"), "same-origin");
    assert_eq!(get("cross-origin-resource-policy"), "same-origin");
    assert!(get("cache-control") == "no-store" || get("cache-control").ends_with("immutable"));
}

#[test]
fn a_link_works_once() {
    let guillemet = Guillemet::start();
    let url = link(&guillemet);
    let (host, _, path) = apart(&url);
    assert_eq!(host.split_once(':').unwrap().0.len(), 26 + ".localhost".len(), "{url}");
    let mut browser = Browser::at(&url);

    // A request without the link is refused, and does not use up the link.
    assert_eq!(browser.get(SECRETS).status, 403);
    let head = browser.ask("HEAD", &path, &[], b"");
    assert_eq!((head.status, head.headers.get("set-cookie")), (405, None));
    let ahead = browser.ask("GET", &path, &[("sec-purpose", "prefetch;prerender")], b"");
    assert_eq!((ahead.status, ahead.headers.get("set-cookie")), (403, None));
    let port = browser.port;
    for wrong in ["localhost", "127.0.0.1", "evil.example", "x.localhost", ""].map(|name| format!("{name}:{port}")) {
        let refused = browser.raw("GET", &path, &[("host", &wrong)], b"");
        assert_eq!((refused.status, refused.headers.get("set-cookie")), (421, None), "{wrong}");
    }
    let almost = browser.get(&path[..path.len() - 1]);
    assert_eq!(almost.status, 403);

    let answer = browser.follow(&url);
    assert_eq!((answer.status, answer.headers["location"].as_str()), (303, SECRETS));
    let cookie = answer.headers["set-cookie"].as_str();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert!(pair.starts_with("guillemet_session="));
    assert_eq!(
        attributes.split("; ").collect::<HashSet<_>>(),
        HashSet::from(["HttpOnly", "SameSite=Strict", "Path=/"])
    );
    is_sealed(&answer);
    assert_eq!(browser.get(SECRETS).status, 200);

    // A link works once.
    let again = Browser::at(&url).follow(&url);
    assert_eq!((again.status, again.headers.get("set-cookie")), (403, None));
    assert!(again.text().contains("guillemet console"), "{}", again.text());

    // Several people have a link each; logging out ends one session.
    let other = Browser::open(&guillemet);
    assert_ne!(browser.cookie, other.cookie);
    assert_ne!(browser.csrf(), other.csrf());
    let out = browser.post("/logout", &[]);
    assert_eq!(out.status, 200);
    assert_eq!(browser.get(SECRETS).status, 403);
    assert_eq!(other.get(SECRETS).status, 200);
    // The log contains nothing that would let anybody in.
    let log = guillemet.log();
    for word in [path.split_once('=').unwrap().1, pair.split_once('=').unwrap().1] {
        assert!(!log.contains(word), "{log}");
    }
}

#[test]
fn another_host_is_told_nothing_on_any_path() {
    let guillemet = Guillemet::start();
    guillemet.add("cal-key", "x");
    let browser = Browser::open(&guillemet);
    let (cookie, csrf) = (browser.cookie.clone().unwrap(), browser.csrf());
    let form = encode(&[("csrf", &csrf)]);
    let (own, port) = (browser.host.as_str(), browser.port);
    let name = own.split(':').next().unwrap();
    let foreign = format!("rebound.example:{port}");
    // Hosts that begin or end like the right one, or differ in characters that other programs ignore.
    let alike = [
        format!("{own}.evil.example"),
        format!("{own}0"),
        format!("{name}:{}", &port.to_string()[..1]),
        format!("{name}.evil.example:{port}"),
        format!("{name}:0{port}"),
        name.to_owned(),
        format!("{name}:"),
        format!("{name}.:{port}"),
        own.to_uppercase(),
        format!("x{own}"),
        format!("evil.{own}"),
        format!("evil@{own}"),
        format!("localhost:{port}"),
        format!("{own}, {foreign}"),
    ];
    for (method, path) in PATHS {
        let body = if method == "POST" { form.as_bytes() } else { b"" };
        let mut cases = vec![
            vec![("host", foreign.as_str())],
            vec![],
            vec![("host", own), ("host", foreign.as_str())],
            vec![("host", own), ("host", own)],
        ];
        cases.extend(alike.iter().map(|host| vec![("host", host.as_str())]));
        for headers in &mut cases {
            headers.push(("cookie", &cookie));
            headers.push(("content-type", "application/x-www-form-urlencoded"));
            let answer = browser.raw(method, path, headers, body);
            // Without a host, HTTP/1.1 is refused before anything else.
            assert!([421, 400].contains(&answer.status), "{method} {path} {headers:?}: {}", answer.status);
            if answer.status == 421 {
                is_sealed(&answer);
            }
            assert!(!answer.text().contains("cal-key"));
        }
        // A request target that names another host than `Host`.
        for other in alike.iter().filter(|host| !host.contains(',')).chain([&foreign]) {
            let absolute = format!("http://{other}{path}");
            let answer = browser.ask(method, &absolute, &[], body);
            assert!([421, 400].contains(&answer.status), "{method} {absolute}: {}", answer.status);
        }
    }
    assert_eq!(guillemet.get("/v1/secrets/cal-key").json()["status"], "active");
}

#[test]
fn every_answer_is_sealed_and_strangers_see_nothing() {
    let guillemet = Guillemet::start();
    guillemet.add("cal-key", "x");
    // The page of a former version needs one to exist.
    guillemet.ask("PATCH", "/v1/secrets/cal-key", &[], br#"{"value": "y"}"#);
    guillemet.write("mcp-server/a.toml", TEMPLATE);
    let browser = Browser::open(&guillemet);
    let stranger = Browser { cookie: None, host: browser.host.clone(), port: browser.port };
    let guess = Browser { cookie: Some("guillemet_session=x".into()), host: browser.host.clone(), port: browser.port };
    let two = Browser {
        cookie: Some(format!("guillemet_session=x; {}", browser.cookie.as_deref().unwrap())),
        host: browser.host.clone(),
        port: browser.port,
    };
    for (method, path) in PATHS {
        let inside = browser.ask(method, path, &[], b"");
        is_sealed(&inside);
        if method == "GET" && !path.starts_with("/login") {
            assert!([200, 303].contains(&inside.status), "{path}: {}", inside.text());
        }
        for outside in [&stranger, &guess, &two] {
            let answer = outside.ask(method, path, &[], b"");
            is_sealed(&answer);
            assert_eq!(answer.status, 403, "{method} {path}");
            assert!(!answer.text().contains("cal-key") && !answer.text().contains("csrf"));
        }
    }
    for (method, path, status) in [
        ("GET", "/nothing", 404),
        ("GET", "/settings/developers/secrets/none/edit", 404),
        ("GET", "/settings/developers/secrets/%00%FF/edit", 404),
        ("GET", "/settings/developers/secrets?sort=x", 400),
        ("GET", "/settings/developers/templates/none/none", 404),
        ("PUT", SECRETS, 405),
        ("DELETE", SECRETS, 405),
        ("POST", "/login", 405),
        ("POST", "/settings/developers/plugins", 405),
        ("GET", "/logout", 405),
        ("HEAD", SECRETS, 200),
    ] {
        let answer = browser.ask(method, path, &[], b"");
        is_sealed(&answer);
        assert_eq!(answer.status, status, "{method} {path}");
    }
    // The files that pages load are the same for everybody, and are cached forever under their digest.
    let page = browser.page(SECRETS);
    let style = page.all("link").find_map(|link| link.get("href")).unwrap().to_owned();
    let answer = stranger.get(&style);
    is_sealed(&answer);
    assert_eq!(answer.status, 200);
    assert!(answer.headers["cache-control"].contains("immutable"));
    assert_eq!(stranger.get("/assets/0000/style.css").status, 404);
}

#[test]
fn a_form_is_taken_from_the_console_alone() {
    let guillemet = Guillemet::start();
    guillemet.add("cal-key", "x");
    let browser = Browser::open(&guillemet);
    let (csrf, others) = (browser.csrf(), Browser::open(&guillemet).csrf());
    let own = format!("http://{}", browser.host);
    let good = encode(&[("csrf", &csrf)]);
    let form = ("content-type", "application/x-www-form-urlencoded");
    let path = "/settings/developers/secrets/cal-key/disable";
    let forged = encode(&[("csrf", &others)]);
    let wrong: [(&[(&str, &str)], &str); 12] = [
        (&[form], ""),
        (&[form], "csrf="),
        (&[form], "csrf=x"),
        (&[form], &forged),
        (&[form, ("origin", "http://evil.example")], &good),
        (&[form, ("origin", "http://localhost")], &good),
        (&[form, ("origin", "null")], &good),
        (&[form, ("origin", "null"), ("sec-fetch-site", "cross-site")], &good),
        (&[form, ("origin", &own), ("sec-fetch-site", "cross-site")], &good),
        (&[form, ("sec-fetch-site", "same-site")], &good),
        (&[form, ("origin", &own), ("origin", "http://evil.example")], &good),
        (&[("content-type", "text/plain")], &good),
    ];
    for (headers, body) in wrong {
        let answer = browser.ask("POST", path, headers, body.as_bytes());
        let expected = if headers[0] == form { 403 } else { 400 };
        assert_eq!(answer.status, expected, "{headers:?} {body}");
        is_sealed(&answer);
    }
    assert_eq!(guillemet.get("/v1/secrets/cal-key").json()["status"], "active");
    // A field that is given twice, an unknown field, and a body that is too long.
    for body in [format!("{good}&{good}"), format!("{good}&other=1")] {
        assert_eq!(browser.ask("POST", path, &[form], body.as_bytes()).status, 400);
    }
    let large = format!("{good}&back={}", "x".repeat(1 << 20));
    assert_eq!(browser.ask("POST", path, &[form], large.as_bytes()).status, 413);
    assert_eq!(guillemet.get("/v1/secrets/cal-key").json()["status"], "active");
    // A page without a referrer sends `null`, and the browser vouches for it.
    let vouched = [form, ("origin", "null"), ("sec-fetch-site", "same-origin")];
    assert_eq!(browser.ask("POST", path, &vouched, good.as_bytes()).status, 303);
    assert_eq!(guillemet.get("/v1/secrets/cal-key").json()["status"], "disabled");
    let enable = "/settings/developers/secrets/cal-key/enable";
    assert_eq!(browser.ask("POST", enable, &[form, ("origin", &own)], good.as_bytes()).status, 303);
    assert_eq!(guillemet.get("/v1/secrets/cal-key").json()["status"], "active");
}

/// Returns a form with these fields that would be accepted except for its token.
fn filled<'a>(fields: &[&'a str], name: &'a str) -> Vec<(&'a str, &'a str)> {
    let value = |field: &&'a str| match *field {
        "name" => Some(("name", name)),
        "value" => Some(("value", "another value")),
        "enabled" => Some(("enabled", "on")),
        "version" => Some(("version", "1")),
        "etag" | "back" | "last_used" => Some((*field, "")),
        "csrf" | "rewrite" => None,
        other => panic!("the field {other} is in no test"),
    };
    fields.iter().filter_map(value).collect()
}

#[test]
fn no_form_is_taken_without_the_token_of_its_session() {
    let guillemet = Guillemet::start();
    let others = Browser::open(&guillemet).csrf();
    let forms: Vec<_> =
        guillemet_daemon::console::routes().filter(|(_, methods, _)| methods.contains("POST")).collect();
    assert!(forms.len() > 7, "{forms:?}");
    for (number, (path, _, fields)) in forms.into_iter().enumerate() {
        // Each request has its own secret, with a former version; for one that enables, it was disabled.
        let name = format!("key-{number}");
        guillemet.add(&name, "one");
        assert_eq!(guillemet.ask("PATCH", &format!("/v1/secrets/{name}"), &[], br#"{"value": "two"}"#).status, 200);
        if path.ends_with("/enable") {
            guillemet.set_enabled(&name, false);
        }
        let browser = Browser::open(&guillemet);
        let csrf = browser.csrf();
        let has_name = path.contains("{name}");
        let path = path.replace("{name}", &name);
        let fields = filled(fields, if has_name { &name } else { "created" });
        let send = |token: Option<&str>| {
            let fields = token.map(|token| ("csrf", token)).into_iter().chain(fields.iter().copied());
            let origin = format!("http://{}", browser.host);
            let headers = [("content-type", "application/x-www-form-urlencoded"), ("origin", origin.as_str())];
            browser.ask("POST", &path, &headers, encode(&fields.collect::<Vec<_>>()).as_bytes()).status
        };
        // Returns every secret in full, and whether the session is still valid.
        let state = || {
            let (all, one) = (guillemet.get("/v1/secrets"), guillemet.get(&format!("/v1/secrets/{name}")));
            (all.json()["count"].clone(), one.text(), browser.get(SECRETS).status)
        };
        let before = state();
        let cut = &csrf[..csrf.len() - 1];
        for token in [None, Some(""), Some("x"), Some(cut), Some(others.as_str())] {
            assert_eq!(send(token), 403, "{path} with {token:?}");
        }
        assert_eq!(state(), before, "{path} has changed something");
        // Only the token was wrong.
        let taken = send(Some(&csrf));
        assert!([200, 303].contains(&taken), "{path}: {taken}");
        assert_ne!(state(), before, "{path} changes something");
    }
}

#[test]
fn no_page_holds_a_value() {
    let guillemet = Guillemet::start();
    let canaries =
        [Canary::new("created", "<b>&\"'\n+ä"), Canary::new("refused", "<b>&"), Canary::new("too long", "é")];
    let too_long = canaries[2].value.repeat(2_000);
    let scanner = Scanner::new(&canaries);
    guillemet.write("mcp-server/a.toml", TEMPLATE);
    let browser = Browser::open(&guillemet);
    let mut seen = Vec::new();
    let mut post = |path: &str, fields: &[(&str, &str)], status: u16| {
        let answer = browser.post(path, fields);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        seen.push((path.to_owned(), answer));
    };
    post(SECRETS, &[("name", "mcp-calendar-production"), ("value", &canaries[0].value), ("enabled", "on")], 303);
    post(SECRETS, &[("name", "not a name"), ("value", &canaries[1].value)], 422);
    post(SECRETS, &[("name", "mcp-calendar-production"), ("value", &canaries[1].value)], 409);
    post(SECRETS, &[("name", "other"), ("value", &too_long)], 422);
    // A value in the wrong field: a name is shown again, but this one is too long to be shown in full anywhere.
    let edit = "/settings/developers/secrets/mcp-calendar-production/edit";
    post(edit, &[("name", "not a name"), ("value", &canaries[1].value)], 422);
    let resolved = guillemet.post("/v1/resolve", &json!({"secrets": ["mcp-calendar-production"]}));
    assert_eq!(resolved.json()["secrets"]["mcp-calendar-production"], canaries[0].value.as_str());
    for (method, path) in PATHS.map(|(method, path)| (method, path.replace("cal-key", "mcp-calendar-production"))) {
        if method == "GET" {
            seen.push((path.clone(), browser.get(&path)));
        }
    }
    for (path, answer) in &seen {
        let whole = format!("{:?}\n{}", answer.headers, answer.text());
        assert!(!scanner.is_in(whole.as_bytes()), "{path}: {whole}");
        for canary in &canaries {
            for form in [BASE64.encode(canary.value.as_bytes()), BASE64URL_NOPAD.encode(canary.value.as_bytes())] {
                assert!(!whole.contains(&form), "{path}");
            }
        }
    }
    assert!(!scanner.is_in(guillemet.log().as_bytes()));
    // Proves that the scan finds values.
    assert!(scanner.is_in(resolved.text().as_bytes()));
}

#[test]
fn hostile_texts_stay_text() {
    let guillemet = Guillemet::start();
    let name = "<img src=x onerror=alert(1)>\"'&\u{202e}\u{7f}";
    guillemet.write(
        &format!("mcp-server/{name}.toml"),
        "url = 'http://x/<script>alert(1)</script>'\nheaders = { '<svg onload=alert(2)>' = '<< secret \"k\" >>' }\n\
         \"</pre><iframe src=x>\" = 1\n",
    );
    guillemet.write("<script>/b.toml", "a = '<< secret \"k\" >>'\n");
    guillemet.write("mcp-server/broken.toml", "a = '<< </script><script>alert(3)</script> \u{1b}[2J\u{202e} >>'\n");
    let browser = Browser::open(&guillemet);
    let plain = |page: &Page| page.elements.iter().map(|element| element.name.clone()).collect::<HashSet<_>>();
    let known: HashSet<String> =
        "html head meta title link script body a header p span nav ul li form input button main h1 h2 footer div \
         label select option table caption thead tr th tbody td code details summary section time strong pre dl dt dd \
         textarea"
            .split_whitespace()
            .map(str::to_owned)
            .collect();
    let list = browser.page("/settings/developers/templates");
    let mut paths: Vec<String> = list
        .all("a")
        .filter_map(|link| link.get("href"))
        .filter(|href| href.starts_with("/settings/developers/templates/"))
        .map(str::to_owned)
        .collect();
    assert_eq!(paths.len(), 3, "{paths:?}");
    assert!(list.says("<script>/b") && list.says("<img src=x onerror=alert(1)>\"'&"), "{}", list.text);
    for path in &paths {
        assert!(path.is_ascii() && !path.contains(['<', '"', '\'', ' ']), "{path}");
    }
    let query = "?query=%3Cscript%3Ealert(4)%3C/script%3E%22%27%E2%80%AE";
    paths.extend([SECRETS.to_owned(), format!("{SECRETS}{query}"), "/settings/developers/templates".into()]);
    paths.push("/settings/developers/secrets/new?name=%22%3E%3Cscript%3E".into());
    let mut pages: Vec<(String, Page)> = paths
        .into_iter()
        .map(|path| {
            let page = Page::parse(&browser.get(&path).text());
            (path, page)
        })
        .collect();
    let refused = browser.post(SECRETS, &[("name", "\"><script>alert(5)</script>"), ("value", "x")]);
    pages.push(("refused".into(), Page::parse(&refused.text())));
    assert_eq!(pages.last().unwrap().1.value("name"), "\"><script>alert(5)</script>");
    for (path, page) in &pages {
        assert!(plain(page).is_subset(&known), "{path}: {:?}", plain(page));
        assert_eq!(page.all("script").count(), 1, "{path}");
        for element in &page.elements {
            for (attribute, value) in &element.attributes {
                assert!(!attribute.starts_with("on") && attribute != "style", "{path}: {element:?}");
                assert!(!value.to_lowercase().starts_with("javascript:"), "{path}: {element:?}");
                assert!(!value.contains(['\u{202e}', '\u{1b}', '\u{7f}']), "{path}: {element:?}");
            }
            if element.name == "script" {
                assert!(element.get("src").is_some_and(|source| source.starts_with("/assets/")), "{element:?}");
            }
        }
        assert!(!page.text.contains(['\u{202e}', '\u{1b}', '\u{7f}']), "{path}");
    }
}

#[test]
fn every_flow_works_without_scripts() {
    let guillemet = Guillemet::start();
    guillemet.write("mcp-server/a.toml", TEMPLATE);
    let browser = Browser::open(&guillemet);

    // A missing secret is shown with a way to create it.
    let page = browser.page(SECRETS);
    assert!(page.says("missing"), "{}", page.text);
    let create = page.all("a").filter_map(|link| link.get("href")).find(|href| href.contains("/new?name=")).unwrap();
    assert_eq!(browser.page(create).value("name"), "mcp-calendar-production");

    // All mistakes are shown at once, each at its field, and the name is kept.
    let refused = browser.post(SECRETS, &[("name", "not a name"), ("value", "")]);
    let form = Page::parse(&refused.text());
    assert_eq!((refused.status, form.value("name")), (422, "not a name"));
    for field in ["name", "value"] {
        let element = form.field(field).unwrap();
        assert_eq!(element.get("aria-invalid"), Some("true"));
        let described = element.get("aria-describedby").unwrap();
        for id in described.split(' ') {
            assert!(form.elements.iter().any(|element| element.get("id") == Some(id)), "{id}");
        }
    }

    // Several lines arrive as they were typed.
    let pem = "-----BEGIN-----\nabc\n-----END-----";
    let page = browser
        .done(SECRETS, &[("name", "mcp-calendar-production"), ("value", &format!("{pem}\n")), ("enabled", "on")]);
    assert!(page.says("mcp-calendar-production was created."), "{}", page.text);
    assert!(!browser.page(SECRETS).says("was created"));
    let value = |name: &str| {
        let answer = guillemet.post("/v1/resolve", &json!({"secrets": [name]}));
        (answer.status, answer.json()["secrets"][name].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(value("mcp-calendar-production"), (200, pem.to_owned()));
    assert_eq!(browser.post(SECRETS, &[("name", "MCP-calendar-production"), ("value", "x")]).status, 409);

    // The row shows references, versions and use.
    let page = browser.page(SECRETS);
    for text in ["active", "mcp-server/a", "References of", "Versions of", "1 (current)", "Uses per day", "just now"] {
        assert!(page.says(text), "{text}: {}", page.text);
    }
    assert_eq!(page.all("rect").count(), 1);

    // After disabling a secret on the second page of a filter, the browser is back on that page.
    let name = "mcp-calendar-production";
    let path = |action: &str| format!("{SECRETS}/{name}/{action}");
    let answer = browser.post(&path("disable"), &[("back", "query=mcp&status=active")]);
    assert_eq!(answer.headers["location"], format!("{SECRETS}?query=mcp&status=active"));
    assert_eq!(value(name).0, 409);
    assert_eq!(browser.post(&path("disable"), &[("back", "//evil.example")]).status, 422);
    assert!(browser.done(&path("enable"), &[]).says("is enabled"));
    assert_eq!(value(name).0, 200);
    let page = browser.page(&path("edit"));
    assert_eq!(page.value("name"), name);
    assert!(page.field("enabled").unwrap().get("checked").is_some());
    browser.done(&path("edit"), &[("name", name), ("value", "")]);
    assert_eq!(value(name).0, 409);
    browser.done(&path("edit"), &[("name", name), ("value", ""), ("enabled", "on")]);
    assert_eq!(value(name), (200, pem.to_owned()));

    // The references are shown before the form of a rotation.
    let page = browser.get(&path("rotate")).text();
    assert!(page.find("mcp-server/a").unwrap() < page.find("<textarea").unwrap());

    // A refused delete lists everything that has to be updated.
    guillemet.write("mcp-server/b.toml", TEMPLATE);
    let refused = browser.post(&path("delete"), &[]);
    let page = Page::parse(&refused.text());
    assert_eq!(refused.status, 409);
    assert!(
        page.says("Nothing was deleted") && page.says("mcp-server/a") && page.says("mcp-server/b"),
        "{}",
        page.text
    );
    std::fs::remove_dir_all(guillemet.path("templates")).unwrap();
    // A template that vanished less than two seconds ago may come back.
    let until = Instant::now() + Duration::from_secs(60);
    let page = loop {
        let answer = browser.post(&path("delete"), &[]);
        if answer.status == 303 {
            break browser.page(&answer.headers["location"]);
        }
        assert!(Instant::now() < until, "{}", answer.text());
    };
    assert!(page.says("was deleted."));
    assert_eq!(guillemet.get(&format!("/v1/secrets/{name}")).status, 404);
}

#[test]
fn a_secret_is_renamed_rotated_and_brought_back_without_scripts() {
    let guillemet = Guillemet::start();
    guillemet.write("mcp-server/a.toml", TEMPLATE);
    guillemet.add("mcp-calendar-production", "one");
    let browser = Browser::open(&guillemet);
    let (old, new) = ("mcp-calendar-production", "mcp-calendar-main");
    let path = |name: &str, action: &str| format!("{SECRETS}/{name}/{action}");
    let value = |name: &str| {
        guillemet.post("/v1/resolve", &json!({"secrets": [name]})).json()["secrets"][name].as_str().map(str::to_owned)
    };
    let template = || std::fs::read_to_string(guillemet.path("templates/mcp-server/a.toml")).unwrap();

    // Two operators: the second one's form was made for another state, and is refused as a whole.
    let (mine, theirs) = (browser.page(&path(old, "rotate")), browser.page(&path(old, "rotate")));
    let rotated = browser.done(&path(old, "rotate"), &[("etag", mine.value("etag")), ("value", "two")]);
    assert!(rotated.says("was rotated; its version is 2 now"), "{}", rotated.text);
    let late = browser.post(&path(old, "rotate"), &[("etag", theirs.value("etag")), ("value", "three")]);
    assert_eq!(late.status, 409);
    assert!(Page::parse(&late.text()).says("was changed in the meantime"), "{}", late.text());
    for (action, fields) in [("edit", &[("name", "other")][..]), ("delete", &[]), ("rollback", &[("version", "1")])] {
        let fields = [&[("etag", theirs.value("etag"))], fields].concat();
        let late = browser.post(&path(old, action), &fields);
        assert!(late.status == 409 && late.text().contains("was changed in the meantime"), "{action}: {}", late.text());
    }
    assert_eq!(value(old).as_deref(), Some("two"));

    // Rolls back to the first version; the references are shown before the button.
    let page = browser.page(SECRETS);
    let back = page.all("a").filter_map(|a| a.get("href")).find(|href| href.ends_with("/rollback?version=1")).unwrap();
    assert_eq!(page.all("a").filter(|a| a.get("href").is_some_and(|href| href.contains("/rollback"))).count(), 1);
    let text = browser.get(back).text();
    assert!(text.find("mcp-server/a").unwrap() < text.find("<button class=\"primary\"").unwrap());
    assert_eq!(Page::parse(&text).value("version"), "1");
    let etag = Page::parse(&text).value("etag").to_owned();
    let done = browser.done(&path(old, "rollback"), &[("etag", &etag), ("version", "1")]);
    assert!(done.says("has the value of its version 1 again, as version 3"), "{}", done.text);
    assert_eq!(value(old).as_deref(), Some("one"));
    for version in ["3", "9", "x", ""] {
        assert_eq!(browser.get(&format!("{}?version={version}", path(old, "rollback"))).status, 404, "{version}");
    }

    // After a rename the reference goes on working, and the page says what to update.
    let form = browser.page(&path(old, "edit"));
    let fields = [("etag", form.value("etag")), ("name", new), ("value", ""), ("enabled", "on")];
    let page = browser.done(&path(old, "edit"), &fields);
    assert!(page.says("To update: 1 reference by a former name; it goes on working"), "{}", page.text);
    assert!(
        page.says(&format!("mcp-server/a as {old}")) && page.says(&format!("Former names: {old}")),
        "{}",
        page.text
    );
    assert_eq!(guillemet.get("/v1/render/mcp-server/a").status, 200);
    // Another secret cannot take the former name. The error says which secret has it, and where it is used.
    let taken = browser.post(SECRETS, &[("name", old), ("value", "x")]);
    let page = Page::parse(&taken.text());
    assert_eq!(taken.status, 409);
    assert!(page.says(&format!("former name of `{new}`")) && page.says("mcp-server/a"), "{}", page.text);
    // The templates are rewritten if the box is ticked, even if the name stays the same.
    let form = browser.page(&path(new, "edit"));
    let fields = [("etag", form.value("etag")), ("name", new), ("value", ""), ("enabled", "on"), ("rewrite", "on")];
    let page = browser.done(&path(new, "edit"), &fields);
    assert!(page.says("1 template names it by its new name: mcp-server/a"), "{}", page.text);
    assert_eq!(template(), TEMPLATE.replace(old, new));
    assert_eq!(value(new).as_deref(), Some("one"));

    // The trail shows who asked and what was refused. It can also be found under the former name.
    browser.done(&path(new, "disable"), &[]);
    assert_eq!(value(new), None);
    for name in [new, old] {
        let page = browser.page(&format!("/settings/developers/audit?secret={name}"));
        for text in ["mcp-server/a", "headers.Authorization", "asked for by name", "answered", "disabled", "console"] {
            assert!(page.says(text), "{name}: {text}: {}", page.text);
        }
    }
    let page = browser.page(SECRETS);
    assert!(page.says(&format!("Callers of {new}")) && page.says(&format!("Refusals of {new}")), "{}", page.text);
    let page = browser.page("/settings/developers/audit?secret=not+a+name");
    assert!(page.says("No secret can have that name"), "{}", page.text);
    assert!(browser.page("/settings/developers/audit?secret=other").says("No events match."));
    assert!(browser.page("/settings/developers/audit?offset=99").says("There is nothing here"));
}

#[test]
fn the_table_is_searched_filtered_and_sorted() {
    let guillemet = Guillemet::start();
    guillemet.write("mcp-server/a.toml", TEMPLATE);
    for index in 0..60 {
        guillemet.add(&format!("key-{index:02}"), "x");
    }
    // Names that are also words in paths.
    for name in ["new", "live", "edit"] {
        guillemet.add(name, "x");
    }
    guillemet.set_enabled("key-07", false);
    guillemet.post("/v1/resolve", &json!({"secrets": ["key-33"]}));
    let browser = Browser::open(&guillemet);
    let names = |query: &str| -> Vec<String> {
        let page = browser.page(&format!("{SECRETS}{query}"));
        page.all("tbody").filter_map(|row| Some(row.get("data-name")?.to_owned())).collect()
    };
    assert_eq!(names("").len(), 50);
    assert_eq!(names("?offset=50").len(), 14);
    assert_eq!(names("?query=KEY-1").len(), 10);
    assert_eq!(names("?status=disabled"), ["key-07"]);
    assert_eq!(names("?status=missing"), ["mcp-calendar-production"]);
    assert_eq!(names("?sort=last_used&direction=desc")[0], "key-33");
    assert_eq!(names("?sort=usage&direction=desc")[0], "mcp-calendar-production");
    assert_eq!(names("?sort=name&direction=desc")[0], "new");
    for name in ["new", "live", "edit"] {
        assert!(browser.page(&format!("{SECRETS}/{name}/edit")).says(&format!("Edit {name}")));
    }
    let live = browser.get(&format!("{SECRETS}/live?query=key-33")).json();
    assert_eq!(live["count"], 1);
    assert_eq!(live["secrets"]["key-33"]["status"], "active");
    assert_eq!(live["secrets"]["key-33"]["last_used"], "just now");
}

#[test]
fn templates_are_explained_and_plugins_shown() {
    let guillemet = Guillemet::start();
    guillemet.write("mcp-server/a.toml", TEMPLATE);
    guillemet.write("mcp-server/b.toml", "url = 1\nwhat = << secret \"x\" >>\n");
    let browser = Browser::open(&guillemet);
    let page = browser.page("/settings/developers/templates");
    assert!(page.says("mcp-server/a") && page.says("broken"), "{}", page.text);
    assert!(!page.says("Not templates"), "{}", page.text);
    guillemet.write("mcp-server/notes.txt", "");
    let page = browser.page("/settings/developers/templates");
    assert!(page.says("mcp-server/notes.txt") && page.says("not a template: its name"), "{}", page.text);
    let page = browser.page("/settings/developers/templates/mcp-server/a");
    assert!(page.says("«mcp-calendar-production»"), "{}", page.text);
    let targets: Vec<&str> = page.all("a").filter_map(|a| a.get("href")?.strip_prefix("?target=")).collect();
    assert!(targets.len() > 1, "{targets:?}");
    for target in &targets {
        browser.page(&format!("/settings/developers/templates/mcp-server/a?target={target}"));
    }
    assert_eq!(browser.get("/settings/developers/templates/mcp-server/a?target=none").status, 404);
    let page = browser.page("/settings/developers/templates/mcp-server/b");
    assert!(page.says("what = << secret \"x\" >>"), "{}", page.text);

    let action = "name = 'a'\nmethod = 'GET'\nurl = 'https://a.example'\nparameters = { type = 'object' }\n\
        auth = { type = 'api_key', in = 'query', name = 'k', value = \"<< secret 'k' >>\" }\n";
    guillemet.write("custom-action/a.toml", action);
    guillemet.write("custom-action/b.toml", &format!("targets = ['json', 'curl']\n{action}"));
    for (id, target) in [("a", "json"), ("a", "curl"), ("b", "json"), ("b", "curl")] {
        let page = browser.page(&format!("/settings/developers/templates/custom-action/{id}?target={target}"));
        let times = |text: &str| page.text.matches(text).count();
        assert_eq!(times("puts a secret into the query"), 1, "{id} {target}: {}", page.text);
        // A warning about curl alone: of the template that is meant for it, and of the document for it.
        let is_told = id == "b" || target == "curl";
        assert_eq!(times("curl has no agent that passes them"), usize::from(is_told), "{id} {target}: {}", page.text);
    }
    let page = browser.page("/settings/developers/plugins");
    assert!(page.says("mcp-server") && page.says("built-in"), "{}", page.text);
}

/// Returns the TCP sockets of a process, from its own descriptors: the local address of each, and whether it listens.
fn sockets(pid: u32) -> Option<HashSet<(String, bool)>> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let inodes: HashSet<String> = descriptors
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
        .collect();
    let mut sockets = HashSet::new();
    for table in ["tcp", "tcp6"] {
        for line in std::fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if inodes.contains(fields[9]) {
                sockets.insert((fields[1].to_owned(), fields[3] == "0A"));
            }
        }
    }
    Some(sockets)
}

/// Returns the TCP ports on which a process listens.
fn ports(pid: u32) -> Option<HashSet<String>> {
    let listening = sockets(pid)?.into_iter().filter(|(_, listens)| *listens);
    Some(listening.map(|(address, _)| address).collect())
}

#[test]
fn there_is_no_port_before_a_link_and_only_loopback_after() {
    let guillemet = Guillemet::start();
    let before = ports(guillemet.pid());
    if !missing::has(before.is_some(), "root, to see the daemon's descriptors", "run the tests as root") {
        return;
    }
    let before = before.unwrap();
    assert_eq!(before, HashSet::new());
    let browser = Browser::open(&guillemet);
    let port = format!("{:04X}", browser.port);
    let loopback = HashSet::from([format!("0100007F:{port}"), format!("00000000000000000000000001000000:{port}")]);
    let after = ports(guillemet.pid()).unwrap();
    assert!(!after.is_empty() && after.is_subset(&loopback), "{after:?}");
    // A name under `.localhost` can resolve to either address, so nobody else may listen on the other one.
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        assert_eq!(after, loopback);
    }
}

/// libfaketime sets both of the daemon's clocks forward, because a session ends by itself only after half an hour.
#[test]
fn there_is_no_socket_after_the_last_session() {
    let Some(library) = faketime() else { return };
    let mut guillemet = Guillemet::init();
    let clock = guillemet.path("clock");
    let set = |ahead: &str| {
        std::fs::write(clock.with_extension("new"), ahead).unwrap();
        std::fs::rename(clock.with_extension("new"), &clock).unwrap();
    };
    set("+0");
    let way = [
        "env".to_owned(),
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
        "FAKETIME_NO_CACHE=1".into(),
    ];
    assert!(guillemet.try_run(&way), "{}", guillemet.log());
    let before = sockets(guillemet.pid());
    if !missing::has(before.is_some(), "root, to see the daemon's descriptors", "run the tests as root") {
        return;
    }
    let before = before.unwrap();
    assert_eq!(before, HashSet::new());
    let gone = |when: &str| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !sockets(guillemet.pid()).unwrap().is_empty() {
            assert!(Instant::now() < deadline, "{when} there is a socket: {:?}", sockets(guillemet.pid()));
            std::thread::yield_now();
        }
        assert!(guillemet.log().contains("the console is closed"), "{when}");
    };
    let (first, second) = (Browser::open(&guillemet), Browser::open(&guillemet));
    assert_eq!(first.post("/logout", &[]).status, 200);
    set("+20m");
    // The other session is still valid.
    assert_eq!(second.get(SECRETS).status, 200);
    assert!(!ports(guillemet.pid()).unwrap().is_empty());
    assert_eq!(second.post("/logout", &[]).status, 200);
    gone("after everybody has logged out");

    // Nobody logs out, and the link that nobody followed expires too.
    let _open = Browser::open(&guillemet);
    link(&guillemet);
    assert!(!ports(guillemet.pid()).unwrap().is_empty());
    set("+60m");
    gone("after the last session has rested too long");
    assert_eq!(guillemet.get("/healthz").status, 200);
}

fn faketime() -> Option<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let found = folders.into_iter().map(|folder| Path::new(folder).join("faketime/libfaketimeMT.so.1"));
    let found = found.into_iter().find(|library| library.exists());
    missing::has(found.is_some(), "libfaketime", "`sudo apt-get install faketime`").then_some(found?)
}

/// Reports without waiting whether the other end has closed a connection.
fn is_ended(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    stream.read(&mut [0; 16]).map_or_else(|error| error.kind() != ErrorKind::WouldBlock, |read| read == 0)
}

#[test]
fn another_user_does_not_block_the_console() {
    if !users::can() {
        return;
    }
    let mut guillemet = Guillemet::init();
    let rules = format!("[api]\ngroup = {GROUP}\n[[client]]\nuid = {OTHER}\nadmin = true\n");
    std::fs::write(guillemet.path("guillemet.toml"), rules).unwrap();
    guillemet.run();
    let browser = Browser::open(&guillemet);
    let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, browser.port)).unwrap();
    let mut strangers = as_user(AGENT, || (0..40).map(|_| connect()).collect::<Vec<_>>());
    assert_eq!(browser.get(SECRETS).status, 200);
    // Strangers connected earlier and were disconnected earlier.
    assert!(strangers.iter_mut().all(is_ended));

    // Silent connections of the user itself give way.
    let mut own: Vec<TcpStream> = (0..40).map(|_| connect()).collect();
    assert_eq!(browser.get(SECRETS).status, 200);
    own[0].set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(own[0].read(&mut [0; 16]).unwrap(), 0);

    // Only the user who asks for a link may follow it.
    assert!(is_ended(&mut as_user(OTHER, || {
        let mut stream = connect();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let _ = stream.read(&mut [0; 16]);
        stream
    })));
    let socket = guillemet.path("run/guillemet.sock");
    let link = as_user(OTHER, || try_ask(&socket, "POST", "/v1/console", &[], b"").unwrap().json());
    let url = link["url"].as_str().unwrap();
    assert_eq!(as_user(OTHER, || Browser::at(url).follow(url)).status, 303);
    let mut late = as_user(AGENT, connect);
    assert_eq!(browser.get(SECRETS).status, 200);
    assert!(is_ended(&mut late));
}
