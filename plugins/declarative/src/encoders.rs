//! The filters of documents: every encoder of the contract, and what texts are put together with.

use guillemet_plugin::encode::{self, Escaping, Refused, Replacement};
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};

use crate::definition::{Definition, Escape};

/// An encoder of one text, by its name as a filter.
type Encoder = (&'static str, fn(&str) -> String);

/// Encoders of one text for a value inside of another text, or inside JSON.
const INNER: [Encoder; 9] = [
    ("url_query", encode::url_query),
    ("url_path_segment", encode::url_path_segment),
    ("url", encode::url),
    ("header_value", encode::header_value),
    ("base64", encode::base64),
    ("hex", encode::hex),
    ("base64url", encode::base64url),
    ("sha256_hex", encode::sha256_hex),
    ("json_string", encode::json_string),
];

/// Encoders of one text, whose result can stand in a text document.
const TERMINAL: [Encoder; 13] = [
    ("xml", encode::xml),
    ("dotenv", encode::dotenv),
    ("asterisk_value", encode::asterisk_value),
    ("kamailio_string", encode::kamailio_string),
    ("baresip_parameter", encode::baresip_parameter),
    ("curl_config", encode::curl_config),
    ("yaml_string", encode::yaml_string),
    ("toml_string", encode::toml_string),
    ("ini_value", encode::ini_value),
    ("shell_word", encode::shell_word),
    ("systemd_env", encode::systemd_env),
    ("docker_env", encode::docker_env),
    ("netrc_token", encode::netrc_token),
];

/// Adds the filters. In a text document, the result of a terminal encoder is marked as safe; in JSON nothing is,
/// because there every text becomes a JSON string.
pub fn add(engine: &mut Environment<'static>, plugin: &'static Definition, json: bool) {
    let done = move |text: String| if json { text.into() } else { Value::from_safe_string(text) };
    for (name, encoder) in INNER {
        engine.add_filter(name, move |value: Value| each(&value, &|text| encoder(text).into()));
    }
    for (name, encoder) in TERMINAL {
        engine.add_filter(name, move |value: Value| each(&value, &|text| done(encoder(text))));
    }
    engine.add_filter("escape", move |value: Value, name: String| {
        let Some(escape) = plugin.escapes.iter().find(|escape| escape.name == name) else {
            return Err(wrong(format!("plugin.toml has no table [escapes.{name}]")));
        };
        let table = escaping(escape);
        each(&value, &|text| done(encode::escape(text, &table)))
    });
    engine.add_filter("basic_credentials", |user: Value, password: Value| {
        Ok::<_, Error>(encode::basic_credentials(&text(&user)?, &text(&password)?))
    });
    engine.add_filter("sip_digest_ha1", |user: Value, realm: Value, password: Value, algorithm: String| {
        Ok::<_, Error>(encode::sip_digest_ha1(&text(&user)?, &text(&realm)?, &text(&password)?, &algorithm))
    });
    engine.add_filter("hmac", |key: Value, message: Value, algorithm: String, encoding: String| {
        Ok::<_, Error>(encode::hmac(&text(&key)?, &text(&message)?, &algorithm, &encoding))
    });
    engine.add_filter("allow", |value: Value, characters: String, reason: String| {
        each(&value, &|text| encode::allow(text, &characters, &reason).into())
    });
    engine.add_filter("forbid", |value: Value, characters: String, reason: String| {
        each(&value, &|text| encode::forbid(text, &characters, &reason).into())
    });
    engine.add_filter("forbid_sequence", |value: Value, sequence: String, reason: String| {
        each(&value, &|text| encode::forbid_sequence(text, &sequence, &reason).into())
    });
    engine.add_filter("at_most", |value: Value, bytes: u32, reason: String| {
        each(&value, &|text| encode::at_most(text, bytes, &reason).into())
    });
    engine.add_filter("default", |value: Value, other: Value| if value.is_undefined() { other } else { value });
    engine.add_filter("join", |list: Value, between: String| {
        let texts: Result<Vec<String>, Error> = list.try_iter()?.map(|item| text(&item)).collect();
        Ok::<_, Error>(texts?.join(&between))
    });
    engine.add_filter("items", |map: Value| {
        let names = map.try_iter()?;
        names.map(|name| Ok(Value::from(vec![name.clone(), map.get_item(&name)?]))).collect::<Result<Vec<_>, Error>>()
    });
}

/// Encodes a text, or each text of a list or map.
fn each(value: &Value, encoder: &dyn Fn(&str) -> Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Seq => {
            value.try_iter()?.map(|item| each(&item, encoder)).collect::<Result<Vec<_>, _>>().map(Value::from)
        }
        ValueKind::Map => {
            let names = value.try_iter()?;
            let pairs = names.map(|name| Ok((name.clone(), each(&value.get_item(&name)?, encoder)?)));
            pairs.collect::<Result<Vec<_>, Error>>().map(Value::from_pairs)
        }
        // A JSON document leaves out what is absent.
        ValueKind::Undefined => Ok(Value::UNDEFINED),
        _ => Ok(encoder(&text(value)?)),
    }
}

/// Returns a value as a text.
pub fn text(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::String | ValueKind::Number => Ok(value.to_string()),
        // The engine writes `True`.
        ValueKind::Bool => Ok(value.is_true().to_string()),
        ValueKind::Undefined => Err(wrong(
            "a field is used that this config does not have; put this part between `<% if FIELD %>` and `<% endif %>`, \
             or give the field a default",
        )),
        kind => Err(wrong(format!("a {kind} is used where there has to be a text"))),
    }
}

/// Returns the error of a document's author.
pub fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn escaping(escape: &Escape) -> Escaping {
    let replacement = |(character, text): &(char, String)| Replacement { character: *character, text: text.clone() };
    let refused =
        |(characters, reason): &(String, String)| Refused { characters: characters.clone(), reason: reason.clone() };
    Escaping {
        opening: escape.opening.clone(),
        closing: escape.closing.clone(),
        replacements: escape.replacements.iter().map(replacement).collect(),
        refused: escape.refused.iter().map(refused).collect(),
    }
}
