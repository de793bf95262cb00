//! What the texts of tokens look like where a package had its own: [`TokenShape`].
//!
//! Clients of these packages may keep a token in a column of just its length, or look at its characters. So their dialects
//! mint texts of the same shape, with our keyed check in the last places:
//!
//! ```text
//! 0123456789abcdef0123456789abcdef0123456789abcdef012345 6789abcdef   64 hex digits: 54 random, 10 of check
//! 0123456789abcdef0123456789abcdef 01234567                           40 hex digits: 32 random, 8 of check
//! 0123456789ABCDEFGHIJabcdefghij-_0123456789ABCDEFGHIJabcde fghij-_   64 of base64url: 57 random, 7 of check
//! ```

use std::fmt;
use std::sync::Arc;

use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::entropy::{Entropy, EntropyError};
use crate::secret::{CheckKey, DigestScheme, Prefix, SecretToken, TokenFormat};

const HEX: &[u8; 16] = b"0123456789abcdef";
const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Characters of base64url in a token of django-rest-authtoken: 48 bytes.
const BASE64URL_LENGTH: usize = 64;
/// Of them, those of the check: 42 bits.
const BASE64URL_CHECK: usize = 7;

/// What the text of a new token looks like.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum TokenShape {
    /// Ours: see [`crate::secret`].
    #[default]
    Native,
    /// So many hexadecimal digits, as most packages have them.
    Hex(HexShape),
    /// 64 characters of base64url, as django-rest-authtoken has them.
    Base64Url,
    /// A random UUID, RFC 9562 §5.4, as django-drf-advanced-token has it. It has no room for a check, so that invented ones
    /// cost a query each, within [`Settings::misses`](crate::Settings::misses).
    Uuid,
}

impl TokenShape {
    /// How what is kept of its texts is looked up.
    pub fn scheme(&self) -> DigestScheme {
        match self {
            TokenShape::Native | TokenShape::Base64Url => DigestScheme::Native,
            TokenShape::Hex(hex) if HexShape::check_digits(hex.digits).is_some() => DigestScheme::Native,
            TokenShape::Hex(_) | TokenShape::Uuid => DigestScheme::PlainText,
        }
    }
}

/// A text of hexadecimal digits, behind a prefix or none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HexShape {
    prefix: Arc<str>,
    digits: usize,
}

impl HexShape {
    /// Fewest digits: 128 bits, what SECURITY R01 asks of any token.
    pub const LEAST_DIGITS: usize = 32;
    /// Most digits.
    pub const MOST_DIGITS: usize = 254;
    /// Longest prefix, in bytes.
    pub const LONGEST_PREFIX: usize = 10;

    /// `digits` hexadecimal digits behind `prefix`.
    ///
    /// # Errors
    /// [`NotAShape`], for fewer than [`HexShape::LEAST_DIGITS`], more than [`HexShape::MOST_DIGITS`], an odd number, and a prefix
    /// that is longer than [`HexShape::LONGEST_PREFIX`], has other characters than letters, digits, `-` and `_`, or makes texts that
    /// could be taken for native ones.
    pub fn new(prefix: &str, digits: usize) -> Result<HexShape, NotAShape> {
        let plain = prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        let bounded = (Self::LEAST_DIGITS..=Self::MOST_DIGITS).contains(&digits) && digits.is_multiple_of(2);
        if !plain || !bounded || prefix.len() > Self::LONGEST_PREFIX || crate::secret::looks_native(prefix, digits) {
            return Err(NotAShape);
        }
        Ok(HexShape { prefix: prefix.into(), digits })
    }

    /// How many of the last digits of a text of so many bytes are its check, if any are: none where the rest would have fewer than
    /// 128 random bits.
    fn check_digits(length: usize) -> Option<u32> {
        match length {
            64.. => Some(10),
            40..64 => Some(8),
            _ => None,
        }
    }
}

/// There are no such tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAShape;

impl fmt::Display for NotAShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a token has an even number of {} to {} hexadecimal digits behind a prefix of at most {} letters, digits, - and _",
            HexShape::LEAST_DIGITS,
            HexShape::MOST_DIGITS,
            HexShape::LONGEST_PREFIX
        )
    }
}

impl std::error::Error for NotAShape {}

impl TokenFormat {
    /// A new secret of this shape, and how what is kept of it is to be looked up; `prefix` is for native ones.
    ///
    /// # Errors
    /// When the source of randomness fails; then no token is issued.
    pub fn mint_as(
        &self,
        shape: &TokenShape,
        prefix: &Prefix,
        entropy: &dyn Entropy,
    ) -> Result<(SecretToken, DigestScheme), EntropyError> {
        match shape {
            TokenShape::Native => Ok((self.mint(prefix, entropy)?, DigestScheme::Native)),
            TokenShape::Hex(HexShape { prefix, digits }) => {
                let length = prefix.len() + digits;
                // The digits are what counts: a prefix adds no randomness.
                let check = HexShape::check_digits(*digits);
                let random = digits - check.map_or(0, |check| check as usize);
                let mut text = Zeroizing::new(String::with_capacity(length));
                text.push_str(prefix);
                push_random(&mut text, random, HEX, entropy)?;
                match check {
                    None => Ok((SecretToken::from_zeroizing(text), DigestScheme::PlainText)),
                    Some(check) => {
                        let number = hex_check(self.newest_key(), text.as_bytes(), check);
                        push_number(&mut text, number, check, HEX);
                        Ok((SecretToken::from_zeroizing(text), DigestScheme::Native))
                    }
                }
            }
            TokenShape::Base64Url => {
                let mut text = Zeroizing::new(String::with_capacity(BASE64URL_LENGTH));
                push_random(&mut text, BASE64URL_LENGTH - BASE64URL_CHECK, BASE64URL, entropy)?;
                let number = base64url_check(self.newest_key(), text.as_bytes());
                push_number(&mut text, number, BASE64URL_CHECK as u32, BASE64URL);
                Ok((SecretToken::from_zeroizing(text), DigestScheme::Native))
            }
            TokenShape::Uuid => {
                let mut random = Zeroizing::new([0; 16]);
                entropy.fill(&mut random[..])?;
                let uuid = uuid::Builder::from_random_bytes(*random).into_uuid();
                let mut text = Zeroizing::new(String::with_capacity(uuid::fmt::Hyphenated::LENGTH));
                text.push_str(uuid.hyphenated().encode_lower(&mut [0; uuid::fmt::Hyphenated::LENGTH]));
                Ok((SecretToken::from_zeroizing(text), DigestScheme::PlainText))
            }
        }
    }

    /// Whether `text` has one of the packages' shapes with our check in it, under any key that is still accepted.
    pub(crate) fn checks_as_a_packages(&self, text: &[u8]) -> bool {
        let mut holds = Choice::from(0);
        let mut digits_of = |alphabet: &[u8], check: u32, expected: &dyn Fn(&CheckKey, &[u8]) -> u64| {
            let Some((body, tail)) = text.len().checked_sub(check as usize).map(|at| text.split_at(at)) else { return };
            let Some(number) = read_number(tail, alphabet) else { return };
            // Every key is tried, so that the time says nothing about which one fits.
            for key in self.keys() {
                holds |= expected(key, body).ct_eq(&number);
            }
        };
        // A prefix makes a text longer than its digits are: both lengths of check are tried where it could.
        for check in [10, 8] {
            let digits = trailing_hex(text);
            if HexShape::check_digits(digits).is_some_and(|most| most >= check) {
                digits_of(HEX, check, &|key, body| hex_check(key, body, check));
            }
        }
        if text.len() == BASE64URL_LENGTH {
            digits_of(BASE64URL, BASE64URL_CHECK as u32, &|key, body| base64url_check(key, body));
        }
        holds.into()
    }
}

/// How many hexadecimal digits `text` ends in, its whole length at most.
fn trailing_hex(text: &[u8]) -> usize {
    text.iter().rev().take_while(|byte| HEX.contains(byte)).count()
}

fn hex_check(key: &CheckKey, text: &[u8], digits: u32) -> u64 {
    // The last digits of the longer check: its first ones would make a text cut by two a token.
    key.tag("hex", text) & ((1 << (4 * digits)) - 1)
}

fn base64url_check(key: &CheckKey, text: &[u8]) -> u64 {
    key.tag("base64url", text) & ((1 << (6 * BASE64URL_CHECK)) - 1)
}

/// So many characters of an alphabet whose length is a power of two, each as likely as any other.
fn push_random(text: &mut String, count: usize, alphabet: &[u8], entropy: &dyn Entropy) -> Result<(), EntropyError> {
    let mut random = Zeroizing::new([0_u8; 64]);
    let mut wanted = count;
    while wanted > 0 {
        entropy.fill(&mut random[..])?;
        for byte in random.iter().take(wanted) {
            text.push(char::from(alphabet[usize::from(*byte) % alphabet.len()]));
        }
        wanted = wanted.saturating_sub(random.len());
    }
    Ok(())
}

/// The number in so many digits of the alphabet, most significant first.
fn push_number(text: &mut String, number: u64, digits: u32, alphabet: &[u8]) {
    let bits = alphabet.len().ilog2();
    for place in (0..digits).rev() {
        let digit = (number >> (place * bits)) as usize % alphabet.len();
        text.push(char::from(alphabet[digit]));
    }
}

/// The number that these digits write; `None` for anything else.
fn read_number(digits: &[u8], alphabet: &[u8]) -> Option<u64> {
    let bits = alphabet.len().ilog2();
    digits.iter().try_fold(0, |number, digit| {
        let value = alphabet.iter().position(|one| one == digit)?;
        Some(number << bits | value as u64)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entropy::PredictableEntropy;
    use crate::secret::Candidates;

    const KEY: CheckKey = CheckKey::from_bytes(*b"counterfoil-test");

    fn format() -> TokenFormat {
        TokenFormat::new(KEY, Vec::new(), &[])
    }

    fn hex(prefix: &str, digits: usize) -> TokenShape {
        TokenShape::Hex(HexShape::new(prefix, digits).expect("a shape"))
    }

    fn checked() -> [TokenShape; 6] {
        [hex("", 64), hex("", 40), hex("cf_", 64), hex("tok-", 40), hex("", 128), TokenShape::Base64Url]
    }

    fn mint(shape: &TokenShape, seed: u64) -> SecretToken {
        format().mint_as(shape, &Prefix::default(), &PredictableEntropy::from_seed(seed)).expect("entropy").0
    }

    #[test]
    fn r03_texts_in_a_packages_shape_carry_our_check() {
        for shape in checked() {
            for seed in 0..50 {
                let secret = mint(&shape, seed);
                let text = secret.expose();
                assert_eq!(format().read(text), Some(Candidates::Native(secret.digest())), "{shape:?} {text}");
            }
        }
        let lengths: Vec<_> = checked().iter().map(|shape| mint(shape, 1).expose().len()).collect();
        assert_eq!(lengths, [64, 40, 67, 44, 128, 64]);
        assert!(mint(&hex("cf_", 64), 1).expose().starts_with("cf_"));
    }

    #[test]
    fn a01_an_invented_text_in_a_packages_shape_costs_no_query() {
        for shape in checked() {
            let secret = mint(&shape, 3);
            let text = secret.expose();
            for position in 0..text.len() {
                let mut bytes = text.as_bytes().to_vec();
                bytes[position] = if bytes[position] == b'0' { b'1' } else { b'0' };
                let changed = String::from_utf8(bytes).expect("ascii");
                assert_eq!(format().read(&changed), None, "{shape:?} changed at {position}");
            }
            for length in 0..text.len() {
                assert_eq!(format().read(&text[..length]), None, "{shape:?} cut to {length}");
                assert_eq!(format().read(&text[text.len() - length..]), None, "{shape:?} last {length}");
            }
        }
    }

    #[test]
    fn a02_another_spelling_of_hex_is_no_token() {
        for shape in [hex("", 64), hex("", 40)] {
            let secret = mint(&shape, 4);
            assert_eq!(format().read(&secret.expose().to_uppercase()), None);
        }
    }

    #[test]
    fn shapes_without_room_for_a_check_are_looked_up_by_their_text_alone() {
        for shape in [TokenShape::Uuid, hex("", 32), hex("cf_", 38)] {
            let minted = format().mint_as(&shape, &Prefix::default(), &PredictableEntropy::from_seed(5));
            let (secret, scheme) = minted.expect("entropy");
            assert_eq!(scheme, DigestScheme::PlainText);
            assert_eq!(format().read(secret.expose()), None, "nothing was ever issued without a check");
            let importing = TokenFormat::new(KEY, Vec::new(), &[DigestScheme::PlainText]);
            let plain = Candidates::Imported(vec![(DigestScheme::PlainText, secret.digest())]);
            assert_eq!(importing.read(secret.expose()), Some(plain));
        }
        let uuid: uuid::Uuid = mint(&TokenShape::Uuid, 6).expose().parse().expect("a uuid");
        assert_eq!((uuid.get_version_num(), uuid.get_variant()), (4, uuid::Variant::RFC4122));
    }

    #[test]
    fn an_older_key_is_accepted_in_every_shape() {
        let newer = TokenFormat::new(CheckKey::from_bytes([9; 16]), vec![KEY], &[]);
        for shape in checked() {
            assert!(newer.read(mint(&shape, 7).expose()).is_some(), "{shape:?}");
        }
    }

    #[test]
    fn r01_a_shape_has_128_random_bits_at_least() {
        for (prefix, digits) in
            [("", 30), ("", 16), ("", 33), ("", 256), ("elevenbytes", 64), ("ü", 64), ("a b", 64), ("cf_", 49)]
        {
            assert_eq!(HexShape::new(prefix, digits), Err(NotAShape), "{prefix:?} {digits}");
        }
        // Native texts end in 49 characters behind a prefix of theirs.
        assert_eq!(HexShape::new("cf_ab", 48).map(drop), Ok(()));
        assert_eq!(HexShape::new("cf_a", 48), Err(NotAShape), "cf_ and 49 characters are ours");
    }

    proptest! {
        #[test]
        fn no_text_of_a_packages_shape_passes_by_chance(text in "[0-9a-f]{64}|[0-9a-f]{40}|[0-9A-Za-z_-]{64}") {
            prop_assert_eq!(format().read(&text), None);
        }
    }
}
