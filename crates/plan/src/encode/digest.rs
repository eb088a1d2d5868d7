//! Credentials and digests: HTTP Basic, SIP digests, SHA-256, and HMAC with a key.

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use super::{Args, Clear, DigestAlgorithm, Op, Refusal, append_encoded, refuse, utf8};

/// Appends Base64 of `user:password` (RFC 7617).
pub fn basic_credentials(_: &Op, args: &Args<'_>, out: &mut Clear) -> Result<(), Refusal> {
    let mut pair = args.eval(0)?;
    if pair.contains(&b':') {
        return refuse("the user name of basic credentials cannot contain `:` (RFC 7617)");
    }
    pair.push(b':');
    args.append(1, &mut pair)?;
    if utf8(&pair)?.contains(char::is_control) {
        return refuse("basic credentials cannot contain control characters (RFC 7617)");
    }
    append_encoded(&data_encoding::BASE64, &pair, out);
    Ok(())
}

/// Appends the digest of user, realm and password.
pub fn sip_digest_ha1(op: &Op, args: &Args<'_>, out: &mut Clear) -> Result<(), Refusal> {
    let mut triple = args.eval(0)?;
    let user = triple.len();
    triple.push(b':');
    args.append(1, &mut triple)?;
    if triple[..user].contains(&b':') || triple[user + 1..].contains(&b':') {
        return refuse("the user name and realm of a digest cannot contain `:`, which separates them");
    }
    triple.push(b':');
    args.append(2, &mut triple)?;
    if let Op::SipDigestHa1(algorithm) = op {
        digest(*algorithm, &triple, out);
    }
    Ok(())
}

/// Appends the hash of RFC 8760 (RFC 7616 for HTTP) over `user:realm:password`, in lower-case hexadecimal.
fn digest(algorithm: DigestAlgorithm, text: &[u8], out: &mut Clear) {
    match algorithm {
        DigestAlgorithm::Md5 => append_encoded(&data_encoding::HEXLOWER, &md5::Md5::digest(text), out),
        DigestAlgorithm::Sha256 => append_encoded(&data_encoding::HEXLOWER, &Sha256::digest(text), out),
        DigestAlgorithm::Sha512_256 => append_encoded(&data_encoding::HEXLOWER, &sha2::Sha512_256::digest(text), out),
    }
}

/// Appends the SHA-256 of the text (FIPS 180-4) in lower-case hexadecimal.
pub fn sha256_hex(text: &[u8], out: &mut Clear) -> Result<(), Refusal> {
    append_encoded(&data_encoding::HEXLOWER, &Sha256::digest(text), out);
    Ok(())
}

/// The algorithm of an HMAC (RFC 2104), as APIs use it to sign requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HmacAlgorithm {
    /// SHA-1, written `SHA-1` in the contract.
    #[serde(rename = "SHA-1")]
    Sha1,
    /// SHA-256, written `SHA-256` in the contract.
    #[default]
    #[serde(rename = "SHA-256")]
    Sha256,
    /// SHA-512, written `SHA-512` in the contract.
    #[serde(rename = "SHA-512")]
    Sha512,
}

impl HmacAlgorithm {
    /// Every algorithm, with its name in the contract.
    pub const ALL: [(&'static str, Self); 3] =
        [("SHA-1", Self::Sha1), ("SHA-256", Self::Sha256), ("SHA-512", Self::Sha512)];

    /// Returns the algorithm's name in the contract.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

/// How the bytes of an HMAC are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BytesEncoding {
    /// Lower-case hexadecimal, written `hex` in the contract.
    #[default]
    Hex,
    /// Base64 with padding (RFC 4648, section 4), written `base64` in the contract.
    Base64,
    /// Base64 for URLs without padding (RFC 4648, section 5), written `base64url` in the contract.
    Base64url,
}

impl BytesEncoding {
    /// Every encoding, with its name in the contract.
    pub const ALL: [(&'static str, Self); 3] =
        [("hex", Self::Hex), ("base64", Self::Base64), ("base64url", Self::Base64url)];

    /// Returns the encoding's name in the contract.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

/// Appends the HMAC of the second text, with the first as the key.
pub fn hmac(op: &Op, args: &Args<'_>, out: &mut Clear) -> Result<(), Refusal> {
    fn tag<M: Mac + hmac::digest::KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
        // An HMAC takes a key of any length.
        <M as Mac>::new_from_slice(key)
            .map(|mac| mac.chain_update(message).finalize().into_bytes().to_vec())
            .unwrap_or_default()
    }
    let Op::Hmac { algorithm, encoding } = op else { return Ok(()) };
    let (key, message) = (args.eval(0)?, args.eval(1)?);
    let tag = match algorithm {
        HmacAlgorithm::Sha1 => tag::<Hmac<Sha1>>(&key, &message),
        HmacAlgorithm::Sha256 => tag::<Hmac<Sha256>>(&key, &message),
        HmacAlgorithm::Sha512 => tag::<Hmac<Sha512>>(&key, &message),
    };
    let encoding = match encoding {
        BytesEncoding::Hex => &data_encoding::HEXLOWER,
        BytesEncoding::Base64 => &data_encoding::BASE64,
        BytesEncoding::Base64url => &data_encoding::BASE64URL_NOPAD,
    };
    append_encoded(encoding, &tag, out);
    Ok(())
}
