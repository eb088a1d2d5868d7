//! What is sealed and hashed, byte by byte, so that another client can make the same. The hashes were made in Python,
//! with `hashlib.sha256` and `struct.pack("<Q", …)`, from docs/account-protocol.md.

use super::super::object::Object;
use super::super::*;
use guillemet_wire::{AccountId, Hash, PublicKey, Sealed, SealedHead};

const HEAD: &str = concat!(
    r#"{"seq":7,"epoch":2,"prev":"1111111111111111111111111111111111111111111111111111111111111111","#,
    r#""root":"59b3d703304cbfd4786ddb5465668df4e9590c43ce353491cb31be0af5c2974f","#,
    r#""made_at":1764093600000,"by":"02020202020202020202020202020202","#,
    r#""devices":[{"id":"02020202020202020202020202020202","#,
    r#""key":"0303030303030303030303030303030303030303030303030303030303030303","name":"work \"laptop\"","#,
    r#""joined_at":1764090000000,"paper":false,"references":"04040404040404040404040404040404"}],"#,
    r#""intents":["05050505050505050505050505050505"]}"#,
);
const ROOT: &str = "59b3d703304cbfd4786ddb5465668df4e9590c43ce353491cb31be0af5c2974f";

fn head() -> Head {
    Head {
        seq: 7,
        epoch: 2,
        prev: Hash([0x11; 32]),
        root: ROOT.parse().unwrap(),
        made_at: 1_764_093_600_000,
        by: DeviceId([2; 16]),
        devices: vec![Device {
            id: DeviceId([2; 16]),
            key: PublicKey([3; 32]),
            name: "work \"laptop\"".into(),
            joined_at: 1_764_090_000_000,
            paper: false,
            references: ObjectId([4; 16]),
        }],
        intents: vec![IntentId([5; 16])],
    }
}

#[test]
fn a_head_is_this_json_and_nothing_else() {
    assert_eq!(serde_json::to_string(&head()).unwrap(), HEAD);
    assert_eq!(serde_json::from_str::<Head>(HEAD).unwrap(), head());
    let more = HEAD.replacen('{', r#"{"more":1,"#, 1);
    assert!(serde_json::from_str::<Head>(&more).is_err());
}

#[test]
fn a_head_has_this_hash() {
    let sealed = Sealed((0..64).collect());
    let sealed = SealedHead { seq: 7, epoch: 2, prev: Hash([0x11; 32]), sealed };
    let hash = sealed.hash(AccountId([0xaa; 16]));
    assert_eq!(hash.to_string(), "e344ebd2e63f8bddf53489cbd6212f7dd369223a132a5bcdb5dd8f8656feb04f");
}

#[test]
fn a_few_records_have_this_root() {
    let mut tree = RecordTree::new();
    for (id, revision, epoch, sealed) in [
        ("00000000000000000000000000000000", 1, 1, "box of zeros"),
        ("00400000000000000000000000000001", 2, 1, "box in bucket one"),
        ("ffc0ffffffffffffffffffffffffffff", 3, 2, "box in the last bucket"),
        ("007fffffffffffffffffffffffffffff", 9, 2, "another in bucket one"),
    ] {
        tree.set(id.parse().unwrap(), Some(RecordLeaf::of(revision, epoch, &Sealed(sealed.as_bytes().to_vec()))));
    }
    assert_eq!(tree.root().to_string(), ROOT);
}

#[test]
fn a_record_begins_with_its_kind() {
    let secret = Arc::new(Secret::new("cal-com".parse().unwrap(), "geheim", true, 9).unwrap());
    let layout = secret.encode();
    assert_eq!(*Object::Secret(Arc::clone(&secret)).encode().unwrap(), [&[1], layout.as_slice()].concat());

    let by = DeviceId([6; 16]);
    let deleted = Object::Deleted(Arc::new(Deleted { seq: 0x0102, at: 0x0304, by, secret }));
    let front = [2, 2, 1, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0];
    assert_eq!(*deleted.encode().unwrap(), [front.as_slice(), &[6; 16], &layout].concat());
    match Object::decode(&deleted.encode().unwrap()).unwrap() {
        Object::Deleted(again) => assert_eq!((again.seq, again.at, again.by), (0x0102, 0x0304, by)),
        _ => panic!("it is another object"),
    }

    let named = DeviceReference { template: "cal-com/a".into(), line: 3, column: 7, name: "Cal".into() };
    let texts = vec![Words::of("sip/b", "<< secret \"X-1\"")];
    let references =
        References { device: by, seen: 4, references: vec![named], texts, unknown: vec!["templates/mcp".into()] };
    let json = concat!(
        r#"{"device":"06060606060606060606060606060606","seen":4,"#,
        r#""references":[{"template":"cal-com/a","line":3,"column":7,"name":"Cal"}],"#,
        r#""texts":[{"template":"sip/b","words":["secret","x-1"]}],"unknown":["templates/mcp"]}"#,
    );
    assert_eq!(*Object::References(Arc::new(references)).encode().unwrap(), [b"\x03", json.as_bytes()].concat());
    for kind in [0, 4, 255] {
        assert!(Object::decode(&[kind]).is_err());
    }
    assert!(Object::decode(&[]).is_err());
}
