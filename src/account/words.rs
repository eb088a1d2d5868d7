//! The words of a head, which two people compare: on two machines with the same words, nobody is shown another
//! account.

use bip39::Language;

use super::wire::Hash;

/// Bits of one word.
const BITS: usize = 11;

/// Four words of the BIP-39 English list, from the first 44 bits of the hash, with blanks between.
pub fn words(hash: &Hash) -> String {
    let first = hash.0.iter().take(8).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let list = Language::English.word_list();
    let word = |index: usize| list[(first >> (64 - BITS * (index + 1))) as usize % list.len()];
    [0, 1, 2, 3].map(word).join(" ")
}
