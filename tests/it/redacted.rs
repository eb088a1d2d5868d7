//! Types that hold a value cannot show it. Either the type cannot be printed or serialized at all, which the compiler
//! checks, or its output contains nothing of the value (promise Blind).

use guillemet_account::code::{AccountAddress, AccountCode, Creation, InvitationCode, Recovery};
use guillemet_account::seal::EpochKey;
use guillemet_api::account::{JoinAccount, RecoveryCode};
use guillemet_api::secrets::{CreateSecret, ResolvedValues, UpdateSecret};
use guillemet_base::home::Home;
use guillemet_base::permissions::TrustedHome;
use guillemet_base::sys::memory::{Clear, SecretPage};
use guillemet_daemon::api::request::BodyFields;
use guillemet_daemon::resolve::budget::Budget;
use guillemet_daemon::resolve::snapshot::{CurrentSnapshot, Snapshot, SnapshotState};
use guillemet_daemon::resolve::{RenderedConfig, Resolver};
use guillemet_plan::encode::{
    self, CharacterSet, DigestAlgorithm, ENCODERS, EncoderOptions, EscapeTable, FILTERS, ValueSource,
};
use guillemet_plan::expr::{Expr, Part};
use guillemet_plugin::fill::Values;
use guillemet_secret::crypto::{DeviceSecret, Key};
use guillemet_secret::memory::SealedValue;
use guillemet_secret::record::{Secret, Version};
use guillemet_vault::keys::UnlockWith;
use guillemet_vault::passphrase::Passphrase;
use guillemet_vault::store::Vault;
use guillemet_vault::usage::Recorder;
use guillemet_wire::api_key::ApiKey;
use guillemet_wire::{AccountId, DeviceId, HeadRef, PublicKey};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::{Debug, Display};
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Fails to compile if the type has one of the traits, because two implementations then provide `here`.
macro_rules! never {
    ($type:ty: $($trait:path),+) => {
        $(const _: fn() = || {
            trait Said<By> {
                fn here() {}
            }
            impl<T: ?Sized> Said<()> for T {}
            struct Trait;
            impl<T: ?Sized + $trait> Said<Trait> for T {}
            let _ = <$type as Said<_>>::here;
        };)+
    };
}

// These types cannot be printed or serialized at all.
never!(BodyFields: Debug, Display, Serialize, Clone);
never!(Values<'static>: Debug, Display, Serialize);
never!(RenderedConfig: Debug, Display, Serialize, Clone);
never!(SnapshotState: Debug, Display, Serialize);
never!(Snapshot: Debug, Display, Serialize);
never!(CurrentSnapshot: Debug, Display, Serialize);
never!(SecretPage<[u8; 32]>: Debug, Display, Serialize, Clone);
never!(ResolvedValues: Debug, Display, Serialize, Clone);
never!(CreateSecret<'static>: Debug, Display, Clone);
never!(UpdateSecret<'static>: Debug, Display, Clone);
never!(JoinAccount<'static>: Debug, Display, Clone);
never!(guillemet_api::account::Invitation: Debug, Display, Clone);
never!(RecoveryCode: Debug, Display, Clone);
never!(guillemet_api::console::ConsoleLink: Debug, Display, Clone);
never!(Clear: Display, Serialize, Clone, PartialEq, std::hash::Hash);
// These types are printed without their values (below), and cannot be written in any other way.
never!(SealedValue: Display, Serialize, DeserializeOwned, AsRef<[u8]>, AsRef<str>, std::ops::Deref, PartialEq, std::hash::Hash);
never!(Secret: Display, Serialize, DeserializeOwned, PartialEq, std::hash::Hash);
never!(Version: Display, Serialize, DeserializeOwned, PartialEq, std::hash::Hash);
never!(Key: Display, Serialize, DeserializeOwned, AsRef<[u8]>, std::ops::Deref, Clone, PartialEq, std::hash::Hash);
never!(DeviceSecret: Display, Serialize, DeserializeOwned, AsRef<[u8]>, std::ops::Deref, Clone, PartialEq, std::hash::Hash);
never!(EpochKey: Display, Serialize, DeserializeOwned, AsRef<[u8]>, std::ops::Deref, Clone, PartialEq, std::hash::Hash);
never!(ApiKey: Display, Serialize, DeserializeOwned, AsRef<[u8]>, AsRef<str>, std::ops::Deref, Clone, PartialEq, std::hash::Hash);
never!(AccountCode: Display, Serialize, DeserializeOwned, Clone, PartialEq, std::hash::Hash);
never!(Creation: Display, Serialize, DeserializeOwned, Clone, PartialEq, std::hash::Hash);
never!(InvitationCode: Display, Serialize, DeserializeOwned, Clone, PartialEq, std::hash::Hash);
never!(Recovery: Display, Serialize, DeserializeOwned, Clone, PartialEq, std::hash::Hash);
never!(Vault: Display, Serialize, Clone);
never!(UnlockWith: Display, Serialize, Clone);
never!(Passphrase: Display, Serialize, Clone, AsRef<[u8]>, AsRef<str>, std::ops::Deref);
never!(Resolver: Display, Serialize, Clone);

const CANARY: &str = "c4n4ry \"\n\u{1}ü;${{";

/// Returns every form in which a value could be printed: as it is, escaped, and as bytes.
fn forms(value: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(value).into_owned();
    let list = format!("{:?}", &value[..6]);
    vec![
        text.chars().take(6).collect(),
        list.trim_matches(['[', ']']).to_owned(),
        data_encoding::BASE64.encode(&value[..6]),
        data_encoding::HEXLOWER.encode(&value[..6]),
        data_encoding::HEXUPPER.encode(&value[..6]),
    ]
}

fn shows_nothing(what: &str, shown: &str, value: &[u8]) {
    for form in forms(value) {
        assert!(!shown.contains(&form), "{what}: {form} in {shown}");
    }
}

fn printed(value: &impl Debug) -> String {
    format!("{value:?}\n{value:#?}\n{value:x?}")
}

#[test]
fn the_forms_are_found_where_they_stand() {
    for shown in [CANARY.to_owned(), format!("{CANARY:?}"), format!("{:?}", CANARY.as_bytes())] {
        assert!(forms(CANARY.as_bytes()).iter().any(|form| shown.contains(form)), "{shown}");
    }
}

#[test]
fn what_can_be_printed_prints_no_value() {
    let secret = Secret::new("name".parse().unwrap(), CANARY, true, 0).unwrap();
    let bytes = CANARY.as_bytes();
    shows_nothing("Secret", &printed(&secret), bytes);
    shows_nothing("Version", &printed(secret.current()), bytes);
    let mut clear = Clear::new();
    clear.extend_from_slice(bytes);
    shows_nothing("Clear", &printed(&clear), bytes);
    shows_nothing("Zeroizing", &printed(&Zeroizing::new(CANARY.to_owned())), bytes);
    shows_nothing("SealedValue", &printed(&SealedValue::seal(CANARY)), bytes);
    assert_eq!(format!("{:?}", SealedValue::seal(CANARY)), format!("{:?}", SealedValue::seal("another, longer one")));

    let mut key: [u8; 32] = std::array::from_fn(|index| 100 + index as u8);
    let plain = key;
    let key = Key::from_bytes(&mut key);
    shows_nothing("Key", &printed(&key), &plain);
    let passphrase = UnlockWith::Passphrase(CANARY.to_owned().into());
    shows_nothing("UnlockWith", &printed(&passphrase), bytes);
    let key_file = printed(&UnlockWith::KeyFile(PathBuf::from("/where/it/lies")));
    assert!(key_file.contains("/where/it/lies"), "{key_file}");
}

#[test]
fn nothing_of_an_account_prints_a_key() {
    let plain: [u8; 32] = std::array::from_fn(|index| 100 + index as u8);
    let device = || DeviceSecret::from_bytes(&mut { plain });
    let place = || AccountAddress::new(AccountId([1; 16]), "https://account.example", None).unwrap();
    let text = format!("sk-c4n4ry77.{}", data_encoding::BASE64URL_NOPAD.encode(&plain));
    let api_key = || ApiKey::parse(&text).unwrap();
    let epoch = EpochKey::new(1, Key::from_bytes(&mut { plain }));
    let mut shown = vec![printed(&device()), printed(&epoch), printed(&api_key())];
    let codes = || {
        let (head, inviter_key) = (HeadRef { seq: 1, hash: Default::default() }, PublicKey(device().public()));
        let secret: [u8; 16] = plain[..16].try_into().unwrap();
        (
            Creation { address: place(), api_key: api_key() },
            InvitationCode {
                address: place(),
                inviter: DeviceId([2; 16]),
                inviter_key,
                secret: secret.into(),
                token: plain.into(),
            },
            Recovery {
                address: place(),
                device: DeviceId([2; 16]),
                device_secret: device(),
                api_key: api_key(),
                sender: DeviceId([3; 16]),
                sender_key: inviter_key,
                head,
                made_at: 0,
            },
        )
    };
    let (creation, invitation, recovery) = codes();
    shown.extend([printed(&creation), printed(&invitation), printed(&recovery)]);
    let (creation, invitation, recovery) = codes();
    for code in [AccountCode::Creation(creation), AccountCode::Invite(invitation), AccountCode::Recovery(recovery)] {
        shown.push(printed(&code));
        let written = code.to_text();
        for mistyped in [&written[..written.len() - 9], &written.replacen('a', "b", 1)] {
            let error = AccountCode::parse(mistyped).unwrap_err();
            let told = format!("{}{error}", printed(&error));
            assert!(!told.contains(&written[20..25]), "{told}");
            shown.push(told);
        }
    }
    let error = ApiKey::parse(&text[..50]).unwrap_err();
    shown.push(format!("{}{error}", printed(&error)));
    for shown in shown {
        shows_nothing("of an account", &shown, &plain);
        shows_nothing("of an account", &shown, text.as_bytes().split_at(3).1);
        assert!(!shown.contains(&data_encoding::BASE64URL_NOPAD.encode(&plain[..6])), "{shown}");
    }
}

#[test]
fn a_resolver_and_errors_about_keys_print_no_value() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(folder.path().join("home"));
    let key_file = UnlockWith::KeyFile(home.key_file()).for_new().unwrap();
    guillemet_daemon::init(&TrustedHome::check(&home, false).unwrap(), &key_file).unwrap();
    let (vault, _) = Vault::open(&home, UnlockWith::KeyFile(home.key_file())).unwrap();
    let recorder =
        Recorder::open(&home.journal_file(), &home.vault_file(), vault.vault_id(), vault.subkey("usage")).unwrap();
    let secret = Secret::new("name".parse().unwrap(), CANARY, true, 0).unwrap();
    let mut state = SnapshotState::default();
    state.secrets.insert("name".into(), std::sync::Arc::new(secret));
    shows_nothing(
        "Resolver",
        &printed(&Resolver {
            current: CurrentSnapshot::new(state),
            recorder,
            budget: Budget::new(1 << 20),
            logged_callers: Default::default(),
        }),
        CANARY.as_bytes(),
    );
    let text = std::fs::read(home.key_file()).unwrap();
    shows_nothing("Vault", &printed(&vault), &text);
    drop(vault);

    for wrong in [&text[1..], &text.to_ascii_uppercase()[2..], &[text.as_slice(), b"x"].concat()] {
        std::fs::write(home.key_file(), wrong).unwrap();
        let Err(error) = Vault::open(&home, UnlockWith::KeyFile(home.key_file())) else { panic!("it opened") };
        shows_nothing("VaultError", &format!("{}{error}", printed(&error)), wrong);
    }
    let Err(error) = Vault::open(&home, UnlockWith::Passphrase(CANARY.to_owned().into())) else { panic!("it opened") };
    shows_nothing("VaultError", &format!("{}{error}", printed(&error)), CANARY.as_bytes());
}

/// One value for every use.
struct One(&'static str);

impl ValueSource for One {
    fn append(&self, _: u32, out: &mut Clear) {
        out.extend_from_slice(self.0.as_bytes());
    }
}

#[test]
fn no_refusal_of_an_encoder_shows_the_value() {
    let operations = ENCODERS.iter().chain(&FILTERS).flat_map(|definition| {
        let algorithms = DigestAlgorithm::ALL.map(|(_, algorithm)| algorithm);
        ["\";\n", "4n4"].into_iter().zip(algorithms).map(move |(option, algorithm)| {
            let refused = (CharacterSet(";x-z\n\r".into()), "for a reason".to_owned());
            let options = EncoderOptions {
                option: option.into(),
                algorithm,
                number: 8,
                reason: "for a reason".into(),
                table: EscapeTable { refused: vec![refused], ..EscapeTable::default() },
                ..EncoderOptions::default()
            };
            (definition, definition.op(options))
        })
    });
    let values = [
        CANARY,
        "c4n4ry\r\nSet-Cookie: a",
        "c4n4ry:x",
        " c4n4ry ",
        "c4n4ry\0",
        "c4n4ry'\"`\\$",
        "c4n4ry\u{ffff}",
        "http://c4n4ry:x@h",
    ];
    let mut refused = std::collections::BTreeSet::new();
    for (definition, op) in operations {
        for value in values {
            let mut args = vec![vec![Part::Expr(Expr::Secret(0))]; definition.texts()];
            if let [_, realm, _] = args.as_mut_slice() {
                *realm = vec![Part::Literal("realm".into())];
            }
            let mut out = Clear::new();
            if let Err(refusal) = encode::eval(&Expr::Apply { op: op.clone(), args }, &One(value), &mut out) {
                shows_nothing(op.name(), &format!("{}{refusal}", printed(&refusal)), b"c4n4ry");
                refused.insert(op.name());
            }
        }
    }
    for op in [
        "header-value",
        "url",
        "basic-credentials",
        "forbid",
        "forbid-sequence",
        "at-most",
        "xml",
        "dotenv",
        "asterisk-value",
        "allow",
        "ini-value",
        "shell-word",
        "systemd-env",
        "docker-env",
        "netrc-token",
        "escape",
    ] {
        assert!(refused.contains(op), "{op} has refused nothing: {refused:?}");
    }
}
