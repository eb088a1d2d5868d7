//! Vectors, and tests that an inviter believes only the device it invited.

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;
use crate::code::AccountAddress;
use guillemet_secret::crypto::DeviceSecret;

fn count<const N: usize>(from: u8) -> [u8; N] {
    std::array::from_fn(|index| from.wrapping_add(index as u8))
}

fn account() -> AccountId {
    AccountId(count(0x10))
}

fn public(from: u8) -> PublicKey {
    PublicKey(DeviceSecret::from_bytes(&mut count(from)).public())
}

fn invitation() -> InvitationCode {
    InvitationCode {
        address: AccountAddress::new(account(), "https://account.example", None).unwrap(),
        inviter: DeviceId(count(0xd0)),
        inviter_key: public(0x01),
        secret: Zeroizing::new(count(0x70)),
        token: Zeroizing::new(count(0x90)),
    }
}

fn said_with(name: &str) -> Enrolment {
    let api_key = ApiKey::parse("sk-ab12cd34.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8").unwrap();
    enrolment_request_with(&count(0x40), &invitation(), DeviceId(count(0xe0)), public(0x61), name, &api_key)
}

fn verified(enrolment: &Enrolment) -> Result<String, NotInvited> {
    verify(&count(0x70), account(), &public(0x01), enrolment)
}

/// The values were made in Python with `hashlib`, `hmac` and PyNaCl 1.6.2
/// (`crypto_aead_xchacha20poly1305_ietf_encrypt`, the SHA-256 of the box). Account 10…1f, secret 70…7f, joiner e0…ef,
/// secret keys 01…20 and 61…80, nonce 40…57.
#[test]
fn what_a_joiner_says_is_what_another_implementation_says() {
    let enrolment = said_with("büro");
    assert_eq!(enrolment.mac.to_string(), "91b32e73e37dadcbf35dde37ae6e31cbda8aa9b85b3be7cc094bbb961750e592");
    let name = Hash::of(&[&enrolment.name.0]).to_string();
    assert_eq!(name, "b4ed557a83f0deff38072080226eef0cda118970a0b8a6e7ec31dc8cdb301be4");
    assert_eq!(verified(&enrolment), Ok("büro".to_owned()));
}

#[test]
fn nothing_can_be_changed() {
    let enrolment = said_with("name");
    let forged = |change: fn(&mut Enrolment)| {
        let mut changed = enrolment.clone();
        change(&mut changed);
        assert_eq!(verified(&changed), Err(NotInvited::Forged));
    };
    forged(|it| it.key.device.0[0] ^= 1);
    forged(|it| it.key.key_id.replace_range(..1, "b"));
    forged(|it| it.key.key_id.push('a'));
    forged(|it| it.key.key_hash.0[31] ^= 1);
    forged(|it| it.public_key = public(0x62));
    forged(|it| it.mac.0[0] ^= 1);
    forged(|it| it.mac = Hash::default());
    forged(|it| it.name = Sealed::default());
    for at in 0..enrolment.name.0.len() {
        let mut changed = enrolment.clone();
        changed.name.0[at] ^= 1;
        assert_eq!(verified(&changed), Err(NotInvited::Forged));
    }
    let with = |secret: &[u8; 16], account, key: &PublicKey| verify(secret, account, key, &enrolment);
    assert_eq!(with(&count(0x71), account(), &public(0x01)), Err(NotInvited::Forged));
    assert_eq!(with(&count(0x70), AccountId(count(0x11)), &public(0x01)), Err(NotInvited::Forged));
    assert_eq!(with(&count(0x70), account(), &public(0x02)), Err(NotInvited::Forged));
}

/// Covers a device that has the secret, but runs another program.
#[test]
fn an_invited_device_says_what_guillemet_says() {
    let again = |change: fn(&mut Enrolment)| {
        let mut changed = said_with("name");
        change(&mut changed);
        let message = signed_bytes(account(), &public(0x01), &changed.key, &changed.public_key);
        changed.mac = Hash(join_key(&count(0x70)).subkey("account-join-mac").mac(&message));
        verified(&changed)
    };
    assert_eq!(again(|_| ()), Ok("name".to_owned()));
    assert_eq!(again(|it| it.key.key_id = "AB12CD34".into()), Err(NotInvited::Malformed));
    assert_eq!(again(|it| it.key.key_id = "ab12cd3".into()), Err(NotInvited::Malformed));
    assert_eq!(again(|it| it.public_key = PublicKey::default()), Err(NotInvited::Malformed));
    let sealed = |plaintext: &[u8]| {
        let key = join_key(&count(0x70)).subkey("account-join-name");
        let bound = name_bound(account(), DeviceId(count(0xe0)));
        verified(&Enrolment { name: Sealed(crypto::seal(&key, &bound, plaintext)), ..said_with("name") })
    };
    assert_eq!(sealed(b"not padded"), Err(NotInvited::Malformed));
    assert_eq!(sealed(&pad(b"\xff")), Err(NotInvited::Malformed));
    assert_eq!(sealed(&pad(b"a\x1b[2Jb\n")), Ok("a[2Jb".to_owned()), "it is cleaned where it is shown");
}

#[test]
fn names_are_fit_to_be_shown() {
    let shown = |name: &str| verified(&said_with(name)).unwrap();
    assert_eq!(shown("\u{7} Büro \u{202e}PC\u{7}\n"), "Büro PC");
    for nothing in ["", " \t", "\u{7}\u{200f}"] {
        assert_eq!(shown(nothing), "unnamed");
    }
    let long = shown(&"ö".repeat(1000));
    assert_eq!((long.chars().count(), long.chars().last()), (64, Some('…')));
    assert_eq!(said_with("a").name.0.len(), said_with(&"a".repeat(60)).name.0.len());
}

#[test]
fn every_hello_is_sealed_anew() {
    let key = ApiKey::random();
    let say = || enrolment_request(&invitation(), DeviceId(count(0xe0)), public(0x61), "name", &key);
    let (one, other) = (say(), say());
    assert!(one.mac == other.mac && one.name != other.name);
    assert_eq!(verified(&one), verified(&other));
}

proptest! {
    #[test]
    fn names_come_back_and_arbitrary_ones_never_panic(name in "\\PC{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let shown = verified(&said_with(&name)).unwrap();
        prop_assert!(!shown.is_empty() && shown.chars().count() <= 64);
        prop_assert_eq!(display_name(&shown), shown);
        let enrolment = Enrolment { name: Sealed(bytes), ..said_with("name") };
        prop_assert_eq!(verified(&enrolment), Err(NotInvited::Forged));
    }
}
