//! Flipped bits and truncated files: either everything is there, or the damage is reported and no byte changes.

use super::*;

const SECRETS: usize = 12;

fn filled() -> (tempfile::TempDir, Home) {
    let (dir, home) = created();
    let (mut vault, _) = Vault::open(&home, key_file(&home)).unwrap();
    for number in 1..SECRETS {
        vault.put(&secret(&format!("secret-{number}"))).unwrap();
    }
    // The file has free pages: damage in their list must not give one page to two owners.
    let large = Secret::new("large".parse().unwrap(), &"x".repeat(40_000), true, 1).unwrap();
    vault.put(&large).unwrap();
    let mut small = large.next(2);
    small.set_value("value of large", 0, 2).unwrap();
    vault.put(&small).unwrap();
    vault.set_document("plugins", b"pinned").unwrap();
    (dir, home)
}

fn contents(vault: &Vault, secrets: &[Secret]) -> Option<BTreeMap<String, String>> {
    let pinned = vault.document("plugins").unwrap();
    let pairs = secrets.iter().map(|secret| (secret.name.to_string(), value(secret)));
    (pinned?.as_slice() == b"pinned").then(|| pairs.collect())
}

/// Checks what happens with damaged files. Returns whether the damage was reported.
fn check(home: &Home, expected: &BTreeMap<String, String>, what: &str) -> bool {
    let before = bytes(home);
    let mut expected = expected.clone();
    let opened = Vault::open(home, key_file(home));
    let (mut vault, secrets) = match opened {
        Err(error) => {
            assert_eq!(bytes(home), before, "{what}: something was written after {error}");
            return true;
        }
        Ok(opened) => opened,
    };
    assert_eq!(contents(&vault, &secrets).as_ref(), Some(&expected), "{what}");
    // A vault that opens can be written to, and that loses nothing else.
    let large = Secret::new("later".parse().unwrap(), &"y".repeat(30_000), true, 1).unwrap();
    if vault.put(&large).is_ok() {
        expected.insert("later".into(), value(&large));
    }
    drop(vault);
    let (vault, secrets) = Vault::open(home, key_file(home)).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(contents(&vault, &secrets).as_ref(), Some(&expected), "{what}: after a change");
    false
}

fn restore(home: &Home, files: &BTreeMap<PathBuf, Vec<u8>>) {
    for path in bytes(home).keys() {
        fs::remove_file(path).unwrap();
    }
    for (path, bytes) in files {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
    }
}

fn expected(home: &Home) -> BTreeMap<String, String> {
    let (vault, secrets) = Vault::open(home, key_file(home)).unwrap();
    contents(&vault, &secrets).unwrap()
}

#[test]
fn damage_of_the_file_is_told_or_does_not_matter() {
    let (_dir, home) = filled();
    let expected = expected(&home);
    let good = bytes(&home);
    let path = home.vault_file();
    let (mut reported, mut tried) = (0, 0);
    let len = good[&path].len();
    // The first page, which describes all others: byte by byte, as far as it is used.
    for at in (0..108).chain((108..len).step_by(263)) {
        let mut files = good.clone();
        files.get_mut(&path).unwrap()[at] ^= 1 << (at % 8);
        restore(&home, &files);
        tried += 1;
        reported += usize::from(check(&home, &expected, &format!("byte {at}")));
    }
    for cut in (0..len).step_by(2039).chain([len - 1]) {
        let mut files = good.clone();
        files.get_mut(&path).unwrap().truncate(cut);
        restore(&home, &files);
        tried += 1;
        reported += usize::from(check(&home, &expected, &format!("cut to {cut}")));
    }
    assert!(reported > 60 && tried > 300, "{reported} of {tried}");
}

#[test]
fn damage_of_the_key_file_is_told() {
    let (_dir, home) = filled();
    let expected = expected(&home);
    let good = bytes(&home);
    let key = home.key_file();
    for at in 0..good[&key].len() {
        for bit in 0..8 {
            let mut files = good.clone();
            files.get_mut(&key).unwrap()[at] ^= 1 << bit;
            restore(&home, &files);
            // Bit 5 changes the case of a hexadecimal digit: an `A` for an `a` is the same key.
            let problem = check(&home, &expected, &format!("bit {bit} of byte {at}"));
            assert!(problem || bit == 5, "bit {bit} of byte {at}");
        }
        let mut files = good.clone();
        files.get_mut(&key).unwrap().truncate(at);
        restore(&home, &files);
        assert_eq!(check(&home, &expected, &format!("cut to {at}")), at != 64);
    }
}

#[test]
fn the_log_can_be_lost_or_damaged() {
    let (_dir, home) = filled();
    let (mut vault, _) = Vault::open(&home, key_file(&home)).unwrap();
    vault.put(&secret("acknowledged")).unwrap();
    let crashed = bytes(&home);
    drop(vault);
    let expected = expected(&home);
    let (log, index) =
        (file::companion_path(&home.vault_file(), "-wal"), file::companion_path(&home.vault_file(), "-shm"));
    assert!(crashed.contains_key(&log), "what a crash leaves");
    for lost in [vec![&log], vec![&index], vec![&log, &index]] {
        let mut files = crashed.clone();
        files.retain(|path, _| !lost.contains(&path));
        restore(&home, &files);
        assert!(!check(&home, &expected, &format!("without {lost:?}")));
    }
    for junk in [vec![0; 5000], vec![0xff; 5000]] {
        let mut files = crashed.clone();
        files.insert(log.clone(), junk.clone());
        files.insert(index.clone(), junk);
        restore(&home, &files);
        assert!(!check(&home, &expected, "junk"));
    }
}

/// The process was killed between the commit and the move into the file: the change is in the log alone, and the caller
/// who asked for it has no answer.
#[test]
fn a_damaged_log_of_a_change_under_way_loses_nothing_else() {
    let (_dir, home) = filled();
    let before = expected(&home);
    let mut other = connect(&home.vault_file()).unwrap();
    let (mut vault, _) = Vault::open(&home, key_file(&home)).unwrap();
    // An open reader keeps the log from being emptied.
    vault.database.busy_timeout(std::time::Duration::ZERO).unwrap();
    let reader = other.transaction().unwrap();
    reader.query_row("SELECT COUNT(*) FROM records", [], |row| row.get::<_, u32>(0)).unwrap();
    vault.put(&secret("under-way")).unwrap();
    let crashed = bytes(&home);
    drop(reader);
    drop((other, vault));
    let after = expected(&home);
    let log = file::companion_path(&home.vault_file(), "-wal");
    let len = crashed[&log].len();
    assert!(len > 4096);
    for at in (0..len).step_by(1499) {
        for cut in [false, true] {
            let mut files = crashed.clone();
            let bytes_of_log = files.get_mut(&log).unwrap();
            if cut {
                bytes_of_log.truncate(at);
            } else {
                bytes_of_log[at] ^= 1 << (at % 8);
            }
            restore(&home, &files);
            let saved = bytes(&home);
            let result = Vault::open(&home, key_file(&home)).map(|(_, secrets)| secrets.len());
            restore(&home, &saved);
            let state = if result.is_ok_and(|count| count > SECRETS) { &after } else { &before };
            check(&home, state, &format!("log at {at}, cut {cut}"));
        }
    }
}

#[test]
fn what_is_left_of_another_vault_is_not_mixed_into_a_new_one() {
    let (_dir, home) = home();
    let log = file::companion_path(&home.vault_file(), "-wal");
    fs::write(&log, b"the last changes of somebody").unwrap();
    let before = bytes(&home);
    assert!(matches!(Vault::create(&home, &new_key_file(&home)), Err(VaultError::Leftover(path)) if path == log));
    assert_eq!(bytes(&home), before);
}

#[test]
fn a_document_that_was_taken_away_or_put_back_is_noticed() {
    let (_dir, home) = filled();
    let good = bytes(&home);
    for sql in [
        "DELETE FROM documents WHERE label = 'plugins'",
        "UPDATE documents SET label = 'plugjns' WHERE label = 'plugins'",
    ] {
        restore(&home, &good);
        let database = connect(&home.vault_file()).unwrap();
        database.execute_batch(sql).unwrap();
        database.close().unwrap();
        refused(&home, key_file(&home), |error| matches!(error, VaultError::Damaged(_)));
    }
    restore(&home, &good);
    let old = home.data().join("old.db");
    fs::copy(home.vault_file(), &old).unwrap();
    let (mut vault, _) = Vault::open(&home, key_file(&home)).unwrap();
    vault.set_document("plugins", b"another").unwrap();
    drop(vault);
    let database = connect(&home.vault_file()).unwrap();
    let put_back = "REPLACE INTO documents SELECT * FROM old.documents WHERE label = 'plugins'; DETACH old";
    database.execute_batch(&format!("ATTACH '{}' AS old; {put_back}", old.display())).unwrap();
    database.close().unwrap();
    refused(&home, key_file(&home), |error| matches!(error, VaultError::Damaged(_)));
}
