//! A rekey keeps everything, leaves nothing of the former boxes, and is completed or undone by the next open.
//! Passphrases that earlier versions read with their line ends still open their vaults.

use super::*;
use crate::audit::Actor;
use crate::event::ChangeKind;
use guillemet_secret::crypto::PassphraseCost;

fn pending(home: &Home) -> PathBuf {
    files::beside(&home.key_file())
}

/// Returns a vault with data of every kind in it.
fn filled() -> (tempfile::TempDir, Home) {
    let (dir, home) = created();
    let (mut vault, _) = Vault::open(&home, key_file(&home)).unwrap();
    for number in 0..40 {
        vault.put(&secret(&format!("secret-{number}"))).unwrap();
    }
    let changed = secret("changed").next(2);
    vault.put(&changed).unwrap();
    vault.put(&changed.next(3)).unwrap();
    vault.remove(secret("gone").id).unwrap();
    for label in ["plugins", "intent/1", "removed"] {
        vault.set_document(label, label.as_bytes()).unwrap();
    }
    vault.set_document("plugins", b"pinned").unwrap();
    vault.write(&Writes { documents: vec![("removed".into(), None)], ..Writes::default() }).unwrap();
    (dir, home)
}

/// The revision and value of each secret by its name, the documents, and a subkey.
type Contents = (BTreeMap<String, (u64, String)>, Vec<LabelledDocument>, [u8; 32]);

/// Returns the content of a vault, and one of its subkeys.
fn contents(vault: &Vault, secrets: &[Secret]) -> Contents {
    let secrets = secrets.iter().map(|secret| (secret.name.to_string(), (secret.revision, value(secret))));
    let mut documents = vault.documents("").unwrap();
    documents.retain(|(label, _)| ![MANIFEST, ROOT].contains(&label.as_str()));
    (secrets.collect(), documents, *vault.subkey("usage").expose())
}

fn rekey(vault: &mut Vault, home: &Home, unlock: &NewUnlock) -> Result<(), VaultError> {
    vault.rekey(unlock, AuditChange::new(ChangeKind::VaultRekeyed, &Actor::this_process(), 7))?;
    vault.name_new_key(home, unlock)
}

fn boxes_of(home: &Home) -> Vec<Vec<u8>> {
    let database = Connection::open(home.vault_file()).unwrap();
    let sql = "SELECT box FROM records UNION ALL SELECT box FROM documents UNION ALL SELECT sealed_key FROM meta";
    let mut statement = database.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_rekey_keeps_everything_and_leaves_nothing_of_what_was() {
    let (_dir, home) = filled();
    let (mut vault, secrets) = Vault::open(&home, key_file(&home)).unwrap();
    let expected = contents(&vault, &secrets);
    assert_eq!(expected.1.len(), 2);
    // From each method to each, and twice to a key file.
    let steps = [new_key_file(&home), passphrase(GOOD).for_new().unwrap(), new_key_file(&home), new_key_file(&home)];
    for (step, unlock) in steps.iter().enumerate() {
        let (former_boxes, former_key) = (boxes_of(&home), fs::read(home.key_file()).unwrap());
        rekey(&mut vault, &home, unlock).unwrap();
        // The vault stays usable.
        vault.set_document("plugins", b"pinned").unwrap();
        drop(vault);
        let pieces: std::collections::HashSet<&[u8]> =
            former_boxes.iter().flat_map(|sealed| sealed.chunks_exact(24)).collect();
        for (path, bytes) in bytes(&home) {
            let left = bytes.windows(24).filter(|window| pieces.contains(window)).count();
            assert_eq!(left, 0, "step {step}: parts of former boxes are in {path:?}");
        }
        assert!(!pending(&home).exists());
        let method = unlock.method();
        assert_eq!(Vault::method(&home).unwrap(), method);
        let good = || if method == Method::KeyFile { key_file(&home) } else { passphrase(GOOD) };
        if method == Method::KeyFile {
            let key = fs::read(home.key_file()).unwrap();
            assert_ne!(key, former_key);
            fs::write(home.key_file(), &former_key).unwrap();
            refused(&home, good(), |error| matches!(error, VaultError::WrongKey(Method::KeyFile)));
            fs::write(home.key_file(), key).unwrap();
        }
        let opened = Vault::open(&home, good()).unwrap();
        assert_eq!(contents(&opened.0, &opened.1), expected, "step {step}");
        assert_eq!(opened.0.opened_by(), OpenedBy::Key);
        vault = opened.0;
    }
}

/// A key file that is kept on another disk stays there.
#[test]
fn a_link_to_a_key_file_stays_a_link() {
    let (_dir, home) = filled();
    let elsewhere = tempfile::tempdir().unwrap();
    let key = elsewhere.path().join("the.key");
    fs::rename(home.key_file(), &key).unwrap();
    std::os::unix::fs::symlink(&key, home.key_file()).unwrap();
    let old = fs::read(&key).unwrap();
    let (mut vault, _) = Vault::open(&home, key_file(&home)).unwrap();
    rekey(&mut vault, &home, &new_key_file(&home)).unwrap();
    drop(vault);
    assert!(fs::symlink_metadata(home.key_file()).unwrap().is_symlink());
    let new = fs::read(&key).unwrap();
    assert_ne!(new, old);
    // Killed before the new key file was renamed.
    fs::rename(&key, files::beside(&key)).unwrap();
    files::write_new(&key, &old).unwrap();
    let (vault, _) = Vault::open(&home, key_file(&home)).unwrap();
    assert_eq!((vault.opened_by(), fs::read(&key).unwrap()), (OpenedBy::PendingKeyFile, new));
    assert!(fs::symlink_metadata(home.key_file()).unwrap().is_symlink() && !files::beside(&key).exists());
}

#[test]
fn a_copy_from_before_opens_with_the_old_key_alone() {
    let (_dir, home) = filled();
    let before = bytes(&home);
    let (mut vault, _) = Vault::open(&home, key_file(&home)).unwrap();
    rekey(&mut vault, &home, &new_key_file(&home)).unwrap();
    drop(vault);
    fs::write(home.vault_file(), &before[&home.vault_file()]).unwrap();
    refused(&home, key_file(&home), |error| matches!(error, VaultError::WrongKey(_)));
    fs::write(home.key_file(), &before[&home.key_file()]).unwrap();
    Vault::open(&home, key_file(&home)).unwrap();
}

#[test]
fn a_rekey_that_was_killed_is_undone_or_finished_when_the_vault_is_opened() {
    let (_dir, home) = filled();
    let (old, vault_before) = (fs::read(home.key_file()).unwrap(), fs::read(home.vault_file()).unwrap());
    let opened = || {
        let (vault, secrets) = Vault::open(&home, key_file(&home)).unwrap();
        assert!(!pending(&home).exists() && secrets.len() == 41);
        vault.opened_by()
    };
    let (mut vault, _) = Vault::open(&home, key_file(&home)).unwrap();
    rekey(&mut vault, &home, &new_key_file(&home)).unwrap();
    drop(vault);
    let (new, vault_after) = (fs::read(home.key_file()).unwrap(), fs::read(home.vault_file()).unwrap());
    let lies = |vault: &[u8], key: Option<&[u8]>| {
        fs::write(home.vault_file(), vault).unwrap();
        let _ = fs::remove_file(home.key_file());
        if let Some(key) = key {
            files::write_new(&home.key_file(), key).unwrap();
        }
        files::write_new(&pending(&home), &new).unwrap();
    };
    // Killed before the commit.
    lies(&vault_before, Some(&old));
    assert_eq!((opened(), fs::read(home.key_file()).unwrap()), (OpenedBy::Key, old.clone()));
    // Killed after the commit; also if a passphrase was used before, so that there was no key file.
    for before in [Some(&old[..]), None] {
        lies(&vault_after, before);
        assert_eq!((opened(), fs::read(home.key_file()).unwrap()), (OpenedBy::PendingKeyFile, new.clone()));
        assert_eq!(opened(), OpenedBy::Key);
    }
    // A pending key that opens nothing does not replace a wrong one, and stays.
    lies(&vault_after, Some(&old));
    fs::write(pending(&home), format!("{}\n", "ab".repeat(32))).unwrap();
    refused(&home, key_file(&home), |error| matches!(error, VaultError::WrongKey(_)));
}

#[test]
fn a_rekey_that_cannot_be_written_changes_nothing() {
    let (_dir, home) = filled();
    let (mut vault, secrets) = Vault::open(&home, key_file(&home)).unwrap();
    let expected = contents(&vault, &secrets);
    let key = fs::read(home.key_file()).unwrap();
    for table in ["meta", "documents", "records"] {
        let trigger = format!("CREATE TRIGGER no BEFORE UPDATE ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END");
        vault.database.execute_batch(&trigger).unwrap();
        rekey(&mut vault, &home, &new_key_file(&home)).unwrap_err();
        rekey(&mut vault, &home, &passphrase(GOOD).for_new().unwrap()).unwrap_err();
        vault.database.execute_batch("DROP TRIGGER no").unwrap();
        let _ = fs::remove_file(pending(&home));
        assert_eq!(fs::read(home.key_file()).unwrap(), key);
        vault.put(&secret(&format!("later-{table}"))).unwrap();
    }
    drop(vault);
    let (vault, secrets) = Vault::open(&home, key_file(&home)).unwrap();
    let (mut now, documents, subkey) = contents(&vault, &secrets);
    now.retain(|name, _| !name.starts_with("later-"));
    assert_eq!((now, documents, subkey), expected);
}

/// Returns a vault as an earlier version sealed it: it took more of a file for the passphrase.
fn sealed_by(text: &str) -> (tempfile::TempDir, Home) {
    let (dir, home) = created();
    let header = read_header(&home.vault_file()).unwrap();
    let bound = key_binding(&header.id);
    let open = |key: &Key| crypto::open_key(key, &bound, &header.sealed_key).ok();
    let (key, _) = key_file(&home).open(&header.passphrase, open).unwrap();
    let passphrase = PassphraseHeader { salt: [7; 16], cost: PassphraseCost { memory_kib: 64, passes: 1 } };
    let unlock_key = Key::from_passphrase(text, &passphrase.salt, passphrase.cost).unwrap();
    let sealed_key = crypto::seal(&unlock_key, &bound, key.expose());
    let database = connect(&home.vault_file()).unwrap();
    file::write_seal(&database, Method::Passphrase, passphrase, &sealed_key).unwrap();
    (dir, home)
}

#[test]
fn a_passphrase_that_was_read_otherwise_opens_its_vault_until_it_is_rekeyed() {
    for (file, taken, by_rule) in [
        ("one of these\r\n", "one of these\r", Some("one of these\n")),
        ("\u{feff}one of these\n", "\u{feff}one of these", Some("one of these")),
        ("\u{feff}one of these\r\n", "\u{feff}one of these\r", Some("one of these\r\n")),
        ("one\nof these\n", "one\nof these", None),
        ("one\r\nof these\r\n", "one\r\nof these\r", None),
        ("\r\n", "\r", None),
    ] {
        let (_dir, home) = sealed_by(taken);
        let (mut vault, _) = Vault::open(&home, passphrase(file)).unwrap();
        assert_eq!(vault.opened_by(), OpenedBy::FormerReading, "{file:?}");
        // This depends on the whole file, not on the passphrase in it.
        if let Some(other) = by_rule.filter(|other| *other != file) {
            refused(&home, passphrase(other), |error| matches!(error, VaultError::WrongKey(_)));
        }
        if taken != "one of these\r" {
            continue;
        }
        rekey(&mut vault, &home, &passphrase(GOOD).for_new().unwrap()).unwrap();
        drop(vault);
        for line_end in ["", "\n", "\r\n"] {
            let (vault, _) = Vault::open(&home, passphrase(&format!("{GOOD}{line_end}"))).unwrap();
            assert_eq!(vault.opened_by(), OpenedBy::Key, "{line_end:?}");
        }
        // A text of several lines is not the passphrase, even if its first line is.
        for lines in [format!("{GOOD}\nmore"), format!("{GOOD}\r\nmore\r\n"), format!("{GOOD}\n\n")] {
            let several = VaultError::Passphrase(BadPassphrase::Lines).to_string();
            refused(&home, passphrase(&lines), |error| error.to_string() == several);
        }
    }
}

#[test]
fn a_key_file_is_one_line_however_it_ends() {
    let (_dir, home) = created();
    let text = fs::read_to_string(home.key_file()).unwrap();
    let digits = text.trim_end();
    for good in [digits.to_owned(), format!("{digits}\r\n"), format!("\u{feff}{digits}\n")] {
        fs::write(home.key_file(), good).unwrap();
        Vault::open(&home, key_file(&home)).unwrap();
    }
    let long = format!("{digits}\n{}", "\n".repeat(70_000));
    for bad in [format!("{digits}\n\n"), format!("{digits}\n{digits}\n"), format!(" {digits}"), long, String::new()] {
        fs::write(home.key_file(), bad).unwrap();
        let text = refused(&home, key_file(&home), |error| matches!(error, VaultError::KeyFile { .. }));
        assert!(text.contains("one line of 64 hexadecimal digits"), "{text}");
    }
}
