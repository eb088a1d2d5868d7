//! Plugins made for another version of the contract, as real components. One of a later 1.x that uses nothing new
//! works; any other is refused, and the message says what it needs.

use std::path::PathBuf;

use crate::support::component::{componentize, hostile, module};
use crate::support::daemon::Guillemet;

/// Returns the component with another version in the names of its interfaces. Both versions have the same length.
fn of_version(component: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut component = component.to_vec();
    let mut found = 0;
    for at in 0..component.len() - from.len() {
        if &component[at..at + from.len()] == from.as_bytes() {
            component[at..at + to.len()].copy_from_slice(to.as_bytes());
            found += 1;
        }
    }
    assert!(found >= 2, "an import and an export are of version {from}");
    component
}

fn file(guillemet: &Guillemet, component: &[u8]) -> PathBuf {
    let file = guillemet.path("later.wasm");
    std::fs::write(&file, component).unwrap();
    file
}

#[test]
fn one_of_a_later_minor_version_that_uses_nothing_new_works() {
    let guillemet = Guillemet::start();
    guillemet.add("a-token", "canary-value");
    guillemet.write("later/a.json", r#"{"token": "<< secret 'a-token' >>"}"#);
    let file = file(&guillemet, &componentize(&module("later")));
    let checked = guillemet.command(&["plugin", "check", file.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    let names = "imports\n  guillemet:feature/encode@1.7.0: has-secret, header-value\n";
    assert!(checked.status.success() && text.contains(names), "{text}");
    let added = guillemet.command(&["plugin", "add", file.to_str().unwrap(), "--yes"]);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let answer = guillemet.get("/v1/render/later/a");
    assert_eq!((answer.status, answer.json()["token"].as_str()), (200, Some("canary-value")), "{}", answer.text());
}

#[test]
fn one_of_the_first_version_works() {
    let guillemet = Guillemet::start();
    guillemet.add("a-token", "canary-value");
    guillemet.write("later/a.json", r#"{"token": "<< secret 'a-token' >>"}"#);
    let component = of_version(&componentize(&module("later")), "@1.7.0", "@1.0.0");
    let file = file(&guillemet, &component);
    let added = guillemet.command(&["plugin", "add", file.to_str().unwrap(), "--yes"]);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let answer = guillemet.get("/v1/render/later/a");
    assert_eq!((answer.status, answer.json()["token"].as_str()), (200, Some("canary-value")), "{}", answer.text());
}

#[test]
fn one_that_uses_what_is_new_is_told_what_it_needs() {
    let guillemet = Guillemet::start();
    let file = file(&guillemet, &componentize(&module("later-new")));
    let words = "built for guillemet:feature@1.7.0 and uses `encode.quoted-printable`, which this Guillemet (1.1.0) does \
                 not have; update Guillemet";
    for arguments in [&["plugin", "add"][..], &["plugin", "check"]] {
        let output = guillemet.command(&[arguments, &[file.to_str().unwrap()]].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && text.contains(words), "{text}");
    }
}

#[test]
fn one_of_another_major_version_is_refused_with_the_reason() {
    let guillemet = Guillemet::start();
    for (component, version, what_to_do) in [
        (of_version(&componentize(&module("later")), "@1.7.0", "@2.0.0"), "2.0.0", "update Guillemet, or build it"),
        (of_version(hostile(), "@1.1.0", "@0.9.0"), "0.9.0", "build it against guillemet:feature@1.x"),
    ] {
        let output = guillemet.command(&["plugin", "add", file(&guillemet, &component).to_str().unwrap()]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let words = format!("it was built for guillemet:feature@{version}, but this Guillemet supports 1.x (1.1.0)");
        assert_eq!(output.status.code(), Some(1));
        assert!(text.matches(&words).count() == 1 && text.contains(what_to_do), "{text}");
    }
}
