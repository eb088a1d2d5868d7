//! What is read from the vault: records, events and boxes are either what was written or refused.

use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use guillemet_base::names::{SecretId, SecretName};
use guillemet_base::sys::memory::Clear;
use guillemet_secret::crypto::{self, Key};
use guillemet_secret::memory::SealedValue;
use guillemet_secret::record::{Secret, VALUE_MAX, Version};
use guillemet_vault::event::{self, Caller, RecordedUse, RequestEvent, Subject};

/// The first byte selects how the others are read.
pub fn holds(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 4 {
        0 => plaintext(rest),
        1 => event(rest),
        2 => boxed(rest),
        _ => {
            if let Ok(secret) = secret(&mut Unstructured::new(rest)) {
                let read = Secret::decode(&secret.encode(), secret.revision).expect("what was written is read");
                same(&read, &secret);
            }
        }
    }
}

/// Checks that any plaintext is either refused or exactly the one form in which this secret is written.
fn plaintext(bytes: &[u8]) {
    let Ok(secret) = Secret::decode(bytes, 7) else { return };
    let written = secret.encode();
    assert_eq!(content(&written), content(bytes), "a secret is written in one way");
    assert_eq!(written.len() % 256, 0, "the length of a box tells little");
    assert!(secret.versions.iter().all(|version| (1..=VALUE_MAX).contains(&version.value.len())));
    same(&Secret::decode(&written, 7).unwrap(), &secret);
}

/// Returns the bytes without the padding.
fn content(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1)]
}

fn same(a: &Secret, b: &Secret) {
    assert_eq!((a.id, a.revision, a.enabled, a.created_at, a.updated_at), {
        (b.id, b.revision, b.enabled, b.created_at, b.updated_at)
    });
    let spelled = |names: &[SecretName]| names.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(a.name.as_str(), b.name.as_str());
    assert_eq!(spelled(&a.former_names), spelled(&b.former_names));
    let opened = |version: &Version| {
        let mut out = Clear::new();
        version.value.open_into(&mut out);
        (version.number, version.id, version.created_at, out.to_vec())
    };
    assert!(a.versions.iter().map(opened).eq(b.versions.iter().map(opened)));
}

/// Checks that any record of the journal is either not an event or exactly the one form in which this event is written.
fn event(record: &[u8]) {
    let Some(decoded) = event::decode(record) else { return };
    let texts = [Some(decoded.exe), decoded.template, decoded.target, decoded.route];
    let name = |usage: &RecordedUse<'_>| match usage.subject {
        Subject::Name(name) => name.len(),
        Subject::Secret(_) | Subject::Unknown(_) => 0,
    };
    if decoded.uses.iter().any(|usage| name(usage) > 1024) {
        return; // Never written, because longer texts are cut.
    }
    let fields = decoded.uses.iter().map(|usage| Some(usage.field));
    if texts.into_iter().chain(fields).flatten().any(|text| text.len() > 1024) {
        return; // Never written, because longer texts are cut.
    }
    let caller = Caller { uid: decoded.uid, gid: decoded.gid, pid: decoded.pid, exe: decoded.exe.into() };
    let event = RequestEvent {
        time: decoded.time,
        outcome: decoded.outcome,
        caller: &caller,
        template: decoded.template,
        target: decoded.target,
        route: decoded.route,
        uses: &decoded.uses,
    };
    let mut written = Vec::new();
    assert_eq!(event::encode(&event, &decoded.uses, usize::MAX, &mut written), decoded.uses.len());
    // The order in the record, and the number of names that it announced, make no difference.
    let again = event::decode(&written).expect("it was written so");
    assert_eq!(
        (again.time, again.outcome, again.uid, again.gid, again.pid),
        (event.time, event.outcome, decoded.uid, decoded.gid, decoded.pid)
    );
    assert_eq!(
        (again.exe, again.template, again.target, again.route),
        (decoded.exe, decoded.template, decoded.target, decoded.route)
    );
    assert_eq!(again.uses, decoded.uses);
}

/// Checks that random bytes are not a box, and that a box opens as it was sealed, but not after a change to one of its
/// bits, its length or its place.
fn boxed(data: &[u8]) {
    static KEY: LazyLock<Key> = LazyLock::new(Key::random);
    assert!(crypto::open(&KEY, b"place", data).is_err());
    assert!(crypto::open_key(&KEY, b"place", data).is_err());
    let mut sealed = crypto::seal(&KEY, b"place", data);
    assert_eq!(crypto::open(&KEY, b"place", &sealed).expect("it was sealed so").as_slice(), data);
    assert!(crypto::open(&KEY, b"another place", &sealed).is_err());
    let at = data.iter().map(|b| usize::from(*b)).sum::<usize>() % sealed.len();
    assert!(crypto::open(&KEY, b"place", &sealed[..at]).is_err());
    sealed[at] ^= 1 << (at % 8);
    assert!(crypto::open(&KEY, b"place", &sealed).is_err());
}

fn secret(u: &mut Unstructured<'_>) -> arbitrary::Result<Secret> {
    let value = |u: &mut Unstructured<'_>| {
        let text = String::arbitrary(u)?;
        Ok(SealedValue::seal(if text.is_empty() { "x" } else { &text }))
    };
    let version = |u: &mut Unstructured<'_>| {
        Ok(Version { number: u.arbitrary()?, id: u.arbitrary()?, created_at: u.arbitrary()?, value: value(u)? })
    };
    Ok(Secret {
        id: SecretId(u.arbitrary()?),
        revision: u.arbitrary()?,
        name: name(u)?,
        former_names: (0..u.int_in_range(0..=5)?).map(|_| name(u)).collect::<arbitrary::Result<_>>()?,
        enabled: u.arbitrary()?,
        created_at: u.arbitrary()?,
        updated_at: u.arbitrary()?,
        versions: (0..u.int_in_range(1..=5)?).map(|_| version(u)).collect::<arbitrary::Result<_>>()?,
    })
}

fn name(u: &mut Unstructured<'_>) -> arbitrary::Result<SecretName> {
    let letters = b"abzAZ09._-";
    let bytes: Vec<u8> = u.arbitrary()?;
    let text: String = bytes.iter().take(127).map(|b| char::from(letters[usize::from(*b) % letters.len()])).collect();
    Ok(format!("a{text}").parse().expect("a name"))
}
