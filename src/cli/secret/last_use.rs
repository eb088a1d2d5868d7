//! Describes a secret's last use in words, from what the daemon reports about it.
//!
//! Invariant: the text says "never" only if every device of the account has reported recently.

use serde_json::Value;

use crate::cli::output;

/// Returns the last use of a secret in words, as `secret show` prints it after "Last used": the time and the device,
/// followed by the devices that have not reported recently and since when.
pub fn short(secret: &Value) -> String {
    let silent = silent(secret);
    let unused = if silent.is_empty() { "never" } else { "not on this device" };
    with_silent(last(secret).unwrap_or_else(|| unused.into()), &silent)
}

/// Returns the last use as a sentence, to be read before a change is confirmed.
pub fn sentence(secret: &Value) -> String {
    let silent = silent(secret);
    let is_alone = secret["usage"]["by_device"].as_array().is_none_or(Vec::is_empty);
    let text = match last(secret) {
        Some(last) => format!("last used {last}"),
        None if !silent.is_empty() => "not used on this device".into(),
        None if is_alone => "never used".into(),
        None => "never used on any device".into(),
    };
    with_silent(text, &silent)
}

/// Returns when the last use that is known was, and on which device; `None` where none is known.
fn last(secret: &Value) -> Option<String> {
    let at = secret["last_used_at"].as_str()?;
    Some(secret["last_used_on"].as_str().map_or_else(|| at.to_owned(), |device| format!("{at} on {device}")))
}

fn with_silent(text: String, silent: &[String]) -> String {
    if silent.is_empty() { text } else { format!("{text}; {}", silent.join(", ")) }
}

/// Returns a clause for each device whose report is missing or old.
fn silent(secret: &Value) -> Vec<String> {
    let devices = secret["usage"]["by_device"].as_array().map_or(&[][..], Vec::as_slice);
    let silent = devices.iter().filter(|device| device["recent"] != true).map(|device| {
        let name = output::text(&device["device"]);
        match device["told_at"].as_str() {
            Some(at) => format!("{name} has not reported since {at}"),
            None => format!("{name} has not reported its use"),
        }
    });
    silent.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn never_is_said_only_where_every_device_has_reported() {
        let secret = |last: (Value, Value), by_device: Value| json!({"last_used_at": last.0, "last_used_on": last.1, "usage": {"by_device": by_device}});
        let none = || (Value::Null, Value::Null);
        let beta = json!({"device": "beta", "told_at": "T1", "recent": true});
        let gamma = json!({"device": "gamma", "told_at": "T2", "recent": false});
        let delta = json!({"device": "delta", "told_at": null, "recent": false});
        for (secret, short_text, sentence_text) in [
            (secret(none(), json!([])), "never", "never used"),
            (secret(none(), json!([beta])), "never", "never used on any device"),
            (
                secret(none(), json!([beta, gamma, delta])),
                "not on this device; gamma has not reported since T2, delta has not reported its use",
                "not used on this device; gamma has not reported since T2, delta has not reported its use",
            ),
            (secret((json!("T"), Value::Null), json!([beta])), "T", "last used T"),
            (
                secret((json!("T"), json!("beta")), json!([beta, gamma])),
                "T on beta; gamma has not reported since T2",
                "last used T on beta; gamma has not reported since T2",
            ),
        ] {
            assert_eq!((short(&secret).as_str(), sentence(&secret).as_str()), (short_text, sentence_text));
        }
    }
}
