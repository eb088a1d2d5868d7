//! The usage journal: any file is either read as what it is or refused and left alone, and a file that was read can be
//! continued.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use guillemet_secret::crypto::Key;
use guillemet_vault::journal::{CONTENT_MAX, Journal, JournalError, Pending, Position, Unappended};
use tempfile::TempDir;

const VAULT: [u8; 16] = [3; 16];
/// The size of the header, in bytes.
const HEADER: usize = 4096;
/// The size of an area, in bytes. It has room for only a few records, so that areas are switched often.
const AREA: usize = 512;
const LEN: usize = HEADER + 2 * AREA;

/// The first byte selects how the others are read.
pub fn holds(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 4 {
        0 => opened(rest),
        1 => opened(&image(rest)),
        _ => steps(rest),
    }
}

/// Returns a path in memory if there is a file system for that: the test is about what is written, not about the disk.
fn path() -> PathBuf {
    static DIR: LazyLock<TempDir> = LazyLock::new(|| {
        let memory = tempfile::tempdir_in("/dev/shm");
        memory.or_else(|_| tempfile::tempdir()).expect("a temporary folder")
    });
    // A separate file for each process and thread, because tests run at the same time.
    DIR.path().join(format!("{:?}", std::thread::current().id()))
}

fn open(folded: Position) -> Result<Journal, JournalError> {
    Journal::open(&path(), VAULT, &Key::from_bytes(&mut [5; 32]), LEN, |_| folded)
}

/// Makes a file of the right length, in the format with records in the clear: a valid header, areas with these bytes
/// and valid generations, and then a change to the header.
fn image(bytes: &[u8]) -> Vec<u8> {
    let (changes, bytes) = bytes.split_at(bytes.len().min(2));
    let mut image = vec![0; LEN];
    image[..8].copy_from_slice(b"guil-jrn");
    image[8] = 1;
    image[16..32].copy_from_slice(&VAULT);
    image[32..48].copy_from_slice(&[9; 16]);
    let checksum = u64::from(crc32(&image[..48]));
    image[48..56].copy_from_slice(&checksum.to_le_bytes());
    for (at, b) in bytes.iter().enumerate().take(2 * AREA) {
        // The first half of the bytes fills one area, and the second half the other.
        let half = bytes.len().min(2 * AREA).div_ceil(2);
        let to = if at < half { HEADER + at } else { HEADER + AREA + at - half };
        image[to] = *b;
    }
    for (area, generation) in [(HEADER, 2u64), (HEADER + AREA, 1)] {
        let stamp = generation | (u64::from(crc32(&generation.to_le_bytes())) << 32);
        image[area..area + 8].copy_from_slice(&stamp.to_le_bytes());
    }
    if let [at @ 1..=255, bit] = changes {
        image[usize::from(*at) % 48] ^= bit;
    }
    image
}

/// Opens a file of any bytes.
fn opened(bytes: &[u8]) {
    let path = path();
    fs::write(&path, bytes).unwrap();
    let before = match open(Position::default()) {
        Err(error) => {
            assert!(matches!(error, JournalError::Foreign { .. }), "{error}");
            assert_eq!(fs::read(&path).unwrap(), bytes, "what is refused is left alone");
            return;
        }
        Ok(journal) => {
            let (records, _) = all(&journal);
            // Without the key, nobody can make a sealed record.
            let expected = if journal.is_clear() { read(bytes) } else { Vec::new() };
            assert_eq!(records, expected, "the records of the file, and no other");
            records
        }
    };
    let mut journal = open(Position::default()).expect("it was opened before");
    let mut expected = before;
    if journal.is_clear() {
        assert_eq!(journal.append_record(b"x"), Err(Unappended::Full), "nothing is added in the clear");
        let (records, end) = all(&journal);
        assert_eq!(records, expected);
        let begin = journal.renew().expect("there is room").expect("it was in the clear");
        for folded in [end, begin] {
            drop(journal);
            journal = open(folded).expect("it was made");
            assert_eq!(all(&journal).0, Vec::<Vec<u8>>::new(), "nothing is counted again");
        }
        expected.clear();
    }
    // The journal can be continued: what is appended follows what was there, in this process and in the next.
    for content in [&b"appended"[..], b"", b"and another"] {
        match journal.append_record(content) {
            Ok(_) => expected.push(content.to_vec()),
            Err(error) => {
                assert_eq!(error, Unappended::Full);
                break;
            }
        }
    }
    assert_eq!(all(&journal).0, expected);
    drop(journal);
    let journal = open(Position::default()).expect("it was opened before");
    let (records, end) = all(&journal);
    assert_eq!(records, expected);
    journal.folded(end);
    assert!(journal.append_record(b"there is room after a fold").is_ok());
    assert_eq!(all(&journal).0, [b"there is room after a fold".to_vec()]);
}

fn all(journal: &Journal) -> (Vec<Vec<u8>>, Position) {
    let mut pending = Pending::default();
    let position = journal.take(&mut pending);
    (pending.iter().map(<[u8]>::to_vec).collect(), position)
}

/// Reads the committed records of a file as the format is described, the older generation first.
fn read(file: &[u8]) -> Vec<Vec<u8>> {
    let mut areas = [&file[HEADER..HEADER + AREA], &file[HEADER + AREA..]];
    areas.sort_by_key(|area| generation(area));
    areas.into_iter().filter(|area| generation(area) != 0).flat_map(read_area).collect()
}

/// Returns the generation of an area, without its checksum.
fn generation(area: &[u8]) -> u64 {
    word(area, 0) & u64::from(u32::MAX)
}

fn read_area(area: &[u8]) -> Vec<Vec<u8>> {
    let (generation, mut at, mut records) = (generation(area), 8, Vec::new());
    while at < area.len() {
        let head = word(area, at);
        let (words, bytes) = ((head & 0xffff_ffff) as usize, (head >> 32) as usize);
        let end = at.saturating_add(words.saturating_mul(8));
        if bytes > CONTENT_MAX || words != bytes.div_ceil(8) + 2 || end > area.len() {
            at += 8;
            continue;
        }
        let content = &area[at + 8..at + 8 + bytes];
        let place = [generation, (at / 8) as u64, head].map(u64::to_le_bytes).concat();
        if word(area, end - 8) != (u64::from(crc32(content)) << 32) | u64::from(crc32(&place)) {
            at += 8;
            continue;
        }
        records.push(content.to_vec());
        at = end;
    }
    records
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Computes the CRC-32 of IEEE 802.3, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, b| (0..8).fold(crc ^ u32::from(*b), step))
}

/// Appends, folds, opens again, tears a record and flips a bit, in any order.
fn steps(steps: &[u8]) {
    let path = path();
    let _ = fs::remove_file(&path);
    let mut folded = Position::default();
    let mut journal = open(folded).expect("a new journal");
    let (mut written, mut seen): (Vec<Vec<u8>>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
    for pair in steps.chunks_exact(2).take(200) {
        let (step, parameter) = (pair[0], pair[1]);
        match step % 8 {
            0 => {
                let (records, end) = all(&journal);
                seen.extend(records);
                journal.folded(end);
                folded = end;
            }
            1 => {
                drop(journal);
                journal = open(folded).expect("it was open before");
            }
            // The process is killed in the middle of the next record: only some of its words have been written.
            2 => {
                let before = fs::read(&path).unwrap();
                let appended = journal.append_record(&[0xaa; 40]);
                drop(journal);
                let after = fs::read(&path).unwrap();
                let changed: Vec<usize> =
                    (0..LEN / 8).filter(|word| before[word * 8..][..8] != after[word * 8..][..8]).collect();
                assert_eq!(appended.is_err(), changed.is_empty());
                let kept = usize::from(parameter) % changed.len().max(1);
                let mut torn = before;
                for word in &changed[..kept] {
                    torn[word * 8..][..8].copy_from_slice(&after[word * 8..][..8]);
                }
                fs::write(&path, torn).unwrap();
                journal = open(folded).expect("it was open before");
            }
            // The last step flips a bit. Records may be lost, but none may be made up.
            3 => {
                drop(journal);
                let mut bytes = fs::read(&path).unwrap();
                let at = HEADER + usize::from(parameter) * 4 + usize::from(step / 32);
                bytes[at.min(LEN - 1)] ^= 1 << (step / 8 % 4);
                fs::write(&path, &bytes).unwrap();
                match open(Position::default()) {
                    Ok(journal) => {
                        let records = all(&journal).0;
                        assert!(records.iter().all(|record| written.contains(record)), "a record was made up");
                    }
                    Err(_) => assert_eq!(fs::read(&path).unwrap(), bytes, "what is refused is left alone"),
                }
                return;
            }
            _ => {
                let number = u32::try_from(written.len()).unwrap().to_le_bytes();
                let content = [&number[..], &vec![step; usize::from(parameter) % 96]].concat();
                if journal.append_record(&content).is_ok() {
                    written.push(content);
                }
            }
        }
    }
    seen.extend(all(&journal).0);
    assert_eq!(seen, written, "every record is seen once, in order");
}
