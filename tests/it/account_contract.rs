//! Checks the real account server against `openapi-account.yaml`, with Schemathesis: it makes valid and invalid
//! requests from the description, one by one and in sequences. Every answer has to be one that the description lists.
//!
//! Not tested here: the events, a stream without an end (tests/it/account_server.rs).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::account::{Device, Place, Server, change, object, record, sealed};
use guillemet_testing::missing;
use guillemet_wire::{Hash, HeadRef, InviteRegistration, Push};

/// Returns the folder of the test's programs, which `tests/run` installs.
fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/contract/venv/bin")
}

/// Makes an account that contains something of every kind, with a valid token.
async fn account(server: &Server, place: &Place) -> (Device, HeadRef, [u8; 32]) {
    let (device, at_1) = Device::first(server, place).await;
    let push = change(at_1, (0..20).map(|_| record(object(), 1)).collect());
    let newest = device.push(at_1, &Push { wraps: vec![device.wrap(1)], ..push }).await.unwrap();
    let usage = guillemet_wire::UsageUpload { device: device.id, counter: 1, epoch: 1, sealed: sealed(300) };
    device.client.put_usage(device.account, &usage).await.unwrap();
    for token in [[1; 32], [2; 32]] {
        let invite = InviteRegistration { token_hash: Hash::of(&[&token]), expires_in: 600 };
        device.client.invite(device.account, &invite).await.unwrap();
    }
    let waits = Device::new(server, device.account);
    waits.client.enrol(device.account, &[1; 32], &waits.enrolment()).await.unwrap();
    (device, newest, [2; 32])
}

#[tokio::test]
async fn the_server_answers_as_described() {
    let schemathesis = programs().join("schemathesis");
    let remedy = "`sudo apt-get install python3-venv`, then `make test` (Python 3.10 or newer)";
    if !missing::has(schemathesis.exists(), "Schemathesis", remedy) {
        return;
    }
    let place = Place::sqlite();
    let server = Server::start_with(&place, &["--requests", "100000"]);
    let (device, newest, token) = account(&server, &place).await;
    let here = tempfile::tempdir().unwrap();
    let file = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    // With generated ids every request would be refused.
    let fixed = format!(
        "\n[parameters]\n\"path.id\" = \"{}\"\n\"header.If-Match\" = '\"{}\"'\n\"header.X-Enrolment-Token\" = \"{}\"\n",
        device.account,
        newest.hash,
        Hash(token)
    );
    let config = std::fs::read_to_string(file("tests/contract/account.toml")).unwrap() + &fixed;
    std::fs::write(here.path().join("account.toml"), config).unwrap();
    let ended = Command::new(schemathesis)
        .arg("--config-file")
        .arg(here.path().join("account.toml"))
        .arg("run")
        .arg(file("openapi-account.yaml"))
        .args(["--url", &server.url, "--tls-verify", "false"])
        .args(["-H", &format!("X-API-Key: {}", device.key.expose())])
        // The same requests every time, and few enough to take less than half a minute.
        .args(["--seed", "5", "--max-examples", "40"])
        .args(["--exclude-path", "/v1/accounts/{id}/events"])
        .args(["--request-timeout", "30"])
        .args(["--continue-on-failure", "--no-color"])
        .current_dir(here.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONWARNINGS", "ignore")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr);
    let _ = std::io::stderr().write_all(text.as_bytes());
    assert!(ended.status.success(), "the server and openapi-account.yaml differ: see above");
    assert!(device.client.current().await.unwrap().admitted);
}
