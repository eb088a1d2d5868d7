//! Canaries: random values that cannot occur by chance. A scanner finds them in any form they can take, in files and in
//! the memory of a process.

use std::collections::HashMap;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use data_encoding::{BASE64, BASE64URL, HEXLOWER, HEXUPPER};

/// The length of a piece to look for, in bytes.
const PIECE: usize = 12;
/// The number of letters and digits on either side of the special characters: two pieces.
const SIDE: usize = 2 * PIECE;

/// A canary value. Its letters and digits are the same in JSON, percent-encoding, XML and dotenv, whatever is done to
/// the characters between them.
#[derive(Clone, Debug)]
pub struct Canary {
    /// What a hit is called.
    pub label: String,
    /// The value to put in.
    pub value: String,
    sides: [String; 2],
}

impl Canary {
    /// Makes a canary with these characters between its random letters and digits.
    pub fn new(label: &str, special: &str) -> Self {
        let sides = [random_text(), random_text()];
        Self { label: label.into(), value: format!("{}{special}{}", sides[0], sides[1]), sides }
    }
}

fn random_text() -> String {
    let mut bytes = [0; SIDE];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
    bytes.iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

/// Finds pieces of canaries in bytes.
#[derive(Clone, Debug)]
pub struct Scanner {
    pieces: HashMap<[u8; PIECE], String>,
    /// For each value of two bytes, whether a piece begins with them.
    begins: Vec<bool>,
}

impl Scanner {
    /// Makes a scanner that finds these canaries: as they are, in hexadecimal, and in Base64.
    pub fn new<'a>(canaries: impl IntoIterator<Item = &'a Canary>) -> Self {
        let mut scanner = Self { pieces: HashMap::new(), begins: vec![false; 1 << 16] };
        for canary in canaries {
            for side in &canary.sides {
                scanner.add(&canary.label, "plain", side);
                scanner.add(&canary.label, "hex", HEXLOWER.encode(side.as_bytes()));
                scanner.add(&canary.label, "hex", HEXUPPER.encode(side.as_bytes()));
                for skip in 0..3 {
                    // Only whole groups of three bytes, which do not depend on the neighboring bytes.
                    let whole = &side.as_bytes()[skip..skip + (SIDE - skip) / 3 * 3];
                    scanner.add(&canary.label, "base64", BASE64.encode(whole));
                    scanner.add(&canary.label, "base64url", BASE64URL.encode(whole));
                }
            }
        }
        scanner
    }

    /// Adds a text that has to be found, to prove that the scan finds anything at all.
    pub fn and(mut self, label: &str, text: &str) -> Self {
        self.add(label, "plain", text);
        self
    }

    /// Adds bytes to look for, as they are.
    pub fn and_bytes(mut self, label: &str, bytes: &[u8]) -> Self {
        assert!(bytes.len() >= PIECE, "{label} is too short to be found");
        self.add(label, "raw", bytes);
        self
    }

    /// Adds a key to look for, as bytes and in hexadecimal. Half of a key is found as well as the whole.
    pub fn and_key(mut self, label: &str, key: &[u8; 32]) -> Self {
        for half in key.chunks_exact(16) {
            for begin in [0, 16 - PIECE] {
                self.add_piece(label, "bytes", &half[begin..begin + PIECE]);
            }
        }
        for digits in [HEXLOWER.encode(key), HEXUPPER.encode(key)] {
            self.add(label, "hex", &digits);
        }
        self
    }

    fn add(&mut self, label: &str, form: &str, text: impl AsRef<[u8]>) {
        for piece in text.as_ref().chunks_exact(PIECE) {
            self.add_piece(label, form, piece);
        }
    }

    fn add_piece(&mut self, label: &str, form: &str, piece: &[u8]) {
        self.begins[usize::from(u16::from_le_bytes([piece[0], piece[1]]))] = true;
        self.pieces.insert(piece.try_into().unwrap(), format!("{label} ({form})"));
    }

    /// Returns the offset and the label of each piece that is found.
    pub fn find<'a>(&'a self, bytes: &[u8]) -> Vec<(usize, &'a str)> {
        let mut found = Vec::new();
        let mut pair = 0;
        for (at, byte) in bytes.iter().enumerate() {
            pair = pair >> 8 | usize::from(*byte) << 8;
            if self.begins[pair]
                && at > 0
                && let Some(piece) = bytes.get(at - 1..at - 1 + PIECE)
                && let Some(label) = self.pieces.get(piece)
            {
                found.push((at - 1, label.as_str()));
            }
        }
        found
    }

    /// Reports whether a piece is in these bytes.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        !self.find(bytes).is_empty()
    }

    /// Returns every hit in the memory of a process, with its mapping.
    ///
    /// # Errors
    /// When the kernel does not let this process read it.
    pub fn in_memory(&self, pid: u32) -> std::io::Result<Vec<String>> {
        let mut hits = Vec::new();
        for (mapping, bytes) in memory(pid)? {
            // Most of a stack was never used.
            const PAGE: usize = 4096;
            let used = bytes.chunks(PAGE).enumerate().filter(|(_, page)| **page != [0; PAGE][..page.len()]);
            // Each part includes the beginning of the next page, so that a piece across both is found.
            let parts = used.map(|(index, _)| index * PAGE..bytes.len().min((index + 1) * PAGE + PIECE - 1));
            let hits_here = parts.flat_map(|part| {
                let from = part.start;
                self.find(&bytes[part]).into_iter().map(move |(at, label)| (from + at, label))
            });
            for (at, label) in hits_here {
                let around = &bytes[at.saturating_sub(48)..(at + 48).min(bytes.len())];
                hits.push(format!(
                    "{label} at +{at:#x} of {mapping}: {}",
                    String::from_utf8_lossy(around).escape_debug()
                ));
            }
        }
        Ok(hits)
    }

    /// Returns every hit in the files below a folder, including their names.
    pub fn in_files(&self, folder: &Path) -> Vec<String> {
        let mut hits = Vec::new();
        let mut pending = vec![folder.to_owned()];
        while let Some(path) = pending.pop() {
            let shown = path.display().to_string();
            let mut look =
                |bytes: &[u8]| hits.extend(self.find(bytes).iter().map(|(_, label)| format!("{label} in {shown}")));
            look(shown.as_bytes());
            match std::fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_dir() => {
                    pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                }
                Ok(metadata) if metadata.is_file() => look(&std::fs::read(&path).unwrap_or_default()),
                _ => {}
            }
        }
        hits
    }
}

/// Reads every readable mapping of a process.
fn memory(pid: u32) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = std::fs::File::open(format!("/proc/{pid}/mem"))?;
    let mut found = Vec::new();
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (Some(range), Some(rights)) = (fields.next(), fields.next()) else { continue };
        // The kernel's own pages cannot be read.
        if !rights.starts_with('r')
            || line.ends_with("[vvar]")
            || line.contains("[vvar_")
            || line.ends_with("[vsyscall]")
        {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let mut bytes = vec![0; (number(to) - number(from)) as usize];
        // A mapping that ended meanwhile, or that the kernel hides (memfd_secret), cannot be read and is left out.
        if memory.read_exact_at(&mut bytes, number(from)).is_ok() {
            found.push((line.to_owned(), bytes));
        }
    }
    Ok(found)
}
