//! Codes: the short names under which two peers meet.
//!
//! # How strong a code is
//!
//! A code that a server makes up is a number from 1 to 99 and two of 512 words, such as `7-amber-canyon`:
//! 99 x 512 x 512 = 25,952,256 possibilities, 24.6 bits. That would be little against a fast guesser, so
//! servers slow guessing down. By default a source address has ten wrong tries at once and then one every
//! six seconds, 110 in the ten minutes that a code lives: one chance in 235,000 to hit a given code. All
//! sources together have 200 and then 20 a second, 12,200 in ten minutes: one chance in 2,100, for an
//! attacker who commands hundreds of addresses, keeps the server busy the whole time, and only while the
//! code is still waiting. A guess that hits is noticed: the peer it was meant for is refused, as the code
//! is then in use.
//!
//! People may also agree on a code of their own. It is as strong as they choose it; [`Code`] only refuses
//! what is no choice at all: fewer than six characters, or fewer than four different ones.

use core::fmt;
use core::str::FromStr;

use super::words::WORDS;

/// The fewest characters of a code.
pub const MIN_CODE_LENGTH: usize = 6;
/// The most characters of a code.
pub const MAX_CODE_LENGTH: usize = 64;
/// The fewest different characters of a code.
const MIN_DIFFERENT: u32 = 4;
/// How many different codes [`Code::from_random`] makes.
pub const CODE_SPACE: u64 = 99 * (WORDS.len() * WORDS.len()) as u64;

/// A short name under which two peers meet: lower-case letters, digits and hyphens.
///
/// Parsing forgives what people do to codes: upper case, surrounding blanks, and blanks or underscores in
/// place of hyphens. `Debug` keeps the code out of logs; `Display` shows it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(Box<str>);

impl Code {
    /// A code such as `7-amber-canyon` out of a uniformly random number.
    ///
    /// The number must come from a cryptographic generator. Reducing 64 bits to [`CODE_SPACE`]
    /// favours no code by more than one part in 10^11.
    pub fn from_random(random: u64) -> Self {
        let index = random % CODE_SPACE;
        let words = WORDS.len() as u64;
        let number = index / (words * words) + 1;
        // Both remainders are below the number of words, so they fit and are in range.
        let first = WORDS[(index / words % words) as usize];
        let second = WORDS[(index % words) as usize];
        Self(format!("{number}-{first}-{second}").into())
    }

    /// The code as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Code {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        let text = text.trim();
        // Every accepted character is one byte, so more bytes cannot become an acceptable code.
        if text.len() > MAX_CODE_LENGTH {
            return Err(CodeError::TooLong);
        }
        let mut code = String::with_capacity(text.len());
        let mut seen = 0u128;
        for character in text.chars() {
            let character = match character {
                'a'..='z' | '0'..='9' | '-' => character,
                'A'..='Z' => character.to_ascii_lowercase(),
                ' ' | '_' => '-',
                other => return Err(CodeError::Character(other)),
            };
            seen |= 1 << u32::from(character);
            code.push(character);
        }
        if code.len() < MIN_CODE_LENGTH {
            return Err(CodeError::TooShort);
        }
        if seen.count_ones() < MIN_DIFFERENT {
            return Err(CodeError::TooSimple);
        }
        Ok(Self(code.into()))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Code {
    /// A code is a secret while someone waits under it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(…)")
    }
}

/// Why a text is no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodeError {
    /// Fewer than [`MIN_CODE_LENGTH`] characters.
    TooShort,
    /// More than [`MAX_CODE_LENGTH`] bytes.
    TooLong,
    /// Fewer than four different characters.
    TooSimple,
    /// A character that codes do not have.
    Character(char),
}

impl fmt::Display for CodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => {
                write!(
                    f,
                    "the code is too short to be hard to guess: use at least {MIN_CODE_LENGTH} characters"
                )
            }
            Self::TooLong => write!(
                f,
                "the code is too long: use at most {MAX_CODE_LENGTH} characters"
            ),
            Self::TooSimple => write!(
                f,
                "the code is too easy to guess: use at least {MIN_DIFFERENT} different characters, such as 7-amber-canyon"
            ),
            Self::Character(character) => write!(
                f,
                "the code contains {character:?}: use letters from a to z, digits and hyphens, such as 7-amber-canyon"
            ),
        }
    }
}

impl core::error::Error for CodeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_distinct_and_plain() {
        assert!(
            WORDS.windows(2).all(|pair| pair[0] < pair[1]),
            "sorted, no word twice"
        );
        assert!(WORDS.iter().all(|word| (3..=9).contains(&word.len())));
        assert!(
            WORDS
                .iter()
                .all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()))
        );
    }

    #[test]
    fn the_documented_arithmetic_holds() {
        assert_eq!(CODE_SPACE, 25_952_256);
        assert!((CODE_SPACE as f64).log2() > 24.6);
    }

    #[test]
    fn made_up_codes_are_codes_and_cover_the_space() {
        for random in [0, 1, 511, 512, CODE_SPACE - 1, CODE_SPACE, u64::MAX] {
            let code = Code::from_random(random);
            assert_eq!(code.as_str().parse(), Ok(code.clone()));
        }
        let first = Code::from_random(0);
        let last = Code::from_random(CODE_SPACE - 1);
        assert!(first.as_str().starts_with("1-"));
        assert!(last.as_str().starts_with("99-"));
        assert_ne!(Code::from_random(1), first);
        assert_ne!(Code::from_random(512), Code::from_random(1));
        assert_eq!(Code::from_random(CODE_SPACE), first);
    }

    #[test]
    fn parsing_forgives_what_people_do() {
        let code: Code = "7-amber-canyon".parse().unwrap();
        for text in [
            "7-Amber-Canyon",
            " 7-amber-canyon\n",
            "7 amber canyon",
            "7_AMBER_CANYON",
        ] {
            assert_eq!(text.parse(), Ok(code.clone()), "{text:?}");
        }
    }

    #[test]
    fn weak_or_broken_codes_are_refused() {
        assert_eq!("test1".parse::<Code>(), Err(CodeError::TooShort));
        assert_eq!("".parse::<Code>(), Err(CodeError::TooShort));
        assert_eq!("aaaaaaaaaa".parse::<Code>(), Err(CodeError::TooSimple));
        assert_eq!(
            "7-amber-cañon".parse::<Code>(),
            Err(CodeError::Character('ñ'))
        );
        assert_eq!(
            "7-amber\0canyon".parse::<Code>(),
            Err(CodeError::Character('\0'))
        );
        assert_eq!("ab-".repeat(30).parse::<Code>(), Err(CodeError::TooLong));
    }

    #[test]
    fn debug_hides_the_code() {
        let code: Code = "7-amber-canyon".parse().unwrap();
        assert!(!format!("{code:?}").contains("amber"));
        assert_eq!(code.to_string(), "7-amber-canyon");
    }
}
