//! `/v1/events`: a listener is told of every change, and of nothing else.

use std::io::Read;
use std::os::unix::net::UnixStream;

use crate::support::daemon::Guillemet;
use crate::support::listening::Listening;
use serde_json::json;

#[test]
fn every_change_is_told_in_order_and_no_value_with_it() {
    let mut guillemet = Guillemet::start();
    let mut listening = Listening::to(&guillemet);
    guillemet.add("first", "canary-value");
    let (kind, created) = listening.next();
    assert_eq!((kind.as_str(), &created["name"], &created["change"]), ("secret", &json!("first"), &json!("created")));
    for change in [json!({"value": "canary-other"}), json!({"enabled": false}), json!({"name": "second"})] {
        let changed = guillemet.ask("PATCH", "/v1/secrets/first", &[], change.to_string().as_bytes()).json();
        let expected = json!({"id": created["id"], "name": changed["name"], "change": "changed"});
        assert_eq!(listening.next(), ("secret".into(), expected));
    }
    // Writes the file in one step, because a scan that sees half of it reports one more change.
    let write = |text: &str| {
        guillemet.write("mcp-server/.new", text);
        let folder = guillemet.path("templates/mcp-server");
        std::fs::rename(folder.join(".new"), folder.join("a.toml")).unwrap();
    };
    write("x = '<< secret \"b\" >> << secret \"a\" >> << secret \"b\" >>'\n");
    guillemet.get("/v1/secrets");
    assert_eq!(listening.next(), ("template".into(), json!({"id": "mcp-server/a", "change": "created"})));
    assert_eq!(listening.next(), ("references".into(), json!({"template": "mcp-server/a", "secrets": ["a", "b"]})));
    write("y = '<< secret \"a\" >> << secret \"b\" >>'\n");
    guillemet.get("/v1/secrets");
    assert_eq!(listening.next(), ("template".into(), json!({"id": "mcp-server/a", "change": "changed"})));
    std::fs::remove_file(guillemet.path("templates/mcp-server/a.toml")).unwrap();
    guillemet.get("/v1/secrets");
    assert_eq!(listening.next(), ("template".into(), json!({"id": "mcp-server/a", "change": "deleted"})));
    assert_eq!(listening.next_of("references")["secrets"], json!([]));
    assert_eq!(guillemet.ask("DELETE", "/v1/secrets/second", &[], b"").status, 204);
    assert_eq!(listening.next_of("secret")["change"], "deleted");

    // When the daemon stops, the stream ends at once.
    assert!(guillemet.stop());
    while listening.line().is_some_and(|line| !line.contains("canary")) {}
    assert_eq!(listening.line(), None);
}

#[test]
fn a_quiet_stream_is_not_taken_for_a_silent_connection() {
    let mut guillemet = Guillemet::init();
    let file = guillemet.path("guillemet.toml");
    let text = std::fs::read_to_string(&file).unwrap().replace("idle_seconds = 60", "idle_seconds = 1");
    std::fs::write(file, text).unwrap();
    guillemet.run();
    let mut listening = Listening::to(&guillemet);
    let mut silent = UnixStream::connect(guillemet.path("run/guillemet.sock")).unwrap();
    assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0, "the silent one is ended");
    guillemet.add("name", "value");
    assert_eq!(listening.next_of("secret")["name"], "name");
}
