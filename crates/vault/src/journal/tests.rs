//! Records are seen exactly once, whole and in order.

use proptest::prelude::*;

use super::*;

const VAULT: [u8; 16] = [3; 16];
const SMALL: usize = 4096 + 2 * 1024;

fn try_open(path: &Path, vault: [u8; 16], folded: Position) -> Result<Journal, JournalError> {
    Journal::open(path, vault, &Key::from_bytes(&mut [5; 32]), SMALL, |_| folded)
}

fn open(path: &Path) -> Journal {
    try_open(path, VAULT, Position::default()).unwrap()
}

/// Returns the records that have not been taken yet.
fn take(journal: &Journal) -> (Vec<Vec<u8>>, Position) {
    let mut pending = Pending::default();
    let position = journal.take(&mut pending);
    (pending.iter().map(<[u8]>::to_vec).collect(), position)
}

#[test]
fn a_foreign_or_damaged_file_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    drop(open(&path));
    let good = std::fs::read(&path).unwrap();
    let mut other_format = good.clone();
    other_format[8] = 9;
    let mut no_magic = good.clone();
    no_magic[0] = b'x';
    for bad in [b"short".to_vec(), other_format, no_magic, vec![0xff; SMALL]] {
        std::fs::write(&path, &bad).unwrap();
        let opened = try_open(&path, VAULT, Position::default());
        assert!(matches!(opened, Err(JournalError::Foreign { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), bad);
    }
    std::fs::write(&path, &good).unwrap();
    assert!(try_open(&path, [4; 16], Position::default()).is_err());
    open(&path);
}

#[test]
fn a_full_journal_says_so_until_it_is_folded() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(&dir.path().join("journal"));
    let mut written = 0;
    while journal.append_record(b"0123456789").is_ok() {
        written += 1;
    }
    let (records, position) = take(&journal);
    assert_eq!(records.len(), written);
    assert_eq!(journal.append_record(b"0123456789"), Err(Unappended::Full));
    journal.folded(position);
    assert_eq!(journal.append_record(b"0123456789"), Ok(true));
    assert_eq!(take(&journal).0, [b"0123456789".to_vec()]);
}

#[test]
fn a_record_that_was_cut_off_at_any_word_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let journal = open(&path);
    journal.append_record(b"first record").unwrap();
    let before = std::fs::read(&path).unwrap();
    journal.append_record(b"second record, a longer one").unwrap();
    drop(journal);
    let after = std::fs::read(&path).unwrap();
    let changed: Vec<usize> = (0..SMALL / 8).filter(|word| before[word * 8..][..8] != after[word * 8..][..8]).collect();
    for cut in 0..changed.len() {
        let mut torn = before.clone();
        for word in &changed[..cut] {
            torn[word * 8..][..8].copy_from_slice(&after[word * 8..][..8]);
        }
        std::fs::write(&path, torn).unwrap();
        let journal = open(&path);
        assert_eq!(take(&journal).0, [b"first record".to_vec()], "cut after {cut} words");
        // The next record takes its place.
        journal.append_record(b"third").unwrap();
        drop(journal);
        assert_eq!(take(&open(&path)).0, [b"first record".to_vec(), b"third".to_vec()]);
    }
}

/// A way to damage a file that is in use, given its path and that of an older copy.
type Mistreatment = (&'static str, fn(&Path, &Path));

const MISTREATED: [Mistreatment; 6] = [
    ("cut off", |path, _| cut(path, 0)),
    ("cut off in the middle", |path, _| cut(path, 4096 + 64)),
    ("cut off and filled with zeros", |path, _| {
        cut(path, 0);
        cut(path, SMALL as u64);
    }),
    ("overwritten by an older copy", |path, older| {
        std::fs::copy(older, path).unwrap();
    }),
    ("replaced by an older copy", |path, older| std::fs::rename(older, path).unwrap()),
    ("removed", |path, _| std::fs::remove_file(path).unwrap()),
];

fn cut(path: &Path, len: u64) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

#[test]
fn a_file_that_is_mistreated_is_noticed_and_loses_nothing() {
    for (what, mistreat) in MISTREATED {
        for by_a_record in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let (path, older) = (dir.path().join("journal"), dir.path().join("older"));
            let journal = open(&path);
            journal.append_record(b"folded").unwrap();
            let (_, position) = take(&journal);
            std::fs::copy(&path, &older).unwrap();
            journal.append_record(b"first").unwrap();
            journal.append_record(b"second").unwrap();
            assert!(journal.check(), "{what}");
            assert_eq!(journal.renew().unwrap(), None, "{what}: a good file stays");
            mistreat(&path, &older);
            // The name of the file is not checked with each record, so another file under it, or none, is not noticed
            // there.
            if by_a_record && path.exists() && older.exists() {
                assert_eq!(journal.append_record(b"refused"), Err(Unappended::Lost), "{what}");
            } else {
                assert!(!journal.check(), "{what}");
            }
            assert_eq!(journal.append_record(b"refused"), Err(Unappended::Lost), "{what}");
            let (records, end) = take(&journal);
            assert_eq!(records, [b"first".to_vec(), b"second".to_vec()], "{what}");
            let begin = journal.renew().unwrap().unwrap();
            assert!(begin > end && end > position && journal.check(), "{what}");
            journal.append_record(b"third").unwrap();
            assert_eq!(take(&journal).0, [b"third".to_vec()], "{what}");
            drop(journal);
            // Whether or not the new file was noted before a crash.
            for folded in [end, begin] {
                let journal = try_open(&path, VAULT, folded).unwrap();
                assert_eq!((take(&journal).0, journal.warnings().len()), (vec![b"third".to_vec()], 0), "{what}");
            }
        }
    }
}

#[test]
fn a_home_that_was_moved_keeps_its_journal_and_touches_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (home, moved) = (dir.path().join("home"), dir.path().join("moved"));
    std::fs::create_dir(&home).unwrap();
    let journal = open(&home.join("journal"));
    journal.append_record(b"before").unwrap();
    std::fs::rename(&home, &moved).unwrap();
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("journal"), b"another home's").unwrap();
    assert!(journal.check());
    journal.append_record(b"after").unwrap();
    cut(&moved.join("journal"), 0);
    assert!(!journal.check());
    assert!(matches!(journal.renew(), Err(JournalError::File { .. })));
    assert_eq!(std::fs::read(home.join("journal")).unwrap(), b"another home's");
    assert_eq!(take(&journal).0, [b"before".to_vec(), b"after".to_vec()]);
}

proptest! {
    /// Appending, folding, closing and opening in any order: every record is seen exactly once.
    #[test]
    fn every_record_is_folded_exactly_once(steps in proptest::collection::vec((0..4u8, 0..60usize), 1..80)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = open(&path);
        let (mut position, mut expected, mut seen, mut number) = (Position::default(), Vec::new(), Vec::new(), 0u64);
        for (step, len) in steps {
            match step {
                0 => {
                    let (records, to) = take(&journal);
                    seen.extend(records);
                    position = to;
                    journal.folded(to);
                }
                1 => {
                    drop(journal);
                    journal = try_open(&path, VAULT, position).unwrap();
                }
                _ => {
                    number += 1;
                    let content = [number.to_le_bytes().as_slice(), &vec![7; len]].concat();
                    if journal.append_record(&content).is_ok() {
                        expected.push(content);
                    }
                }
            }
        }
        seen.extend(take(&journal).0);
        prop_assert_eq!(seen, expected);
    }

    /// A flipped bit never panics, and never makes records that were not there.
    #[test]
    fn a_flipped_bit_invents_nothing(at in 0..SMALL, bit in 0..8u8) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journal = open(&path);
        let written: Vec<Vec<u8>> = (0..20u8).map(|n| vec![n; 1 + usize::from(n)]).filter(|content| journal.append_record(content).is_ok()).collect();
        drop(journal);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] ^= 1 << bit;
        std::fs::write(&path, bytes).unwrap();
        if let Ok(journal) = try_open(&path, VAULT, Position::default()) {
            let (read, _) = take(&journal);
            prop_assert!(read.iter().all(|record| written.contains(record)));
        }
    }
}
