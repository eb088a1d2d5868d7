//! The words of a head, which two people compare. If two machines show the same words, both see the same account.

use bip39::Language;

use guillemet_wire::Hash;

/// The number of bits that one word encodes.
const BITS: usize = 11;

/// Returns four words of the BIP-39 English list, separated by blanks, from the first 44 bits of the hash.
pub fn fingerprint_words(hash: &Hash) -> String {
    let first = hash.0.iter().take(8).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let list = Language::English.word_list();
    let word = |index: usize| list[(first >> (64 - BITS * (index + 1))) as usize % list.len()];
    [0, 1, 2, 3].map(word).join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the list against the hash of BIP-39's `english.txt`, computed in Python as `hashlib.sha256("".join(word +
    /// "\n" for word in list))`. The expected words come from Python too: `bin(…)`, 11 digits at a time.
    #[test]
    fn words_are_those_of_the_list() {
        let list = Language::English.word_list().join("\n") + "\n";
        let whole = "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda";
        assert_eq!(Hash::of(&[list.as_bytes()]).to_string(), whole);
        assert_eq!(fingerprint_words(&Hash::of(&[b"guillemet"])), "coast motor icon fish");
        assert_eq!(fingerprint_words(&Hash([0; 32])), "abandon abandon abandon abandon");
        assert_eq!(fingerprint_words(&Hash([0xff; 32])), "zoo zoo zoo zoo");
    }

    #[test]
    fn the_first_44_bits_count_and_no_others() {
        let mut hash = Hash([0; 32]);
        hash.0[5] = 0x10;
        assert_eq!(fingerprint_words(&hash), "abandon abandon abandon ability");
        hash.0[5] = 0x0f;
        hash.0[6..].fill(0xff);
        assert_eq!(fingerprint_words(&hash), fingerprint_words(&Hash([0; 32])));
    }
}
