//! Describes a secret's last use in words, from what the daemon reports about it.
//!
//! Invariant: the text says "never" only if every device of the account has reported recently.

use guillemet_api::secrets::SecretDetail;

/// Returns the last use of a secret in words, as `secret show` prints it after "Last used": the time and the device,
/// followed by the devices that have not reported recently and since when.
pub fn short(secret: &SecretDetail) -> String {
    let silent = silent(secret);
    let unused = if silent.is_empty() { "never" } else { "not on this device" };
    with_silent(last(secret).unwrap_or_else(|| unused.into()), &silent)
}

/// Returns the last use as a sentence, to be read before a change is confirmed.
pub fn sentence(secret: &SecretDetail) -> String {
    let silent = silent(secret);
    let is_alone = secret.usage.by_device.is_empty();
    let text = match last(secret) {
        Some(last) => format!("last used {last}"),
        None if !silent.is_empty() => "not used on this device".into(),
        None if is_alone => "never used".into(),
        None => "never used on any device".into(),
    };
    with_silent(text, &silent)
}

/// Returns when the last use that is known was, and on which device; `None` where none is known.
fn last(secret: &SecretDetail) -> Option<String> {
    let at = secret.secret.last_used_at.as_ref()?;
    Some(secret.secret.last_used_on.as_ref().map_or_else(|| at.clone(), |device| format!("{at} on {device}")))
}

fn with_silent(text: String, silent: &[String]) -> String {
    if silent.is_empty() { text } else { format!("{text}; {}", silent.join(", ")) }
}

/// Returns a clause for each device whose report is missing or old.
fn silent(secret: &SecretDetail) -> Vec<String> {
    let silent = secret.usage.by_device.iter().filter(|device| !device.recent).map(|device| {
        let name = &device.device;
        match &device.told_at {
            Some(at) => format!("{name} has not reported since {at}"),
            None => format!("{name} has not reported its use"),
        }
    });
    silent.collect()
}

#[cfg(test)]
mod tests {
    use guillemet_api::secrets::{DeviceUsage, SecretStatus, SecretUsageView, SecretView};

    use super::*;

    fn secret(last: (Option<&str>, Option<&str>), by_device: &[DeviceUsage]) -> SecretDetail {
        SecretDetail {
            secret: SecretView {
                id: None,
                name: "name".into(),
                status: SecretStatus::Active,
                enabled: None,
                usage_count: 0,
                resolution_count: None,
                last_used_at: last.0.map(str::to_owned),
                last_used_on: last.1.map(str::to_owned),
                usage_complete: None,
                created_at: None,
                updated_at: None,
                version: None,
                former_names: None,
            },
            references: Vec::new(),
            versions: Vec::new(),
            usage: SecretUsageView { by_device: by_device.to_vec(), ..SecretUsageView::default() },
            etag: None,
        }
    }

    #[test]
    fn never_is_said_only_where_every_device_has_reported() {
        let device = |device: &str, told_at: Option<&str>, recent| DeviceUsage {
            device: device.into(),
            count: None,
            last_used_at: None,
            told_at: told_at.map(str::to_owned),
            recent,
        };
        let none = (None, None);
        let beta = device("beta", Some("T1"), true);
        let gamma = device("gamma", Some("T2"), false);
        let delta = device("delta", None, false);
        for (secret, short_text, sentence_text) in [
            (secret(none, &[]), "never", "never used"),
            (secret(none, std::slice::from_ref(&beta)), "never", "never used on any device"),
            (
                secret(none, &[beta.clone(), gamma.clone(), delta]),
                "not on this device; gamma has not reported since T2, delta has not reported its use",
                "not used on this device; gamma has not reported since T2, delta has not reported its use",
            ),
            (secret((Some("T"), None), std::slice::from_ref(&beta)), "T", "last used T"),
            (
                secret((Some("T"), Some("beta")), &[beta.clone(), gamma.clone()]),
                "T on beta; gamma has not reported since T2",
                "last used T on beta; gamma has not reported since T2",
            ),
        ] {
            assert_eq!((short(&secret).as_str(), sentence(&secret).as_str()), (short_text, sentence_text));
        }
    }
}
