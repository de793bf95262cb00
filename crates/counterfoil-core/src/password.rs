//! Passwords: hashing them, verifying what other systems hashed, and refusing at an even price.
//!
//! A password is hashed with Argon2id (RFC 9106) and kept as a PHC string. Rows imported from Django, in any
//! encoding Django ever shipped, verify as they are and are reported as outdated, so that the login that
//! proves the password can replace the row.
//!
//! Three things are guarded here and nowhere else:
//!
//! - **What one attempt may cost.** A row names its own price (iterations, memory), so a row is also a way to
//!   exhaust the server. Every price is held against a fixed ceiling before anything is computed or allocated,
//!   at import ([`EncodedPassword::cost`]) and again at every verification. A [`Cost`] above a ceiling cannot
//!   be made.
//! - **What the time of a refusal tells.** [`check`] makes every refusal do the same work, whoever was asked
//!   for; see [`plan`].
//! - **What stays in memory.** Passwords and computed digests are wiped when dropped, Argon2's memory when a call
//!   returns. What the crates beneath keep for themselves (scrypt's blocks, Blowfish's tables, HMAC states) is freed
//!   but not wiped.
//!
//! Passwords are bytes, taken as received: never trimmed, normalised, case-folded or cut, and a NUL is a byte
//! like any other. Nothing here reads a clock, draws a salt or starts a thread.
//!
//! # Example
//!
//! ```
//! use counterfoil_core::password::{check, hash, HashingParams, Password, Scratch, Verdict};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let params = HashingParams::default();
//! let mut scratch = Scratch::sized_for(&params);
//! let salt = [7; 16]; // sixteen fresh random bytes
//! let row = hash(&Password::new("correct horse")?, &salt, &params, &mut scratch);
//! let present = [row.cost()?]; // every cost in the store
//!
//! let right = check(&Password::new("correct horse")?, Some(&row), &present, &params, &mut scratch);
//! assert_eq!(right, Ok(Verdict::Match { outdated: false }));
//!
//! // A wrong password, and a name that nobody has: the same answer for the same work.
//! let wrong = check(&Password::new("wrong horse")?, Some(&row), &present, &params, &mut scratch);
//! let nobody = check(&Password::new("correct horse")?, None, &present, &params, &mut scratch);
//! assert_eq!(wrong, Ok(Verdict::NoMatch));
//! assert_eq!(nobody, Ok(Verdict::NoMatch));
//! # Ok(())
//! # }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hint::black_box;
use std::str::FromStr;

use argon2::{Argon2, Block};
use base64::Engine;
use base64::alphabet;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{NO_PAD, STANDARD, STANDARD_NO_PAD};
use md5::Md5;
use pbkdf2::pbkdf2_hmac;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// The longest password, in bytes, that is looked at: 4096.
///
/// NIST SP 800-63B asks for at least 64 characters; this is sixteen times that many, at four bytes each. The
/// limit bounds what hashing the *input* can cost, and stands before any computation.
pub const MAX_PASSWORD_BYTES: usize = 4096;

/// The longest encoding, in bytes, that is parsed: 512. Django's own column holds 128.
pub const MAX_ENCODED_BYTES: usize = 512;

/// The most PBKDF2 iterations a row may ask for: ten million, ten times Django 5.2's default.
pub const MAX_PBKDF2_ITERATIONS: u32 = 10_000_000;

/// The most `N·r·p` a scrypt row may ask for: 2²⁰, which is 128 MiB of blocks to fill.
///
/// It admits OWASP's first choice (N = 2¹⁷, r = 8, p = 1) exactly, and Django's default (2¹⁴, 8, 5).
pub const MAX_SCRYPT_BLOCKS: u64 = 1 << 20;

/// The largest scrypt block size `r`: 32, four times the usual 8. It keeps the buffers beside the blocks small.
pub const MAX_SCRYPT_BLOCK_SIZE: u32 = 32;

/// The most scrypt lanes `p`: 16.
pub const MAX_SCRYPT_PARALLELISM: u32 = 16;

/// The most memory an Argon2 row may ask for: 128 MiB, in KiB. Django's default is 100 MiB.
pub const MAX_ARGON2_MEMORY_KIB: u32 = 128 * 1024;

/// The most Argon2 iterations (passes over the memory): 16.
pub const MAX_ARGON2_ITERATIONS: u32 = 16;

/// The most Argon2 lanes: 16.
pub const MAX_ARGON2_PARALLELISM: u32 = 16;

/// The most Argon2 work, memory in KiB × iterations: 2²⁰, or 1 GiB written. Five of Django's defaults.
pub const MAX_ARGON2_WORK: u64 = 1 << 20;

/// The highest bcrypt cost: 16, sixteen times the work of the usual 12.
pub const MAX_BCRYPT_COST: u32 = 16;

/// bcrypt reads this many bytes of a password and no more.
const BCRYPT_PASSWORD_BYTES: usize = 72;

/// The digest length of what [`hash`] writes.
const HASH_BYTES: usize = 32;

const BCRYPT_BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::BCRYPT, NO_PAD);

const PASSLIB_ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789./";
const PASSLIB_BASE64: GeneralPurpose = match alphabet::Alphabet::new(PASSLIB_ALPHABET) {
    Ok(alphabet) => GeneralPurpose::new(&alphabet, NO_PAD),
    Err(_) => panic!("64 different characters"),
};

/// A password as somebody typed it.
///
/// The bytes are kept as received, NUL included. They are wiped on drop, cannot be cloned or serialized, and
/// `Debug` prints the name of the type only.
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// Takes the bytes as they are; the empty password is a password.
    ///
    /// # Errors
    ///
    /// [`PasswordTooLong`] beyond [`MAX_PASSWORD_BYTES`]; exactly that many are accepted. The refused bytes
    /// are wiped as well.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Password, PasswordTooLong> {
        let bytes = Zeroizing::new(bytes.into());
        if bytes.len() > MAX_PASSWORD_BYTES {
            return Err(PasswordTooLong);
        }
        Ok(Password(bytes))
    }

    /// The fewest characters that a password may have that is set from now on; those there are stay good. The least that NIST
    /// SP 800-63B-4 §3.1.1.2 has for a password beside another factor; for one that is all there is, it asks for 15.
    pub const LEAST_CHARS: usize = 8;

    /// Code points, and where the bytes are not UTF-8 each byte for itself.
    pub fn chars(&self) -> usize {
        self.0.utf8_chunks().map(|chunk| chunk.valid().chars().count() + chunk.invalid().len()).sum()
    }

    /// The bytes, for the one who has to hash or measure them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// The password is longer than [`MAX_PASSWORD_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordTooLong;

impl fmt::Display for PasswordTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the password is longer than {MAX_PASSWORD_BYTES} bytes")
    }
}

impl std::error::Error for PasswordTooLong {}

/// What a store keeps in place of a password.
///
/// The text decides nothing until it is verified: a row that makes no sense is found out then, or earlier by
/// [`EncodedPassword::cost`]. `Debug` does not show it, because a fast old hash is almost a password.
#[derive(Clone)]
pub struct EncodedPassword(Box<str>);

impl EncodedPassword {
    /// Wraps a row as a store or an import has it. Nothing is judged here.
    pub fn from_store(text: impl Into<Box<str>>) -> EncodedPassword {
        EncodedPassword(text.into())
    }

    /// A row that no password matches: `!`, as Django marks accounts that sign in some other way.
    pub fn unusable() -> EncodedPassword {
        EncodedPassword::from_store("!")
    }

    /// The text, for the store to write.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What verifying this row costs. An import calls it for every row, and keeps the answer beside the row.
    ///
    /// # Errors
    ///
    /// The same as [`verify`] would give, so that a row which could never verify is reported when it comes in.
    pub fn cost(&self) -> Result<Cost, PasswordError> {
        Row::parse(&self.0).map(|row| row.cost)
    }
}

impl fmt::Debug for EncodedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncodedPassword(..)")
    }
}

/// Why a stored row cannot be verified. A fault of the row, never of the person who typed a password.
///
/// Neither the row nor the password is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordError {
    /// The row is not one of the encodings we know, or is damaged.
    Malformed(&'static str),
    /// The row asks for more work than we are willing to do for anybody.
    TooDear(TooDear),
}

impl fmt::Display for PasswordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PasswordError::Malformed(what) => write!(f, "the stored password is malformed: {what}"),
            PasswordError::TooDear(too_dear) => {
                write!(f, "the stored password is too dear to verify: {too_dear}")
            }
        }
    }
}

impl std::error::Error for PasswordError {}

/// A parameter above its ceiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooDear {
    /// Which parameter.
    pub what: &'static str,
    /// What was asked for; numbers beyond 64 bits count as the largest.
    pub asked: u64,
    /// The most that is allowed.
    pub most: u64,
}

impl TooDear {
    fn unless(what: &'static str, asked: u64, most: u64) -> Result<(), PasswordError> {
        if asked > most {
            return Err(PasswordError::TooDear(TooDear { what, asked, most }));
        }
        Ok(())
    }
}

impl fmt::Display for TooDear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, the most allowed is {}", self.what, self.asked, self.most)
    }
}

/// How new passwords are hashed: the Argon2id parameters.
///
/// The default is 19 456 KiB, two iterations, one lane: the smallest that OWASP and ASVS allow, and the right
/// choice unless logins are rare. More lanes do not make it stronger here, since they run one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashingParams {
    memory_kib: u32,
    iterations: u32,
    parallelism: u32,
}

impl HashingParams {
    /// Parameters at or above the floor, and within what [`verify`] accepts.
    ///
    /// The floor is OWASP's: 47 104 KiB with one iteration, 19 456 with two, 12 288 with three or more. (The
    /// Password Storage Cheat Sheet goes on to 7 168 KiB with five; ASVS 5.0, appendix C, stops at 12 288.)
    ///
    /// # Errors
    ///
    /// [`HashingParamsError::TooWeak`] below the floor, [`HashingParamsError::TooDear`] above a ceiling: a
    /// password hashed beyond it would lock its owner out.
    pub fn new(memory_kib: u32, iterations: u32, parallelism: u32) -> Result<HashingParams, HashingParamsError> {
        let least_memory_kib = match iterations {
            0 => return Err(HashingParamsError::TooWeak),
            1 => 47_104,
            2 => 19_456,
            3.. => 12_288,
        };
        if memory_kib < least_memory_kib {
            return Err(HashingParamsError::TooWeak);
        }
        match Cost::argon2(Variant::Id, Version::V19, memory_kib.into(), iterations.into(), parallelism.into()) {
            Ok(_) => Ok(HashingParams { memory_kib, iterations, parallelism }),
            Err(PasswordError::TooDear(too_dear)) => Err(HashingParamsError::TooDear(too_dear)),
            // No lane at all.
            Err(PasswordError::Malformed(_)) => Err(HashingParamsError::TooWeak),
        }
    }

    /// Parameters that cost next to nothing and protect next to nothing, for tests that hash a lot.
    pub fn insecure_for_tests() -> HashingParams {
        HashingParams { memory_kib: 8, iterations: 1, parallelism: 1 }
    }

    /// The memory one hash fills, in KiB.
    pub fn memory_kib(&self) -> u32 {
        self.memory_kib
    }

    /// How many times it is filled.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Into how many lanes it is divided.
    pub fn parallelism(&self) -> u32 {
        self.parallelism
    }

    /// What a hash under these parameters costs.
    pub fn cost(&self) -> Cost {
        Cost(Scheme::Argon2 {
            variant: Variant::Id,
            version: Version::V19,
            memory_kib: self.memory_kib,
            iterations: self.iterations,
            parallelism: self.parallelism,
        })
    }
}

impl Default for HashingParams {
    fn default() -> HashingParams {
        HashingParams { memory_kib: 19_456, iterations: 2, parallelism: 1 }
    }
}

/// Why Argon2id parameters are not acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashingParamsError {
    /// Below the floor of [`HashingParams::new`].
    TooWeak,
    /// Above a ceiling, so that what they hash could never be verified.
    TooDear(TooDear),
}

impl fmt::Display for HashingParamsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HashingParamsError::TooWeak => f.write_str(
                "Argon2id needs at least 19456 KiB with 2 iterations (or 47104 with 1, or 12288 with 3), and 1 lane",
            ),
            HashingParamsError::TooDear(too_dear) => write!(f, "{too_dear}"),
        }
    }
}

impl std::error::Error for HashingParamsError {}

/// Argon2's working memory, kept between calls.
///
/// One for each thread that hashes: 19 MiB of fresh pages cost more to fault in than to fill. It grows to the
/// largest hash it has met and keeps that size until [`Scratch::shrink_to`]. What a call wrote is wiped before the call returns: memory
/// left over from a single-iteration hash lets passwords be tried against it without filling any.
#[derive(Default)]
pub struct Scratch {
    blocks: Vec<Block>,
    /// How many blocks, from the front, hold something.
    written: usize,
}

impl Scratch {
    /// Without memory; the first hash allocates.
    pub fn new() -> Scratch {
        Scratch::default()
    }

    /// With the memory that `params` need, allocated and touched now.
    pub fn sized_for(params: &HashingParams) -> Scratch {
        let mut scratch = Scratch::new();
        scratch.blocks(params.memory_kib as usize);
        scratch
    }

    /// Gives back what a row from elsewhere took beyond what `params` need: one imported row of 100 MiB must not keep that
    /// much for as long as the thread lives.
    pub fn shrink_to(&mut self, params: &HashingParams) {
        if self.blocks.len() > params.memory_kib as usize {
            self.wipe();
            self.blocks = Vec::new();
        }
    }

    fn blocks(&mut self, count: usize) -> &mut [Block] {
        if self.blocks.len() < count {
            self.wipe();
            // The old memory goes first, so that both are never held at once.
            self.blocks = Vec::new();
            self.blocks = vec![Block::new(); count];
        }
        self.written = self.written.max(count);
        &mut self.blocks[..count]
    }

    fn wipe(&mut self) {
        for block in &mut self.blocks[..self.written] {
            block.zeroize();
        }
        self.written = 0;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scratch({} KiB)", self.blocks.len())
    }
}

/// What verifying a row costs: its scheme and parameters, without salt or digest.
///
/// Displays and parses as text like `argon2id$19456$2$1`, `pbkdf2_sha256$600000`, `scrypt$16384$8$1`,
/// `bcrypt$12`, `md5` or `unusable`, for a column beside the row. Every value is within the ceilings.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cost(Scheme);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Scheme {
    Unusable,
    Md5,
    Sha1,
    Pbkdf2 { prf: Prf, iterations: u32 },
    Bcrypt { prehash: Prehash, cost: u32 },
    Scrypt { log_n: u8, block_size: u32, parallelism: u32 },
    Argon2 { variant: Variant, version: Version, memory_kib: u32, iterations: u32, parallelism: u32 },
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Prf {
    HmacSha1,
    HmacSha256,
}

/// What bcrypt is fed: the password, or the hexadecimal SHA-256 of it (Django's way around the 72 bytes).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Prehash {
    None,
    Sha256,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Variant {
    D,
    I,
    Id,
}

/// The Argon2 version, in the decimal that encodings write: 16 overwrites blocks, 19 XORs into them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Version {
    V16,
    V19,
}

impl Cost {
    fn pbkdf2(prf: Prf, iterations: u64) -> Result<Cost, PasswordError> {
        TooDear::unless("the number of PBKDF2 iterations", iterations, MAX_PBKDF2_ITERATIONS.into())?;
        if iterations == 0 {
            return Err(PasswordError::Malformed("PBKDF2 without iterations"));
        }
        Ok(Cost(Scheme::Pbkdf2 { prf, iterations: narrow(iterations) }))
    }

    fn bcrypt(prehash: Prehash, cost: u64) -> Result<Cost, PasswordError> {
        TooDear::unless("the bcrypt cost", cost, MAX_BCRYPT_COST.into())?;
        if cost < 4 {
            return Err(PasswordError::Malformed("a bcrypt cost below 4"));
        }
        Ok(Cost(Scheme::Bcrypt { prehash, cost: narrow(cost) }))
    }

    fn scrypt(n: u64, block_size: u64, parallelism: u64) -> Result<Cost, PasswordError> {
        TooDear::unless("the scrypt block size r", block_size, MAX_SCRYPT_BLOCK_SIZE.into())?;
        TooDear::unless("the scrypt parallelism p", parallelism, MAX_SCRYPT_PARALLELISM.into())?;
        let blocks = n.saturating_mul(block_size).saturating_mul(parallelism);
        TooDear::unless("the scrypt work N*r*p", blocks, MAX_SCRYPT_BLOCKS)?;
        if block_size == 0 || parallelism == 0 || n < 2 || !n.is_power_of_two() {
            return Err(PasswordError::Malformed("scrypt parameters that RFC 7914 does not allow"));
        }
        let log_n = u8::try_from(n.ilog2()).expect("the logarithm of 64 bits fits");
        Ok(Cost(Scheme::Scrypt { log_n, block_size: narrow(block_size), parallelism: narrow(parallelism) }))
    }

    fn argon2(
        variant: Variant,
        version: Version,
        memory_kib: u64,
        iterations: u64,
        parallelism: u64,
    ) -> Result<Cost, PasswordError> {
        TooDear::unless("the Argon2 memory in KiB", memory_kib, MAX_ARGON2_MEMORY_KIB.into())?;
        TooDear::unless("the number of Argon2 iterations", iterations, MAX_ARGON2_ITERATIONS.into())?;
        TooDear::unless("the number of Argon2 lanes", parallelism, MAX_ARGON2_PARALLELISM.into())?;
        TooDear::unless("the Argon2 work in KiB", memory_kib * iterations, MAX_ARGON2_WORK)?;
        if iterations == 0 || parallelism == 0 || memory_kib < 8 * parallelism {
            return Err(PasswordError::Malformed("Argon2 parameters that RFC 9106 does not allow"));
        }
        Ok(Cost(Scheme::Argon2 {
            variant,
            version,
            memory_kib: narrow(memory_kib),
            iterations: narrow(iterations),
            parallelism: narrow(parallelism),
        }))
    }
}

/// A number that a ceiling has already shown to be small.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).expect("every ceiling fits 32 bits")
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Scheme::Unusable => f.write_str("unusable"),
            Scheme::Md5 => f.write_str("md5"),
            Scheme::Sha1 => f.write_str("sha1"),
            Scheme::Pbkdf2 { prf: Prf::HmacSha1, iterations } => write!(f, "pbkdf2_sha1${iterations}"),
            Scheme::Pbkdf2 { prf: Prf::HmacSha256, iterations } => write!(f, "pbkdf2_sha256${iterations}"),
            Scheme::Bcrypt { prehash: Prehash::None, cost } => write!(f, "bcrypt${cost}"),
            Scheme::Bcrypt { prehash: Prehash::Sha256, cost } => write!(f, "bcrypt_sha256${cost}"),
            Scheme::Scrypt { log_n, block_size, parallelism } => {
                write!(f, "scrypt${}${block_size}${parallelism}", 1_u64 << log_n)
            }
            Scheme::Argon2 { variant, version, memory_kib, iterations, parallelism } => {
                f.write_str(variant.name())?;
                f.write_str(match version {
                    Version::V16 => "_v16",
                    Version::V19 => "",
                })?;
                write!(f, "${memory_kib}${iterations}${parallelism}")
            }
        }
    }
}

impl fmt::Debug for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cost({self})")
    }
}

impl FromStr for Cost {
    type Err = PasswordError;

    /// Reads what `Display` writes, and nothing else. The ceilings hold here too: a column is not a way
    /// around them.
    fn from_str(text: &str) -> Result<Cost, PasswordError> {
        let unknown = PasswordError::Malformed("not a cost");
        let (scheme, numbers) = text.split_once('$').map_or((text, None), |(scheme, rest)| (scheme, Some(rest)));
        let numbers = match numbers {
            None => Vec::new(),
            Some(numbers) => numbers.split('$').map(decimal).collect::<Result<Vec<u64>, _>>()?,
        };
        match (scheme, numbers.as_slice()) {
            ("unusable", []) => Ok(Cost(Scheme::Unusable)),
            ("md5", []) => Ok(Cost(Scheme::Md5)),
            ("sha1", []) => Ok(Cost(Scheme::Sha1)),
            ("pbkdf2_sha1", &[iterations]) => Cost::pbkdf2(Prf::HmacSha1, iterations),
            ("pbkdf2_sha256", &[iterations]) => Cost::pbkdf2(Prf::HmacSha256, iterations),
            ("bcrypt", &[cost]) => Cost::bcrypt(Prehash::None, cost),
            ("bcrypt_sha256", &[cost]) => Cost::bcrypt(Prehash::Sha256, cost),
            ("scrypt", &[n, block_size, parallelism]) => Cost::scrypt(n, block_size, parallelism),
            (argon2, &[memory_kib, iterations, parallelism]) => {
                let (variant, version) = match argon2.strip_suffix("_v16") {
                    Some(variant) => (variant, Version::V16),
                    None => (argon2, Version::V19),
                };
                let variant = Variant::named(variant).ok_or(unknown)?;
                Cost::argon2(variant, version, memory_kib, iterations, parallelism)
            }
            (_, _) => Err(unknown),
        }
    }
}

impl Variant {
    fn named(name: &str) -> Option<Variant> {
        [Variant::D, Variant::I, Variant::Id].into_iter().find(|variant| variant.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Variant::D => "argon2d",
            Variant::I => "argon2i",
            Variant::Id => "argon2id",
        }
    }
}

/// Hashes a password into the row to store: `$argon2id$v=19$m=…,t=…,p=…$salt$digest`, with a digest of 32 bytes.
///
/// The salt has to be fresh and random for every call. This takes tens of milliseconds by design: it does
/// not belong on a thread that others wait for.
pub fn hash(password: &Password, salt: &[u8; 16], params: &HashingParams, scratch: &mut Scratch) -> EncodedPassword {
    let digest = compute(params.cost(), password, salt, HASH_BYTES, scratch).expect("Argon2 takes every password");
    scratch.wipe();
    let HashingParams { memory_kib, iterations, parallelism } = params;
    EncodedPassword::from_store(format!(
        "$argon2id$v=19$m={memory_kib},t={iterations},p={parallelism}${}${}",
        STANDARD_NO_PAD.encode(salt),
        STANDARD_NO_PAD.encode(digest.as_slice()),
    ))
}

/// What a password is to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It is the one.
    Match {
        /// The row is not Argon2id of our own writing with at least the memory and iterations that were
        /// given. Hash the password anew and replace the row while the password is at hand.
        outdated: bool,
    },
    /// It is not, or the row is one that nothing matches.
    NoMatch,
}

/// Whether a password is the one behind a row, for somebody whose account is already known.
///
/// A login asks [`check`] instead: the time this function takes tells what kind of row it met.
///
/// A password of more than 72 bytes never matches a plain bcrypt row. bcrypt would cut it, and two passwords
/// that differ only after the cut would be one (CVE-2025-22228); whoever has such a row needs a reset.
///
/// What the old schemes cannot tell apart, this cannot either: a short password with and without NULs at its
/// end under PBKDF2 and scrypt (HMAC fills its key up with them), and `p` and `p\0p` under bcrypt (which
/// repeats its key). Argon2id has no such twins, so they are gone once the row is replaced.
///
/// # Errors
///
/// [`PasswordError::Malformed`] for a row that cannot be read, [`PasswordError::TooDear`] for one that asks
/// for more than the ceilings, before anything is computed or allocated. Both are for the operator's log.
pub fn verify(
    password: &Password,
    encoded: &EncodedPassword,
    params: &HashingParams,
    scratch: &mut Scratch,
) -> Result<Verdict, PasswordError> {
    let (outcome, _spent) = judge(password, encoded, params, scratch);
    scratch.wipe();
    outcome
}

/// Whether a login may go on: [`verify`], with every refusal made to do the same work.
///
/// `encoded` is the row of the account, or `None` when there is none to match: nobody has that name, or the
/// account is disabled, unconfirmed or otherwise not to be signed in to. Deciding that *before* this call and
/// passing `None` is what keeps such accounts from showing; refusing after a match would not.
///
/// `present` is every cost in the store, as [`EncodedPassword::cost`] gave them, in any order; repeats do no
/// harm. A row whose cost is not among them is verified all the same, but takes visibly longer to refuse.
///
/// A match is not padded: it shows anyway.
///
/// # Errors
///
/// As [`verify`]. To the person at the door an error is [`Verdict::NoMatch`], and has done the same work; the
/// difference is for the operator's log.
pub fn check(
    password: &Password,
    encoded: Option<&EncodedPassword>,
    present: &[Cost],
    params: &HashingParams,
    scratch: &mut Scratch,
) -> Result<Verdict, PasswordError> {
    let (outcome, spent) = match encoded {
        Some(encoded) => judge(password, encoded, params, scratch),
        None => (Ok(Verdict::NoMatch), None),
    };
    match outcome {
        Ok(Verdict::Match { .. }) => {}
        Ok(Verdict::NoMatch) | Err(_) => {
            for cost in plan(spent, present, params) {
                // The password that was typed, so that its length costs the same as well.
                black_box(compute(cost, password, &[0; 16], HASH_BYTES, scratch));
            }
        }
    }
    // Once, and not after each hash: what there is to wipe after a refusal is then the same for everyone.
    scratch.wipe();
    outcome
}

/// The work a refusal has yet to do after `spent`, so that every refusal comes to the same sum.
///
/// Without it, the time of a wrong login tells an imported row from a native one, and both from a name that
/// nobody has (CVE-2024-39329, CVE-2026-41263). No clock is involved: the sum is equal by construction, and a
/// slow machine is slow for everyone.
///
/// The sum is made up of one part for every family in `present` (our own parameters are always present):
///
/// - **PBKDF2**, per digest: the most iterations present. Iterations are identical and need no memory, so
///   what is missing is computed as a hash of exactly that many. What remains is a few compressions of set-up.
/// - **bcrypt**, with and without SHA-256 in front: the highest cost present. Cost *c* is 2ᶜ identical
///   rounds, and 2ˢ + 2ˢ + 2ˢ⁺¹ + … + 2ᵐ⁻¹ = 2ᵐ: one hash at every cost from the one spent up to below the
///   highest. What remains is the set-up of each, less than two rounds.
/// - **Argon2 and scrypt**: every set of parameters present, once. Neither is linear where it matters: a
///   first pass costs other than a later one, and the speed of a block depends on how much memory there is
///   to miss the cache in. Topping up from one set to another would leave milliseconds to be measured, where
///   doing each leaves none. The price is that every set present makes every refusal dearer; a store whose
///   rows have all been replaced at login pays for one.
/// - **MD5 and SHA-1**: once each, a microsecond.
///
/// `spent` is `None` when nothing was hashed: no account, an unusable or broken row, or a password that plain
/// bcrypt could not take.
pub fn plan(spent: Option<Cost>, present: &[Cost], params: &HashingParams) -> Vec<Cost> {
    let mut once = BTreeSet::new();
    let mut pbkdf2 = BTreeMap::new();
    let mut bcrypt = None;
    for cost in present.iter().copied().chain([params.cost()]) {
        match cost.0 {
            Scheme::Unusable => {}
            Scheme::Pbkdf2 { prf, iterations } => {
                let most = pbkdf2.entry(prf).or_insert(0);
                *most = iterations.max(*most);
            }
            Scheme::Bcrypt { cost, .. } => bcrypt = bcrypt.max(Some(cost)),
            Scheme::Md5 | Scheme::Sha1 | Scheme::Scrypt { .. } | Scheme::Argon2 { .. } => {
                once.insert(cost);
            }
        }
    }

    let mut bcrypt = bcrypt.map_or(0..0, |highest| highest..highest + 1);
    match spent.map(|spent| spent.0) {
        None | Some(Scheme::Unusable) => {}
        Some(Scheme::Pbkdf2 { prf, iterations }) => {
            pbkdf2.entry(prf).and_modify(|most| *most = most.saturating_sub(iterations));
        }
        Some(Scheme::Bcrypt { cost, .. }) => bcrypt = cost..bcrypt.start,
        Some(scheme @ (Scheme::Md5 | Scheme::Sha1 | Scheme::Scrypt { .. } | Scheme::Argon2 { .. })) => {
            once.remove(&Cost(scheme));
        }
    }

    let pbkdf2 = pbkdf2.into_iter().filter(|&(_, iterations)| iterations > 0);
    once.into_iter()
        .chain(pbkdf2.map(|(prf, iterations)| Cost(Scheme::Pbkdf2 { prf, iterations })))
        // With SHA-256 in front, since that takes passwords of every length.
        .chain(bcrypt.map(|cost| Cost(Scheme::Bcrypt { prehash: Prehash::Sha256, cost })))
        .collect()
}

/// The verdict, and what was really computed on the way to it.
fn judge(
    password: &Password,
    encoded: &EncodedPassword,
    params: &HashingParams,
    scratch: &mut Scratch,
) -> (Result<Verdict, PasswordError>, Option<Cost>) {
    let row = match Row::parse(encoded.expose()) {
        Ok(row) => row,
        Err(error) => return (Err(error), None),
    };
    let Some(digest) = compute(row.cost, password, &row.salt, row.digest.len(), scratch) else {
        return (Ok(Verdict::NoMatch), None);
    };
    let verdict = if bool::from(digest.ct_eq(&row.digest)) {
        Verdict::Match { outdated: !row.is_current(params) }
    } else {
        Verdict::NoMatch
    };
    (Ok(verdict), Some(row.cost))
}

/// The digest that a scheme makes of a password; `None`, and no work, if it can make none.
///
/// `digest_bytes` is the scheme's own length wherever it has one, which [`Row::parse`] has checked.
fn compute(
    cost: Cost,
    password: &Password,
    salt: &[u8],
    digest_bytes: usize,
    scratch: &mut Scratch,
) -> Option<Zeroizing<Vec<u8>>> {
    let password = password.expose();
    let mut digest = Zeroizing::new(vec![0; digest_bytes]);
    match cost.0 {
        Scheme::Unusable => return None,
        Scheme::Md5 => *digest = Md5::new().chain_update(salt).chain_update(password).finalize().to_vec(),
        Scheme::Sha1 => *digest = Sha1::new().chain_update(salt).chain_update(password).finalize().to_vec(),
        Scheme::Pbkdf2 { prf: Prf::HmacSha1, iterations } => {
            pbkdf2_hmac::<Sha1>(password, salt, iterations, &mut digest);
        }
        Scheme::Pbkdf2 { prf: Prf::HmacSha256, iterations } => {
            pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut digest);
        }
        Scheme::Bcrypt { prehash: Prehash::None, cost } => *digest = bcrypt_digest(cost, salt, password)?,
        Scheme::Bcrypt { prehash: Prehash::Sha256, cost } => {
            let hex = hex(&Sha256::digest(password));
            *digest = bcrypt_digest(cost, salt, hex.as_bytes())?;
        }
        Scheme::Scrypt { log_n, block_size, parallelism } => {
            let params = scrypt::Params::new(log_n, block_size, parallelism).expect("a Cost is valid");
            scrypt::scrypt(password, salt, &params, &mut digest).expect("a digest of a few bytes");
        }
        Scheme::Argon2 { variant, version, memory_kib, iterations, parallelism } => {
            let variant = match variant {
                Variant::D => argon2::Algorithm::Argon2d,
                Variant::I => argon2::Algorithm::Argon2i,
                Variant::Id => argon2::Algorithm::Argon2id,
            };
            let version = match version {
                Version::V16 => argon2::Version::V0x10,
                Version::V19 => argon2::Version::V0x13,
            };
            let params =
                argon2::Params::new(memory_kib, iterations, parallelism, Some(digest_bytes)).expect("a Cost is valid");
            let blocks = scratch.blocks(params.block_count());
            Argon2::new(variant, version, params)
                .hash_password_into_with_memory(password, salt, &mut digest, blocks)
                .expect("salt and digest were measured when the row was read, the memory just now");
        }
    }
    Some(digest)
}

fn hex(bytes: &[u8]) -> Zeroizing<String> {
    let mut hex = Zeroizing::new(String::with_capacity(2 * bytes.len()));
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            hex.push(char::from_digit(nibble.into(), 16).expect("four bits"));
        }
    }
    hex
}

/// bcrypt over the password and the NUL that ends it; `None` if bcrypt would not read all of the password.
///
/// A NUL *inside* the password does not end it. The NUL at the end is left off where there is no room for it,
/// at exactly 72 bytes, as every implementation does.
fn bcrypt_digest(cost: u32, salt: &[u8], password: &[u8]) -> Option<Vec<u8>> {
    if password.len() > BCRYPT_PASSWORD_BYTES {
        return None;
    }
    let mut key = Zeroizing::new([0; BCRYPT_PASSWORD_BYTES]);
    key[..password.len()].copy_from_slice(password);
    let length = BCRYPT_PASSWORD_BYTES.min(password.len() + 1);
    let salt = salt.try_into().expect("a bcrypt salt is 16 bytes, checked when the row was read");
    let output = Zeroizing::new(bcrypt::bcrypt(cost, salt, &key[..length]));
    // Encodings keep 23 of the 24 bytes; an old slip that all of them share.
    Some(output[..23].to_vec())
}

/// A row taken apart.
struct Row {
    cost: Cost,
    salt: Vec<u8>,
    digest: Vec<u8>,
    writer: Writer,
}

/// Who wrote a row. Django's Argon2 rows are PHC strings behind a prefix, and count as somebody else's.
#[derive(PartialEq, Eq)]
enum Writer {
    Us,
    Others,
}

impl Row {
    /// Reads every encoding there is. Strict: numbers in plain decimal, base64 and digest of the right length.
    fn parse(text: &str) -> Result<Row, PasswordError> {
        if text.len() > MAX_ENCODED_BYTES {
            return Err(PasswordError::Malformed("longer than any encoding"));
        }
        // Django adds forty random characters, and compares none of them.
        if text.starts_with('!') {
            return Ok(Row::by_others(Cost(Scheme::Unusable), &[], Vec::new()));
        }
        let Some((scheme, rest)) = text.split_once('$') else {
            // Django's oldest rows: the bare MD5 of the password.
            return Ok(Row::by_others(Cost(Scheme::Md5), &[], hexadecimal(text, 16)?));
        };
        match scheme {
            "pbkdf2_sha256" => Row::pbkdf2(Prf::HmacSha256, rest, 32),
            "pbkdf2_sha1" => Row::pbkdf2(Prf::HmacSha1, rest, 20),
            "scrypt" => Row::scrypt(rest),
            "argon2" => Row::argon2(rest, Writer::Others),
            "bcrypt" => Row::bcrypt(Prehash::None, rest),
            "bcrypt_sha256" => Row::bcrypt(Prehash::Sha256, rest),
            "md5" => Row::salted(Cost(Scheme::Md5), rest, 16),
            "sha1" => Row::salted(Cost(Scheme::Sha1), rest, 20),
            "" if rest.starts_with("pbkdf2-sha256$") => Row::passlib(rest),
            "" if rest.starts_with("argon2") => Row::argon2(rest, Writer::Us),
            "" if rest.starts_with('2') => Row::bcrypt(Prehash::None, text),
            _ => Err(PasswordError::Malformed("an unknown scheme")),
        }
    }

    fn by_others(cost: Cost, salt: &[u8], digest: Vec<u8>) -> Row {
        Row { cost, salt: salt.to_vec(), digest, writer: Writer::Others }
    }

    /// `iterations$salt$base64`. The salt is text and is used as text, here and for scrypt and the fast digests.
    fn pbkdf2(prf: Prf, text: &str, digest_bytes: usize) -> Result<Row, PasswordError> {
        let [iterations, salt, digest] = fields(text)?;
        let cost = Cost::pbkdf2(prf, decimal(iterations)?)?;
        let digest = base64(&STANDARD, digest, digest_bytes..=digest_bytes)?;
        Ok(Row::by_others(cost, present(salt)?, digest))
    }

    /// `pbkdf2-sha256$iterations$salt$digest` as passlib writes it: salt and digest in base64 with `.` for `+`, without padding, and the
    /// salt used as the bytes that this stands for.
    fn passlib(text: &str) -> Result<Row, PasswordError> {
        let [_, iterations, salt, digest] = fields(text)?;
        let cost = Cost::pbkdf2(Prf::HmacSha256, decimal(iterations)?)?;
        let salt = base64(&PASSLIB_BASE64, salt, 1..=64)?;
        Ok(Row::by_others(cost, &salt, base64(&PASSLIB_BASE64, digest, 32..=32)?))
    }

    /// `N$salt$r$p$base64`
    fn scrypt(text: &str) -> Result<Row, PasswordError> {
        let [n, salt, block_size, parallelism, digest] = fields(text)?;
        let cost = Cost::scrypt(decimal(n)?, decimal(block_size)?, decimal(parallelism)?)?;
        Ok(Row::by_others(cost, present(salt)?, base64(&STANDARD, digest, 64..=64)?))
    }

    /// `salt$hex`, where no salt is how Django came to write its unsalted rows.
    fn salted(cost: Cost, text: &str, digest_bytes: usize) -> Result<Row, PasswordError> {
        let [salt, digest] = fields(text)?;
        Ok(Row::by_others(cost, salt.as_bytes(), hexadecimal(digest, digest_bytes)?))
    }

    /// `$2b$12$`, 22 characters of salt, 31 of digest.
    ///
    /// 2a, 2b and 2y are one algorithm for passwords of up to 72 bytes. 2x marks hashes that may stem from a
    /// faulty implementation; where they do, and it mattered, they do not match.
    fn bcrypt(prehash: Prehash, text: &str) -> Result<Row, PasswordError> {
        let ["", "2a" | "2b" | "2x" | "2y", cost, data] = fields(text)? else {
            return Err(PasswordError::Malformed("not a bcrypt version"));
        };
        let cost = match cost.as_bytes() {
            [b'0', b'0'..=b'9'] => decimal(&cost[1..])?,
            [_, _] => decimal(cost)?,
            _ => return Err(PasswordError::Malformed("a bcrypt cost is two digits")),
        };
        let cost = Cost::bcrypt(prehash, cost)?;
        // Not `split_at`: a row may hold anything, also a character across the boundary (RUSTSEC-2026-0199).
        let Some((salt, digest)) = data.split_at_checked(22) else {
            return Err(PasswordError::Malformed("a bcrypt salt is 22 characters"));
        };
        let salt = base64(&BCRYPT_BASE64, salt, 16..=16)?;
        Ok(Row::by_others(cost, &salt, base64(&BCRYPT_BASE64, digest, 23..=23)?))
    }

    /// `argon2id$v=19$m=19456,t=2,p=1$base64$base64`; rows from before there were versions have no `v=`.
    fn argon2(text: &str, writer: Writer) -> Result<Row, PasswordError> {
        let malformed = PasswordError::Malformed("not a PHC string");
        let (variant, rest) = text.split_once('$').ok_or(malformed)?;
        let variant = Variant::named(variant).ok_or(malformed)?;
        let (version, rest) = match rest.strip_prefix("v=") {
            None => (Version::V16, rest),
            Some(rest) => match rest.split_once('$').ok_or(malformed)? {
                ("16", rest) => (Version::V16, rest),
                ("19", rest) => (Version::V19, rest),
                _ => return Err(PasswordError::Malformed("not an Argon2 version")),
            },
        };
        let [params, salt, digest] = fields(rest)?;
        let mut params = params.split(',');
        // In this order: the PHC specification fixes it, and every writer keeps to it.
        let mut param = |name| match params.next().and_then(|param| param.strip_prefix(name)) {
            Some(value) => decimal(value),
            None => Err(malformed),
        };
        let cost = Cost::argon2(variant, version, param("m=")?, param("t=")?, param("p=")?)?;
        if params.next().is_some() {
            return Err(PasswordError::Malformed("an Argon2 parameter we do not know"));
        }
        // At least 8 bytes of salt by RFC 9106; at least 12 of digest, below which guessing it is a way in.
        let salt = base64(&STANDARD_NO_PAD, salt, 8..=64)?;
        let digest = base64(&STANDARD_NO_PAD, digest, 12..=64)?;
        Ok(Row { cost, salt, digest, writer })
    }

    /// Whether a login would write the row again the same, or weaker.
    fn is_current(&self, params: &HashingParams) -> bool {
        match self.cost.0 {
            // The number of lanes says nothing about strength, so it does not count.
            Scheme::Argon2 { variant: Variant::Id, version: Version::V19, memory_kib, iterations, .. } => {
                self.writer == Writer::Us
                    && memory_kib >= params.memory_kib
                    && iterations >= params.iterations
                    && self.salt.len() >= 16
                    && self.digest.len() >= HASH_BYTES
            }
            Scheme::Argon2 { .. }
            | Scheme::Unusable
            | Scheme::Md5
            | Scheme::Sha1
            | Scheme::Pbkdf2 { .. }
            | Scheme::Bcrypt { .. }
            | Scheme::Scrypt { .. } => false,
        }
    }
}

fn fields<const N: usize>(text: &str) -> Result<[&str; N], PasswordError> {
    let fields: Vec<&str> = text.split('$').collect();
    fields.try_into().map_err(|_| PasswordError::Malformed("the wrong number of fields"))
}

/// A salt that is there: Django refuses to make an empty one where there has to be one.
fn present(salt: &str) -> Result<&[u8], PasswordError> {
    if salt.is_empty() {
        return Err(PasswordError::Malformed("an empty salt"));
    }
    Ok(salt.as_bytes())
}

/// Digits only, without sign or leading zero. A number beyond 64 bits is the largest, and some ceiling's business.
fn decimal(text: &str) -> Result<u64, PasswordError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if text.is_empty() || !digits || (text.len() > 1 && text.starts_with('0')) {
        return Err(PasswordError::Malformed("not a number"));
    }
    Ok(text.parse().unwrap_or(u64::MAX))
}

fn base64(
    alphabet: &GeneralPurpose,
    text: &str,
    length: std::ops::RangeInclusive<usize>,
) -> Result<Vec<u8>, PasswordError> {
    let bytes = alphabet.decode(text).map_err(|_| PasswordError::Malformed("not base64"))?;
    if !length.contains(&bytes.len()) {
        return Err(PasswordError::Malformed("a salt or digest of the wrong length"));
    }
    Ok(bytes)
}

fn hexadecimal(text: &str, length: usize) -> Result<Vec<u8>, PasswordError> {
    let malformed = PasswordError::Malformed("not a hexadecimal digest");
    if text.len() != 2 * length {
        return Err(malformed);
    }
    let nibble = |byte: u8| char::from(byte).to_digit(16).and_then(|nibble| u8::try_from(nibble).ok());
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| Some((nibble(pair[0])? << 4) | nibble(pair[1])?))
        .collect::<Option<Vec<u8>>>()
        .ok_or(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argon2_memory_is_wiped_when_a_call_returns() {
        let params = HashingParams::insecure_for_tests();
        let password = Password::new("correct horse").expect("short enough");
        let mut scratch = Scratch::sized_for(&params);
        let wiped = |scratch: &Scratch| {
            scratch.written == 0 && scratch.blocks.iter().flat_map(AsRef::as_ref).all(|&word: &u64| word == 0)
        };

        let row = hash(&password, &[1; 16], &params, &mut scratch);
        assert!(wiped(&scratch));
        let _verdict = verify(&password, &row, &params, &mut scratch);
        assert!(wiped(&scratch));
        let _verdict = check(&password, None, &[], &params, &mut scratch);
        assert!(wiped(&scratch));
    }
}
