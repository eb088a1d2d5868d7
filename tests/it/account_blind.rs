//! The account server learns nothing, and no log contains what it should not. Searches for names, values, templates,
//! devices and keys in everything that is sent to the server, in everything it keeps, and in the daemons' logs at trace
//! level (promises Blind and Zero knowledge).

use crate::support::account::Place;
use crate::support::daemon::Guillemet;
use crate::support::relay::Relay;
use crate::support::team::{Machine, Team, in_sync};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use guillemet_account::code::AccountCode;
use guillemet_base::home::Home;
use guillemet_testing::canary::{Canary, Scanner};
use guillemet_testing::wait::until;
use guillemet_vault::keys::UnlockWith;
use guillemet_vault::store::Vault;
use serde_json::{Value, json};

/// Makes a canary that is valid as a name: it has no special characters.
fn name(label: &str) -> Canary {
    Canary::new(label, "")
}

/// A key, or another secret that consists of bytes.
#[derive(Clone)]
struct Secret {
    label: String,
    bytes: Vec<u8>,
}

impl Secret {
    fn new(label: &str, bytes: impl AsRef<[u8]>) -> Self {
        Self { label: label.to_owned(), bytes: bytes.as_ref().to_vec() }
    }

    /// Takes the secret part of an API key, which follows its id.
    fn of_api_key(label: &str, key: &str) -> Self {
        let secret = key.split_once('.').unwrap().1;
        Self::new(label, BASE64URL_NOPAD.decode(secret.as_bytes()).unwrap())
    }

    fn of_hexadecimal(label: &str, text: &Value) -> Self {
        Self::new(label, HEXLOWER.decode(text.as_str().unwrap().as_bytes()).unwrap())
    }
}

/// Returns the keys of a machine whose daemon does not run.
fn keys(machine: &Machine) -> Vec<Secret> {
    let home = Home::at(machine.path(""));
    let (vault, _) = Vault::open(&home, UnlockWith::KeyFile(home.key_file())).unwrap();
    let document: Value = serde_json::from_slice(&vault.document("account").unwrap().unwrap()).unwrap();
    let mut keys = vec![
        Secret::of_api_key("API key", document["facts"]["api_key"].as_str().unwrap()),
        Secret::of_hexadecimal("device key", &document["engine"]["secret"]),
    ];
    for (epoch, key) in document["engine"]["keys"].as_object().unwrap() {
        keys.push(Secret::of_hexadecimal(&format!("key of epoch {epoch}"), key));
    }
    keys
}

/// Adds a secret to a scanner, in each form in which it could be kept or sent: as bytes and as texts.
fn looks_for(scanner: Scanner, Secret { label, bytes }: &Secret) -> Scanner {
    let list = format!("{bytes:?}");
    scanner
        .and_bytes(label, bytes)
        .and(label, &HEXLOWER.encode(bytes))
        .and(label, &HEXUPPER.encode(bytes))
        .and(label, &BASE64.encode(bytes))
        .and(label, &BASE64URL_NOPAD.encode(bytes))
        .and(label, list.trim_matches(['[', ']']))
        .and(label, list.replace(' ', "").trim_matches(['[', ']']))
}

/// Returns everything that is sent to a server, without the credentials of the requests: it recognizes a caller by the
/// API key, and a machine that joins by the token of its invitation, and keeps a hash of either.
fn sent(relay: &Relay) -> Vec<(String, Vec<u8>)> {
    let texts = relay.seen().into_iter().map(|request| {
        let is_told = |line: &&str| !line.starts_with("x-api-key: ") && !line.starts_with("x-enrolment-token: ");
        let head: Vec<&str> = request.head.lines().filter(is_told).collect();
        (head[0].to_owned(), [head.join("\n").as_bytes(), b"\n", &request.body].concat())
    });
    texts.collect()
}

/// Checks that the scan finds a known text, which proves that it looks in the right place.
fn is_found(scanner: &Scanner, known: &str, bytes: &[u8]) {
    assert!(scanner.clone().and("known", known).is_in(bytes), "{known} was not found");
}

/// Returns everything that a server keeps: its files, and a dump of its database.
fn kept(place: &Place) -> Vec<(String, Vec<u8>)> {
    let files = place.files().into_iter();
    let mut kept: Vec<_> =
        files.filter_map(|file| Some((file.display().to_string(), std::fs::read(&file).ok()?))).collect();
    if let Some(postgres) = &place.postgres {
        kept.push(("the dump".into(), postgres.dump()));
    }
    kept
}

#[test]
fn the_server_learns_nothing_and_no_log_tells() {
    blind(Place::sqlite());
}

#[test]
#[ignore = "a long form: make soak"]
fn postgresql_learns_nothing_either() {
    let Some(place) = Place::postgres() else { return };
    blind(place);
}

#[expect(clippy::too_many_lines, reason = "one case after the other")]
fn blind(place: Place) {
    let mut team = Team::at(place);
    let [one, two, template, device, other_device] =
        ["a name", "a name", "a template", "a device", "a device"].map(name);
    let values: Vec<Canary> = (0..4).map(|_| Canary::new("a value", "\"\\ ü;{{x}}")).collect();
    let leaked = |text: &Canary| -> &'static str { Box::leak(text.value.clone().into_boxed_str()) };
    let mut a = team.machine_of(leaked(&device), Guillemet::init_anew());
    let mut b = team.machine_of(leaked(&other_device), Guillemet::init_anew());
    let relays = [team.relay(&a), team.relay(&b)];
    a.run();
    b.run();
    let creation = team.code();
    assert_eq!(a.begin(&creation, json!({})).status, 201);
    a.add(&one.value, &values[0].value);
    let invitation = a.invite();
    assert_eq!(b.begin(&invitation, json!({})).status, 201);
    b.rotate(&one.value, &values[1].value);
    b.add(&two.value, &values[2].value);
    in_sync(&[&a, &b]);
    a.write_template(&template.value, &one.value);
    assert_eq!(a.render(&template.value).status, 200);
    b.write(&format!("cal-com/{}-broken.toml", template.value), &format!("<< secret '{}'\n", two.value));
    until("the broken template", || (a.delete(&two.value).status == 409).then_some(()));
    a.change(&one.value, json!({"name": format!("{}-2", one.value), "value": values[3].value, "enabled": false}));
    let recovery = a.post("/v1/account/recovery", &json!({})).json()["code"].as_str().unwrap().to_owned();
    // Reports of use are sent.
    until("usage", || {
        let items = b.get("/v1/account/devices").json()["items"].clone();
        items
            .as_array()
            .unwrap()
            .iter()
            .any(|item| item["this"] == false && !item["usage_told_at"].is_null())
            .then_some(())
    });
    // A new epoch, with keys that are sealed under the previous one.
    let devices = a.get("/v1/account/devices").json();
    let paper = devices["items"].as_array().unwrap().iter().find(|item| item["recovery"] == true).unwrap();
    let path = format!("/v1/account/devices/{}", paper["id"].as_str().unwrap());
    assert_eq!(a.ask("DELETE", &path, &[], b"").status, 200);
    a.add("another", &values[0].value);
    assert_eq!(a.delete("another").status, 204);
    in_sync(&[&a, &b]);
    team.end_server(true);
    b.rotate(&two.value, &values[0].value);
    b.stands("offline", None);
    assert!(a.stop() && b.stop());

    let Ok(AccountCode::Recovery(paper)) = AccountCode::parse(&recovery) else { panic!("{recovery}") };
    let Ok(AccountCode::Creation(first)) = AccountCode::parse(&creation) else { panic!("{creation}") };
    let Ok(AccountCode::Invite(invite)) = AccountCode::parse(&invitation) else { panic!("{invitation}") };
    let mut known = [keys(&a), keys(&b)].concat();
    assert_eq!(known.iter().filter(|key| key.label.starts_with("key of epoch")).count(), 4, "two epochs each");
    known.extend([
        Secret::of_api_key("API key of the paper", paper.api_key.expose()),
        Secret::of_api_key("key of the creation code", first.api_key.expose()),
        Secret::new("device key of the paper", paper.device_secret.expose().as_slice()),
        Secret::new("secret of the invitation", invite.secret.as_slice()),
        Secret::new("token of the invitation", invite.token.as_slice()),
    ]);
    let codes = [("the creation code", &creation), ("the invitation", &invitation), ("the recovery code", &recovery)];
    let with_codes = codes.iter().fold(Scanner::new(&values), |scanner, (label, code)| scanner.and(label, code));
    let secret = known.iter().fold(with_codes, looks_for);

    // A daemon's log contains names, but no values or keys.
    for machine in [&a, &b] {
        let log = machine.log();
        assert!(log.contains("TRACE"), "it logs everything");
        is_found(&secret, "connected to the account's server", log.as_bytes());
        let lines = log.lines().filter(|line| secret.is_in(line.as_bytes()));
        assert_eq!(lines.collect::<Vec<_>>(), [""; 0]);
    }

    let names = [&one, &two, &template, &device, &other_device];
    let everything = Scanner::new(values.iter().chain(names));
    let everything =
        names.iter().fold(everything, |scanner, name| scanner.and(&name.label, &name.value.to_lowercase()));
    let everything = codes.iter().fold(everything, |scanner, (label, code)| scanner.and(label, code));
    let everything = known.iter().fold(everything, looks_for);
    for relay in &relays {
        let sent = sent(relay);
        for (request, bytes) in &sent {
            let found = everything.find(bytes);
            assert!(found.is_empty(), "{request}: {found:?}");
        }
        for request in ["POST /v1/accounts/", "PUT /v1/accounts/"] {
            assert!(sent.iter().any(|(head, bytes)| head.starts_with(request) && bytes.len() > 200), "{request}");
        }
    }
    let account = first.address.account();
    let text = account.to_string();
    let (mut bytes, mut is_there) = (0, false);
    for (label, held) in kept(&team.place) {
        bytes += held.len();
        let found = everything.find(&held);
        assert!(found.is_empty(), "{label}: {found:?}");
        is_there |= held.windows(16).any(|window| window == account.0);
        is_there |= held.windows(text.len()).any(|window| window == text.as_bytes());
    }
    assert!(bytes > 10_000, "{bytes} bytes were looked at");
    assert!(is_there, "the account's id is in none of them: they are others");
}
