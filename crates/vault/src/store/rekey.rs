//! Rekeying a vault: every box is sealed again under a new key, in the same transaction that changes the credential.
//!
//! The vault always has exactly one seal, so exactly one of the old and the new credential opens it. A new key file is
//! on disk under a hidden name before the transaction begins, and is renamed after the commit. If the process is killed
//! in between, the next start finds out which of the two files holds the key that opens the vault (`UnlockWith::open`),
//! and renames or removes the pending one (`keys::finish_rekey`).

use rusqlite::{Connection, params};
use zeroize::Zeroizing;

use super::file::{change, wipe, write_seal};
use super::{DOCUMENT, MANIFEST, Manifest, RECORD, ROOT, Vault, VaultError, VaultSealer, key_binding};
use crate::audit::AuditChange;
use crate::keys::{Method, NewUnlock, OpenedBy, PassphraseHeader};
use crate::{keys, trail};
use guillemet_base::home::Home;
use guillemet_secret::crypto::{self, Key};

impl Vault {
    /// Seals everything in the vault under a new key, and that key under a new key file or passphrase. From then on
    /// only this credential opens the vault, and no part of the former boxes stays in the file. Copies of the file from
    /// before are unaffected. Subkeys stay the same. `event` goes into the audit trail in the same transaction. Call
    /// [`Self::name_new_key`] afterwards.
    ///
    /// # Errors
    /// An error if something cannot be written. The former credential still opens the vault then, except that if the
    /// disk failed in the middle of the commit, it may be the new one.
    pub fn rekey(&mut self, unlock: &NewUnlock, event: AuditChange) -> Result<(), VaultError> {
        let passphrase = PassphraseHeader::random();
        let unlock_key = unlock.next_key(&passphrase)?;
        let key = Key::random();
        let (previous, boxes) = (&self.boxes, VaultSealer::new(self.boxes.vault, &key));
        let sealed_key = crypto::seal(&unlock_key, &key_binding(&boxes.vault), key.expose());
        change(&mut self.database, |database| {
            previous.reseal(database, &boxes, &self.root)?;
            write_seal(database, unlock.method(), passphrase, &sealed_key)?;
            trail::write_changes(database, &self.trail, self.changes_kept, &[event])
        })?;
        wipe(&self.database);
        self.boxes = boxes;
        self.opened_by = OpenedBy::Key;
        Ok(())
    }

    /// Gives the new key file its final name, if the method is a key file.
    ///
    /// # Errors
    /// [`VaultError::KeyFile`] if it cannot be renamed. The vault opens all the same, and the next [`Self::open`] tries
    /// again.
    pub fn name_new_key(&self, home: &Home, unlock: &NewUnlock) -> Result<(), VaultError> {
        match unlock.method() {
            Method::KeyFile => keys::name_key_file(&home.key_file()),
            Method::Passphrase => Ok(()),
        }
    }
}

impl VaultSealer {
    /// Replaces every box by one under the keys of `to`, and stores `root` as a document.
    fn reseal(&self, database: &Connection, to: &Self, root: &Key) -> Result<(), VaultError> {
        let mut manifest = Manifest::default();
        let mut seal = |kind: &'static str, id: &[u8], revision: u64, sealed: &[u8]| {
            let bytes = self.open(kind, id, revision, sealed);
            let bytes = bytes.ok_or_else(|| VaultError::Damaged(format!("a {kind} in it cannot be decrypted")))?;
            manifest.count += 1;
            manifest.toggle(&to.manifest_key, kind, id, revision);
            Ok::<_, VaultError>(to.seal(kind, id, revision, &bytes))
        };
        let mut ids = database.prepare("SELECT id FROM records")?;
        let ids = ids.query_map([], |row| row.get(0))?.collect::<Result<Vec<[u8; 16]>, _>>()?;
        for id in ids {
            let (revision, sealed): (u64, Vec<u8>) = database
                .prepare_cached("SELECT revision, box FROM records WHERE id = ?1")?
                .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let sealed = seal(RECORD, &id, revision, &sealed)?;
            database.prepare_cached("UPDATE records SET box = ?2 WHERE id = ?1")?.execute(params![id, sealed])?;
        }
        let mut labels = database.prepare("SELECT label FROM documents WHERE label != ?1")?;
        let labels = labels.query_map([MANIFEST], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        for label in &labels {
            let (revision, sealed): (u64, Vec<u8>) = database
                .prepare_cached("SELECT revision, box FROM documents WHERE label = ?1")?
                .query_row([label], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let sealed = seal(DOCUMENT, label.as_bytes(), revision, &sealed)?;
            database
                .prepare_cached("UPDATE documents SET box = ?2 WHERE label = ?1")?
                .execute(params![label, sealed])?;
        }
        if !labels.iter().any(|label| label == ROOT) {
            to.put_counted(database, &mut manifest, ROOT, root.expose())?;
        }
        to.put_document(database, MANIFEST, &manifest.to_bytes()).map(drop)
    }

    /// Returns the key that subkeys are derived from, or `None` if that is the vault's own key.
    pub(super) fn root(&self, database: &Connection) -> Result<Option<Key>, VaultError> {
        let Some(bytes) = self.document(database, ROOT)? else { return Ok(None) };
        let bytes = <[u8; 32]>::try_from(bytes.as_slice()).map(Zeroizing::new);
        let mut bytes = bytes.map_err(|_| VaultError::Damaged(format!("its document `{ROOT}` is not a key")))?;
        Ok(Some(Key::from_bytes(&mut bytes)))
    }
}
