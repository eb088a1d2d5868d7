//! Rendered custom actions, sent by their consumers: `curl -K`, and a client for the target `json` that signs requests.
//! A server records each request byte for byte, and accepts only the right credentials.
//!
//! Every value arrives exactly, or is refused for the reason that makes it impossible.

use std::path::Path;
use std::process::Command;

use crate::support::consumers::{Rotating, has, judge, python, run_script};
use crate::support::passwords::{SEED, passwords};
use crate::support::recorder::{Recorder, Request};
use data_encoding::{BASE64, HEXLOWER};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};

/// Returns an action with the value in every place of a request.
fn everywhere(url: &str) -> String {
    format!(
        "name: everywhere\ndescription: |\n  url = \"{url}/evil\"\n  \"\nmethod: POST\n\
         url: {url}/everywhere/<< secret 'number' | url >>?a=%22\nheaders:\n  X-Key: << secret 'password' >>\n\
         query_params:\n  k&: << secret 'password' >>\n  l: 'a \"b\"\\&='\nbody:\n  text: << secret 'password' >>\n  \
         deep: [{{ in: 'x<< secret 'password' >>\"\\' }}, 1, true, \"\"]\nauth:\n  type: bearer\n  \
         token: << secret 'password' >>\n"
    )
}

fn basic(url: &str) -> String {
    format!(
        "name: basic\nmethod: DELETE\nurl: {url}/basic/<< secret 'number' | url >>\nauth:\n  type: basic\n  \
         username: 'agent \"1\"'\n  password: << secret 'password' >>\n"
    )
}

/// Returns the value for the number at the end of the path.
fn value_of<'a>(request: &Request, values: &'a [String]) -> Option<&'a String> {
    values.get(request.path().rsplit('/').next()?.parse::<usize>().ok()?)
}

/// Checks a request against `everywhere`, ignoring what the client adds on its own.
fn is_everywhere(request: &Request, number: usize, value: &str) -> Result<(), String> {
    let own = ["host", "user-agent", "accept", "accept-encoding", "content-length"];
    let mut headers = request.headers.clone();
    headers.retain(|(name, _)| !own.contains(&name.to_ascii_lowercase().as_str()));
    headers.sort();
    let expected = [
        ("Authorization".to_owned(), format!("Bearer {value}")),
        ("Content-Type".into(), "application/json".into()),
        ("X-Key".into(), value.into()),
    ];
    let query = [("a".to_owned(), "\"".to_owned()), ("k&".into(), value.into()), ("l".into(), "a \"b\"\\&=".into())];
    let body = json!({"text": value, "deep": [{"in": format!("x{value}\"\\")}, 1, true, ""]});
    let checks = [
        ("method", request.method == "POST"),
        ("path", request.path() == format!("/everywhere/{number}")),
        ("query", request.query() == query && !request.target.contains(['+', ' '])),
        ("headers", headers == expected),
        ("body", serde_json::from_slice::<Value>(&request.body).is_ok_and(|found| found == body)),
    ];
    match checks.iter().find(|(_, holds)| !holds) {
        Some((what, _)) => Err(format!("the {what} of {request:?}, body {}", String::from_utf8_lossy(&request.body))),
        None => Ok(()),
    }
}

/// Reports whether the request has the credentials of its number.
fn is_basic(request: &Request, values: &[String]) -> bool {
    let given = request.header("Authorization").and_then(|value| value.strip_prefix("Basic "));
    let decoded = given.and_then(|given| BASE64.decode(given.as_bytes()).ok());
    value_of(request, values).is_some_and(|value| decoded == Some(format!("agent \"1\":{value}").into_bytes()))
}

/// Returns why a value cannot be used in `everywhere`.
fn necessary(target: &str, value: &str) -> &'static [&'static str] {
    if target == "json" && value.contains("{{") {
        &["would expand `{{…}}`"]
    } else if value.starts_with(' ') || value.ends_with(' ') {
        &["cannot start or end with a space"]
    } else {
        &[]
    }
}

#[test]
fn curl_sends_every_value_as_it_is() {
    let curl = Path::new("curl");
    if !has(curl, "`sudo apt-get install curl`") {
        return;
    }
    let values = passwords();
    let known = values.clone();
    let server = Recorder::start(move |request| match request.path().starts_with("/basic/") {
        true if !is_basic(request, &known) => 401,
        _ => 200,
    });
    let (everywhere, basic) = (everywhere(&server.url), basic(&server.url));
    let rotating =
        Rotating::start(&[("custom-action/everywhere.yaml", &everywhere), ("custom-action/basic.yaml", &basic)]);
    let call = |config: &[u8]| call(curl, &rotating, config);
    let (mut sent, mut last) = (0, Vec::new());
    for (number, value) in values.iter().enumerate() {
        rotating.rotate(number, value);
        let place = format!("seed {SEED:#x}, value {number} {value:?}");
        let rendered = rotating.render("custom-action/everywhere", "curl");
        if let Some(config) = judge(rendered, necessary("curl", value), number, value, "curl") {
            assert_eq!(call(&config), "200", "{place}");
            let requests = server.take();
            assert_eq!(requests.len(), 1, "{place}");
            is_everywhere(&requests[0], number, value).unwrap_or_else(|what| panic!("{place}: {what}"));
            // The JSON has no extra spaces, and its bytes are those of the file.
            let body = json!({"text": value, "deep": [{"in": format!("x{value}\"\\")}, 1, true, ""]});
            assert_eq!(String::from_utf8_lossy(&requests[0].body), body.to_string(), "{place}");
            sent += 1;
        }
        // Base64 takes every value.
        let config = judge(rotating.render("custom-action/basic", "curl"), &[], number, value, "curl").unwrap();
        assert_eq!(call(&config), "200", "{place}");
        assert_eq!(server.take()[0].method, "DELETE", "{place}");
        last = config;
    }
    assert!(sent > values.len() * 3 / 4, "only {sent} were rendered");
    let spoiled = String::from_utf8(last).unwrap().replace(&format!("/basic/{}", values.len() - 1), "/basic/0");
    assert_eq!(call(spoiled.as_bytes()), "401", "the server took another value");
}

/// A webhook whose URL is the secret. curl would read braces and brackets in it as patterns.
#[test]
fn curl_takes_a_url_as_it_is() {
    let curl = Path::new("curl");
    if !has(curl, "`sudo apt-get install curl`") {
        return;
    }
    let server = Recorder::start(|_| 200);
    let template = "name: hook\nmethod: POST\nurl: << secret 'password' >>\nbody: { a: 1 }\n";
    let rotating = Rotating::start(&[("custom-action/hook.yaml", template)]);
    for (number, target) in ["/a?b={c,d}[1-3]", "/%22%5C/x?q=%25+$HOME;'`", "/T00/B00/x#y"].into_iter().enumerate() {
        rotating.rotate(number, &format!("{}{target}", server.url));
        let rendered = rotating.render("custom-action/hook", "curl");
        let necessary: &[&str] = if target.contains('`') { &["a URL cannot contain"] } else { &[] };
        let Some(config) = judge(rendered, necessary, number, target, "curl") else { continue };
        assert_eq!(call(curl, &rotating, &config), "200", "{target}");
        let requests = server.take();
        assert_eq!(requests.len(), 1, "{target}");
        assert_eq!(requests[0].target, target.split('#').next().unwrap());
    }
}

/// Makes the request of a config file with curl, which ignores the machine's own configuration. Returns the status.
fn call(curl: &Path, rotating: &Rotating, config: &[u8]) -> String {
    let file = rotating.guillemet.path("action.curlrc");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(curl);
    command.args(["-q", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-K"]).arg(&file);
    let output = command.env_remove("http_proxy").env("no_proxy", "*").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The ways to sign a request: path, algorithm, encoding, and the rest of `auth`.
const SIGNED: [(&str, &str, &str, &str); 3] = [
    ("sha256", "sha256", "hex", "timestamp_header: X-Time\n  payload: 'v0:{timestamp}:{method}:{path}:{body}'"),
    ("sha512", "sha512", "base64", "timestamp_header: X-Time"),
    ("sha1", "sha1", "hex", "payload: '{body}'"),
];

fn signed(url: &str, (path, algorithm, encoding, more): (&str, &str, &str, &str)) -> String {
    format!(
        "name: signed\nmethod: PUT\nurl: {url}/{path}/<< secret 'number' | url >>\nquery_params:\n  q: 'a b&c'\n\
         body:\n  text: '{{timestamp}} {{body}} ü'\nauth:\n  type: hmac\n  algorithm: {algorithm}\n  \
         encoding: {encoding}\n  key: << secret 'password' >>\n  signature_header: X-Signature\n  {more}\n"
    )
}

fn mac<M: Mac + hmac::digest::KeyInit>(key: &str, payload: &[u8]) -> Vec<u8> {
    let mut mac = <M as Mac>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(payload);
    mac.finalize().into_bytes().to_vec()
}

/// Verifies a signature as a server does that follows a written specification.
fn is_signed(request: &Request, values: &[String]) -> bool {
    let (Some(key), Some(given)) = (value_of(request, values), request.header("X-Signature")) else { return false };
    let time = request.header("X-Time").unwrap_or_default();
    let timed = |body: &[u8]| [time.as_bytes(), b".", body].concat();
    match request.path().split('/').nth(1) {
        Some("sha256") => {
            let payload = [format!("v0:{time}:PUT:{}:", request.target).as_bytes(), &request.body].concat();
            given == HEXLOWER.encode(&mac::<Hmac<sha2::Sha256>>(key, &payload))
        }
        Some("sha512") => given == BASE64.encode(&mac::<Hmac<sha2::Sha512>>(key, &timed(&request.body))),
        Some("sha1") => given == HEXLOWER.encode(&mac::<Hmac<sha1::Sha1>>(key, &request.body)),
        _ => false,
    }
}

#[test]
fn a_client_sends_and_signs_with_every_value() {
    let Some(python) = python() else { return };
    let values = passwords();
    let known = values.clone();
    let server = Recorder::start(move |request| {
        let good = match request.path().split('/').nth(1) {
            Some("everywhere") => true,
            Some("basic") => is_basic(request, &known),
            _ => is_signed(request, &known),
        };
        if good { 200 } else { 401 }
    });
    let mut templates = vec![
        ("custom-action/everywhere.yaml".to_owned(), everywhere(&server.url)),
        ("custom-action/basic.yaml".to_owned(), basic(&server.url)),
    ];
    for how in SIGNED {
        templates.push((format!("custom-action/{}.yaml", how.0), signed(&server.url, how)));
    }
    let templates: Vec<(&str, &str)> = templates.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let rotating = Rotating::start(&templates);
    let mut rendered: Vec<(usize, &str, String)> = Vec::new();
    for (number, value) in values.iter().enumerate() {
        rotating.rotate(number, value);
        for action in ["everywhere", "basic", "sha256", "sha512", "sha1"] {
            let reasons: &[&str] = match action {
                "everywhere" => necessary("json", value),
                "basic" => &[],
                _ if value.contains("{{") => &["would expand `{{…}}`"],
                _ => &[],
            };
            let document = rotating.render(&format!("custom-action/{action}"), "json");
            if let Some(document) = judge(document, reasons, number, value, action) {
                let document = String::from_utf8(document).unwrap();
                if action.starts_with("sha") {
                    key_stands_once(&document, value);
                }
                rendered.push((number, action, document));
            }
        }
    }
    assert!(rendered.len() > values.len() * 4, "only {} were rendered", rendered.len());

    let documents: Value = rendered.iter().map(|(.., document)| document.as_str()).collect();
    let answers = run_script(&python, "action_client.py", &documents);
    let requests = server.take();
    assert_eq!(requests.len(), rendered.len());
    for (((number, action, _), status), request) in rendered.iter().zip(answers.as_array().unwrap()).zip(&requests) {
        let place = format!("seed {SEED:#x}, value {number} {:?}, {action}", values[*number]);
        assert_eq!(status, 200, "{place}: {request:?}");
        if *action == "everywhere" {
            is_everywhere(request, *number, &values[*number]).unwrap_or_else(|what| panic!("{place}: {what}"));
        }
    }

    // Proves that the server refuses: each kind of credentials with those of another number.
    let of = |action: &str| rendered.iter().find(|(_, known, _)| *known == action).unwrap();
    for action in ["basic", "sha256", "sha512", "sha1"] {
        let (number, _, document) = of(action);
        let spoiled = document.replace(&format!("/{action}/{number}"), &format!("/{action}/{}", number + 1));
        let answers = run_script(&python, "action_client.py", &json!([spoiled]));
        assert_eq!(answers, json!([401]), "{action}: the server took another value");
    }
}

/// Checks that the key of a signature is in a field of `signing`, and nowhere else in the document.
fn key_stands_once(document: &str, key: &str) {
    let mut action: Value = serde_json::from_str(document).unwrap();
    assert_eq!(action["signing"]["key"], key);
    action["signing"]["key"] = "".into();
    let quoted = Value::from(key).to_string();
    assert!(key.len() < 12 || !action.to_string().contains(&quoted[1..quoted.len() - 1]), "{document}");
}
