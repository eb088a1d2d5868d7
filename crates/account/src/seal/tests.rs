//! Vectors, and tests that nothing opens except what was sealed, in the place it was sealed for.

use crypto_box::SalsaBox;
use crypto_box::aead::Aead;
use proptest::prelude::*;

use super::*;
use guillemet_secret::crypto::{DeviceSecret, WeakKey, wrap};
use guillemet_wire::{HeadRef, PublicKey, Wrap};

fn count<const N: usize>(from: u8) -> [u8; N] {
    std::array::from_fn(|index| from.wrapping_add(index as u8))
}

const ID: [u8; 16] = [0x20; 16];

fn account() -> AccountId {
    AccountId(count(0x10))
}

fn key(epoch: u64, from: u8) -> EpochKey {
    EpochKey::new(epoch, Key::from_bytes(&mut count(from)))
}

fn hash(sealed: &Sealed) -> String {
    Hash::of(&[&sealed.0]).to_string()
}

/// The boxes were made in Python: `nonce + nacl.bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(padded, ad, nonce,
/// subkey)` of PyNaCl 1.6.2, with `hmac.new(key, b"guillemet subkey 1\0" + label, sha256)` and `struct.pack("<Q", …)`.
/// The test has the SHA-256 of each box. Account 10…1f, object 20…2f, key 80…9f of epoch 3, nonce 40…57; the link's key
/// is a0…bf of epoch 2.
#[test]
fn boxes_are_those_of_another_implementation() {
    let key = key(3, 0x80);
    let (long, id) = ("x".repeat(5000), count(0x20));
    let cases = [
        (BoxKind::Head, NO_ID, 9, "{}", 296, "c74629d5916fdb0f9d709025d5d7e9513067fe3fbcd46c736052b4c6aa43cdfa"),
        (BoxKind::Record, id, 7, "text", 296, "21f96a79ac0e30d4a97cac10d1dfc3e1d8911cdfbbee593fc2f937fb672687d5"),
        (BoxKind::Record, id, 7, &long, 5160, "968e8ba935972bcf78b5b6319a8d9f290a237707941801966cd28b2b9cf768cc"),
        (BoxKind::Usage, id, 7, "", 296, "30ab74e2fcc9b25c955ab834cd36de97e4956d94f18677ee209c98ebd9543113"),
    ];
    for (kind, id, revision, text, len, expected) in cases {
        let sealed = key.seal_with(&count(0x40), kind, account(), id, revision, text.as_bytes());
        assert_eq!((sealed.0.len(), hash(&sealed).as_str()), (len, expected), "{kind:?}");
        assert_eq!(key.open(kind, account(), id, revision, &sealed).unwrap().as_slice(), text.as_bytes());
    }
    let link = key.link_with(&count(0x40), account(), &self::key(2, 0xa0));
    assert_eq!(hash(&link.sealed), "a5ca9f1424bdb4d746bfc31de335340856f4ce4868f73936cd153c157fb2aef6");
    let former = key.open_link(account(), &link).unwrap();
    assert_eq!((former.epoch(), former.key().expose()), (2, &count(0xa0)));
}

#[test]
fn nothing_opens_but_where_it_was_sealed_for() {
    let key = key(3, 0x80);
    let sealed = key.seal(BoxKind::Record, account(), ID, 7, b"text");
    assert_eq!(key.open(BoxKind::Record, account(), ID, 7, &sealed).unwrap().as_slice(), b"text");
    for kind in [BoxKind::Head, BoxKind::Link, BoxKind::Usage] {
        assert!(key.open(kind, account(), ID, 7, &sealed).is_err());
    }
    assert!(key.open(BoxKind::Record, AccountId(count(0x11)), ID, 7, &sealed).is_err());
    assert!(key.open(BoxKind::Record, account(), count(0x21), 7, &sealed).is_err());
    assert!(key.open(BoxKind::Record, account(), ID, 8, &sealed).is_err());
    assert!(self::key(2, 0x80).open(BoxKind::Record, account(), ID, 7, &sealed).is_err());
    assert!(self::key(3, 0x81).open(BoxKind::Record, account(), ID, 7, &sealed).is_err());
    for at in 0..sealed.0.len() {
        let mut changed = sealed.clone();
        changed.0[at] ^= 1;
        assert!(key.open(BoxKind::Record, account(), ID, 7, &changed).is_err());
        assert!(key.open(BoxKind::Record, account(), ID, 7, &Sealed(sealed.0[..at].to_vec())).is_err());
    }
}

#[test]
fn every_kind_has_a_subkey_of_its_own() {
    let key = key(1, 0);
    for (at, kind) in BoxKind::ALL.into_iter().enumerate() {
        assert_eq!((kind as usize, kind.label()), (at, format!("account-{}", kind.name()).as_str()));
        assert_eq!(key.subkey(kind).expose(), Key::from_bytes(&mut count(0)).subkey(kind.label()).expose());
    }
}

#[test]
fn padding_is_taken_off_only_as_it_is_put_on() {
    let unpad = |bytes: &[u8]| unpad(Zeroizing::new(bytes.to_vec())).map(|bytes| bytes.to_vec());
    for len in [0, 1, 251, 252, 253, 4092, 4093, 70_000] {
        let text = vec![7; len];
        let padded = pad(&text);
        assert_eq!(unpad(&padded).unwrap(), text);
        let written = len + 4;
        assert!(padded.len() >= written && padded.len() <= written + (written / 8).max(255), "{len}: {}", padded.len());
        assert!(unpad(&[&padded[..], &[0; 256]].concat()).is_err(), "more zeros than there should be");
        assert!(unpad(&padded[..padded.len() - 1]).is_err());
    }
    let mut other = pad(b"text");
    other[8] = 1;
    assert!(unpad(&other).is_err(), "what follows is not zero");
    for len in [253_u32, 1000, u32::MAX] {
        other[..4].copy_from_slice(&len.to_le_bytes());
        assert!(unpad(&other).is_err(), "it is longer than the box");
    }
    assert!(unpad(&[]).is_err() && unpad(&[0; 3]).is_err());
}

#[test]
fn links_lead_to_the_epoch_before_and_nowhere_else() {
    let (newest, former) = (EpochKey::random(3), EpochKey::random(2));
    let link = newest.link(account(), &former);
    assert_eq!(newest.open_link(account(), &link).unwrap().key().expose(), former.key().expose());
    assert!(newest.open_link(AccountId(count(0)), &link).is_err());
    assert!(former.open_link(account(), &link).is_err());
    assert!(newest.open_link(account(), &EpochLink { epoch: 2, ..link.clone() }).is_err());
    let short = newest.seal(BoxKind::Link, account(), NO_ID, 2, &[1; 31]);
    assert!(newest.open_link(account(), &EpochLink { epoch: 3, sealed: short }).is_err());
    // There is no epoch before the first.
    let first = EpochKey::random(1);
    let sealed = first.seal(BoxKind::Link, account(), NO_ID, 0, &[1; 32]);
    assert!(first.open_link(account(), &EpochLink { epoch: 1, sealed }).is_err());
    assert!(EpochKey::random(0).open_link(account(), &EpochLink { epoch: 0, sealed: Sealed::default() }).is_err());
}

#[test]
#[should_panic(expected = "a link leads to the epoch before")]
fn a_link_over_an_epoch_is_not_made() {
    EpochKey::random(4).link(account(), &EpochKey::random(2));
}

#[test]
fn a_key_is_never_printed() {
    assert_eq!(format!("{:?}", key(3, 0x80)), "EpochKey(3, …)");
}

const SENDER: DeviceId = DeviceId([0xd0; 16]);
const ME: DeviceId = DeviceId([0xe0; 16]);

fn head() -> HeadRef {
    HeadRef { seq: 9, hash: Hash(count(0xb0)) }
}

fn devices() -> (DeviceSecret, DeviceSecret) {
    (DeviceSecret::from_bytes(&mut count(0x01)), DeviceSecret::from_bytes(&mut count(0x61)))
}

fn public(secret: &DeviceSecret) -> PublicKey {
    PublicKey(secret.public())
}

/// Returns a wrap with these bytes inside.
fn wrapped(plaintext: &[u8]) -> Wrap {
    let (sender, me) = devices();
    let sealed = Sealed(wrap(&sender, &me.public(), plaintext).unwrap());
    Wrap { device: ME, epoch: 3, sender: SENDER, sealed }
}

fn opened(wrap: &Wrap) -> Result<(EpochKey, HeadRef), BadWrap> {
    let (sender, me) = devices();
    open_wrap(account(), (ME, &me), &public(&sender), wrap)
}

/// The wrap was made in Python: `nonce + nacl.bindings.crypto_box(plaintext, nonce, public, secret)`, its SHA-256.
/// Secret keys 01…20 and 61…80, nonce 40…57, devices d0…df and e0…ef, head 9 with hash b0…cf.
#[test]
fn wraps_are_those_of_another_implementation() {
    let (sender, me) = devices();
    let (nonce, sender_secret): ([u8; 24], [u8; 32]) = (count(0x40), count(0x01));
    let plaintext = key(3, 0x80).wrap_content(account(), DeviceId(count(0xd0)), DeviceId(count(0xe0)), head());
    let boxed =
        SalsaBox::new(&me.public().into(), &sender_secret.into()).encrypt(&nonce.into(), &plaintext[..]).unwrap();
    let sealed = Sealed([&nonce[..], &boxed].concat());
    assert_eq!(sealed.0.len(), 185);
    assert_eq!(hash(&sealed), "d0abc908da3c12d8b493e410ba7e56518ac4e0666c8cec32acd59a9ad836b2b4");
    let wrap = Wrap { device: DeviceId(count(0xe0)), epoch: 3, sender: DeviceId(count(0xd0)), sealed };
    let (key, found) = open_wrap(account(), (wrap.device, &me), &public(&sender), &wrap).unwrap();
    assert_eq!((key.epoch(), key.key().expose(), found), (3, &count(0x80), head()));
}

#[test]
fn a_wrap_is_taken_by_its_recipient_only() {
    let ((sender, me), key) = (devices(), key(3, 0x80));
    let wrap = key.wrap_for(account(), (SENDER, &sender), (ME, public(&me)), head()).unwrap();
    assert_eq!(opened(&wrap).unwrap().1, head());
    let other = DeviceSecret::random();
    let error = |account, me, sender: &PublicKey, wrap: &Wrap| open_wrap(account, me, sender, wrap).unwrap_err();
    let from = public(&sender);
    assert_eq!(error(account(), (SENDER, &sender), &from, &wrap), BadWrap::Misdirected);
    assert_eq!(error(account(), (ME, &other), &from, &wrap), BadWrap::Unopened);
    assert_eq!(error(account(), (ME, &me), &public(&other), &wrap), BadWrap::Unopened);
    assert_eq!(error(account(), (ME, &me), &PublicKey::default(), &wrap), BadWrap::Unopened);
    assert_eq!(error(AccountId(count(0)), (ME, &me), &from, &wrap), BadWrap::Account);
    assert_eq!(error(account(), (ME, &me), &from, &Wrap { epoch: 4, ..wrap.clone() }), BadWrap::Epoch);
    assert_eq!(error(account(), (ME, &me), &from, &Wrap { sender: ME, ..wrap.clone() }), BadWrap::Sender);
    // The server gives a wrap for one device to another one that has the same key: a cloned machine.
    let misled = Wrap { device: SENDER, ..wrap.clone() };
    assert_eq!(error(account(), (SENDER, &me), &from, &misled), BadWrap::Recipient);
    let weak = key.wrap_for(account(), (SENDER, &sender), (ME, PublicKey::default()), head());
    assert_eq!(weak.unwrap_err(), WeakKey);
}

/// `crypto_box` with one device's own two keys opens both ways, so a wrap that a device sealed must not come back to it
/// as another's.
#[test]
fn a_wrap_does_not_come_back_to_its_sender() {
    let ((sender, me), key) = (devices(), key(3, 0x80));
    let wrap = key.wrap_for(account(), (SENDER, &sender), (ME, public(&me)), head()).unwrap();
    let back = Wrap { device: SENDER, sender: ME, ..wrap };
    assert_eq!(open_wrap(account(), (SENDER, &sender), &public(&me), &back).unwrap_err(), BadWrap::Sender);
}

#[test]
fn other_forms_of_a_wrap_are_refused() {
    let plaintext = key(3, 0x80).wrap_content(account(), SENDER, ME, head());
    assert!(opened(&wrapped(&plaintext)).is_ok());
    for malformed in [&plaintext[1..], &[&plaintext[..], &[0]].concat(), &[], b"guillemet wrap 1\0"] {
        assert_eq!(opened(&wrapped(malformed)).unwrap_err(), BadWrap::Malformed);
    }
    for at in [0, 14, 15] {
        let mut changed = plaintext.clone();
        changed[at] ^= 1;
        assert_eq!(opened(&wrapped(&changed)).unwrap_err(), BadWrap::Malformed);
    }
    let no_head = key(3, 0x80).wrap_content(account(), SENDER, ME, HeadRef { seq: 0, ..head() });
    assert_eq!(opened(&wrapped(&no_head)).unwrap_err(), BadWrap::Malformed);
    let no_epoch = wrapped(&key(0, 0x80).wrap_content(account(), SENDER, ME, head()));
    assert_eq!(opened(&Wrap { epoch: 0, ..no_epoch }).unwrap_err(), BadWrap::Malformed);
}

proptest! {
    #[test]
    fn what_is_sealed_comes_back(
        text in proptest::collection::vec(any::<u8>(), 0..9000), id in any::<[u8; 16]>(), revision in any::<u64>(),
    ) {
        let key = key(5, 1);
        let sealed = key.seal(BoxKind::Record, account(), id, revision, &text);
        prop_assert_eq!(sealed.0.len(), 40 + padded(4 + text.len()));
        prop_assert_eq!(key.open(BoxKind::Record, account(), id, revision, &sealed).unwrap().to_vec(), text);
    }

    #[test]
    fn what_is_bound_cannot_be_changed(
        at in 0..32_usize, bit in 0..8_u32, revision in any::<u64>(), other in any::<u64>(), epoch in 1..u64::MAX,
    ) {
        prop_assume!(revision != other && epoch != other);
        let sealed = key(epoch, 1).seal(BoxKind::Usage, account(), ID, revision, b"text");
        let mut both = [account().0, ID].concat();
        both[at] ^= 1 << bit;
        let (account_, id) = (AccountId(both[..16].try_into().unwrap()), both[16..].try_into().unwrap());
        prop_assert!(key(epoch, 1).open(BoxKind::Usage, account_, id, revision, &sealed).is_err());
        prop_assert!(key(epoch, 1).open(BoxKind::Usage, account(), ID, other, &sealed).is_err());
        prop_assert!(key(other, 1).open(BoxKind::Usage, account(), ID, revision, &sealed).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let sealed = Sealed(bytes.clone());
        let key = key(2, 1);
        prop_assert!(key.open(BoxKind::Head, account(), NO_ID, 1, &sealed).is_err());
        let link = EpochLink { epoch: 2, sealed: sealed.clone() };
        prop_assert!(key.open_link(account(), &link).is_err());
        let wrap = Wrap { device: ME, epoch: 3, sender: SENDER, sealed };
        prop_assert!(opened(&wrap).is_err());
        prop_assert!(opened(&wrapped(&bytes)).is_err());
        let _ = unpad(Zeroizing::new(bytes));
    }
}
