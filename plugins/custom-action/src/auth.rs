//! The authentication of a request: bearer token, basic, API key or HMAC signature.

use guillemet_plugin::http::is_token;
use guillemet_plugin::variables::{self, BRACES, Expansion};
use guillemet_plugin::{Fields, Text, Value, encode, json, present};

use crate::action::Request;

/// Adds what `auth` describes to the request. Returns what a signer needs, if the request is to be signed.
pub fn apply<'a>(auth: &Fields<'a>, request: &mut Request<'a>, expansions: &[Expansion]) -> Option<Value> {
    if auth.value("type").is_none() {
        auth.problem("type", "is required");
    }
    match auth.choice("type", &["none", "bearer", "basic", "api_key", "hmac"]) {
        Some("bearer") => {
            let token = secret(auth, "token")?;
            let value = encode::header_value(&format!("Bearer {}", variables::kept(&token, expansions)));
            request.headers.add(auth.notes(), &auth.path("token"), "Authorization", value);
        }
        Some("basic") => {
            let (username, password) = (auth.required("username"), secret(auth, "password"));
            let (username, password) = (username?, password?);
            let expanded = |text: &&Text| expansions.contains(&BRACES) && BRACES.is_in(text);
            for text in [&username, &password].into_iter().filter(expanded) {
                text.problem("contains `{{…}}`, which cannot be filled in after Base64 encoding");
            }
            let value = format!("Basic {}", encode::basic_credentials(&username, &password));
            request.headers.add(auth.notes(), &auth.path("type"), "Authorization", value);
        }
        Some("api_key") => {
            let place = auth.choice("in", &["header", "query"]).unwrap_or("header");
            let (name, value) = (auth.required("name"), secret(auth, "value"));
            let (name, value) = (name?, value?);
            if place == "query" {
                request.add_query(&name, value);
            } else {
                request.headers.add(
                    auth.notes(),
                    name.path(),
                    &name,
                    encode::header_value(&variables::kept(&value, expansions)),
                );
            }
        }
        Some("hmac") => return hmac(auth, request, expansions),
        Some(_) => {}
        // Without a type, it is unknown which of the other fields belong.
        None => FIELDS.iter().for_each(|field| _ = auth.value(field)),
    }
    None
}

const FIELDS: [&str; 12] = [
    "token",
    "username",
    "password",
    "in",
    "name",
    "value",
    "algorithm",
    "key",
    "signature_header",
    "timestamp_header",
    "payload",
    "encoding",
];

fn secret<'a>(auth: &Fields<'a>, name: &'static str) -> Option<Text<'a>> {
    Some(auth.required(name)?.credential())
}

/// Returns what a signer needs. The key is in a separate field of the result, as key material, never in a text of the
/// request.
fn hmac(auth: &Fields, request: &Request, expansions: &[Expansion]) -> Option<Value> {
    let header = |text: Option<Text>| {
        let text = text?;
        if !is_token(&text) {
            text.problem("is not the name of a header");
        } else if request.headers.has(&text) {
            text.problem(format!("the header `{}` is given twice; case makes no difference", &*text));
        }
        Some(text.get().to_owned())
    };
    let key = secret(auth, "key").map(|key| variables::kept(&key, expansions));
    let algorithm = auth.choice("algorithm", &["sha256", "sha512", "sha1"]).unwrap_or("sha256");
    let encoding = auth.choice("encoding", &["hex", "base64"]).unwrap_or("hex");
    let signature = header(auth.required("signature_header"));
    let timestamp = header(auth.text("timestamp_header"));
    if let (Some(one), Some(other)) = (&signature, &timestamp)
        && one.eq_ignore_ascii_case(other)
    {
        auth.problem("timestamp_header", "is the header of the signature");
    }
    let payload = auth.text("payload");
    payload.as_ref().inspect(|payload| check_payload(payload, timestamp.is_some()));
    let default = if timestamp.is_some() { "{timestamp}.{body}" } else { "{body}" };
    Some(present(json!({
        "type": "hmac",
        "algorithm": algorithm,
        "key": key,
        "signature_header": signature,
        "timestamp_header": timestamp,
        "payload": payload.as_deref().unwrap_or(default),
        "encoding": encoding,
    })))
}

/// Checks the text that is signed, which may contain `{timestamp}`, `{method}`, `{path}` and `{body}`.
fn check_payload(payload: &Text, timestamp: bool) {
    let mut known = payload.get().to_owned();
    for name in ["{timestamp}", "{method}", "{path}", "{body}"] {
        known = known.replace(name, "");
    }
    if known.contains(['{', '}']) {
        payload.problem("can contain `{timestamp}`, `{method}`, `{path}` and `{body}`, but no other braces");
    }
    if payload.contains("{timestamp}") && !timestamp {
        payload.problem("signs a `{timestamp}` that no `timestamp_header` sends");
    }
    if !payload.contains("{body}") {
        payload.warning("does not sign the body: it could be changed in transit");
    }
}
