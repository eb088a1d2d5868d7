//! Checks the real daemon against `openapi.yaml`, with Schemathesis: it makes valid and invalid requests from the
//! description, one by one and in sequences. Every answer has to be one that the description lists.
//!
//! Not tested here: `/v1/events`, a stream without an end (tests/it/events.rs).

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::daemon::Guillemet;
use crate::support::tier;
use guillemet_testing::missing;

/// Returns the folder of the test's programs, which `tests/run` installs.
fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/contract/venv/bin")
}

/// Forwards a TCP port on the loopback interface to the daemon's socket, because Schemathesis speaks TCP. Works until
/// the process ends.
fn door(socket: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), Ok(daemon)) = (stream, UnixStream::connect(&socket)) else { continue };
            std::thread::spawn(move || pass(&stream, &daemon));
        }
    });
    port
}

/// Copies bytes in both directions until both have ended.
fn pass(client: &TcpStream, daemon: &UnixStream) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut from, mut to) = (client, daemon);
            let _ = std::io::copy(&mut from, &mut to);
            let _ = daemon.shutdown(Shutdown::Write);
        });
        let (mut from, mut to) = (daemon, client);
        let _ = std::io::copy(&mut from, &mut to);
        let _ = client.shutdown(Shutdown::Both);
    });
}

/// Makes a home that contains something of every kind.
fn home() -> Guillemet {
    let guillemet = Guillemet::start();
    guillemet.write("cal-com/frontdesk.toml", "api_key = \"<< secret 'calcom-prod' >>\"\nevent_type_id = 1\n");
    guillemet.write(
        "mcp-server/crm.json",
        r#"{"name": "crm", "url": "https://x.example/mcp", "headers": {"X-Key": "<< secret 'gone' >>"}}"#,
    );
    guillemet.write("mcp-server/broken.json", r#"{"name": "<< secret calcom-prod >>"}"#);
    for name in ["calcom-prod", "old-name", "off", "free"] {
        guillemet.add(name, "a value");
    }
    assert_eq!(guillemet.set_enabled("off", false).status, 200);
    let renamed = guillemet.ask("PATCH", "/v1/secrets/old-name", &[], br#"{"name": "new-name", "value": "another"}"#);
    assert_eq!(renamed.status, 200);
    for target in ["json", "dotenv"] {
        assert_eq!(guillemet.get(&format!("/v1/render/cal-com/frontdesk?target={target}")).status, 200);
    }
    assert_eq!(guillemet.get("/v1/render/mcp-server/crm").status, 409);
    guillemet
}

#[test]
fn the_daemon_answers_as_described() {
    let schemathesis = programs().join("schemathesis");
    let remedy = "`sudo apt-get install python3-venv`, then `make test` (Python 3.10 or newer)";
    if !missing::has(schemathesis.exists(), "Schemathesis", remedy) {
        return;
    }
    let guillemet = home();
    let port = door(guillemet.path("run/guillemet.sock"));
    let here = tempfile::tempdir().unwrap();
    let file = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let ended = Command::new(schemathesis)
        .arg("--config-file")
        .arg(file("tests/contract/schemathesis.toml"))
        .arg("run")
        .arg(file("openapi.yaml"))
        .args(["--url", &format!("http://127.0.0.1:{port}")])
        // The same requests every time.
        .args(["--seed", "5", "--max-examples", &tier::rounds(20, 200).to_string()])
        .args(["--exclude-path", "/v1/events"])
        .args(["--request-timeout", "30"])
        .args(["--continue-on-failure", "--no-color"])
        .current_dir(here.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr);
    let _ = std::io::stderr().write_all(text.as_bytes());
    assert!(ended.status.success(), "the daemon and openapi.yaml differ: see above");
    assert_eq!(guillemet.get("/healthz").status, 200);
}
