//! A secret, and how it is encoded before it is sealed.
//!
//! Layout, with little-endian integers: version of the layout (1 byte), id (16), enabled (1), created and updated (8
//! each), name, note, former names (2 bytes of count), versions (2 bytes of count; for each the number 4, id 16,
//! created 8, value). A text is 4 bytes of length and its bytes. Zeros follow up to the padded length, so that a box
//! does not show how long a value is. Knows nothing of files.

use super::memory::SealedValue;
use crate::reader::SECRET_MAX;
use guillemet_base::names::{Millis, SecretId, SecretName};
use guillemet_base::random::random;
use guillemet_base::sys::memory::Clear;

/// The largest value, in bytes.
pub const VALUE_MAX: usize = SECRET_MAX;
/// The version of the layout that this program writes.
const LAYOUT: u8 = 1;

/// A secret with all its versions. The values in it are sealed.
#[derive(Clone, Debug)]
pub struct Secret {
    /// A random id, which never changes.
    pub id: SecretId,
    /// The revision: 1 for a new secret, and higher with every change.
    pub revision: u64,
    /// The present name, in upper and lower case as it was typed.
    pub name: SecretName,
    /// The names it had before, oldest first.
    pub former_names: Vec<SecretName>,
    /// Whether the secret may be resolved.
    pub enabled: bool,
    /// When the secret was created, in milliseconds since the Unix epoch.
    pub created_at: Millis,
    /// When it was last changed, in milliseconds since the Unix epoch.
    pub updated_at: Millis,
    /// The kept versions, oldest first; the last one is current. Never empty.
    pub versions: Vec<Version>,
}

/// A value that a secret has or had.
#[derive(Clone, Debug)]
pub struct Version {
    /// The number of the version, counted from 1.
    pub number: u32,
    /// A random id, which names this version and reveals nothing about the value.
    pub id: [u8; 16],
    /// When the version was created, in milliseconds since the Unix epoch.
    pub created_at: Millis,
    /// The value, sealed in memory.
    pub value: SealedValue,
}

/// Why a value cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    /// The value is empty.
    #[error("a value cannot be empty")]
    Empty,
    /// The value is longer than [`VALUE_MAX`] bytes.
    #[error("a value can have at most {VALUE_MAX} bytes")]
    TooLarge,
}

/// The error of a rollback to a version that is not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("version {requested} does not exist; {}", list_versions(.former))]
pub struct NoVersion {
    /// The number of the version that was asked for.
    pub requested: u32,
    /// The numbers of the kept versions, oldest first, without the current one.
    pub former: Vec<u32>,
}

fn list_versions(former: &[u32]) -> String {
    if former.is_empty() {
        return "no former version is kept".into();
    }
    let numbers: Vec<String> = former.iter().map(ToString::to_string).collect();
    format!("available versions: {}", numbers.join(", "))
}

/// Why bytes cannot be decoded as a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The layout is that of a later version of this program.
    #[error("it was written by a newer version of Guillemet")]
    Newer,
    /// The bytes are not what any version writes.
    #[error("it is damaged")]
    Damaged,
}

impl Version {
    /// Encodes the version, with its value in the clear, into a buffer that wipes itself.
    pub fn encode(&self, out: &mut Clear) {
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&self.created_at.to_le_bytes());
        out.extend_from_slice(&length(self.value.len()).to_le_bytes());
        self.value.open_into(out);
    }

    /// Decodes a version that [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`Malformed::Damaged`] if the bytes are not a version.
    pub fn decode(reader: &mut RecordReader<'_>) -> Result<Self, Malformed> {
        let number = u32::from_le_bytes(reader.array()?);
        let id = reader.array()?;
        let created_at = reader.number()?;
        let value = reader.text()?;
        if value.is_empty() || value.len() > VALUE_MAX {
            return Err(Malformed::Damaged);
        }
        Ok(Self { number, id, created_at, value: SealedValue::seal(value) })
    }

    fn new(number: u32, value: &str, now: Millis) -> Self {
        Self { number, id: random(), created_at: now, value: SealedValue::seal(value) }
    }
}

/// Checks the length of a value.
fn check(value: &str) -> Result<&str, InvalidValue> {
    match value.len() {
        0 => Err(InvalidValue::Empty),
        len if len > VALUE_MAX => Err(InvalidValue::TooLarge),
        _ => Ok(value),
    }
}

impl Secret {
    /// Returns a new secret with one version.
    ///
    /// # Errors
    /// [`InvalidValue`] if the value is empty or too long.
    pub fn new(name: SecretName, value: &str, enabled: bool, now: Millis) -> Result<Self, InvalidValue> {
        Ok(Self {
            id: SecretId(random()),
            revision: 1,
            name,
            former_names: Vec::new(),
            enabled,
            created_at: now,
            updated_at: now,
            versions: vec![Version::new(1, check(value)?, now)],
        })
    }

    /// Returns the next revision, for the caller to change. Its time of change is never earlier than that of this one,
    /// even if the clock was set back.
    pub fn next(&self, now: Millis) -> Self {
        Self { revision: self.revision + 1, updated_at: now.max(self.updated_at), ..self.clone() }
    }

    /// Sets a new value. Keeps at most `former_versions` of the former ones.
    ///
    /// # Errors
    /// [`InvalidValue`] if the value is empty or too long.
    pub fn set_value(&mut self, value: &str, former_versions: usize, now: Millis) -> Result<(), InvalidValue> {
        let version = Version::new(self.current().number + 1, check(value)?, now);
        self.push(version, former_versions);
        Ok(())
    }

    /// Sets the value of a former version again, as a new version. Keeps at most `former_versions` of the former ones.
    ///
    /// # Errors
    /// [`NoVersion`] if that version is not kept, or is the current one.
    pub fn roll_back(&mut self, number: u32, former_versions: usize, now: Millis) -> Result<(), NoVersion> {
        let (current, former) = (self.current().number, &self.versions[..self.versions.len() - 1]);
        let Some(restored) = former.iter().find(|version| version.number == number) else {
            return Err(NoVersion { requested: number, former: former.iter().map(|version| version.number).collect() });
        };
        let version = Version { number: current + 1, id: random(), created_at: now, value: restored.value.clone() };
        self.push(version, former_versions);
        Ok(())
    }

    /// Adds a version as the current one, under the next number. Keeps at most `former_versions` of the former ones.
    pub fn add_version(&mut self, version: Version, former_versions: usize) {
        self.push(Version { number: self.current().number + 1, ..version }, former_versions);
    }

    fn push(&mut self, version: Version, former_versions: usize) {
        self.versions.push(version);
        let excess = self.versions.len().saturating_sub(former_versions + 1);
        self.versions.drain(..excess);
    }

    /// Sets another name. The present one becomes a former name.
    pub fn rename(&mut self, name: SecretName) {
        self.forget_name(&name);
        let before = std::mem::replace(&mut self.name, name);
        if before != self.name {
            self.former_names.push(before);
        }
    }

    /// Removes a former name, so that another secret can have it.
    pub fn forget_name(&mut self, name: &SecretName) {
        self.former_names.retain(|other| other != name);
    }

    /// Returns the current version, which is the one served.
    pub fn current(&self) -> &Version {
        // `new` begins with one version, and `decode` refuses a secret without any.
        self.versions.last().expect("a secret has a version")
    }

    /// Encodes the secret, padded, as the plaintext of its box. The revision is not part of it: the box is bound to it.
    pub fn encode(&self) -> Clear {
        let values: usize = self.versions.iter().map(|version| version.value.len() + 64).sum();
        let mut out = Clear::with_capacity(padded(values + 512 + 160 * self.former_names.len()));
        out.push(LAYOUT);
        out.extend_from_slice(&self.id.0);
        out.push(u8::from(self.enabled));
        out.extend_from_slice(&self.created_at.to_le_bytes());
        out.extend_from_slice(&self.updated_at.to_le_bytes());
        put_text(&mut out, self.name.as_str());
        // The place of a note for people, which no version has ever written.
        put_text(&mut out, "");
        put_count(&mut out, self.former_names.len());
        for name in &self.former_names {
            put_text(&mut out, name.as_str());
        }
        put_count(&mut out, self.versions.len());
        for version in &self.versions {
            version.encode(&mut out);
        }
        pad(&mut out);
        out
    }

    /// Decodes a secret that [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are damaged or of a later version.
    pub fn decode(bytes: &[u8], revision: u64) -> Result<Self, Malformed> {
        let mut reader = RecordReader::new(bytes);
        match reader.array::<1>()? {
            [LAYOUT] => {}
            [0] => return Err(Malformed::Damaged),
            _ => return Err(Malformed::Newer),
        }
        let id = SecretId(reader.array()?);
        let enabled = match reader.array::<1>()? {
            [0] => false,
            [1] => true,
            _ => return Err(Malformed::Damaged),
        };
        let created_at = reader.number()?;
        let updated_at = reader.number()?;
        let name = reader.name()?;
        if !reader.text()?.is_empty() {
            return Err(Malformed::Newer);
        }
        let former_names = (0..reader.count()?).map(|_| reader.name()).collect::<Result<Vec<_>, _>>()?;
        let mut versions = Vec::new();
        for _ in 0..reader.count()? {
            versions.push(Version::decode(&mut reader)?);
        }
        if versions.is_empty() {
            return Err(Malformed::Damaged);
        }
        reader.expect_end()?;
        Ok(Self { id, revision, name, former_names, enabled, created_at, updated_at, versions })
    }
}

/// Returns the length that a plaintext of `len` bytes is padded to: a multiple of 256 bytes up to 4 KiB, then a
/// multiple of an eighth of the next lower power of two, so that padding costs at most an eighth.
pub fn padded(len: usize) -> usize {
    let step = if len <= 4096 { 256 } else { (len.next_power_of_two() / 16).max(256) };
    len.div_ceil(step) * step
}

/// Appends zeros up to the padded length.
pub fn pad(out: &mut Clear) {
    let len = padded(out.len());
    out.resize(len, 0);
}

/// Returns a length as it is written. The texts of a secret are far shorter than the limit.
fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Appends the length of a text and the text.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&length(text.len()).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes());
}

/// Reads the parts of an encoded secret one after another.
pub struct RecordReader<'a>(&'a [u8]);

impl<'a> RecordReader<'a> {
    /// Returns a reader at the beginning of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Takes all bytes that are left.
    pub fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Checks that only padding is left.
    ///
    /// # Errors
    /// [`Malformed::Damaged`] if a byte that is left is not zero.
    pub fn expect_end(&self) -> Result<(), Malformed> {
        if self.0.iter().any(|byte| *byte != 0) { Err(Malformed::Damaged) } else { Ok(()) }
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed::Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Reads an array of `N` bytes.
    ///
    /// # Errors
    /// [`Malformed::Damaged`] if fewer bytes are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bytes(N)?.try_into().map_err(|_| Malformed::Damaged)
    }

    /// Reads an integer of eight bytes.
    ///
    /// # Errors
    /// [`Malformed::Damaged`] if fewer bytes are left.
    pub fn number(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    fn count(&mut self) -> Result<usize, Malformed> {
        self.array().map(|bytes| usize::from(u16::from_le_bytes(bytes)))
    }

    /// Reads a text, which comes after its length.
    ///
    /// # Errors
    /// [`Malformed::Damaged`] if too few bytes are left, or they are not UTF-8.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        let len = u32::from_le_bytes(self.array()?);
        let bytes = self.bytes(usize::try_from(len).map_err(|_| Malformed::Damaged)?)?;
        std::str::from_utf8(bytes).map_err(|_| Malformed::Damaged)
    }

    /// Reads the name of a secret.
    ///
    /// # Errors
    /// [`Malformed::Damaged`] if there is no valid name here.
    pub fn name(&mut self) -> Result<SecretName, Malformed> {
        self.text()?.parse().map_err(|_| Malformed::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(version: &Version) -> Vec<u8> {
        let mut out = Clear::new();
        version.value.open_into(&mut out);
        out.to_vec()
    }

    fn secret(text: &str) -> Secret {
        Secret::new("cal.com-key".parse().unwrap(), text, true, 7).unwrap()
    }

    #[test]
    fn empty_and_large_values_are_refused() {
        let new = |value: &str| Secret::new("a".parse().unwrap(), value, true, 0).map(|_| ());
        assert_eq!(new(""), Err(InvalidValue::Empty));
        assert_eq!(new(&"x".repeat(VALUE_MAX + 1)), Err(InvalidValue::TooLarge));
        assert!(new(&"x".repeat(VALUE_MAX)).is_ok());
    }

    #[test]
    fn nothing_of_a_value_is_printed() {
        assert!(!format!("{:?}", secret("geheim")).contains("geheim"));
    }

    #[test]
    fn a_box_does_not_tell_the_length_of_a_value() {
        assert_eq!(secret("x").encode().len(), secret(&"x".repeat(60)).encode().len());
        for len in [1, 255, 256, 4096, 4097, 70_000, 1 << 20] {
            assert!(padded(len) >= len && padded(len) <= len + (len / 8).max(256), "{len}");
        }
    }

    #[test]
    fn other_layouts_are_told_apart() {
        let mut bytes = secret("x").encode().to_vec();
        bytes[0] = 2;
        assert_eq!(Secret::decode(&bytes, 1).unwrap_err(), Malformed::Newer);
        bytes[0] = 0;
        assert_eq!(Secret::decode(&bytes, 1).unwrap_err(), Malformed::Damaged);
        let mut bytes = secret("x").encode().to_vec();
        *bytes.last_mut().unwrap() = 1;
        assert_eq!(Secret::decode(&bytes, 1).unwrap_err(), Malformed::Damaged);
    }

    proptest! {
        #[test]
        fn a_secret_comes_back(
            texts in proptest::collection::vec("\\PC{1,80}", 1..5),
            former in proptest::collection::vec("[a-z0-9][a-z._-]{0,20}", 0..4),
            enabled in any::<bool>(),
        ) {
            let mut before = secret(&texts[0]);
            before.enabled = enabled;
            before.former_names = former.iter().map(|name| name.parse().unwrap()).collect();
            for (index, text) in texts.iter().enumerate().skip(1) {
                let value = SealedValue::seal(text);
                before.versions.push(Version { number: index as u32 + 1, id: random(), created_at: 9, value });
            }
            let after = Secret::decode(&before.encode(), 3).unwrap();
            prop_assert_eq!((after.id, after.revision, after.enabled), (before.id, 3, enabled));
            prop_assert_eq!(&after.former_names, &before.former_names);
            let pairs = after.versions.iter().zip(&before.versions);
            for (version, was) in pairs {
                prop_assert_eq!((version.number, version.id, value(version)), (was.number, was.id, value(was)));
            }
            prop_assert_eq!(after.versions.len(), texts.len());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), layout in 0..3u8) {
            let _ = Secret::decode(&bytes, 1);
            let mut bytes = bytes;
            bytes.insert(0, layout);
            let _ = Secret::decode(&bytes, 1);
        }

        #[test]
        fn changed_bytes_never_panic(at in 0..200usize, to in any::<u8>()) {
            let mut bytes = secret("value").encode().to_vec();
            bytes[at] = to;
            let _ = Secret::decode(&bytes, 1);
        }
    }
}
