//! Seals the content of journal records with AES-256-GCM, each record by itself.
//!
//! Every opening of the file begins a session: 16 random bytes, from which the key of the session is derived. Within a
//! session each record has a number, which is the nonce. So no nonce is used twice under the same key, although a place
//! in the file can be written twice: after a crash in the middle of a record, or after an older copy was put back.
//! Session and number are stored before the box, so that a record opens whatever happened to the records before it. The
//! key belongs to one vault and one journal, and each box is bound to its place. Knows nothing of areas, or of which
//! records are committed.

use aes_gcm::aead::{AeadInPlace, KeyInit};
use aes_gcm::{Aes256Gcm, Key as AesKey, Nonce, Tag};
use zeroize::Zeroize;

use super::Position;
use guillemet_base::random::random;
use guillemet_base::sys::memory::SecretPage;
use guillemet_secret::crypto::Key;

const SESSION_LEN: usize = 16;
const HEAD_LEN: usize = SESSION_LEN + 8;
const TAG_LEN: usize = 16;
/// How much longer a sealed content is, in bytes.
pub(super) const OVERHEAD: usize = HEAD_LEN + TAG_LEN;

type SessionId = [u8; SESSION_LEN];

/// Seals the records of one session, and opens those of all sessions of the same journal.
pub(super) struct JournalSealer {
    /// The key of this vault and journal, from which session keys are derived.
    key: Key,
    session: SessionId,
    cipher: SecretPage<Aes256Gcm>,
}

impl JournalSealer {
    /// Begins a session with a new random id.
    pub(super) fn new(key: &Key, vault: [u8; 16], journal: [u8; 16]) -> Self {
        let label = [b"guillemet journal 1\0".as_slice(), &vault, &journal].concat();
        let (key, session) = (Key::from_bytes(&mut key.mac(&label)), random());
        Self { cipher: cipher(&key, &session), key, session }
    }

    /// Seals `content` for a place and puts it into `out`. A number must never be used again in this session, even if
    /// the record is not kept.
    pub(super) fn seal(&self, number: u64, position: Position, content: &[u8], out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.session);
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(content);
        let nonce = nonce(number.to_le_bytes());
        let tag = self
            .cipher
            .expose()
            .encrypt_in_place_detached(Nonce::from_slice(&nonce), &binding(position), &mut out[HEAD_LEN..])
            // Fails only for a plaintext of more than 64 GiB.
            .expect("a record fits one box");
        out.extend_from_slice(&tag);
    }

    /// Returns an opener for the records of this journal.
    pub(super) fn opener(&self) -> JournalOpener<'_> {
        JournalOpener { sealer: self, other: None }
    }
}

/// Opens records one after another. Keeps the cipher of the last session it met.
pub(super) struct JournalOpener<'a> {
    sealer: &'a JournalSealer,
    /// The earlier session whose records are being read, with its cipher.
    other: Option<(SessionId, SecretPage<Aes256Gcm>)>,
}

impl JournalOpener<'_> {
    /// Opens a sealed record in place and returns its content, or `None` if it was not sealed for this place, or was
    /// changed.
    pub(super) fn open<'b>(&mut self, position: Position, sealed: &'b mut [u8]) -> Option<&'b [u8]> {
        let (head, rest) = sealed.split_at_mut_checked(HEAD_LEN)?;
        let (content, tag) = rest.split_at_mut_checked(rest.len().checked_sub(TAG_LEN)?)?;
        let session: SessionId = *head.first_chunk()?;
        let number: [u8; 8] = *head.last_chunk()?;
        let cipher = if session == self.sealer.session {
            self.sealer.cipher.expose()
        } else {
            let cached = self.other.take().filter(|(id, _)| *id == session);
            let cached = cached.unwrap_or_else(|| (session, cipher(&self.sealer.key, &session)));
            self.other.insert(cached).1.expose()
        };
        let (nonce, binding) = (nonce(number), binding(position));
        let result =
            cipher.decrypt_in_place_detached(Nonce::from_slice(&nonce), &binding, content, Tag::from_slice(tag));
        result.is_ok().then_some(content)
    }
}

/// Returns the associated data that binds a box to its place.
fn binding(position: Position) -> [u8; 16] {
    let mut binding = [0; 16];
    binding[..8].copy_from_slice(&position.generation.to_le_bytes());
    binding[8..].copy_from_slice(&(position.at as u64).to_le_bytes());
    binding
}

/// Derives the cipher of a session. Its state is plain data, so it can live in a page of its own.
fn cipher(key: &Key, session: &SessionId) -> SecretPage<Aes256Gcm> {
    SecretPage::new(|| {
        let mut key = key.mac(&[b"session\0".as_slice(), session].concat());
        let cipher = Aes256Gcm::new(AesKey::<Aes256Gcm>::from_slice(&key));
        key.zeroize();
        cipher
    })
}

fn nonce(number: [u8; 8]) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&number);
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer() -> JournalSealer {
        JournalSealer::new(&Key::from_bytes(&mut [5; 32]), [1; 16], [2; 16])
    }

    fn sealed(sealer: &JournalSealer, number: u64, place: Position) -> Vec<u8> {
        let mut out = Vec::new();
        sealer.seal(number, place, b"content", &mut out);
        out
    }

    #[test]
    fn a_record_opens_in_its_place_and_in_every_session() {
        let (first, second) = (sealer(), sealer());
        let place = Position { generation: 3, at: 40 };
        let of_both = [sealed(&first, 0, place), sealed(&second, 0, place), sealed(&first, 1, place)];
        assert!(
            of_both.iter().all(|sealed| sealed.len() == 7 + OVERHEAD && !sealed.windows(7).any(|w| w == b"content"))
        );
        let mut opener = second.opener();
        for sealed in &of_both {
            assert_eq!(opener.open(place, &mut sealed.clone()), Some(b"content".as_slice()));
            for other in [Position { at: 41, ..place }, Position { generation: 4, ..place }] {
                assert_eq!(opener.open(other, &mut sealed.clone()), None);
            }
        }
        let key = Key::from_bytes(&mut [5; 32]);
        for other in [
            JournalSealer::new(&Key::from_bytes(&mut [6; 32]), [1; 16], [2; 16]),
            JournalSealer::new(&key, [9; 16], [2; 16]),
            JournalSealer::new(&key, [1; 16], [9; 16]),
        ] {
            assert_eq!(other.opener().open(place, &mut of_both[0].clone()), None);
        }
    }

    #[test]
    fn a_changed_record_does_not_open() {
        let sealer = sealer();
        let good = sealed(&sealer, 7, Position::default());
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 1;
            assert_eq!(sealer.opener().open(Position::default(), &mut changed), None, "byte {at}");
            assert_eq!(sealer.opener().open(Position::default(), &mut good[..at].to_vec()), None, "{at} bytes");
        }
    }

    /// The same text at the same place, after a crash or after an older copy was put back, gets another box.
    #[test]
    fn no_two_records_are_sealed_alike() {
        let mut seen = std::collections::HashSet::new();
        for sealer in [sealer(), sealer()] {
            for number in 0..100 {
                let sealed = sealed(&sealer, number, Position::default());
                assert!(seen.insert(sealed[..HEAD_LEN].to_vec()) && seen.insert(sealed[HEAD_LEN..].to_vec()));
            }
        }
    }
}
