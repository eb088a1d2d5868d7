//! The text form of a code: a prefix, then base32 of version, fields and checksum.
//!
//! Knows every byte of a code. The kinds of codes are defined in `code`.

use data_encoding::{BASE32_NOPAD, DecodeKind};
use zeroize::Zeroizing;

use super::{AccountAddress, AccountCode, BadCode, CodeKind, Creation, InvitationCode, Recovery};
use crate::byte_reader::ByteReader;
use guillemet_secret::crypto::DeviceSecret;
use guillemet_wire::api_key::ApiKey;
use guillemet_wire::{AccountId, DeviceId, Hash, HeadRef, PublicKey};

/// The version of the layout that this program writes.
const LAYOUT: u8 = 1;
/// The length of the checksum, in bytes.
const CHECK_LEN: usize = 4;
/// The length of one group on paper, in characters.
const GROUP: usize = 5;

pub(super) fn encode(code: &AccountCode) -> Zeroizing<String> {
    let mut bytes = CodeWriter::default();
    bytes.put(&[LAYOUT]);
    match code {
        AccountCode::Creation(code) => {
            bytes.put_address(&code.address);
            bytes.api_key(&code.api_key);
        }
        AccountCode::Invite(code) => {
            bytes.put_address(&code.address);
            bytes.put(&code.inviter.0);
            bytes.put(&code.inviter_key.0);
            bytes.put(code.secret.as_slice());
            bytes.put(code.token.as_slice());
        }
        AccountCode::Recovery(code) => {
            bytes.put_address(&code.address);
            bytes.put(&code.device.0);
            bytes.put(code.device_secret.expose().as_slice());
            bytes.api_key(&code.api_key);
            bytes.put(&code.sender.0);
            bytes.put(&code.sender_key.0);
            bytes.put(&code.head.seq.to_le_bytes());
            bytes.put(&code.head.hash.0);
            bytes.put(&code.made_at.to_le_bytes());
        }
    }
    let kind = code.kind();
    let check = checksum(kind, &bytes.0);
    bytes.put(&check);
    let mut body = Zeroizing::new(BASE32_NOPAD.encode(&bytes.0));
    body.make_ascii_lowercase();
    let mut out = Zeroizing::new(String::with_capacity(4 + body.len() / GROUP * (GROUP + 1) + GROUP));
    out.push_str(kind.prefix());
    for (at, c) in body.chars().enumerate() {
        if kind == CodeKind::Recovery && at > 0 && at % GROUP == 0 {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

pub(super) fn parse(text: &str, expected: Option<CodeKind>) -> Result<AccountCode, BadCode> {
    let mut upper = Zeroizing::new(String::with_capacity(text.len()));
    upper.extend(text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_uppercase()));
    let (found, body) = split(&upper)?;
    if let Some(expected) = expected.filter(|expected| *expected != found) {
        return Err(BadCode::Another { expected, found });
    }
    let bytes = BASE32_NOPAD.decode(body.as_bytes()).map(Zeroizing::new).map_err(|error| match error.kind {
        DecodeKind::Length | DecodeKind::Trailing => BadCode::CutOff,
        DecodeKind::Symbol | DecodeKind::Padding => BadCode::Mistyped,
    })?;
    let (fields, checked) = bytes.split_last_chunk::<CHECK_LEN>().ok_or(BadCode::CutOff)?;
    let matches = *checked == checksum(found, fields);
    let mut reader = ByteReader(fields);
    match (matches, reader.array::<1>()) {
        (true, Some([layout])) if layout > LAYOUT => return Err(BadCode::Newer),
        (_, Some([LAYOUT])) => {}
        (_, Some(_)) => return Err(BadCode::Mistyped),
        (_, None) => return Err(BadCode::CutOff),
    }
    let code = read_fields(found, &mut reader)?;
    if matches && reader.0.is_empty() { Ok(code) } else { Err(BadCode::Mistyped) }
}

/// Splits a text into the kind of its code and the part after the prefix.
fn split(upper: &str) -> Result<(CodeKind, &str), BadCode> {
    for kind in [CodeKind::Creation, CodeKind::Invite, CodeKind::Recovery] {
        let prefix = kind.prefix().as_bytes();
        // A prefix is a kind and the generation of its text form, as in `gc1-`.
        let Some((start, body)) = upper.split_at_checked(prefix.len()) else { continue };
        let bytes = start.as_bytes();
        if start.eq_ignore_ascii_case(kind.prefix()) {
            return Ok((kind, body));
        }
        if bytes[..2].eq_ignore_ascii_case(&prefix[..2]) && matches!(bytes[2], b'2'..=b'9') && bytes[3] == b'-' {
            return Err(BadCode::Newer);
        }
    }
    Err(BadCode::NotACode)
}

/// Reads the fields of a code. Reports `CutOff` if they end too early; the caller relies on no field before the
/// checksum has matched.
fn read_fields(kind: CodeKind, reader: &mut ByteReader<'_>) -> Result<AccountCode, BadCode> {
    let address = read_address(reader)?;
    Ok(match kind {
        CodeKind::Creation => AccountCode::Creation(Creation { address, api_key: api_key(reader)? }),
        CodeKind::Invite => AccountCode::Invite(InvitationCode {
            address,
            inviter: DeviceId(array(reader)?),
            inviter_key: PublicKey(array(reader)?),
            secret: Zeroizing::new(array(reader)?),
            token: Zeroizing::new(array(reader)?),
        }),
        CodeKind::Recovery => AccountCode::Recovery(Recovery {
            address,
            device: DeviceId(array(reader)?),
            device_secret: DeviceSecret::from_bytes(&mut array(reader)?),
            api_key: api_key(reader)?,
            sender: DeviceId(array(reader)?),
            sender_key: PublicKey(array(reader)?),
            head: HeadRef { seq: u64::from_le_bytes(array(reader)?), hash: Hash(array(reader)?) },
            made_at: u64::from_le_bytes(array(reader)?),
        }),
    })
}

fn array<const N: usize>(reader: &mut ByteReader<'_>) -> Result<[u8; N], BadCode> {
    reader.array().ok_or(BadCode::CutOff)
}

fn read_address(reader: &mut ByteReader<'_>) -> Result<AccountAddress, BadCode> {
    let account = AccountId(array(reader)?);
    let len = usize::from(u16::from_le_bytes(array(reader)?));
    let url = reader.take(len).ok_or(BadCode::CutOff)?;
    let pin = match array(reader)? {
        [0] => None,
        [1] => Some(array(reader)?),
        _ => return Err(BadCode::Mistyped),
    };
    let url = std::str::from_utf8(url).map_err(|_| BadCode::Mistyped)?;
    AccountAddress::new(account, url, pin).map_err(|_| BadCode::Mistyped)
}

fn api_key(reader: &mut ByteReader<'_>) -> Result<ApiKey, BadCode> {
    let (id, secret) = (array(reader)?, Zeroizing::new(array(reader)?));
    ApiKey::from_parts(&id, &secret).ok_or(BadCode::Mistyped)
}

fn checksum(kind: CodeKind, fields: &[u8]) -> [u8; CHECK_LEN] {
    let hash = Hash::of(&[b"guillemet code 1\0", kind.prefix().as_bytes(), fields]).0;
    [hash[0], hash[1], hash[2], hash[3]]
}

/// The bytes of a code that is being written. Wiped when dropped.
#[derive(Default)]
struct CodeWriter(Zeroizing<Vec<u8>>);

impl CodeWriter {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn put_address(&mut self, address: &AccountAddress) {
        self.put(&address.account().0);
        // `AccountAddress::new` limits the length to `URL_MAX`, so it fits.
        self.put(&(address.url().len() as u16).to_le_bytes());
        self.put(address.url().as_bytes());
        self.put(&[u8::from(address.pin().is_some())]);
        self.put(address.pin().map_or(&[][..], |pin| pin));
    }

    fn api_key(&mut self, key: &ApiKey) {
        self.put(key.id().as_bytes());
        self.put(&key.secret());
    }
}
