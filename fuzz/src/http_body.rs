//! Requests of the API: what is accepted is what was sent, every refusal has the same form, and no refusal contains a
//! value.

use std::collections::BTreeSet;

use guillemet_daemon::api::request as api_request;
use guillemet_daemon::api::request::BodyFields;
use guillemet_daemon::api::routes::ROUTES;
use guillemet_daemon::http::error::{HttpError, HttpErrorCode};
use guillemet_daemon::http::request::{self, RequestUrl};
use guillemet_http::error::ErrorTable as _;
use guillemet_http::router::{RouteMatch, Router};
use guillemet_secret::record::VALUE_MAX;
use http_body_util::BodyExt;
use serde_json::{Map, Value};

/// The first byte selects how the others are read.
pub fn holds(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    if kind % 2 == 0 {
        body(rest);
    } else if let Ok(target) = std::str::from_utf8(rest) {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        paths(path);
        queries(query);
    }
}

fn paths(path: &str) {
    let router = Router::new(&ROUTES);
    for method in ["GET", "POST", "PATCH", "DELETE", "PUT"] {
        match router.find(method, path) {
            RouteMatch::Endpoint(endpoint, params) => {
                assert!(ROUTES.iter().any(|(known, _, leads)| *known == method && *leads == endpoint));
                let sent: Vec<_> = params.iter().map(|(name, raw)| (name.to_owned(), raw.to_owned())).collect();
                let url = RequestUrl::new(params, None);
                for (name, raw) in sent {
                    param(&url, &name, &raw);
                }
            }
            RouteMatch::OtherMethods(methods) => assert!(!methods.split(", ").any(|known| known == method)),
            RouteMatch::Nothing => {}
        }
    }
}

/// A parameter of the path is read as every client means it, and is a name only if it is a valid one.
fn param(url: &RequestUrl<'_>, name: &str, raw: &str) {
    assert!(!raw.contains('/'));
    match url.param(name) {
        Ok(text) => assert_eq!(text.as_bytes(), percent_decoded(raw)),
        Err(error) => {
            refusal(&error);
            assert!(std::str::from_utf8(&percent_decoded(raw)).is_err());
        }
    }
    if name != "name" {
        return;
    }
    match url.secret_name() {
        Ok(name) => assert_eq!(name.as_str().as_bytes(), percent_decoded(raw)),
        Err(error) => refusal(&error),
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let (mut rest, mut out) = (text.as_bytes(), Vec::new());
    while let Some((b, behind)) = rest.split_first() {
        let digits =
            (*b == b'%').then(|| behind.get(..2)).flatten().filter(|two| two.iter().all(u8::is_ascii_hexdigit));
        match digits {
            Some(two) => {
                out.push(u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap());
                rest = &behind[2..];
            }
            None => {
                out.push(*b);
                rest = behind;
            }
        }
    }
    out
}

fn queries(raw: Option<&str>) {
    const KNOWN: [&str; 4] = ["limit", "offset", "query", "status"];
    match request::query(raw, KNOWN) {
        // The same pairs as a browser's parser sees.
        Ok(found) => {
            let mut pairs: Vec<_> = url::form_urlencoded::parse(raw.unwrap_or_default().as_bytes()).collect();
            pairs.sort();
            let found = KNOWN.iter().zip(&found).filter_map(|(name, value)| Some((*name, value.as_deref()?)));
            assert!(found.eq(pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))));
        }
        Err(error) => refusal(&error),
    }
    match api_request::inventory(raw) {
        Ok(filter) => {
            let [limit, offset, text, _] = request::query(raw, KNOWN).expect("it was read before");
            assert_eq!(filter.query, text);
            let most = limit.map_or(100, |limit| limit.parse().unwrap());
            assert!((1..=1000).contains(&most));
            assert_eq!(filter.limit, Some(most));
            assert_eq!(filter.offset, offset.map_or(0, |offset| offset.parse().unwrap()));
        }
        Err(error) => refusal(&error),
    }
    if let Ok(page) = api_request::page(raw) {
        let shown = page.of((0..2000).collect());
        assert_eq!(shown.count, 2000);
        assert!(shown.items.len() <= 1000);
    }
    for outcome in [api_request::page(raw).err(), request::query(raw, []).err(), request::query(raw, ["target"]).err()]
    {
        outcome.iter().for_each(refusal);
    }
}

fn body(bytes: &[u8]) {
    let create = create(bytes);
    if let Err(error) = &create {
        refusal(error);
    }
    for error in [resolve(bytes).err(), change(bytes).err(), rollback(bytes).err()].iter().flatten() {
        refusal(error);
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(sent)) => {
            if create.is_ok() {
                exactly(&sent, &["name", "value", "enabled"]);
            }
            blind(&sent);
        }
        Ok(_) => assert!(create.is_err()),
        // The message contains two numbers and nothing of what was sent.
        Err(broken) => {
            let told = answer(&create.expect_err("it is not JSON"));
            let place = format!("the body is not valid JSON: line {}, column {}", broken.line(), broken.column());
            assert_eq!(told["message"], place);
            assert!(told.get("errors").is_none());
        }
    }
}

/// Reads a new secret as the endpoint does.
fn create(bytes: &[u8]) -> Result<(), HttpError> {
    let mut fields = BodyFields::read(bytes)?;
    let (name, value) = (fields.name("name"), fields.value("value"));
    let _ = fields.flag("enabled");
    fields.finish()?;
    let (sent, value): (Value, _) = (serde_json::from_slice(bytes).unwrap(), value.expect("or a refusal"));
    assert_eq!(sent["name"], name.expect("or a refusal").as_str());
    assert_eq!(sent["value"], value.as_str());
    assert!((1..=VALUE_MAX).contains(&value.len()));
    Ok(())
}

/// Reads a change as the endpoint does: a field that is absent or null leaves things as they are, and so does an empty
/// value.
fn change(bytes: &[u8]) -> Result<(), HttpError> {
    let mut fields = BodyFields::read(bytes)?;
    let (name, value) = (fields.optional_name("name"), fields.optional_value("value"));
    let flags = [fields.flag("enabled"), fields.flag("rewrite")];
    fields.finish()?;
    let sent: Value = serde_json::from_slice(bytes).unwrap();
    assert_eq!(sent["name"].as_str(), name.as_ref().map(|name| name.as_str()));
    assert_eq!(sent["value"].as_str().filter(|sent| !sent.is_empty()), value.as_ref().map(|value| value.as_str()));
    assert!(value.is_none_or(|value| value.len() <= VALUE_MAX));
    assert_eq!([sent["enabled"].as_bool(), sent["rewrite"].as_bool()], flags);
    Ok(())
}

/// Reads the wanted version as the endpoint does.
fn rollback(bytes: &[u8]) -> Result<(), HttpError> {
    let mut fields = BodyFields::read(bytes)?;
    let version = fields.number("version");
    fields.finish()?;
    let sent: Value = serde_json::from_slice(bytes).unwrap();
    assert_eq!(sent["version"].as_u64(), version.map(u64::from));
    assert!(version.is_some_and(|version| version > 0));
    Ok(())
}

/// Reads the names to resolve as the endpoint does.
fn resolve(bytes: &[u8]) -> Result<(), HttpError> {
    let mut fields = BodyFields::read(bytes)?;
    let names = fields.names("secrets");
    fields.finish()?;
    let keys: BTreeSet<String> = names.iter().map(|name| name.key()).collect();
    assert!((1..=1000).contains(&names.len()));
    assert_eq!(keys.len(), names.len(), "each once");
    let sent: Value = serde_json::from_slice(bytes).unwrap();
    let wanted = sent["secrets"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_ascii_lowercase());
    assert_eq!(keys, wanted.collect());
    Ok(())
}

fn exactly(sent: &Map<String, Value>, known: &[&str]) {
    assert!(sent.keys().all(|key| known.contains(&key.as_str())), "a field nobody asked for was taken");
}

/// Checks that another text of the same length gets the same response, as long as it is wrong in the same way.
fn blind(sent: &Map<String, Value>) {
    let Some(Value::String(value)) = sent.get("value") else { return };
    let mut other = sent.clone();
    other["value"] = "x".repeat(value.len()).into();
    let told = |sent: &Map<String, Value>| {
        let bytes = serde_json::to_vec(sent).unwrap();
        [create(&bytes), resolve(&bytes)].map(|outcome| outcome.err().map(|error| answer(&error)))
    };
    assert_eq!(told(sent), told(&other), "an answer depends on a value");
}

/// Checks the one form that every error has.
fn refusal(error: &HttpError) {
    let told = answer(error);
    let status = error.response().status().as_u16();
    let code = told["code"].as_str().unwrap();
    assert!(HttpErrorCode::ALL.iter().any(|(_, known, number)| *known == code && *number == status));
    assert!(!told["message"].as_str().unwrap().is_empty());
    assert!(!told["message"].as_str().unwrap().contains(char::is_control));
    for entry in told.get("errors").iter().flat_map(|errors| errors.as_array().unwrap()) {
        assert!(entry["field"].is_string() && entry["message"].is_string());
    }
}

fn answer(error: &HttpError) -> Value {
    let body = super::now(error.response().into_body().collect()).unwrap().to_bytes();
    serde_json::from_slice(&body).expect("an error is JSON")
}
