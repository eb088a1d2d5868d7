//! The console in a real Chromium: an operator's day with scripts and without, by keyboard alone, and with assistive
//! settings. Also tries, from a hostile page, what such a page can do.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;

use crate::support::browser::{SECRETS, link};
use crate::support::chromium::{Chromium, axe, keys};
use crate::support::daemon::Guillemet;
use serde_json::{Value, json};

const TEMPLATE: &str = r#"name = "calendar"
url = "https://mcp.example/"
[headers]
Authorization = "Bearer << secret 'mcp-calendar-production' >>"
"#;
const ID: &str = "mcp-server/calendar";
const NAME: &str = "mcp-calendar-production";

fn render(guillemet: &Guillemet) -> (u16, String) {
    let answer = guillemet.get(&format!("/v1/render/{ID}"));
    (answer.status, answer.text())
}

/// Follows a secret from its creation to its deletion. With scripts, the page shows changes by itself; without, it has
/// to be loaded again.
#[expect(clippy::too_many_lines, reason = "one case after the other")]
fn a_day(scripts: bool) {
    let Some(chromium) = Chromium::start(scripts) else { return };
    let guillemet = Guillemet::start();
    guillemet.write(&format!("{ID}.toml"), TEMPLATE);
    let look = || {
        if !scripts {
            chromium.reload();
        }
    };
    chromium.go(&link(&guillemet));
    chromium.sees("1 secret");
    chromium.cell_says(NAME, "status", "missing");
    // Reports whether the page's own script ran.
    let ran = chromium.run("return typeof EVERY === 'number'");
    assert_eq!(ran, scripts);

    // Creates it from the row of the missing name.
    chromium.click(&format!("Create {NAME}"));
    assert_eq!(chromium.value("Name"), NAME);
    chromium.fill("Value", "token-one");
    chromium.click("Create");
    chromium.sees(&format!("{NAME} was created."));
    chromium.cell_says(NAME, "status", "active");
    chromium.cell_says(NAME, "last_used", "Never");

    // After a use, the time of the last use changes.
    let (status, config) = render(&guillemet);
    assert!(status == 200 && config.contains("Bearer token-one"), "{config}");
    look();
    chromium.cell_says(NAME, "last_used", "just now");
    // Another caller disables it, and it is enabled here.
    guillemet.set_enabled(NAME, false);
    look();
    chromium.cell_says(NAME, "status", "disabled");
    chromium.reload();
    chromium.click(&format!("Enable {NAME}"));
    chromium.sees(&format!("{NAME} is enabled."));

    // Shows the references.
    chromium.click(&format!("References and uses of {NAME}"));
    for text in [ID, "headers.Authorization", "1 (current)", "Callers of", "Uses per day"] {
        chromium.sees(text);
    }

    // Renames it: nothing breaks, and the page says what to update. Then updates that too.
    chromium.click(&format!("Edit {NAME}"));
    assert_eq!(chromium.value("Value"), "");
    chromium.fill("Name", "mcp-calendar-main");
    chromium.click("Save");
    chromium.sees("To update: 1 reference by a former name");
    assert_eq!(render(&guillemet).0, 200);
    chromium.click("Edit mcp-calendar-main");
    chromium.tick("Rewrite the templates");
    chromium.click("Save");
    chromium.sees(&format!("1 template names it by its new name: {ID}"));

    // Rotates it, after the page has shown who gets the new value; then rolls it back.
    chromium.click("Rotate mcp-calendar-main");
    chromium.sees("Affected flows");
    chromium.sees(ID);
    chromium.fill("Value", "token-two");
    chromium.click("Rotate");
    chromium.sees("mcp-calendar-main was rotated; its version is 2 now.");
    assert!(render(&guillemet).1.contains("Bearer token-two"));
    chromium.click("References and uses of mcp-calendar-main");
    chromium.click("Go back to version 1 of mcp-calendar-main");
    chromium.click("Go back to version 1");
    chromium.sees("has the value of its version 1 again, as version 3");
    assert!(render(&guillemet).1.contains("Bearer token-one"));

    // Shows the template as it will be filled, and the trail of its uses.
    chromium.click("Templates");
    chromium.click(ID);
    chromium.sees("«mcp-calendar-main»");
    chromium.click("Audit trail");
    chromium.sees("answered");
    chromium.fill("Of the secret", NAME);
    chromium.click("Show");
    chromium.sees("mcp-calendar-main");

    // A delete is refused with the place to update, and succeeds after the update.
    chromium.click("Secrets");
    chromium.click("Delete mcp-calendar-main");
    chromium.click("Delete mcp-calendar-main");
    chromium.sees("Nothing was deleted");
    chromium.sees("headers.Authorization");
    guillemet.write(&format!("{ID}.toml"), &TEMPLATE.replace("<< secret 'mcp-calendar-production' >>", "none"));
    chromium.click("Delete mcp-calendar-main");
    chromium.sees("mcp-calendar-main was deleted.");
    chromium.sees("There are no secrets yet.");

    // After logging out, nothing can be seen.
    chromium.click("Log out");
    chromium.sees("You are logged out.");
    chromium.go(&chromium.url().replace("/logout", SECRETS));
    chromium.sees("There is no session here");
}

#[test]
fn a_day_with_scripts() {
    a_day(true);
}

#[test]
fn a_day_without_scripts() {
    a_day(false);
}

#[test]
fn the_keyboard_is_enough() {
    let Some(chromium) = Chromium::start(true) else { return };
    let guillemet = Guillemet::start();
    chromium.go(&link(&guillemet));
    chromium.press(&[keys::TAB]);
    assert_eq!(chromium.focused(), "Skip to the content");
    let outline = "const at = getComputedStyle(document.activeElement); return at.outlineStyle !== 'none' && \
                   parseFloat(at.outlineWidth) >= 2";
    chromium.tab_to("New Secret");
    assert_eq!(chromium.run(outline), true, "where the focus is has to be seen");
    chromium.press(&[keys::ENTER]);
    chromium.sees("Provider, purpose and environment");
    chromium.tab_to("Name");
    chromium.press(&["k", "e", "y"]);
    chromium.tab_to("Value");
    chromium.press(&["v"]);
    chromium.tab_to("Enabled");
    assert_eq!(chromium.run(outline), true);
    chromium.press(&[keys::SPACE]);
    chromium.tab_to("Create");
    chromium.press(&[keys::ENTER]);
    chromium.sees("key was created.");
    chromium.cell_says("key", "status", "disabled");
    chromium.tab_to("Enable key");
    chromium.press(&[keys::ENTER]);
    chromium.sees("key is enabled.");
    chromium.tab_to("References and uses of key");
    chromium.press(&[keys::ENTER]);
    chromium.sees("No active references yet");
    chromium.tab_to("Delete key");
    chromium.press(&[keys::ENTER]);
    chromium.sees("all its versions will be gone");
    chromium.tab_to("Delete key");
    chromium.press(&[keys::ENTER]);
    chromium.sees("key was deleted.");
}

/// Makes a home that contains something of everything.
fn furnished() -> Guillemet {
    let guillemet = Guillemet::start();
    guillemet.write(&format!("{ID}.toml"), TEMPLATE);
    guillemet.write("mcp-server/broken.toml", "url = 1\nwhat = '<< secret \"x\" >>'\n");
    guillemet.write(
        "sip-trunk/support.toml",
        "host = 'sip.example'\nusername = 'agent'\npassword = \"<< secret 'sip-password-production' >>\"\n",
    );
    guillemet.write("mcp-server/crm.toml", &TEMPLATE.replace("calendar", "crm"));
    guillemet.add(NAME, "token-one");
    guillemet.ask("PATCH", &format!("/v1/secrets/{NAME}"), &[], br#"{"value": "token-two"}"#);
    guillemet.add("sip-password-production", "value");
    guillemet.add("cal-com-booking-staging", "value");
    guillemet.set_enabled("cal-com-booking-staging", false);
    for _ in 0..3 {
        assert_eq!(render(&guillemet).0, 200);
    }
    guillemet.get("/v1/render/mcp-server/crm");
    guillemet.post("/v1/resolve", &json!({"secrets": ["cal-com-booking-staging"]}));
    guillemet
}

/// Returns the problems on this page that axe-core rates serious or critical.
fn violations(chromium: &Chromium, axe: &str) -> Vec<Value> {
    chromium.run(axe);
    let found = chromium.run_async(
        "const done = arguments[arguments.length - 1]; \
         axe.run(document, {resultTypes: ['violations']}).then((found) => done({rules: found.passes.length, \
         violations: found.violations.map(({id, impact, nodes}) => \
         ({id, impact, nodes: nodes.map(({html, failureSummary}) => [html, failureSummary])}))}), \
         (error) => done(String(error)))",
    );
    assert!(found["rules"].as_u64() > Some(5), "axe looked at nothing: {found}");
    let serious = |found: &&Value| ["serious", "critical"].contains(&found["impact"].as_str().unwrap_or_default());
    found["violations"].as_array().unwrap().iter().filter(serious).cloned().collect()
}

#[test]
fn no_page_has_a_serious_mistake_of_accessibility() {
    let (Some(chromium), Some(axe)) = (Chromium::start(true), axe()) else { return };
    let guillemet = furnished();
    chromium.go(&link(&guillemet));
    let own = chromium.url().split_once(SECRETS).unwrap().0.to_owned();
    let pages = [
        SECRETS.to_owned(),
        format!("{SECRETS}?query=nothing"),
        format!("{SECRETS}/new"),
        format!("{SECRETS}/{NAME}/edit"),
        format!("{SECRETS}/{NAME}/rotate"),
        format!("{SECRETS}/{NAME}/rollback?version=1"),
        format!("{SECRETS}/{NAME}/delete"),
        "/settings/developers/templates".into(),
        format!("/settings/developers/templates/{ID}"),
        "/settings/developers/templates/mcp-server/broken".into(),
        "/settings/developers/plugins".into(),
        "/settings/developers/audit".into(),
        "/settings/developers/audit?secret=not+a+name".into(),
        "/nothing".into(),
    ];
    for (dark, width) in [(false, 1200), (true, 1080), (false, 800), (false, 320)] {
        chromium.dark(dark);
        chromium.screen(width, 900);
        for page in &pages {
            chromium.go(&format!("{own}{page}"));
            chromium.run("document.querySelectorAll('details').forEach((details) => { details.open = true })");
            let found = violations(&chromium, &axe);
            assert!(found.is_empty(), "{page}, dark: {dark}, {width} wide: {found:#?}");
            // Nothing needs to be scrolled sideways except what is marked as scrollable.
            let wide =
                chromium.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth");
            assert_eq!(wide, 0, "{page}, {width} wide");
        }
    }
    // A form with a mistake, and a refused deletion.
    chromium.go(&format!("{own}{SECRETS}/new"));
    chromium.fill("Name", "not a name");
    chromium.fill("Value", "x");
    chromium.click("Create");
    chromium.sees("Nothing was saved");
    assert_eq!(violations(&chromium, &axe), Vec::<Value>::new());
    assert_eq!(chromium.value("Name"), "not a name");
    assert_eq!(chromium.value("Value"), "");
    chromium.go(&format!("{own}{SECRETS}/{NAME}/delete"));
    chromium.click(&format!("Delete {NAME}"));
    chromium.sees("Nothing was deleted");
    assert_eq!(violations(&chromium, &axe), Vec::<Value>::new());
    // Proves that the check finds mistakes.
    chromium.run("document.getElementById('main').innerHTML = '<img src=\"x\"><input>'");
    assert!(!violations(&chromium, &axe).is_empty());
}

/// Serves another site on this machine: each page by its path. Returns the port.
fn hostile_site(pages: Vec<(&'static str, String)>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            let _ = BufReader::new(&stream).read_line(&mut line);
            let path = line.split(' ').nth(1).unwrap_or_default();
            let page = pages.iter().find(|(known, _)| *known == path).map_or("", |(_, page)| page);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length";
            let _ = write!(stream, "{head}: {}\r\n\r\n{page}", page.len());
        }
    });
    port
}

#[test]
fn another_site_can_do_nothing_with_a_session() {
    let Some(chromium) = Chromium::start(true) else { return };
    let guillemet = furnished();
    chromium.go(&link(&guillemet));
    let own = chromium.url().split_once("/settings").unwrap().0.to_owned();
    let disable = format!("{own}{SECRETS}/{NAME}/disable");
    // A link for the hostile page that was not followed yet. Logging somebody in as another user would be an attack
    // too.
    let port = hostile_site(vec![
        ("/frame", format!("<p>frame</p><iframe id=it src='{own}{SECRETS}'></iframe>")),
        ("/form", format!("<form method=post action='{disable}'><button>Win a prize</button></form>")),
        ("/visit", format!("<a href='{own}{SECRETS}'>Look</a>")),
        (
            "/fetch",
            format!(
                "<p id=told>asking</p><script>Promise.allSettled([\
                 fetch('{own}{SECRETS}', {{credentials: 'include'}}), \
                 fetch('{disable}', {{method: 'POST', credentials: 'include', mode: 'no-cors', \
                 headers: {{'content-type': 'application/x-www-form-urlencoded'}}, body: 'csrf=x'}})]).then((all) => {{ \
                 told.textContent = all.map((one) => one.status + ' ' + (one.value?.type ?? '')).join(', ') + ' done' }})</script>"
            ),
        ),
        (
            "/script",
            format!(
                "<p id=told>asking</p><script src='{own}/assets/x/console.js' onerror='told.textContent = `no script`'></script>"
            ),
        ),
    ]);
    let evil = format!("http://evil.localhost:{port}");

    chromium.go(&format!("{evil}/frame"));
    chromium.sees("frame");
    // The frame shows the browser's own error page.
    assert_eq!(chromium.framed(), "chrome-error://chromewebdata/");

    chromium.go(&format!("{evil}/form"));
    chromium.click("Win a prize");
    chromium.sees("There is no session here");

    chromium.go(&format!("{evil}/fetch"));
    chromium.sees("done");
    let told = chromium.text();
    assert!(told.contains("rejected") && !told.contains("basic") && !told.contains("cors"), "{told}");

    chromium.go(&format!("{evil}/script"));
    chromium.sees("no script");
    assert_eq!(guillemet.get(&format!("/v1/secrets/{NAME}")).json()["status"], "active");

    // A link from there leads to a page of the console that requests itself again.
    chromium.go(&format!("{evil}/visit"));
    chromium.click("Look");
    chromium.cell_says(NAME, "status", "active");

    // The port under another name is another host, and has no session.
    let port = own.rsplit_once(':').unwrap().1;
    for host in ["localhost", "127.0.0.1", "rebound.localhost"] {
        chromium.go(&format!("http://{host}:{port}{SECRETS}"));
        chromium.sees("this is another host");
    }
    // No script can read the cookie.
    chromium.go(&format!("{own}{SECRETS}"));
    assert_eq!(chromium.run("return document.cookie"), "");
}

/// Makes the pictures of the README: `PICTURES=docs/images cargo test --test it browser:: -- --ignored`.
#[test]
#[ignore = "writes the pictures of the README"]
fn pictures() {
    let chromium = Chromium::start(true).unwrap();
    let guillemet = furnished();
    // Shown as the caller's executable.
    let socket = guillemet.path("run/guillemet.sock");
    for _ in 0..12 {
        let url = format!("http://guillemet/v1/render/{ID}");
        let asked = std::process::Command::new("curl").args(["-sf", "--unix-socket"]).arg(&socket).arg(url).output();
        assert!(asked.unwrap().status.success());
    }
    let folder = PathBuf::from(std::env::var("PICTURES").unwrap());
    std::fs::create_dir_all(&folder).unwrap();
    chromium.go(&link(&guillemet));
    chromium.screen(1080, 640);
    for (name, dark) in [("console-light.png", false), ("console-dark.png", true)] {
        chromium.dark(dark);
        chromium.reload();
        chromium.click(&format!("References and uses of {NAME}"));
        std::fs::write(folder.join(name), chromium.picture()).unwrap();
    }
}
