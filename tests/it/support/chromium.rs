//! A real Chromium, driven through its WebDriver (W3C WebDriver, level 2) as a person uses it: things to click are
//! found by their text, and fields by their label.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use serde_json::{Value, json};

use guillemet_testing::missing;

/// The longest time to wait until something shows.
const PATIENCE: Duration = Duration::from_secs(30);
/// The key of an element's reference in the protocol.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with its own profile. Both end when it is dropped.
pub struct Chromium {
    driver: Child,
    port: u16,
    session: String,
    _profile: tempfile::TempDir,
}

/// Codes of keys that are not letters.
pub mod keys {
    pub const TAB: &str = "\u{e004}";
    pub const ENTER: &str = "\u{e007}";
    pub const SPACE: &str = " ";
}

/// Reports whether a program that `make test` installs works. If not, the test is reported as skipped.
fn has(program: &str, package: &str) -> bool {
    let works = Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success());
    missing::has(works, program, &format!("`sudo apt-get install {package}`"))
}

/// Returns the axe script, which finds accessibility problems.
pub fn axe() -> Option<String> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/axe/node_modules/axe-core/axe.min.js");
    let script = std::fs::read_to_string(file).ok();
    let is_there = missing::has(script.is_some(), "axe-core", "`npm ci --prefix tests/axe`");
    script.filter(|_| is_there)
}

/// Reports whether an element has gone because its page was replaced. During the replacement, Chromium's error differs
/// from the standard's.
fn went_away(error: &Value) -> bool {
    error["error"] == "stale element reference"
        || error["error"] == "unknown error" && error["message"].as_str().unwrap().contains("ode with given id")
}

/// Returns the XPath of the field with a label.
fn labelled(label: &str) -> String {
    format!("//*[@id=//label[normalize-space(.)='{label}']/@for]")
}

impl Chromium {
    /// Starts a browser, or returns `None` if it is not installed. `scripts` says whether pages may run scripts.
    pub fn start(scripts: bool) -> Option<Self> {
        if !has("chromium", "chromium") || !has("chromedriver", "chromium-driver") {
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines
            .find_map(|line| {
                line.unwrap().split_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok()
            })
            .unwrap();
        // The rest of the output is read and dropped, so that the driver never blocks on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let content = if scripts { 1 } else { 2 };
        let options = json!({
            "args": [
                "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--window-size=1200,900", format!("--user-data-dir={}", profile.path().display()),
            ],
            "prefs": {"profile.managed_default_content_settings.javascript": content},
        });
        let mut chromium = Self { driver, port, session: String::new(), _profile: profile };
        let session =
            chromium.call("POST", "", &json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}));
        chromium.session = format!("/{}", session.unwrap()["sessionId"].as_str().unwrap());
        // Every search for an element waits this long for it.
        let times = json!({"implicit": PATIENCE.as_millis() as u64, "script": PATIENCE.as_millis() as u64});
        chromium.call("POST", "/timeouts", &times).unwrap();
        Some(chromium)
    }

    /// Sends one command of the protocol.
    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, Value> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let (port, length, session) = (self.port, body.len(), &self.session);
        let head = format!(
            "{method} /session{session}{path} HTTP/1.1\r\nhost: localhost:{port}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).unwrap();
        // The driver keeps the connection open even if it is asked to close it.
        let mut answer = BufReader::new(stream);
        let (mut line, mut length) = (String::new(), 0);
        answer.read_line(&mut line).unwrap();
        let done = line.contains(" 200 ");
        while line.trim() != "" {
            line.clear();
            answer.read_line(&mut line).unwrap();
            if let Some(("content-length", value)) = line.to_ascii_lowercase().split_once(':') {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        answer.read_exact(&mut body).unwrap();
        let mut told: Value = serde_json::from_slice(&body).unwrap();
        if done { Ok(told["value"].take()) } else { Err(told["value"].take()) }
    }

    fn must(&self, method: &str, path: &str, body: Value) -> Value {
        let done = self.call(method, path, &body);
        done.unwrap_or_else(|error| panic!("{path} {body}: {}: {}", error["error"], error["message"]))
    }

    /// Goes to a page and waits until it has loaded.
    pub fn go(&self, url: &str) {
        self.must("POST", "/url", json!({"url": url}));
    }

    /// Returns the URL of the current page.
    pub fn url(&self) -> String {
        self.must("GET", "/url", json!({})).as_str().unwrap().to_owned()
    }

    /// Loads the current page again.
    pub fn reload(&self) {
        self.must("POST", "/refresh", json!({}));
    }

    /// Returns the element that an XPath finds, once it exists.
    fn find(&self, xpath: &str) -> Value {
        let found = self.call("POST", "/element", &json!({"using": "xpath", "value": xpath}));
        found.unwrap_or_else(|_| panic!("there is no {xpath} at {}: {}", self.url(), self.text()))
    }

    /// Sends a command to the element that an XPath finds, once it exists. If the page goes away in between, the
    /// command did nothing, so it is sent again.
    fn of(&self, xpath: &str, method: &str, command: &str, body: &Value) -> Value {
        loop {
            let found = self.find(xpath);
            let element = found[ELEMENT].as_str().unwrap();
            match self.call(method, &format!("/element/{element}/{command}"), body) {
                Ok(done) => return done,
                Err(error) if went_away(&error) => {}
                Err(error) => panic!("{command} of {xpath}: {}", error["message"]),
            }
        }
    }

    /// Clicks the link or button with exactly this text, once it exists.
    pub fn click(&self, text: &str) {
        let path = format!("//*[(self::a or self::button or self::summary) and normalize-space(.)='{text}']");
        self.of(&path, "POST", "click", &json!({}));
    }

    /// Types a text into the field with this label, in place of its content.
    pub fn fill(&self, label: &str, text: &str) {
        self.of(&labelled(label), "POST", "clear", &json!({}));
        self.of(&labelled(label), "POST", "value", &json!({"text": text}));
    }

    /// Toggles the checkbox with this label.
    pub fn tick(&self, label: &str) {
        self.of(&labelled(label), "POST", "click", &json!({}));
    }

    /// Returns the value of the field with this label.
    pub fn value(&self, label: &str) -> String {
        let value = self.of(&labelled(label), "GET", "property/value", &json!({}));
        value.as_str().unwrap().to_owned()
    }

    /// Presses keys, wherever the focus is.
    pub fn press(&self, keys: &[&str]) {
        let actions: Vec<Value> = keys
            .iter()
            .flat_map(|key| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})])
            .collect();
        self.must("POST", "/actions", json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}));
    }

    /// Returns the label of the element that has the focus, or its text.
    pub fn focused(&self) -> String {
        self.run("const at = document.activeElement; return at.labels?.[0]?.textContent ?? at.textContent")
            .as_str()
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Presses the Tab key until the element with this text has the focus.
    pub fn tab_to(&self, text: &str) {
        let mut met = Vec::new();
        for _ in 0..60 {
            self.press(&[keys::TAB]);
            let focused = self.focused();
            if focused == text {
                return;
            }
            met.push(focused);
        }
        panic!("the Tab key does not lead to {text}, but to {met:?}");
    }

    /// Waits until a text is visible.
    pub fn sees(&self, text: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let shown = self.text();
            if shown.contains(text) {
                return;
            }
            assert!(Instant::now() < until, "{text:?} does not show: {shown}");
        }
    }

    /// Returns the visible text, with white space collapsed.
    pub fn text(&self) -> String {
        let text = self.of("//body", "GET", "text", &json!({}));
        text.as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Waits until a cell of a row shows this text.
    pub fn cell_says(&self, row: &str, cell: &str, text: &str) {
        let path = format!("//tbody[@data-name='{row}']//*[@data-cell='{cell}'][normalize-space(.)='{text}']");
        self.find(&path);
    }

    /// Runs a script in the page. Returns its result.
    pub fn run(&self, script: &str) -> Value {
        self.must("POST", "/execute/sync", json!({"script": script, "args": []}))
    }

    /// Runs a script that passes its result to its last argument, a function.
    pub fn run_async(&self, script: &str) -> Value {
        self.must("POST", "/execute/async", json!({"script": script, "args": []}))
    }

    /// Returns the address of the page in the first frame.
    pub fn framed(&self) -> String {
        self.must("POST", "/frame", json!({"id": 0}));
        let address = self.run("return location.href");
        self.must("POST", "/frame", json!({"id": null}));
        address.as_str().unwrap().to_owned()
    }

    /// Sends a command of the browser's own protocol.
    fn devtools(&self, command: &str, parameters: Value) {
        self.must("POST", "/goog/cdp/execute", json!({"cmd": command, "params": parameters}));
    }

    /// Switches the preferred color scheme to dark or to light.
    pub fn dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        self.devtools(
            "Emulation.setEmulatedMedia",
            json!({"features": [{"name": "prefers-color-scheme", "value": value}]}),
        );
    }

    /// Sets the size of the screen in CSS pixels.
    pub fn screen(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// Returns a screenshot as PNG.
    pub fn picture(&self) -> Vec<u8> {
        let picture = self.must("GET", "/screenshot", json!({}));
        BASE64.decode(picture.as_str().unwrap().as_bytes()).unwrap()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Ends the browser first, then its driver.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.call("DELETE", "", &Value::Null)));
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
