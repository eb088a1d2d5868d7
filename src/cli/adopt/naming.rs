//! Chooses names for the secrets that are found: provider, purpose, environment, as `secret add` suggests.
//!
//! Never proposes a name that a secret has or had. Uses the names that the user chose.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::detect::words;
use guillemet_base::names::{NAME_MAX, SecretName};

/// Labels of host names that say what is served, and not by whom.
const SERVICES: [&str; 12] =
    ["api", "app", "apis", "cloud", "gateway", "hooks", "mcp", "rest", "server", "service", "sip", "www"];
/// Second-level labels under which many countries register names.
const REGISTRIES: [&str; 8] = ["ac", "co", "com", "edu", "gov", "net", "or", "org"];
/// Words that name an environment, each with the word used in secret names.
const ENVIRONMENTS: [(&str, &str); 11] = [
    ("prod", "prod"),
    ("production", "prod"),
    ("live", "prod"),
    ("staging", "staging"),
    ("stage", "staging"),
    ("dev", "dev"),
    ("development", "dev"),
    ("test", "test"),
    ("testing", "test"),
    ("sandbox", "sandbox"),
    ("qa", "qa"),
];

/// The state of a name that the inventory knows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum NameStatus {
    /// It is the name of a secret.
    Secret,
    /// Templates reference it, but no such secret exists.
    Missing,
    /// It is a former name of a secret.
    Former,
}

/// Proposes names for the values of one template.
pub struct Namer {
    provider: String,
    /// The environment that the template's name or the host says; `None` if neither does.
    environment: Option<&'static str>,
    existing: BTreeMap<String, NameStatus>,
    /// Names that the user chose for other fields.
    reserved: Vec<SecretName>,
    /// The names given so far with their values, so that the same value gets the same name.
    assigned: Vec<(SecretName, Zeroizing<String>)>,
    problems: Vec<String>,
}

impl Namer {
    /// Prepares names for a template. `host` is the host it leads to, `existing` has the names of the inventory by
    /// `SecretName::key`, and `reserved` has the names that the user chose.
    pub fn new(
        (feature, template): (&str, &str),
        host: Option<&str>,
        existing: BTreeMap<String, NameStatus>,
        reserved: Vec<SecretName>,
    ) -> Self {
        let provider = match feature {
            "cal-com" => Some("calcom".to_owned()),
            _ => host.and_then(provider),
        };
        let mut all_words = words(template).into_iter().chain(words(host.unwrap_or_default()));
        let environment = all_words.find_map(|word| environment_of(&word));
        let provider = provider.unwrap_or_else(|| {
            let parts: Vec<String> =
                words(template).into_iter().filter(|word| environment_of(word).is_none()).collect();
            if parts.is_empty() { feature.to_owned() } else { parts.join("-") }
        });
        Self { provider, environment, existing, reserved, assigned: Vec::new(), problems: Vec::new() }
    }

    /// Returns the name for a value, and whether that secret exists already: the chosen name, the name that the same
    /// value got before, or a new one.
    pub fn name(&mut self, chosen: Option<&SecretName>, purpose: &str, value: &str) -> (SecretName, bool) {
        if let Some(chosen) = chosen {
            return (chosen.clone(), self.choose(chosen, value));
        }
        if let Some((name, _)) = self.assigned.iter().find(|(_, other)| **other == *value) {
            return (name.clone(), self.existing.get(&name.key()) == Some(&NameStatus::Secret));
        }
        // Issuers mark test keys in the key itself: `sk_test_…`.
        let test = if value.contains("_test_") { "test" } else { "prod" };
        let name = self.propose(purpose, self.environment.unwrap_or(test));
        self.assigned.push((name.clone(), Zeroizing::new(value.to_owned())));
        (name, false)
    }

    /// Takes the problems of the names that the user chose.
    pub fn problems(&mut self) -> Vec<String> {
        std::mem::take(&mut self.problems)
    }

    fn choose(&mut self, chosen: &SecretName, value: &str) -> bool {
        let other = self.assigned.iter().any(|(name, assigned)| name == chosen && **assigned != *value);
        if other {
            self.problems.push(format!("`{chosen}` would have two different values"));
        }
        let existing = self.existing.get(&chosen.key()).copied();
        if existing == Some(NameStatus::Former) {
            self.problems.push(format!("`{chosen}` is a former name of a secret"));
        }
        self.assigned.push((chosen.clone(), Zeroizing::new(value.to_owned())));
        existing == Some(NameStatus::Secret)
    }

    fn propose(&self, purpose: &str, environment: &str) -> SecretName {
        let mut purpose: Vec<&str> = purpose.split('-').filter(|word| !word.is_empty() && *word != "x").collect();
        // For the header `X-Telnyx-Key` of Telnyx, for example, the provider is named only once.
        purpose.retain(|word| *word != self.provider);
        let purpose = if purpose.is_empty() { "secret".to_owned() } else { purpose.join("-") };
        let max_len = NAME_MAX - 16;
        let mut base = format!("{}-{purpose}", self.provider);
        base.truncate(base.floor_char_boundary(max_len));
        let numbered = |number: u32| match number {
            1 => format!("{base}-{environment}"),
            number => format!("{base}-{environment}-{number}"),
        };
        let free = |name: &SecretName| {
            !self.existing.contains_key(&name.key())
                && !self.reserved.contains(name)
                && !self.assigned.iter().any(|(other, _)| other == name)
        };
        let candidates = (1..).map(|number| numbered(number).parse::<SecretName>());
        // The provider begins with a letter or a digit, and so does the name, which is always valid.
        candidates.flatten().find(free).unwrap_or_else(|| unreachable!("numbers do not end"))
    }
}

fn environment_of(word: &str) -> Option<&'static str> {
    ENVIRONMENTS.iter().find(|(alias, _)| *alias == word).map(|(_, name)| *name)
}

/// Returns the registered label of a host, which names its owner. Returns `None` for an address, or for a host of this
/// machine or the local network.
fn provider(host: &str) -> Option<String> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if host.parse::<std::net::IpAddr>().is_ok() || host.ends_with("localhost") || host.contains(['{', '$']) {
        return None;
    }
    let mut labels: Vec<&str> = host.split('.').collect();
    let top = labels.pop()?;
    if top.len() == 2 && labels.len() > 1 && labels.last().is_some_and(|label| REGISTRIES.contains(label)) {
        labels.pop();
    }
    let main_label = labels.iter().rev().find(|label| !SERVICES.contains(label)).copied().or(labels.last().copied())?;
    let name = words(main_label).join("-");
    (!name.is_empty() && !matches!(top, "internal" | "local" | "lan" | "home")).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namer(feature: &str, template: &str, host: Option<&str>, existing: &[&str]) -> Namer {
        let existing = existing.iter().map(|name| ((*name).to_owned(), NameStatus::Secret)).collect();
        Namer::new((feature, template), host, existing, Vec::new())
    }

    fn proposed(feature: &str, template: &str, host: Option<&str>, purpose: &str) -> String {
        namer(feature, template, host, &[]).name(None, purpose, "v").0.to_string()
    }

    #[test]
    fn names_say_provider_purpose_and_environment() {
        for (feature, template, host, purpose, name) in [
            ("mcp-server", "calendar", Some("mcp.example.com"), "token", "example-token-prod"),
            ("mcp-server", "calendar-staging", Some("mcp.zapier.com"), "url", "zapier-url-staging"),
            ("sip-trunk", "carrier", Some("sip.telnyx.com"), "password", "telnyx-password-prod"),
            ("sip-trunk", "carrier-test", Some("203.0.113.7"), "password", "carrier-password-test"),
            ("custom-action", "crm", Some("api.hubapi.com"), "x-api-key", "hubapi-api-key-prod"),
            ("custom-action", "crm", Some("api.staging.acme.co.uk"), "token", "acme-token-staging"),
            ("custom-action", "crm", Some("localhost"), "x-crm-key", "crm-key-prod"),
            ("cal-com", "desk", Some("api.cal.com"), "api-key", "calcom-api-key-prod"),
            ("cal-com", "prod", None, "", "calcom-secret-prod"),
            ("mcp-server", "prod", None, "token", "mcp-server-token-prod"),
        ] {
            assert_eq!(proposed(feature, template, host, purpose), name);
        }
        let long = proposed("mcp-server", &"a".repeat(300), None, "token");
        assert!(long.len() <= NAME_MAX && long.ends_with("-prod"), "{long}");
    }

    #[test]
    fn a_taken_name_is_not_proposed_and_a_value_has_one_name() {
        let mut namer = namer("cal-com", "desk", None, &["calcom-api-key-prod", "calcom-api-key-prod-2", "mine"]);
        assert_eq!(namer.name(None, "api-key", "a").0.as_str(), "calcom-api-key-prod-3");
        assert_eq!(namer.name(None, "api-key", "b").0.as_str(), "calcom-api-key-prod-4");
        assert_eq!(namer.name(None, "other", "a").0.as_str(), "calcom-api-key-prod-3");
        let mine = "Mine".parse().unwrap();
        assert!(namer.name(Some(&mine), "x", "c").1, "it is there");
        assert_eq!(namer.name(None, "x", "c"), (mine.clone(), true));
        assert!(namer.problems().is_empty());
        assert_eq!(namer.name(None, "key", "sk_test_1").0.as_str(), "calcom-key-test");
        namer.name(Some(&mine), "x", "d");
        assert_eq!(namer.problems().len(), 1);
    }
}
