//! A vault that must not open is refused, and nothing is written then.

use std::collections::BTreeMap;

use guillemet_base::sys::memory::Clear;

use super::*;
use guillemet_secret::memory::SealedValue;

/// A passphrase that is hard to guess.
const GOOD: &str = "correct horse battery staple nine";

fn home() -> (tempfile::TempDir, Home) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path());
    (dir, home)
}

fn key_file(home: &Home) -> UnlockWith {
    UnlockWith::KeyFile(home.key_file())
}

fn new_key_file(home: &Home) -> NewUnlock {
    key_file(home).for_new().unwrap()
}

fn passphrase(text: &str) -> UnlockWith {
    UnlockWith::Passphrase(text.to_owned().into())
}

fn created() -> (tempfile::TempDir, Home) {
    let (dir, home) = home();
    Vault::create(&home, &new_key_file(&home)).unwrap();
    (dir, home)
}

fn secret(name: &str) -> Secret {
    Secret::new(name.parse().unwrap(), &format!("value of {name}"), true, 1).unwrap()
}

fn value(secret: &Secret) -> String {
    let mut out = Clear::new();
    secret.current().value.open_into(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

/// Returns every file of the home with its bytes.
fn bytes(home: &Home) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(home.data()).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

/// Checks that opening fails with an error that `check` accepts, and changes nothing.
fn refused(home: &Home, unlock: UnlockWith, check: impl FnOnce(&VaultError) -> bool) -> String {
    let before = bytes(home);
    let error = Vault::open(home, unlock).unwrap_err();
    assert!(check(&error), "{error}");
    assert_eq!(bytes(home), before, "something was written");
    error.to_string()
}

#[test]
fn secrets_survive_and_names_and_values_are_sealed() {
    let (_dir, home) = created();
    let (mut vault, none) = Vault::open(&home, key_file(&home)).unwrap();
    assert!(none.is_empty());
    let mut changed = secret("cal.com-key");
    vault.put(&changed).unwrap();
    vault.put(&secret("other-name")).unwrap();
    vault.set_document("plugins", b"pinned things").unwrap();
    changed.enabled = false;
    changed.revision += 1;
    vault.put(&changed).unwrap();
    assert!(matches!(vault.put(&changed), Err(VaultError::Stale)));
    drop(vault);
    for (path, bytes) in bytes(&home) {
        for text in ["cal.com-key", "value of", "other-name", "pinned things"] {
            assert!(!bytes.windows(text.len()).any(|window| window == text.as_bytes()), "{text} in {path:?}");
        }
    }
    let (mut vault, mut secrets) = Vault::open(&home, key_file(&home)).unwrap();
    secrets.sort_by_key(|secret| secret.name.key());
    assert_eq!(secrets.len(), 2);
    assert_eq!((value(&secrets[0]).as_str(), secrets[0].enabled), ("value of cal.com-key", false));
    assert_eq!(vault.document("plugins").unwrap().unwrap().as_slice(), b"pinned things");
    vault.remove(secrets[0].id).unwrap();
    drop(vault);
    assert_eq!(Vault::open(&home, key_file(&home)).unwrap().1.len(), 1);
}

#[test]
fn a_vault_is_never_written_over() {
    let (_dir, home) = created();
    let before = bytes(&home);
    assert!(matches!(Vault::create(&home, &new_key_file(&home)), Err(VaultError::AlreadyExists(_))));
    assert_eq!(bytes(&home), before);
}

#[test]
fn an_attempt_that_broke_off_is_taken_up() {
    let (_dir, home) = home();
    keys::make_key_file(&home.key_file()).unwrap();
    fs::write(files::beside(&home.vault_file()), b"half").unwrap();
    let key = fs::read(home.key_file()).unwrap();
    Vault::create(&home, &new_key_file(&home)).unwrap();
    assert_eq!(fs::read(home.key_file()).unwrap(), key);
    Vault::open(&home, key_file(&home)).unwrap();
}

#[test]
fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::MetadataExt;
    let (_dir, home) = created();
    let (mut vault, _) = Vault::open(&home, key_file(&home)).unwrap();
    vault.put(&secret("a")).unwrap();
    for path in bytes(&home).keys() {
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o600, "{path:?}");
    }
}

#[test]
fn a_wrong_key_opens_nothing_and_writes_nothing() {
    let (_dir, home) = created();
    let good = fs::read(home.key_file()).unwrap();
    fs::write(home.key_file(), format!("{}\n", "ab".repeat(32))).unwrap();
    refused(&home, key_file(&home), |error| matches!(error, VaultError::WrongKey(Method::KeyFile)));
    fs::write(home.key_file(), b"not a key").unwrap();
    refused(&home, key_file(&home), |error| matches!(error, VaultError::KeyFile { .. }));
    fs::remove_file(home.key_file()).unwrap();
    refused(&home, key_file(&home), |error| matches!(error, VaultError::KeyFile { .. }));
    fs::write(home.key_file(), good).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(home.key_file(), open).unwrap();
    let text = refused(&home, key_file(&home), |error| matches!(error, VaultError::KeyFile { .. }));
    assert!(text.contains("chmod 600"), "{text}");
}

#[test]
fn a_passphrase_opens_its_vault_alone() {
    let (_dir, home) = home();
    assert!(matches!(passphrase("").for_new(), Err(VaultError::Passphrase(BadPassphrase::Empty))));
    Vault::create(&home, &passphrase(GOOD).for_new().unwrap()).unwrap();
    assert!(!home.key_file().exists());
    assert_eq!(Vault::method(&home).unwrap(), Method::Passphrase);
    refused(&home, passphrase("wrong horse"), |error| matches!(error, VaultError::WrongKey(Method::Passphrase)));
    refused(&home, key_file(&home), |error| matches!(error, VaultError::OtherMethod { .. }));
    Vault::open(&home, passphrase(GOOD)).unwrap();
}

#[test]
fn what_is_not_a_vault_or_a_newer_one_is_said_so() {
    let (_dir, home) = home();
    assert!(matches!(Vault::open(&home, key_file(&home)), Err(VaultError::NoVault(_))));
    let (_dir, home) = created();
    let good = fs::read(home.vault_file()).unwrap();
    let mut newer = good.clone();
    newer[60..64].copy_from_slice(&7u32.to_be_bytes());
    fs::write(home.vault_file(), &newer).unwrap();
    refused(&home, key_file(&home), |error| matches!(error, VaultError::NewerFormat { found: 7 }));
    for bad in [b"short".to_vec(), vec![0; 4096], good[..200].to_vec()] {
        fs::write(home.vault_file(), bad).unwrap();
        refused(&home, key_file(&home), |error| matches!(error, VaultError::Damaged(_)));
    }
}

#[test]
fn a_record_that_was_changed_swapped_removed_or_put_back_is_noticed() {
    let (_dir, home) = created();
    let (mut vault, _) = Vault::open(&home, key_file(&home)).unwrap();
    let (mut a, b) = (secret("a"), secret("b"));
    vault.put(&a).unwrap();
    vault.put(&b).unwrap();
    drop(vault);
    let older = fs::read(home.vault_file()).unwrap();
    let (mut vault, _) = Vault::open(&home, key_file(&home)).unwrap();
    a.revision += 1;
    a.versions[0].value = SealedValue::seal("another");
    vault.put(&a).unwrap();
    drop(vault);
    let good = fs::read(home.vault_file()).unwrap();

    let tampered = |sql: &str| {
        fs::write(home.vault_file(), &good).unwrap();
        let database = connect(&home.vault_file()).unwrap();
        database.execute_batch(sql).unwrap();
        database.close().unwrap();
        refused(&home, key_file(&home), |error| matches!(error, VaultError::Damaged(_)));
    };
    tampered("UPDATE records SET box = CAST(zeroblob(300) AS BLOB) WHERE id = (SELECT MIN(id) FROM records)");
    tampered("DELETE FROM records WHERE id = (SELECT MIN(id) FROM records)");
    tampered("UPDATE records SET revision = revision + 1");
    tampered("DELETE FROM documents");
    // The older box, under the newer manifest.
    let old = home.data().join("old.db");
    fs::write(&old, older).unwrap();
    tampered(&format!(
        "ATTACH '{}' AS old; DELETE FROM records; INSERT INTO records SELECT * FROM old.records; DETACH old",
        old.display()
    ));
    fs::write(home.vault_file(), &good).unwrap();
    Vault::open(&home, key_file(&home)).unwrap();
}

#[test]
fn a_write_that_fails_changes_nothing() {
    let (_dir, home) = created();
    let (mut vault, _) = Vault::open(&home, key_file(&home)).unwrap();
    let mut kept = secret("kept");
    vault.put(&kept).unwrap();
    let pages: u32 = vault.database.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    vault.database.pragma_update(None, "max_page_count", pages).unwrap();
    let large = Secret::new("large".parse().unwrap(), &"x".repeat(60_000), true, 1).unwrap();
    assert!(matches!(vault.put(&large), Err(VaultError::Unwritable(_))));
    kept.revision += 1;
    kept.enabled = false;
    vault.put(&kept).unwrap();
    drop(vault);
    let (_, secrets) = Vault::open(&home, key_file(&home)).unwrap();
    assert_eq!(
        secrets.iter().map(|secret| (secret.name.as_str(), secret.enabled)).collect::<Vec<_>>(),
        [("kept", false)]
    );
}

#[test]
fn nothing_is_left_of_what_was_deleted() {
    let (_dir, home) = created();
    let (mut vault, _) = Vault::open(&home, key_file(&home)).unwrap();
    // Boxes of several sizes that share pages, so that SQLite moves them.
    let value = |number: usize| "x".repeat(1 + number * number * 37 % 1_500);
    let sealed = |vault: &Vault, secret: &Secret| -> Vec<u8> {
        let sql = "SELECT box FROM records WHERE id = ?1";
        vault.database.query_row(sql, [secret.id.0], |row| row.get(0)).unwrap()
    };
    // Each secret, with all the boxes it ever had.
    let mut secrets = Vec::new();
    for number in 0..60 {
        let secret = Secret::new(format!("name-{number}").parse().unwrap(), &value(number), true, 1).unwrap();
        vault.put(&secret).unwrap();
        secrets.push((vec![sealed(&vault, &secret)], secret));
    }
    let left = |boxes: &[Vec<u8>]| -> usize {
        let pieces: std::collections::HashSet<&[u8]> =
            boxes.iter().flat_map(|sealed| sealed.chunks_exact(24)).collect();
        let files = bytes(&home);
        files.values().flat_map(|file| file.windows(24)).filter(|window| pieces.contains(window)).count()
    };
    assert!(left(&secrets[0].0) > 0, "what is there is found");
    for round in 1..100 {
        let at = round * 7 % secrets.len();
        if round % 4 == 0 {
            let (boxes, secret) = secrets.remove(at);
            vault.remove(secret.id).unwrap();
            assert_eq!(left(&boxes), 0, "in round {round}");
        } else {
            let (boxes, secret) = &mut secrets[at];
            *secret = secret.next(2);
            secret.set_value(&value(round), 1, 2).unwrap();
            vault.put(secret).unwrap();
            boxes.push(sealed(&vault, secret));
        }
    }
    drop(vault);
    assert_eq!(Vault::open(&home, key_file(&home)).unwrap().1.len(), secrets.len());
}

/// Space that SQLite frees stays in the file for later use. A file that was rewritten contains none of the freed bytes.
#[test]
fn a_file_from_which_something_was_deleted_is_written_anew() {
    let (_dir, home) = created();
    let (mut vault, _) = Vault::open(&home, key_file(&home)).unwrap();
    vault.put(&secret("kept")).unwrap();
    let before = fs::metadata(home.vault_file()).unwrap().len();
    let large = Secret::new("large".parse().unwrap(), &"x".repeat(60_000), true, 1).unwrap();
    vault.put(&large).unwrap();
    assert!(fs::metadata(home.vault_file()).unwrap().len() > before + 60_000);
    vault.remove(large.id).unwrap();
    let number = |pragma: &str| -> u64 { vault.database.query_row(pragma, [], |row| row.get(0)).unwrap() };
    assert_eq!(number("PRAGMA freelist_count"), 0);
    let after = fs::metadata(home.vault_file()).unwrap().len();
    assert!(after <= before, "{after} bytes, {before} before");
    assert_eq!(number("PRAGMA page_count") * number("PRAGMA page_size"), after);
}

/// Prints how long 100,000 secrets take to open: `cargo test --release -- --ignored --nocapture hundred_thousand`.
#[test]
#[ignore = "a measurement"]
fn hundred_thousand_secrets_open() {
    let (_dir, home) = created();
    let (mut vault, _) = Vault::open(&home, key_file(&home)).unwrap();
    vault.database.pragma_update(None, "synchronous", "OFF").unwrap();
    for number in 0..100_000 {
        vault.put(&secret(&format!("provider-{number}"))).unwrap();
    }
    drop(vault);
    let begin = std::time::Instant::now();
    assert_eq!(Vault::open(&home, key_file(&home)).unwrap().1.len(), 100_000);
    println!("100,000 secrets open in {:?}", begin.elapsed());
    let (mut vault, secrets) = Vault::open(&home, key_file(&home)).unwrap();
    let begin = std::time::Instant::now();
    vault.remove(secrets[0].id).unwrap();
    println!("one of them is removed in {:?}", begin.elapsed());
}

mod damage;
mod rekey;
