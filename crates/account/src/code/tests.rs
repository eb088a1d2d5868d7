//! Vectors, and the errors for codes that are not right.

use proptest::prelude::*;

use super::*;
use guillemet_wire::Hash;

fn count<const N: usize>(from: u8) -> [u8; N] {
    std::array::from_fn(|index| from.wrapping_add(index as u8))
}

const CREATION: &str = "gc1-aeibceqtcqkrmfyydenbwha5dypryadior2ha4z2f4xwcy3dn52w45bomv4gc3lqnrstuobugqzqaylcgezggzbtgqaacaqdaqcqmby\
     ibefawdanbyhraeiscmkbkfqxdamrugy4dupb7g2y6zia";
const INVITE: &str = "gi1-aeibceqtcqkrmfyydenbwha5dypryadior2ha4z2f4xwcy3dn52w45bomv4gc3lqnrstuobugqzqdqgbylb4jrogy7emtswlztg45t6\
     q2hjnhvgv23l5rwo23pon3xw72di5fu6u2xlnpwgz3ln5zxo634d2g7f4cqqjhsfxkxobwehins2cmn2k2fvkqu7nbpp4bmvynuohy4drojz\
     xi5lwo54hs6t3pr6x474qsgjjhfevs2lzrgm2tooj3hu7ucq2fi5euwtkpkfjvkv2zlnov5ldx6ow";
const RECOVERY: &str = "gr1-aeibc eqtcq krmfy ydenb wha5d yprya dior2 ha4z2 f4xwc y3dn5 2w45b omv4g c3lqn rstuo bugqz qdqgb ylb4j rogy7\
     \x20emtsw lztg4 5t6q2 hjnhv gv23l 5rwo2 3pon3 xw74d q6fy7 e4xto p2hj5 lv6z3 po55q wey3e mvtgo 2djnj vwy3l on5yh\
     \x20c4tto r2xm5 3ypf5 hw7d5 pz7ya ylcge zggzb tgqaa caqda qcqmb yibef awdan byhra eiscm kbkfq xdamr ugy4d upb7u\
     \x20gr2lj 5jvow 27mnt ww33t o55xz qgezd gnbvg y3tqo j2hm6 d2pr7 ibaue q2eiv deosc jjjfu ytkoj 4eqaa aaaaa aaafq\
     \x20wgzlh nfvw2 33ron 2xo6l 3pv7y da4fq 6eyxd mpsgj zlf4z tooz5 5wrzo prmaq aadho fs5e";
/// The text of `CREATION` in a layout 2, with its checksum.
const NEWER: &str = "gc1-aiibceqtcqkrmfyydenbwha5dypryadior2ha4z2f4xwcy3dn52w45bomv4gc3lqnrstuobugqzqaylcgezggzbtgqaacaqdaqcqmby\
     ibefawdanbyhraeiscmkbkfqxdamrugy4dupb6jvc37xa";

fn place(pin: Option<[u8; 32]>) -> AccountAddress {
    AccountAddress::new(AccountId(count(0x10)), "https://account.example:8443", pin).unwrap()
}

fn api_key() -> ApiKey {
    ApiKey::from_parts(b"ab12cd34", &count(0)).unwrap()
}

fn creation() -> AccountCode {
    AccountCode::Creation(Creation { address: place(None), api_key: api_key() })
}

fn invite() -> AccountCode {
    let inviter = DeviceSecret::from_bytes(&mut count(0x01));
    AccountCode::Invite(InvitationCode {
        address: place(Some(count(0xc0))),
        inviter: DeviceId(count(0xd0)),
        inviter_key: PublicKey(inviter.public()),
        secret: Zeroizing::new(count(0x70)),
        token: Zeroizing::new(count(0x90)),
    })
}

fn recovery() -> AccountCode {
    AccountCode::Recovery(Recovery {
        address: place(Some(count(0xc0))),
        device: DeviceId(count(0xe0)),
        device_secret: DeviceSecret::from_bytes(&mut count(0x61)),
        api_key: api_key(),
        sender: DeviceId(count(0xd0)),
        sender_key: PublicKey(count(0x30)),
        head: HeadRef { seq: 9, hash: Hash(count(0xb0)) },
        made_at: 1_700_000_000_123,
    })
}

/// The codes were made in Python: `base64.b32encode` of `struct.pack` and of `hashlib.sha256(b"guillemet code 1\0" +
/// prefix + …)`.
#[test]
fn codes_are_those_of_another_implementation() {
    assert_eq!(creation().to_text().as_str(), CREATION);
    assert_eq!(invite().to_text().as_str(), INVITE);
    assert_eq!(recovery().to_text().as_str(), RECOVERY);
}

#[test]
fn codes_are_read_as_they_were_made() {
    for text in [CREATION, INVITE, RECOVERY] {
        let code = AccountCode::parse(text).unwrap();
        assert_eq!(code.to_text().as_str(), text);
        assert_eq!(code.address().account(), AccountId(count(0x10)));
        assert_eq!(code.address().url(), "https://account.example:8443");
    }
    let code = Recovery::parse(RECOVERY).unwrap();
    assert_eq!(*code.device_secret.expose(), count(0x61));
    assert_eq!((code.api_key.expose(), code.made_at, code.head.seq), (api_key().expose(), 1_700_000_000_123, 9));
    let code = InvitationCode::parse(INVITE).unwrap();
    assert_eq!((*code.secret, *code.token, code.address.pin()), (count(0x70), count(0x90), Some(&count(0xc0))));
    assert_eq!(Creation::parse(CREATION).unwrap().address.pin(), None);
}

#[test]
fn blanks_line_breaks_and_upper_case_do_no_harm() {
    for text in [CREATION, INVITE, RECOVERY] {
        let upper = text.to_uppercase();
        let broken: String =
            text.chars().enumerate().flat_map(|(at, c)| [c, if at % 7 == 3 { '\n' } else { ' ' }]).collect();
        let joined: String = text.split(' ').collect();
        for form in [upper, broken, joined, format!(" \t{text}\r\n\u{a0}")] {
            assert_eq!(AccountCode::parse(&form).unwrap().to_text().as_str(), text);
        }
    }
}

fn refusal(text: &str) -> BadCode {
    AccountCode::parse(text).unwrap_err()
}

#[test]
fn every_mistake_in_one_character_is_seen() {
    for text in [CREATION, INVITE, RECOVERY] {
        for (at, was) in text.char_indices().filter(|(at, c)| *at >= 4 && *c != ' ') {
            for other in ['a', '7', '0', '-', 'ü'] {
                if was != other {
                    let typed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
                    assert!(matches!(refusal(&typed), BadCode::Mistyped | BadCode::CutOff), "{at}: {other}");
                }
            }
        }
    }
}

#[test]
fn what_is_wrong_is_told() {
    for text in ["", "g", "gc", "gc1", "gx1-aaaa", "sk-ab12cd34.AAEC", "ü", "ggüü", "gc1_aaaa", "hello there"] {
        assert_eq!(refusal(text), BadCode::NotACode, "{text}");
    }
    assert_eq!(refusal(&CREATION.replacen("gc", "gi", 1)), BadCode::CutOff, "an invitation is longer");
    assert_eq!(refusal(&RECOVERY.replacen("gr", "gc", 1)), BadCode::Mistyped);
    for cut in 0..CREATION.len() {
        let message = refusal(&CREATION[..cut]);
        assert_eq!(message, if cut < 4 { BadCode::NotACode } else { BadCode::CutOff }, "{cut}");
        assert_eq!(refusal(&RECOVERY[..cut]), message, "{cut}");
    }
    assert_eq!(refusal(&format!("{CREATION}aaaaaaaa")), BadCode::Mistyped);
    assert_eq!(refusal(&CREATION.replacen("ibceq", "biceq", 1)), BadCode::Mistyped);
    assert_eq!(refusal(NEWER), BadCode::Newer);
    assert_eq!(refusal(&NEWER.replacen("ibceq", "bbceq", 1)), BadCode::Mistyped, "its checksum does not match");
    for later in ["gc2-whatever", "GI9-whatever!", "gr3-"] {
        assert_eq!(refusal(later), BadCode::Newer);
    }
}

#[test]
fn another_kind_is_told_apart_before_anything_else() {
    let (expected, found) = (CodeKind::Invite, CodeKind::Recovery);
    assert_eq!(InvitationCode::parse(RECOVERY).unwrap_err(), BadCode::Another { expected, found });
    assert_eq!(InvitationCode::parse("gr1-mistyped").unwrap_err(), BadCode::Another { expected, found });
    let message = InvitationCode::parse(RECOVERY).unwrap_err().to_string();
    assert_eq!(message, "this is a recovery code; use an invitation, which starts with gi1-");
    assert!(matches!(Creation::parse(INVITE).unwrap_err(), BadCode::Another { .. }));
    assert!(matches!(Recovery::parse(CREATION).unwrap_err(), BadCode::Another { .. }));
}

#[test]
fn addresses_fit_a_terminal() {
    let new = |url: &str| AccountAddress::new(AccountId::default(), url, None).map(|_| ());
    for url in ["", "https://a b", "https://a\n", "https://\u{202e}a", "https://\u{1b}[2J", &"a".repeat(URL_MAX + 1)] {
        assert_eq!(new(url), Err(BadUrl), "{url:?}");
    }
    assert_eq!(new(&"a".repeat(URL_MAX)), Ok(()));
}

#[test]
fn nothing_of_a_code_is_printed() {
    let printed: Vec<String> = [creation(), invite(), recovery()].iter().map(|code| format!("{code:?}")).collect();
    assert_eq!(printed, ["Creation(…)", "Invite(…)", "Recovery(…)"]);
    assert_eq!(format!("{:?}", Creation::parse(CREATION).unwrap()), "Creation(…)");
    assert_eq!(format!("{:?}", InvitationCode::parse(INVITE).unwrap()), "InvitationCode(…)");
    assert_eq!(format!("{:?}", Recovery::parse(RECOVERY).unwrap()), "Recovery(…)");
}

proptest! {
    #[test]
    fn every_code_comes_back(url in "[!-~]{1,80}", pin in any::<Option<[u8; 32]>>(), account in any::<[u8; 16]>(), seq in any::<u64>()) {
        let place = || AccountAddress::new(AccountId(account), &url, pin).unwrap();
        let device_secret = DeviceSecret::random();
        let code = AccountCode::Recovery(Recovery {
            address: place(),
            device: DeviceId(account),
            device_secret,
            api_key: ApiKey::random(),
            sender: DeviceId(account),
            sender_key: PublicKey([seq as u8; 32]),
            head: HeadRef { seq, hash: Hash::of(&[&account]) },
            made_at: seq,
        });
        for code in [code, AccountCode::Creation(Creation { address: place(), api_key: ApiKey::random() })] {
            let read = AccountCode::parse(&code.to_text()).unwrap();
            prop_assert_eq!(read.to_text(), code.to_text());
            prop_assert_eq!(read.address(), &place());
        }
    }

    #[test]
    fn arbitrary_texts_never_panic(text in "\\PC{0,80}", rest in "[a-z2-7 ]{0,400}") {
        prop_assert!(AccountCode::parse(&text).is_err());
        for prefix in ["gc1-", "gi1-", "gr1-aeib"] {
            let text = format!("{prefix}{rest}");
            prop_assert!(AccountCode::parse(&text).is_err());
        }
    }
}
