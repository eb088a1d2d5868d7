//! A vault under new keys: every box is sealed anew, in the transaction that changes what unlocks the vault.
//!
//! The vault always has one seal, so exactly one of the two credentials opens it. A new key file is on disk, under a
//! hidden name, before the transaction begins, and gets its name when it is committed. Whatever is killed in between,
//! the next start finds the one of the two files whose key opens the vault (`UnlockWith::open`), and gives that its name
//! or removes the other (`keys::settle_key_file`).

use rusqlite::{Connection, params};
use zeroize::Zeroizing;

use super::file::{change, wipe, write_seal};
use super::{Boxes, DOCUMENT, MANIFEST, Manifest, RECORD, ROOT, Vault, VaultError, key_binding};
use crate::home::Home;
use crate::vault::audit::Change;
use crate::vault::crypto::{self, Key};
use crate::vault::keys::{self, Method, NewUnlock, OpenedBy, PassphraseHeader};
use crate::vault::trail;

impl Vault {
    /// Seals everything in the vault under a new key, and that key under another key file or passphrase, which opens the
    /// vault from then on. Nothing else opens it then, and nothing of the former boxes is left in the file. Copies of
    /// the file that were made before are as they were. Subkeys stay the same. The audit trail tells `event` of it. Then
    /// comes `name_new_key`.
    ///
    /// # Errors
    /// When something cannot be written. What opened the vault before opens it then; only where the disk has failed in
    /// the middle of the commit, it may be the other one.
    pub fn rekey(&mut self, unlock: &NewUnlock, event: Change) -> Result<(), VaultError> {
        let passphrase = PassphraseHeader::random();
        let unlock_key = unlock.next_key(&passphrase)?;
        let key = Key::random();
        let (former, boxes) = (&self.boxes, Boxes::new(self.boxes.vault, &key));
        let sealed_key = crypto::seal(&unlock_key, &key_binding(&boxes.vault), key.expose());
        change(&mut self.database, |database| {
            former.seal_anew(database, &boxes, &self.root)?;
            write_seal(database, unlock.method(), passphrase, &sealed_key)?;
            trail::write_changes(database, &self.trail, self.changes_kept, &[event])
        })?;
        wipe(&self.database);
        self.boxes = boxes;
        self.opened_by = OpenedBy::Key;
        Ok(())
    }

    /// Gives the new key file its name, where there is one.
    ///
    /// # Errors
    /// When it cannot be renamed. It opens the vault all the same, and the next `open` tries again.
    pub fn name_new_key(&self, home: &Home, unlock: &NewUnlock) -> Result<(), VaultError> {
        match unlock.method() {
            Method::KeyFile => keys::name_key_file(&home.key_file()),
            Method::Passphrase => Ok(()),
        }
    }
}

impl Boxes {
    /// Puts a box of `to` in place of every box, and `root` beside them.
    fn seal_anew(&self, database: &Connection, to: &Self, root: &Key) -> Result<(), VaultError> {
        let mut manifest = Manifest::default();
        let mut seal = |kind: &'static str, id: &[u8], revision: u64, sealed: &[u8]| {
            let bytes = self.open(kind, id, revision, sealed);
            let bytes = bytes.ok_or_else(|| VaultError::Damaged(format!("a {kind} of it does not open")))?;
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

    /// The key that subkeys come from, where it is not the vault's own.
    pub(super) fn root(&self, database: &Connection) -> Result<Option<Key>, VaultError> {
        let Some(bytes) = self.document(database, ROOT)? else { return Ok(None) };
        let bytes = <[u8; 32]>::try_from(bytes.as_slice()).map(Zeroizing::new);
        let mut bytes = bytes.map_err(|_| VaultError::Damaged(format!("its document `{ROOT}` is no key")))?;
        Ok(Some(Key::from_bytes(&mut bytes)))
    }
}
