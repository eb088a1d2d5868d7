//! `adopt` of custom actions: the rendered action describes the same request that curl sends for the original command.
//! A server records both.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::adopt::Adopting;
use crate::support::consumers;
use serde_json::{Value, json};

/// A request as the server saw it, without what curl adds on its own.
#[derive(Debug, PartialEq)]
struct Seen {
    method: String,
    path: String,
    query: Vec<(String, String)>,
    headers: BTreeMap<String, String>,
    body: Value,
}

/// Answers one request on its own port and returns it.
fn serve_one(listener: &TcpListener) -> Seen {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let len = headers.remove("content-length").map_or(0, |len| len.parse().unwrap());
    let mut body = vec![0; len];
    reader.read_exact(&mut body).unwrap();
    reader.get_mut().write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").unwrap();
    headers.remove("host");
    headers.retain(|name, value| {
        !(name == "user-agent" && value.starts_with("curl/") || name == "accept" && value == "*/*")
    });
    let url = url::Url::parse(&format!("http://x{target}")).unwrap();
    let query = url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    Seen { method, path: url.path().to_owned(), query, headers, body }
}

fn request(listener: &TcpListener, mut command: Command) -> Seen {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let seen = serve_one(listener);
    assert!(child.wait().unwrap().success());
    seen
}

/// Returns the curl command that makes the request of a rendered action.
fn of_action(action: &Value) -> Command {
    let mut url = url::Url::parse(action["url"].as_str().unwrap()).unwrap();
    for (name, value) in action["query"].as_object().into_iter().flatten() {
        url.query_pairs_mut().append_pair(name, value.as_str().unwrap());
    }
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-X", action["method"].as_str().unwrap(), "--url", url.as_str()]);
    for (name, value) in action["headers"].as_object().into_iter().flatten() {
        curl.args(["-H", &format!("{name}: {}", value.as_str().unwrap())]);
    }
    if !action["body"].is_null() {
        curl.args(["--data-raw", &action["body"].to_string()]);
    }
    curl
}

/// Adopts a command, makes the original and the rendered request, and checks that they are the same.
#[track_caller]
fn same_request(adopting: &Adopting, listener: &TcpListener, name: &str, command: &str, values: &[&str]) -> Seen {
    let address = listener.local_addr().unwrap().to_string();
    let command = command.replace("HOST", &address);
    let file = adopting.file(&format!("{name}.sh"), &command);
    let ran = adopting.adopt(&file, "custom-action", name, &["--yes", "--replace"]).done();
    ran.never_says(values);
    let after = std::fs::read_to_string(&file).unwrap();
    assert!(!values.iter().any(|value| after.contains(value)), "{after}");
    assert!(after.contains('«'), "{after}");
    let rendered: Value = serde_json::from_str(&adopting.render(&format!("custom-action/{name}"), "json")).unwrap();
    let mut bash = Command::new("bash");
    bash.args(["-c", &command]);
    let plain = request(listener, bash);
    assert_eq!(request(listener, of_action(&rendered)), plain, "{command}\n{rendered:#}");
    plain
}

#[test]
fn the_rendered_action_makes_the_request_of_the_command() {
    if !consumers::has(Path::new("curl"), "`sudo apt-get install curl`") {
        return;
    }
    let adopting = Adopting::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let same = |name: &str, command: &str, values: &[&str]| same_request(&adopting, &listener, name, command, values);

    let seen = same(
        "bearer",
        "# c\n$ curl -sS -X PUT 'http://HOST/a/b?limit=1&api_key=k3y%2F1' \\\n -H \"Authorization: Bearer t0k3n'x\" \\\n -H \
         'Content-Type: application/json' --data-raw '{\"n\": 1.5, \"client_secret\": \"it'\\''s \\u00fc\", \"l\": [null, \
         {}]}'\n"
            .replace("$ curl", "curl")
            .as_str(),
        &["t0k3n'x", "k3y%2F1", "k3y/1", "it's ü"],
    );
    assert_eq!(seen.body["client_secret"], "it's ü");
    let seen = same("basic", "curl http://HOST/ -u 'us:pa:ss w\"ord' -d '[{\"a\": 1}]' -A 'me 1.0'", &["pa:ss w\"ord"]);
    assert_eq!(seen.headers["authorization"], format!("Basic {}", data_encoding::BASE64.encode(b"us:pa:ss w\"ord")));
    assert_eq!(seen.headers["content-type"], "application/x-www-form-urlencoded");
    let seen = same(
        "stripe",
        "curl -G http://HOST/v1 -u sk_test_0123456789abcdef: -d limit=3 -d 'expand=a%20b'",
        &["sk_test_0123"],
    );
    assert_eq!((seen.method.as_str(), seen.query.len()), ("GET", 2));
    same(
        "json",
        "curl --json '{\"password\": \"p4ss\\\\w<< x\"}' http://HOST/x#f -e http://r/ -b 'sid=1; x=y'",
        &["p4ss", "sid=1"],
    );
    same("userinfo", "curl http://us:p%40ss%21@HOST/", &["p%40ss", "p@ss!"]);
    same("url", "curl \"http://HOST/hooks/k3Jd82mNq0PzX7vLwT5y?a=b+c\"", &["k3Jd82mNq0PzX7vLwT5y"]);
    same("plus", "curl 'http://HOST/?token=a+b%2Bc&x=1'", &["a+b%2Bc"]);
    same("joined", "curl -sSXDELETE -HX-Api-Key:s3cret\\;1 --url http://HOST/ --max-time 2.5", &["s3cret;1"]);
    same(
        "twice",
        "curl 'http://HOST/?token=a1b2c3&token=d4e5f6&x=1' -G --data-urlencode 'q=a b&c'",
        &["a1b2c3", "d4e5f6"],
    );
}

#[test]
fn what_a_custom_action_cannot_send_is_named() {
    let adopting = Adopting::start();
    let file = adopting.file(
        "a.sh",
        "curl -F a=b --cert x \"https://x.example/$ID\" \\\n -H \"X-Key: ${KEY}\" --frob 'x' -d 's3cret=1' | jq .\n",
    );
    let before = adopting.state();
    let ran = adopting.adopt(&file, "custom-action", "a", &["--yes"]).refused(&[
        "a.sh:1:6 -F: sends a form with parts",
        "a.sh:1:13 --cert: is a client certificate",
        "a.sh:1:41: `ID` is expanded by the shell",
        "a.sh:2:13: `KEY` is expanded by the shell",
        "a.sh:2:21 --frob: is not supported",
        "a.sh:2:46: `|` starts something other",
    ]);
    ran.never_says(&["s3cret"]);
    for (command, why) in [
        ("curl -I https://x/ -H 'X-Key: s3cret'", "-I: requests only headers"),
        ("curl https://x/ -d 's3cret=1'", "body: is not a JSON object or list"),
        ("curl https://x/ -d @file", "-d: reads the body from a file"),
        ("curl https://x/ -u me", "-u: has no password"),
        ("curl https://x/ https://y/ -H 'X-Key: s3cret'", "names more than one URL"),
        ("curl -X BREW https://x/ -H 'X-Key: s3cret'", "is a method that custom actions do not support"),
        ("curl https://x/ -H 'X-Key: s3cret' -H 'x-key: other'", "is given twice"),
        ("curl -X GET https://x/ -d '{\"token\": \"s3cret\"}'", "body: cannot be used with GET"),
        ("wget https://x/", "does not start with curl, so it was read as YAML"),
        ("curl https://x/ -H 'X-Key: s3cret'\ncurl https://y/\n", "is a second command"),
    ] {
        let file = adopting.file("a.sh", command);
        adopting.adopt(&file, "custom-action", "a", &["--yes"]).refused(&[why]).never_says(&["s3cret"]);
    }
    adopting.file("a.sh", &std::fs::read_to_string(&file).unwrap());
    assert!(adopting.names().is_empty() && before.contains("\"count\":0"), "{before}");
}

#[test]
fn an_action_in_the_shape_of_the_target() {
    let adopting = Adopting::start();
    let action = json!({
        "name": "crm_lookup",
        "description": "Finds << the >> caller",
        "method": "POST",
        "url": "https://api.hubapi.com/search?v=1",
        "headers": {"Authorization": "Basic dXM6cDRzcyE=", "Content-Type": "application/json", "X-Egress": "e9ress-k3y-1"},
        "query": {"hapikey": "h4pi"},
        "body": {"q": "{{caller}}", "n": 7, "none": null},
        "parameters": {"type": "object", "properties": {"caller": {"type": "string"}}},
        "timeout_ms": 8000,
        "signing": {
            "type": "hmac", "algorithm": "sha512", "key": "s1gn", "signature_header": "X-Sig", "timestamp_header": "X-Time",
            "payload": "{timestamp}.{body}", "encoding": "base64"
        },
    });
    let values = ["p4ss!", "dXM6cDRzcyE=", "h4pi", "s1gn", "e9ress-k3y-1"];
    // Both together would be two credentials in one action, so a signed action keeps its header.
    for (index, (text, format)) in
        [(serde_json::to_string_pretty(&action).unwrap(), "json"), (yaml(&action), "yaml")].into_iter().enumerate()
    {
        let file = adopting.file("action", &text);
        let (name, more) = (format!("crm-{index}"), ["--yes", "--replace", "--secret", "headers.X-Egress=egress-key"]);
        let more = if index == 0 { more.to_vec() } else { more[..2].to_vec() };
        let ran = adopting.adopt(&file, "custom-action", &name, &more).done();
        ran.never_says(&values[..4]);
        let after = std::fs::read_to_string(&file).unwrap();
        assert!(!values[..4].iter().any(|value| after.contains(value)), "{after}");
        let rendered: Value = serde_json::from_str(&adopting.render(&format!("custom-action/{name}"), "json")).unwrap();
        let mut expected = action.clone();
        // The query moves to the other parameters, which makes the same request.
        expected["url"] = "https://api.hubapi.com/search".into();
        expected["query"]["v"] = "1".into();
        assert_eq!(rendered, expected, "{text}");
        let template = adopting.template(&format!("custom-action/{name}.{format}"));
        assert!(template.contains("<% raw %>") && template.contains("<< the >> caller"), "{template}");
    }
}

/// Returns the same tree as YAML, with each text in a different style of quotes.
fn yaml(action: &Value) -> String {
    let mut text = String::from("# an action\n");
    for (name, value) in action.as_object().unwrap() {
        match value {
            Value::String(value) => text.push_str(&format!("{name}: '{}'\n", value.replace('\'', "''"))),
            Value::Object(table) => {
                text.push_str(&format!("{name}:\n"));
                for (name, value) in table {
                    match value {
                        Value::String(value) if !value.contains(['{', ':']) => {
                            text.push_str(&format!("  {name}: {value} # plain\n"));
                        }
                        value => text.push_str(&format!("  {name}: {value}\n")),
                    }
                }
            }
            value => text.push_str(&format!("{name}: {value}\n")),
        }
    }
    text
}

#[test]
fn an_operation_of_an_openapi_document() {
    let adopting = Adopting::start();
    let document = "openapi: 3.1.0
info: {title: CRM, version: '1'}
servers:
  - url: https://{region}.crm.example/v2/
    variables: {region: {default: eu}}
security: [{key: []}, {bearer: []}]
paths:
  /contacts/{id}:
    parameters:
      - {name: id, in: path, required: true, schema: {type: string}, description: Whose}
    get:
      operationId: getContact
      summary: One contact
      parameters:
        - name: X-API-Key
          in: header
          schema: {type: string, default: s3cret-key-1}
        - {name: fields, in: query, schema: {type: string, enum: [all]}}
        - {name: since, in: query, required: true, schema: {type: string}}
        - {name: page, in: query, schema: {type: integer}}
    patch:
      requestBody:
        content:
          application/json:
            schema: {type: object, required: [email], properties: {email: {type: string}, api_token: {const: t0k3n}}}
components:
  securitySchemes:
    key: {type: apiKey, in: header, name: X-API-Key}
    bearer: {type: http, scheme: bearer}
";
    let file = adopting.file("crm.yaml", document);
    adopting
        .adopt(&file, "custom-action", "crm", &["--yes"])
        .refused(&["has 2 operations", "choose one with --operation: getContact, PATCH /contacts/{id}"]);
    let ran = adopting.adopt(&file, "custom-action", "crm", &["--yes", "--operation", "getContact"]).done();
    ran.never_says(&["s3cret-key-1"]);
    assert!(ran.stderr.contains("the file has no value for the security scheme `bearer`"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("`key`"), "{}", ran.stderr);
    let rendered: Value = serde_json::from_str(&adopting.render("custom-action/crm", "json")).unwrap();
    assert_eq!(
        rendered,
        json!({
            "name": "getContact",
            "description": "One contact",
            "method": "GET",
            "url": "https://eu.crm.example/v2/contacts/{{id}}",
            "headers": {"X-API-Key": "s3cret-key-1"},
            "query": {"fields": "all", "since": "{{since}}"},
            "parameters": {
                "type": "object",
                "properties": {"since": {"type": "string"}, "id": {"type": "string", "description": "Whose"}},
                "required": ["since", "id"],
            },
        })
    );
    let more = ["--yes", "--operation", "patch /contacts/{id}", "--replace"];
    adopting.adopt(&file, "custom-action", "crm-patch", &more).done().never_says(&["t0k3n"]);
    let rendered: Value = serde_json::from_str(&adopting.render("custom-action/crm-patch", "json")).unwrap();
    assert_eq!(rendered["body"], json!({"email": "{{email}}", "api_token": "t0k3n"}));
    assert_eq!(rendered["headers"], json!({"Content-Type": "application/json"}));
    let after = std::fs::read_to_string(&file).unwrap();
    assert_eq!(after, document.replace("t0k3n", "\"«crm-api-token-prod»\""));
}
