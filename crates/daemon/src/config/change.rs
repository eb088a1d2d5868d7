//! The differences between two configurations, key by key.

use super::{ClientRule, Config};

/// Returns whether two configurations differ in one key.
type Differs = fn(&Config, &Config) -> bool;

/// Every key that a daemon reads, and whether it is read only at the start. `docs/operators.md` has the same table.
const KEYS: [(&str, bool, Differs); 14] = [
    ("vars", false, |a, b| a.variables.vars != b.variables.vars),
    ("env.allow", false, |a, b| a.variables.env != b.variables.env),
    ("secrets.former_versions", false, |a, b| a.former_versions != b.former_versions),
    ("limits.connections", true, |a, b| a.limits.connections != b.limits.connections),
    ("limits.idle_seconds", false, |a, b| a.limits.idle != b.limits.idle),
    ("limits.transfer_seconds", false, |a, b| a.limits.transfer != b.limits.transfer),
    ("limits.in_flight_mib", false, |a, b| a.limits.in_flight != b.limits.in_flight),
    ("usage.events", false, |a, b| a.usage.events != b.usage.events),
    ("usage.changes", false, |a, b| a.usage.changes != b.usage.changes),
    ("metrics.secret_names", false, |a, b| a.metrics != b.metrics),
    ("account.max_head_age_seconds", false, |a, b| a.max_head_age != b.max_head_age),
    ("plugins", false, |a, b| a.plugins != b.plugins),
    ("plugin_index", false, |a, b| a.plugin_index != b.plugin_index),
    ("api.group", true, |a, b| a.api_group != b.api_group),
];

/// Returns the keys whose values differ, with `client` for the rules as a whole.
pub fn changed_keys(before: &Config, after: &Config) -> Vec<&'static str> {
    let same_rule = |(a, b): (&ClientRule, &ClientRule)| a.is_same(b);
    let (old, new) = (&before.clients, &after.clients);
    let rules = old.len() != new.len() || !old.iter().zip(new).all(same_rule);
    let keys = KEYS.iter().filter(|(_, _, differs)| differs(before, after)).map(|(key, ..)| *key);
    keys.chain(rules.then_some("client")).collect()
}

/// Returns the keys that need a restart: those that are read only at the start and have changed since then.
pub fn keys_for_restart(at_start: &Config, now: &Config) -> Vec<&'static str> {
    let read_once = KEYS.iter().filter(|(_, at_start, _)| *at_start);
    read_once.filter(|(_, _, differs)| differs(at_start, now)).map(|(key, ..)| *key).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{ConfigText, DEFAULT};
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(&ConfigText::from(text), |name| Some(name.to_owned())).unwrap()
    }

    #[test]
    fn each_key_is_told_when_it_changes() {
        let default = config(DEFAULT);
        assert!(changed_keys(&default, &config(DEFAULT)).is_empty());
        assert!(changed_keys(&config(""), &config("# nothing\n")).is_empty());
        for (key, text) in [
            ("vars", "[vars]\na = 1"),
            ("env.allow", "[env]\nallow = ['A']"),
            ("secrets.former_versions", "[secrets]\nformer_versions = 1"),
            ("limits.connections", "[limits]\nconnections = 1"),
            ("limits.idle_seconds", "[limits]\nidle_seconds = 1"),
            ("limits.transfer_seconds", "[limits]\ntransfer_seconds = 1"),
            ("limits.in_flight_mib", "[limits]\nin_flight_mib = 128"),
            ("usage.events", "[usage]\nevents = 1"),
            ("usage.changes", "[usage]\nchanges = 1"),
            ("metrics.secret_names", "[metrics]\nsecret_names = true"),
            ("account.max_head_age_seconds", "[account]\nmax_head_age_seconds = 60"),
            ("plugins", &format!("[plugins.a]\nfile = 'a'\nsha256 = '{}'", "0".repeat(64))),
            ("plugin_index", "[plugin_index]\nfile = 'a'"),
            ("api.group", "[api]\ngroup = 1"),
            ("client", "[[client]]\nuid = 1\nadmin = true"),
        ] {
            assert_eq!(changed_keys(&config(""), &config(text)), [key]);
            let at_start = matches!(key, "api.group" | "limits.connections");
            assert_eq!(keys_for_restart(&config(""), &config(text)).is_empty(), !at_start, "{key}");
        }
        let rule = "[[client]]\nuid = 1\nadmin = true";
        assert!(changed_keys(&config(rule), &config(&format!("\n\n{rule}"))).is_empty(), "it stands elsewhere");
        assert_eq!(changed_keys(&config(rule), &config(&rule.replace('1', "2"))), ["client"]);
    }
}
