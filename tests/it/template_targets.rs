//! The targets that a template is for: those in its field `targets`, or its feature's default. The check, listings, a
//! render without a target and the rules of callers all use them.

use crate::support::daemon::Guillemet;
use crate::support::users::{self, AGENT, GROUP, as_user};
use serde_json::{Value, json};

/// A trunk without numbers. LiveKit, the default target, needs numbers, and Asterisk does not.
const TRUNK: &str = "name = 'carrier'\ndirection = 'outbound'\ntermination_uri = 'sip.example.com:5061'\n\
                     transport = 'tls'\nusername = '<< secret \"user\" >>'\npassword = '<< secret \"pass\" >>'\n";

fn naming(targets: &str) -> String {
    format!("targets = {targets}\n{TRUNK}")
}

fn daemon(config: &str) -> Guillemet {
    let mut guillemet = Guillemet::init();
    std::fs::write(guillemet.path("guillemet.toml"), config).unwrap();
    guillemet.run();
    guillemet.add("user", "trunk-user");
    guillemet.add("pass", "trunk-password");
    guillemet
}

/// Runs `template check`. Returns whether it succeeds, its standard output and its standard error.
fn check(guillemet: &Guillemet, arguments: &[&str]) -> (bool, String, String) {
    let output = guillemet.command(&[&["template", "check"], arguments].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

fn template(guillemet: &Guillemet) -> Value {
    guillemet.get("/v1/templates/sip-trunk/carrier").json()
}

/// Returns the numbers of good and of broken templates in the status.
fn counts(guillemet: &Guillemet) -> [u64; 2] {
    let status = guillemet.get("/v1/status").json();
    ["ok", "broken"].map(|kind| status["templates"][kind].as_u64().unwrap())
}

#[test]
fn a_template_for_one_target_is_good_when_that_is() {
    let guillemet = daemon("");
    guillemet.write("sip-trunk/carrier.toml", &naming("['pjsip']"));
    assert_eq!(check(&guillemet, &[]), (true, "sip-trunk/carrier ok\n".into(), String::new()));
    let shown = template(&guillemet);
    assert_eq!((&shown["status"], &shown["targets"]), (&json!("ok"), &json!(["pjsip"])));
    assert_eq!(shown["references"][1]["field"], "password");
    assert_eq!(counts(&guillemet), [1, 0]);
    let metrics = guillemet.get("/metrics").text();
    assert!(metrics.contains("guillemet_templates{status=\"ok\"} 1"), "{metrics}");
    // A render without a target uses it, and any other target can still be requested.
    let rendered = guillemet.get("/v1/render/sip-trunk/carrier").text();
    assert!(rendered.contains("[carrier") && rendered.contains("trunk-password"), "{rendered}");
    assert_eq!(guillemet.get("/v1/templates/sip-trunk/carrier/explain").json()["target"], "pjsip");
    assert_eq!(guillemet.get("/v1/render/sip-trunk/carrier?target=kamailio").status, 200);
    let livekit = guillemet.get("/v1/render/sip-trunk/carrier?target=livekit");
    assert!(livekit.status == 422 && livekit.text().contains("LiveKit calls out"), "{}", livekit.text());
    let (ok, _, told) = check(&guillemet, &["sip-trunk/carrier", "--target", "livekit"]);
    assert!(!ok && told.contains("LiveKit calls out"), "{told}");
    // The same holds for a template that comes with the request.
    let inline = json!({"feature": "sip-trunk", "format": "toml", "template": naming("['pjsip']")});
    assert_eq!(guillemet.post("/v1/render", &inline).text(), rendered);
}

#[test]
fn a_template_that_names_none_is_checked_for_the_default_alone() {
    let guillemet = daemon("");
    guillemet.write("sip-trunk/carrier.toml", TRUNK);
    let (ok, said, told) = check(&guillemet, &[]);
    assert!(!ok && said == "sip-trunk/carrier broken\n" && told.contains("LiveKit calls out"), "{told}");
    assert!(!told.contains("nothing can be rendered") && !told.contains("warning"), "{told}");
    let words = "can be rendered for pjsip, freeswitch, kamailio";
    assert!(told.contains(words) && told.contains("list these in its field `targets`"), "{told}");
    assert_eq!(template(&guillemet)["targets"][0], "livekit");
    assert!(check(&guillemet, &["sip-trunk/carrier", "--target", "pjsip"]).0);
    guillemet.write("sip-trunk/carrier.toml", &format!("numbers = ['+493012345678']\n{TRUNK}"));
    assert_eq!(check(&guillemet, &[]), (true, "sip-trunk/carrier ok\n".into(), String::new()));
}

#[test]
fn of_several_targets_each_has_to_be_good() {
    let guillemet = daemon("");
    guillemet.write("sip-trunk/carrier.toml", &naming("['pjsip', 'livekit']"));
    let (ok, _, told) = check(&guillemet, &[]);
    assert!(!ok && told.contains("(target `livekit`)") && !told.contains("can be rendered for"), "{told}");
    let shown = template(&guillemet);
    assert_eq!((&shown["status"], &shown["targets"]), (&json!("broken"), &json!(["pjsip", "livekit"])));
    assert!(shown["problems"].to_string().contains("(target `livekit`)"), "{shown}");
    assert_eq!(shown["references"][0]["field"], "username", "the plan for the other target knows it");
    assert_eq!(counts(&guillemet), [0, 1]);
    assert!(guillemet.get("/metrics").text().contains("guillemet_templates{status=\"broken\"} 1"));
    assert_eq!(guillemet.get("/v1/render/sip-trunk/carrier").status, 200);
    // A mistake that concerns all targets is reported once, without a target.
    guillemet.write("sip-trunk/carrier.toml", &naming("['pjsip', 'kamailio']").replace("'tls'", "'quic'"));
    let (_, _, told) = check(&guillemet, &[]);
    assert!(told.matches("transport").count() > 0 && !told.contains("(target"), "{told}");
    let entries = template(&guillemet)["problems"].as_array().unwrap().len();
    assert_eq!(entries, 1, "{told}");
}

#[test]
fn a_mistake_in_the_list_stops_every_render_with_its_line() {
    let guillemet = daemon("");
    for (targets, words) in [
        ("'pjsip'", "`targets` is not a list"),
        ("[]", "`targets` is an empty list"),
        ("['pjsip', 'asterisk']", "has no target \\\"asterisk\\\""),
        ("['<< secret \"user\" >>']", "the secret \\\"user\\\" is in `targets`"),
    ] {
        guillemet.write("sip-trunk/carrier.toml", &naming(targets));
        for query in ["", "?target=pjsip"] {
            let answer = guillemet.get(&format!("/v1/render/sip-trunk/carrier{query}"));
            assert!(answer.status == 422 && answer.text().contains(words), "{targets}: {}", answer.text());
            assert_eq!(answer.json()["errors"][0]["line"], 1, "{}", answer.text());
            assert!(!answer.text().contains("trunk-user"), "{}", answer.text());
        }
        let shown = template(&guillemet);
        assert_eq!((&shown["status"], &shown["targets"][0]), (&json!("broken"), &json!("livekit")));
    }
}

#[test]
fn a_rule_for_one_target_holds_whatever_a_template_names() {
    if !users::can() {
        return;
    }
    let guillemet = daemon(&format!(
        "[api]\ngroup = {GROUP}\n[[client]]\nuid = {AGENT}\ntemplates = ['sip-trunk/carrier:pjsip', 'sip-trunk/any']\n"
    ));
    let status = |path: &str| {
        let socket = guillemet.path("run/guillemet.sock");
        let path = format!("/v1/render/sip-trunk/{path}");
        as_user(AGENT, || crate::support::daemon::try_ask(&socket, "GET", &path, &[], b"").unwrap().status)
    };
    let write = |targets: &str| guillemet.write("sip-trunk/carrier.toml", &naming(targets));
    write("['pjsip', 'kamailio']");
    assert_eq!(["carrier", "carrier?target=pjsip", "carrier?target=kamailio"].map(status), [200, 200, 403]);
    // Editing the template gives nobody a target that no rule allows.
    write("['kamailio', 'pjsip']");
    assert_eq!(["carrier", "carrier?target=pjsip", "carrier?target=kamailio"].map(status), [403, 200, 403]);
    // A caller who may not render a template learns nothing of its mistakes.
    write("['kamailio', 'nothing']");
    assert_eq!(["carrier", "carrier?target=pjsip"].map(status), [403, 422]);
    guillemet.write("sip-trunk/any.toml", &naming("['kamailio']"));
    assert_eq!(["any", "any?target=pjsip", "other", "other?target=pjsip"].map(status), [200, 200, 403, 403]);
}
