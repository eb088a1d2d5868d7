//! A passphrase: which bytes of a file belong to it, how earlier versions read it, and whether a new one is hard enough
//! to guess. Does not know where a passphrase comes from or which vault it opens.

use secrecy::{ExposeSecret, SecretString};
use zxcvbn::feedback::{Feedback, Suggestion, Warning};
use zxcvbn::{Score, zxcvbn};

use guillemet_secret::reader::{NotASecret, SECRET_MAX, line_in};

/// Words that an attacker who guesses a passphrase of this program tries first.
const OBVIOUS: [&str; 3] = ["guillemet", "vault", "passphrase"];

/// A passphrase as it was given: typed text, or the whole content of a file.
#[derive(Debug)]
pub struct Passphrase(SecretString);

/// Why a text is not a passphrase, or not strong enough for a new one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPassphrase {
    /// The text is empty.
    #[error("the passphrase is empty; nothing was changed")]
    Empty,
    /// The text has more than one line.
    #[error("the passphrase has more than one line; pass a single line. Nothing was changed")]
    Lines,
    /// The text is longer than [`SECRET_MAX`] bytes.
    #[error("the passphrase has more than {SECRET_MAX} bytes, the maximum; nothing was changed")]
    TooLong,
    /// The passphrase is too easy to guess; the text says what is weak and what to do.
    #[error("this passphrase is too easy to guess; nothing was changed. {0}")]
    Weak(String),
}

impl From<String> for Passphrase {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl Passphrase {
    /// Returns the passphrase: one line, without a byte order mark and without the line break at its end.
    ///
    /// # Errors
    /// [`BadPassphrase::Empty`], [`BadPassphrase::Lines`] or [`BadPassphrase::TooLong`].
    pub fn text(&self) -> Result<&str, BadPassphrase> {
        let line = line_in(self.0.expose_secret().as_bytes()).map_err(|error| match error {
            NotASecret::Lines => BadPassphrase::Lines,
            NotASecret::TooLong | NotASecret::Io(_) => BadPassphrase::TooLong,
        })?;
        // The byte order mark and the line break are whole characters, so the cut never splits one.
        let line = std::str::from_utf8(line).expect("a part of a text is a text");
        if line.is_empty() { Err(BadPassphrase::Empty) } else { Ok(line) }
    }

    /// Returns what versions before `vault rekey` took for the passphrase, or `None` if they read the same as today.
    /// They removed one LF at the end and nothing else, so a carriage return before it, a byte order mark and further
    /// lines were part of the passphrase.
    pub fn former_reading(&self) -> Option<&str> {
        let text = self.0.expose_secret();
        let earlier = text.strip_suffix('\n').unwrap_or(text);
        (!earlier.is_empty() && self.text() != Ok(earlier)).then_some(earlier)
    }

    /// Checks that a new passphrase is hard to guess: zxcvbn must score it at least 3 of 4, which means at least 10^8
    /// guesses. Argon2id makes each guess slow.
    ///
    /// zxcvbn copies parts of the passphrase into strings that do not wipe themselves. The program's allocator
    /// overwrites them when they are freed, before this returns; whatever zxcvbn leaves on the stack stays there until
    /// something writes over it. So only commands that end soon may call this, never the daemon.
    ///
    /// # Errors
    /// [`BadPassphrase::Weak`], with what is weak and what to do, and the errors of [`Self::text`].
    pub fn check_strength(&self) -> Result<(), BadPassphrase> {
        let estimate = zxcvbn(self.text()?, &OBVIOUS);
        if estimate.score() >= Score::Three {
            return Ok(());
        }
        Err(BadPassphrase::Weak(estimate.feedback().map_or_else(String::new, advice)))
    }
}

/// Returns zxcvbn's feedback as sentences.
fn advice(feedback: &Feedback) -> String {
    let warning = feedback.warning().map(warning_text);
    let suggestions = feedback.suggestions().iter().copied().map(suggestion_text);
    let mut sentences: Vec<&str> = warning.into_iter().chain(suggestions).collect();
    sentences.push("Four or more random words make a good passphrase");
    sentences.join(". ")
}

fn warning_text(warning: Warning) -> &'static str {
    match warning {
        Warning::StraightRowsOfKeysAreEasyToGuess => "A straight row of keys is easy to guess",
        Warning::ShortKeyboardPatternsAreEasyToGuess => "A short pattern on the keyboard is easy to guess",
        Warning::RepeatsLikeAaaAreEasyToGuess => "Repeated characters are easy to guess",
        Warning::RepeatsLikeAbcAbcAreOnlySlightlyHarderToGuess => {
            "A repeated pattern is only slightly harder to guess than the pattern itself"
        }
        Warning::ThisIsATop10Password => "It is one of the 10 most common passwords",
        Warning::ThisIsATop100Password => "It is one of the 100 most common passwords",
        Warning::ThisIsACommonPassword => "It is a common password",
        Warning::ThisIsSimilarToACommonlyUsedPassword => "It is similar to a common password",
        Warning::SequencesLikeAbcAreEasyToGuess => "Sequences such as abc or 6543 are easy to guess",
        Warning::RecentYearsAreEasyToGuess => "Recent years are easy to guess",
        Warning::AWordByItselfIsEasyToGuess => "A single word is easy to guess",
        Warning::DatesAreOftenEasyToGuess => "Dates are easy to guess",
        Warning::NamesAndSurnamesByThemselvesAreEasyToGuess => "A name alone is easy to guess",
        Warning::CommonNamesAndSurnamesAreEasyToGuess => "Common names are easy to guess",
    }
}

fn suggestion_text(suggestion: Suggestion) -> &'static str {
    match suggestion {
        Suggestion::UseAFewWordsAvoidCommonPhrases => "Use several words, but avoid common phrases",
        Suggestion::NoNeedForSymbolsDigitsOrUppercaseLetters => "It needs no symbols, digits or capital letters",
        Suggestion::AddAnotherWordOrTwo => "Add another word or two; uncommon words are better",
        Suggestion::CapitalizationDoesntHelpVeryMuch => "Capital letters do not help much",
        Suggestion::AllUppercaseIsAlmostAsEasyToGuessAsAllLowercase => {
            "Writing everything in capital letters does not help much"
        }
        Suggestion::ReversedWordsArentMuchHarderToGuess => "Reversed words do not help much",
        Suggestion::PredictableSubstitutionsDontHelpVeryMuch => {
            "Predictable substitutions, such as @ for a, do not help much"
        }
        Suggestion::UseALongerKeyboardPatternWithMoreTurns => "Use a longer pattern with more turns",
        Suggestion::AvoidRepeatedWordsAndCharacters => "Avoid repeated words and characters",
        Suggestion::AvoidSequences => "Avoid sequences",
        Suggestion::AvoidRecentYears => "Avoid recent years",
        Suggestion::AvoidYearsThatAreAssociatedWithYou => "Avoid years that others associate with you",
        Suggestion::AvoidDatesAndYearsThatAreAssociatedWithYou => {
            "Avoid dates and years that others associate with you"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Passphrase {
        Passphrase::from(text.to_owned())
    }

    #[test]
    fn the_former_reading_is_there_where_it_differs() {
        for (file, text, former) in [
            ("one", Ok("one"), None),
            ("one\n", Ok("one"), None),
            ("one\r\n", Ok("one"), Some("one\r")),
            ("one\r", Ok("one\r"), None),
            ("\u{feff}one\n", Ok("one"), Some("\u{feff}one")),
            ("one\ntwo\n", Err(BadPassphrase::Lines), Some("one\ntwo")),
            ("one\n\n", Err(BadPassphrase::Lines), Some("one\n")),
            ("\r\n", Err(BadPassphrase::Empty), Some("\r")),
            ("\n", Err(BadPassphrase::Empty), None),
            ("", Err(BadPassphrase::Empty), None),
        ] {
            let passphrase = given(file);
            assert_eq!((passphrase.text(), passphrase.former_reading()), (text, former), "{file:?}");
        }
        assert_eq!(given(&"a".repeat(SECRET_MAX + 1)).text(), Err(BadPassphrase::TooLong));
    }

    #[test]
    fn a_weak_passphrase_is_refused_with_what_is_weak() {
        for (weak, why) in [
            ("x", "another word or two"),
            ("password", "one of the 10 most common passwords. Add another word or two"),
            ("P@ssw0rd", "similar to a common password"),
            ("Guillemet1", "another word or two"),
            ("qwertyuiop", "common password"),
            ("aaaaaaaaaaaaaaaaaaaa", "Repeated characters"),
            ("abcdefghi", "Add another word or two"),
            ("13.05.1999", "Dates are easy to guess"),
        ] {
            let Err(BadPassphrase::Weak(advice)) = given(weak).check_strength() else {
                panic!("{weak} was good enough")
            };
            assert!(advice.contains(why) && advice.ends_with("make a good passphrase"), "{weak}: {advice}");
        }
        for good in ["correct horse battery staple nine", "kZ4$vQ9!mT2w", "бережёного бог бережёт всегда\r\n"]
        {
            assert_eq!(given(good).check_strength(), Ok(()), "{good}");
        }
        assert_eq!(given("correct horse\nbattery staple nine\n").check_strength(), Err(BadPassphrase::Lines));
        assert_eq!(given("\r\n").check_strength(), Err(BadPassphrase::Empty));
    }
}
