//! The text of a token and what is kept of it: [`SecretToken`], [`TokenDigest`], [`TokenFormat`].
//!
//! ```text
//! cf_ 0123456789abcdefghijklmnopqrstuvwxyzABCDEFG hIjKlM
//! └┬┘ └────────────────────┬────────────────────┘ └──┬─┘
//! prefix   43 base62 characters, 256 bits        keyed check
//! ```
//!
//! The regular expression for secret scanners is [`SCANNER_REGEX`]; `docs/token-format.md` holds the test vectors.

use std::fmt;
use std::hash::Hasher;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use sha2::{Digest, Sha256, Sha512};
use siphasher::sip::SipHasher13;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::entropy::{Entropy, EntropyError};
use crate::password::EncodedPassword;

/// Finds native tokens in text and code, whatever their prefix; anchor it with the prefix in use to be exact.
pub const SCANNER_REGEX: &str = r"\b[a-z][a-z0-9]{0,4}_[0-9A-Za-z]{49}\b";

/// Base62 characters of randomness: 62⁴³ > 2²⁵⁶.
const BODY: usize = 43;
/// Base62 characters of the keyed check: about 35 bits, so one invented token in 57 billion costs a query.
const CHECK: usize = 6;
/// How many different checks there are: 62⁶.
const CHECKS: u64 = 62_u64.pow(CHECK as u32);
/// No text longer than this is hashed at all; the longest imported shape has fewer than 400 bytes.
const MAX_TEXT: usize = 1024;
/// The digits of base62 in order of value.
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The text of a token: the part of the ticket that the client keeps. It exists in memory only, between the moment it is
/// made and the response that carries it, and is wiped when dropped.
///
/// It has no `Display`, no `Serialize` and no `Clone`; [`SecretToken::expose`] is the one, greppable way to its text.
pub struct SecretToken(Zeroizing<String>);

impl SecretToken {
    /// Takes in a text from outside, as an import or an unsealing does.
    pub fn from_text(text: impl Into<String>) -> SecretToken {
        SecretToken(Zeroizing::new(text.into()))
    }

    pub(crate) fn from_zeroizing(text: Zeroizing<String>) -> SecretToken {
        SecretToken(text)
    }

    /// The text, for the one response that shows it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the store keeps of it.
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of_text(self.expose())
    }
}

impl fmt::Debug for SecretToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretToken")
    }
}

/// What is kept of a token: 32 bytes from which the text cannot be found.
///
/// One SHA-256 without salt or stretching is enough because the text has 256 random bits (OWASP ASVS 5.0, 6.5.2); a slow
/// hash would only slow every request. Looking it up by equality leaks nothing that helps: an attacker who learns a prefix
/// of a digest cannot choose texts by digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// SHA-256 of the text, the scheme of every token minted here.
    pub fn of_text(text: &str) -> TokenDigest {
        TokenDigest(Sha256::digest(text.as_bytes()).into())
    }

    /// What is kept of a link in a mail. The word before it keeps a link from being a token, and a token from being a link.
    pub fn of_link(text: &str) -> TokenDigest {
        TokenDigest(Sha256::new().chain_update("counterfoil link:").chain_update(text).finalize().into())
    }

    /// Takes in what a store kept.
    pub const fn from_bytes(bytes: [u8; 32]) -> TokenDigest {
        TokenDigest(bytes)
    }

    /// The bytes a store keeps.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Not even the digest is printed: it would let a log reader link a token to a row.
impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest")
    }
}

/// How the digest of a token was made. Part of the format, never chosen by the one who presents a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DigestScheme {
    /// Minted here: SHA-256 of the text, behind the keyed check.
    Native,
    /// Imported from a package that kept the text: SHA-256 of it, without a check.
    PlainText,
    /// Imported from django-rest-knox, which keeps the hex of the SHA-512 of the text.
    KnoxSha512,
    /// Imported from django-rest-authtoken, which keeps the SHA-512 of the bytes that the text encodes in base64url.
    RestAuthtokenSha512,
    /// Imported from djforge-redis-multitokens, whose texts are a secret and, behind `:hash:`, the PBKDF2 hash of it that the package
    /// keeps. The digest is of the hash alone; the secret has to be held against it.
    Djforge,
}

impl DigestScheme {
    /// Every scheme that a text without our check may belong to.
    pub const IMPORTED: [DigestScheme; 4] =
        [DigestScheme::PlainText, DigestScheme::KnoxSha512, DigestScheme::RestAuthtokenSha512, DigestScheme::Djforge];

    /// The name that stores keep.
    pub const fn as_str(self) -> &'static str {
        match self {
            DigestScheme::Native => "native",
            DigestScheme::PlainText => "plaintext",
            DigestScheme::KnoxSha512 => "knox_sha512",
            DigestScheme::RestAuthtokenSha512 => "rest_authtoken_sha512",
            DigestScheme::Djforge => "djforge",
        }
    }

    /// The scheme of that name, if there is one.
    pub fn named(name: &str) -> Option<DigestScheme> {
        [DigestScheme::Native].into_iter().chain(Self::IMPORTED).find(|scheme| scheme.as_str() == name)
    }

    /// The digest of `text` under this scheme, or `None` where the text cannot belong to it.
    pub fn digest(self, text: &str) -> Option<TokenDigest> {
        match self {
            DigestScheme::Native | DigestScheme::PlainText => Some(TokenDigest::of_text(text)),
            DigestScheme::KnoxSha512 => Some(self.from_package_digest(&Sha512::digest(text.as_bytes()).into())),
            DigestScheme::RestAuthtokenSha512 => {
                // Strict: the package's decoder skips foreign characters, so that many texts equal one token.
                use base64::Engine as _;
                let engine = base64::engine::general_purpose::URL_SAFE;
                let bytes = Zeroizing::new(engine.decode(text.as_bytes()).ok()?);
                Some(self.from_package_digest(&Sha512::digest(bytes.as_slice()).into()))
            }
            DigestScheme::Djforge => DigestScheme::of_djforge(djforge_halves(text)?.1),
        }
    }

    /// What is kept of a hash of djforge-redis-multitokens, `$pbkdf2-sha256$29000$salt$checksum`; `None` where it is none or its cost is
    /// above the ceiling ([`crate::password`]). It is found by its digest before it is computed, so that whoever presents a text chooses
    /// among the costs that were imported, and no other.
    pub fn of_djforge(hash: &str) -> Option<TokenDigest> {
        let encoded = EncodedPassword::from_store(hash);
        if !hash.starts_with("$pbkdf2-sha256$") || encoded.cost().is_err() {
            return None;
        }
        Some(TokenDigest(Sha256::new().chain_update("djforge:").chain_update(hash).finalize().into()))
    }

    /// What we keep for a SHA-512 that a package kept: a second hash over it, so that every row has 32 bytes and a digest
    /// stolen from the package's old database is still no way in.
    pub fn from_package_digest(self, sha512: &[u8; 64]) -> TokenDigest {
        TokenDigest(Sha256::new().chain_update(self.as_str()).chain_update(b":").chain_update(sha512).finalize().into())
    }
}

/// The secret in a text of djforge-redis-multitokens, and the hash of it.
pub(crate) fn djforge_halves(text: &str) -> Option<(&str, &str)> {
    let (secret, hash) = text.split_once(":hash:")?;
    (!hash.contains(":hash:")).then_some((secret, hash))
}

/// What a presented text may be looked up as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Candidates {
    /// Its check holds: exactly one digest.
    Native(TokenDigest),
    /// It carries no check of ours: one digest per imported scheme that still has live tokens.
    Imported(Vec<(DigestScheme, TokenDigest)>),
}

impl Candidates {
    /// Under which scheme `digest` is one of them.
    pub fn scheme_of(&self, digest: &TokenDigest) -> Option<DigestScheme> {
        match self {
            Candidates::Native(native) => (native == digest).then_some(DigestScheme::Native),
            Candidates::Imported(digests) => digests.iter().find(|(_, one)| one == digest).map(|(scheme, _)| *scheme),
        }
    }
}

/// What a token starts with: 1 to 5 of `a-z 0-9`, the first a letter, and an underscore.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Prefix(Arc<str>);

impl Prefix {
    /// The text with its underscore.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the secrets of links start with, so that one that is found somewhere is known for what it is.
    pub(crate) fn link() -> Prefix {
        Prefix("cfl_".into())
    }

    /// Whether `text` is a prefix with its underscore.
    fn is(text: &[u8]) -> bool {
        match text {
            [first, rest @ .., b'_'] => {
                rest.len() <= 4
                    && first.is_ascii_lowercase()
                    && rest.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            }
            _ => false,
        }
    }
}

impl Default for Prefix {
    /// `cf_`
    fn default() -> Self {
        Prefix("cf_".into())
    }
}

/// The text is not a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAPrefix;

impl fmt::Display for NotAPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a prefix is 1 to 5 characters of a-z 0-9, the first a letter, and an underscore: \"cf_\"")
    }
}

impl std::error::Error for NotAPrefix {}

impl FromStr for Prefix {
    type Err = NotAPrefix;

    fn from_str(text: &str) -> Result<Self, NotAPrefix> {
        if Self::is(text.as_bytes()) { Ok(Prefix(text.into())) } else { Err(NotAPrefix) }
    }
}

/// A key of the check at a token's end. It is no secret that guards tokens: whoever has it can make texts that cost us a
/// query, nothing more.
#[derive(Clone, PartialEq, Eq)]
pub struct CheckKey([u8; 16]);

impl CheckKey {
    /// A new key.
    ///
    /// # Errors
    /// When the source of randomness fails.
    pub fn generate(entropy: &dyn Entropy) -> Result<CheckKey, EntropyError> {
        let mut key = [0; 16];
        entropy.fill(&mut key)?;
        Ok(CheckKey(key))
    }

    /// Takes in what a store kept.
    pub const fn from_bytes(bytes: [u8; 16]) -> CheckKey {
        CheckKey(bytes)
    }

    /// The bytes a store keeps.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// SipHash-1-3 over `text`, as a number of six base62 digits.
    fn check(&self, text: &[u8]) -> u64 {
        SipHasher13::new_with_key(&self.0).hash(text) % CHECKS
    }

    /// A tag over something that we hand out and want back unchanged, such as a page cursor; `purpose` keeps one use from
    /// standing in for another.
    pub fn tag(&self, purpose: &str, text: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(purpose.as_bytes());
        hasher.write_u8(0);
        hasher.write(text);
        hasher.finish()
    }
}

impl fmt::Debug for CheckKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckKey")
    }
}

/// Makes and reads the texts of tokens for one deployment.
#[derive(Debug, Clone)]
pub struct TokenFormat {
    newest: CheckKey,
    older: Vec<CheckKey>,
    imported: Arc<Imported>,
}

/// The schemes without our check that texts are looked up under, a bit each: other processes may bring tokens while this one runs.
#[derive(Debug, Default)]
struct Imported {
    /// Of which the store has tokens.
    present: AtomicU8,
    /// Of which there may be some at any time.
    expected: AtomicU8,
}

impl Imported {
    fn bits(schemes: &[DigestScheme]) -> u8 {
        let bit = |scheme: &DigestScheme| DigestScheme::IMPORTED.iter().position(|one| one == scheme);
        schemes.iter().filter_map(bit).fold(0, |bits, position| bits | 1 << position)
    }

    fn schemes(&self) -> impl Iterator<Item = DigestScheme> {
        let bits = self.present.load(Ordering::Relaxed) | self.expected.load(Ordering::Relaxed);
        // What is found under one of the others is kept as a plain one from then on, maybe by another process, right now.
        let bits = if bits == 0 { 0 } else { bits | Imported::bits(&[DigestScheme::PlainText]) };
        (0..)
            .zip(DigestScheme::IMPORTED)
            .filter_map(move |(position, scheme)| (bits >> position & 1 == 1).then_some(scheme))
    }
}

impl TokenFormat {
    /// Mints with `newest`, accepts the check of `older` too, and looks texts without a check up under `imported`.
    pub fn new(newest: CheckKey, older: Vec<CheckKey>, imported: &[DigestScheme]) -> TokenFormat {
        let present = AtomicU8::new(Imported::bits(imported));
        TokenFormat { newest, older, imported: Arc::new(Imported { present, expected: AtomicU8::default() }) }
    }

    /// Looks texts without a check up under these schemes from now on, and those of [`TokenFormat::always_accept`].
    pub(crate) fn accept_imported(&self, schemes: &[DigestScheme]) {
        self.imported.present.store(Imported::bits(schemes), Ordering::Relaxed);
    }

    pub(crate) fn always_accept(&self, scheme: DigestScheme) {
        self.imported.expected.fetch_or(Imported::bits(&[scheme]), Ordering::Relaxed);
    }

    /// The key that new texts are checked with.
    pub fn newest_key(&self) -> &CheckKey {
        &self.newest
    }

    /// The newest key and every older one that is still accepted.
    pub fn keys(&self) -> impl Iterator<Item = &CheckKey> {
        std::iter::once(&self.newest).chain(&self.older)
    }

    /// A new secret with 256 random bits behind `prefix`.
    ///
    /// # Errors
    /// When the source of randomness fails; then no token is issued.
    pub fn mint(&self, prefix: &Prefix, entropy: &dyn Entropy) -> Result<SecretToken, EntropyError> {
        let mut text = Zeroizing::new(String::with_capacity(prefix.as_str().len() + BODY + CHECK));
        text.push_str(prefix.as_str());
        let mut random = Zeroizing::new([0_u8; 64]);
        let mut wanted = BODY;
        while wanted > 0 {
            entropy.fill(&mut random[..])?;
            // Rejection instead of a remainder: every character is equally likely.
            for value in random.iter().map(|byte| usize::from(byte & 0x3f)).filter(|&value| value < 62).take(wanted) {
                text.push(char::from(BASE62[value]));
                wanted -= 1;
            }
        }
        for digit in check_digits(self.newest.check(text.as_bytes())) {
            text.push(char::from(digit));
        }
        Ok(SecretToken(text))
    }

    /// What `text` may be looked up as; `None` where nothing that was ever issued can have this text, so that an invented
    /// token costs a hash and no query.
    ///
    /// A text of our exact shape stands or falls with its check and is never tried under an imported scheme. One in a package's shape
    /// ([`TokenShape`](crate::shape::TokenShape)) whose check does not hold may be an imported one.
    pub fn read(&self, text: &str) -> Option<Candidates> {
        self.read_under(text, self.imported.schemes())
    }

    /// The same under these schemes, whatever there is.
    pub(crate) fn read_with(&self, text: &str, imported: &[DigestScheme]) -> Option<Candidates> {
        self.read_under(text, imported.iter().copied())
    }

    fn read_under(&self, text: &str, imported: impl Iterator<Item = DigestScheme>) -> Option<Candidates> {
        let bytes = text.as_bytes();
        if let Some((checked, check)) = bytes.split_last_chunk::<CHECK>()
            && let Some(prefix) = checked.len().checked_sub(BODY)
            && Prefix::is(&checked[..prefix])
        {
            let check = check_number(check)?;
            let mut holds = self.newest.check(checked).ct_eq(&check);
            // Every key is tried, so that the time says nothing about which one fits.
            for key in &self.older {
                holds |= key.check(checked).ct_eq(&check);
            }
            return bool::from(holds).then(|| Candidates::Native(TokenDigest::of_text(text)));
        }
        if bytes.is_empty() || bytes.len() > MAX_TEXT || !bytes.is_ascii() {
            return None;
        }
        if self.checks_as_a_packages(bytes) {
            return Some(Candidates::Native(TokenDigest::of_text(text)));
        }
        let digests: Vec<_> = imported.filter_map(|scheme| Some((scheme, scheme.digest(text)?))).collect();
        (!digests.is_empty()).then_some(Candidates::Imported(digests))
    }
}

/// Whether texts of so many hexadecimal digits behind `prefix` would be taken for native ones.
pub(crate) fn looks_native(prefix: &str, digits: usize) -> bool {
    let native = (prefix.len() + digits).checked_sub(BODY + CHECK);
    native.is_some_and(|length| prefix.len() >= length && Prefix::is(&prefix.as_bytes()[..length]))
}

/// The check as it is written: six base62 digits, most significant first.
fn check_digits(mut number: u64) -> [u8; CHECK] {
    let mut digits = [0; CHECK];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(number % 62) as usize];
        number /= 62;
    }
    digits
}

/// The number that six base62 digits write; `None` for anything else. Reading the digits costs a third of writing the
/// expected ones, and an invented token pays for nothing else but the hash.
fn check_number(digits: &[u8; CHECK]) -> Option<u64> {
    let mut number = 0;
    let mut strange = 0;
    for &digit in digits {
        let value = VALUES[usize::from(digit)];
        strange |= value;
        number = number * 62 + u64::from(value);
    }
    (strange < NO_DIGIT).then_some(number)
}

/// Set in the value of a byte that is no base62 digit, and in no other.
const NO_DIGIT: u8 = 0x80;

/// The value of each byte as a base62 digit.
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < BASE62.len() {
        values[BASE62[value] as usize] = value as u8;
        value += 1;
    }
    values
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::PredictableEntropy;
    use proptest::prelude::*;

    const KEY: CheckKey = CheckKey::from_bytes(*b"counterfoil-test");

    fn format() -> TokenFormat {
        TokenFormat::new(KEY, Vec::new(), &[])
    }

    fn mint() -> SecretToken {
        format().mint(&Prefix::default(), &PredictableEntropy::from_seed(1)).expect("entropy")
    }

    /// Published in docs/token-format.md; a change here voids tokens in the field.
    const VECTORS: &[(&[u8; 16], &str)] = &[
        (b"counterfoil-test", "cf_0000000000000000000000000000000000000000000"),
        (b"0123456789abcdef", "key_zyxwvutsrqponmlkjihgfedcbaZYXWVUTSRQPONMLKJ"),
    ];

    #[test]
    fn r03_published_vectors_hold() {
        let page = include_str!("../../../docs/token-format.md");
        for (key, text) in VECTORS {
            let check = check_digits(CheckKey::from_bytes(**key).check(text.as_bytes()));
            let whole = format!("{text}{}", std::str::from_utf8(&check).expect("ascii"));
            let digest = TokenDigest::of_text(&whole);
            let hex: String = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(page.contains(&whole) && page.contains(&hex), "docs/token-format.md lacks {whole} {hex}");
            let format = TokenFormat::new(CheckKey::from_bytes(**key), Vec::new(), &[]);
            assert_eq!(format.read(&whole), Some(Candidates::Native(digest)));
        }
    }

    #[test]
    fn r01_a_minted_token_has_43_random_characters_and_fits_one_sha256_block() {
        let secret = mint();
        let text = secret.expose();
        assert_eq!(text.len(), 3 + 43 + 6);
        assert!(text.len() <= 55);
        assert!(text[3..].bytes().all(|byte| BASE62.contains(&byte)));
        assert_eq!(format().read(text), Some(Candidates::Native(secret.digest())));
    }

    #[test]
    fn r01_every_character_is_equally_likely() {
        let entropy = PredictableEntropy::from_seed(7);
        let mut seen = [0_u32; 128];
        let rounds = 20_000;
        for _ in 0..rounds {
            for byte in format().mint(&Prefix::default(), &entropy).expect("entropy").expose()[3..46].bytes() {
                seen[usize::from(byte)] += 1;
            }
        }
        let expected = f64::from(rounds) * 43.0 / 62.0;
        let chi: f64 = BASE62.iter().map(|&c| (f64::from(seen[usize::from(c)]) - expected).powi(2) / expected).sum();
        // 61 degrees of freedom: beyond 120 lies less than one generator in 100,000 that is fair.
        assert!(chi < 120.0, "chi² = {chi}");
    }

    /// Fails once, then would succeed.
    #[derive(Debug)]
    struct Broken;
    impl Entropy for Broken {
        fn fill(&self, _: &mut [u8]) -> Result<(), EntropyError> {
            Err(EntropyError::new("no entropy"))
        }
    }

    #[test]
    fn f37_a_failing_generator_mints_nothing() {
        assert!(format().mint(&Prefix::default(), &Broken).is_err());
        assert!(CheckKey::generate(&Broken).is_err());
    }

    #[test]
    fn a01_a_token_cut_or_extended_by_any_length_is_refused() {
        let secret = mint();
        let text = secret.expose();
        for length in 0..text.len() {
            assert_eq!(format().read(&text[..length]), None, "cut to {length}");
            assert_eq!(format().read(&text[text.len() - length..]), None, "last {length}");
        }
        for suffix in ["0", "=", " ", "\n", "\0", ".", "00000000"] {
            assert_eq!(format().read(&format!("{text}{suffix}")), None, "{suffix:?}");
        }
    }

    #[test]
    fn a02_no_other_spelling_is_the_same_token() {
        let secret = mint();
        let text = secret.expose();
        let swapped: String = text
            .chars()
            .map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
            .collect();
        let spellings =
            [text.to_uppercase(), text.to_lowercase(), swapped, text.replacen('_', "%5F", 1), format!("{text}==")];
        for spelling in spellings {
            assert_eq!(format().read(&spelling), None, "{spelling}");
        }
        for position in 0..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[position] = if bytes[position] == b'x' { b'y' } else { b'x' };
            let changed = String::from_utf8(bytes).expect("ascii");
            assert_eq!(format().read(&changed), None, "changed at {position}");
        }
    }

    #[test]
    fn a03_a_text_with_its_own_hash_parameters_is_refused_by_grammar() {
        let text = "t:hash:$pbkdf2-sha256$4294967295$c2FsdA$aGFzaA";
        assert_eq!(format().read(text), None);
        // Even with imports that lack a check it is only ever looked up whole, never interpreted.
        let importing = TokenFormat::new(KEY, Vec::new(), &[DigestScheme::PlainText]);
        let whole = Candidates::Imported(vec![(DigestScheme::PlainText, TokenDigest::of_text(text))]);
        assert_eq!(importing.read(text), Some(whole));
    }

    #[test]
    fn a04_what_is_kept_of_a_token_is_not_a_token() {
        let digest = mint().digest();
        let hex: String = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let importing = TokenFormat::new(KEY, Vec::new(), &DigestScheme::IMPORTED);
        let Some(Candidates::Imported(found)) = importing.read(&hex) else { panic!("hex has no check of ours") };
        assert!(found.iter().all(|(_, candidate)| *candidate != digest));
    }

    #[test]
    fn an_older_key_is_accepted_and_the_newest_mints() {
        let newer = CheckKey::from_bytes([9; 16]);
        let both = TokenFormat::new(newer.clone(), vec![KEY], &[]);
        assert!(both.read(mint().expose()).is_some());
        let fresh = both.mint(&Prefix::default(), &PredictableEntropy::from_seed(2)).expect("entropy");
        assert!(format().read(fresh.expose()).is_none());
        assert!(TokenFormat::new(newer, Vec::new(), &[]).read(fresh.expose()).is_some());
    }

    #[test]
    fn prefixes_of_the_grammar_are_read_whoever_minted_them() {
        for prefix in ["a_", "cf_", "abcde_", "x9_"] {
            let prefix: Prefix = prefix.parse().expect("prefix");
            let secret = format().mint(&prefix, &PredictableEntropy::from_seed(3)).expect("entropy");
            assert!(secret.expose().len() <= 55);
            assert!(format().read(secret.expose()).is_some(), "{prefix:?}");
        }
        for bad in ["", "_", "cf", "CF_", "9a_", "abcdef_", "c-f_", "cf__", "ü_"] {
            assert_eq!(bad.parse::<Prefix>(), Err(NotAPrefix), "{bad:?}");
        }
    }

    #[test]
    fn imported_schemes_follow_their_packages() {
        // knox: hex(sha512(text)); rest_authtoken: sha512(urlsafe_b64decode(text)).
        let knox: [u8; 64] = Sha512::digest(b"abc").into();
        let knox = DigestScheme::KnoxSha512.from_package_digest(&knox);
        assert_eq!(DigestScheme::KnoxSha512.digest("abc"), Some(knox));
        let bytes: [u8; 64] = Sha512::digest([0xff, 0xfe, 0xfd]).into();
        let rest = DigestScheme::RestAuthtokenSha512.from_package_digest(&bytes);
        assert_eq!(DigestScheme::RestAuthtokenSha512.digest("__79"), Some(rest));
        assert_eq!(DigestScheme::RestAuthtokenSha512.digest("__7\n9"), None, "strict, unlike the package's decoder");
        for scheme in DigestScheme::IMPORTED {
            assert_eq!(DigestScheme::named(scheme.as_str()), Some(scheme));
        }
    }

    #[test]
    fn a82_debug_output_holds_no_secret() {
        let secret = mint();
        let printed = format!("{secret:?} {:?} {:?}", secret.digest(), format());
        assert!(!printed.contains(&secret.expose()[3..]));
        assert_eq!(printed.matches("CheckKey").count(), 1);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic_or_pass(text in ".{0,120}") {
            prop_assert_eq!(format().read(&text), None);
        }

        #[test]
        fn a_text_of_our_shape_passes_only_with_its_check(body in "[0-9A-Za-z]{43}", check in "[0-9A-Za-z]{6}") {
            let text = format!("cf_{body}{check}");
            let right = check_digits(KEY.check(format!("cf_{body}").as_bytes())) == check.as_bytes();
            prop_assert_eq!(format().read(&text).is_some(), right);
        }
    }
}
