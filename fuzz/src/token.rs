//! The text of a token, beside a slow reading of `docs/token-format.md`.

use std::hash::Hasher;

use counterfoil_core::entropy::PredictableEntropy;
use counterfoil_core::password::EncodedPassword;
use counterfoil_core::secret::{Candidates, DigestScheme};
use counterfoil_core::{CheckKey, Prefix, TokenDigest, TokenFormat};
use sha2::{Digest, Sha256, Sha512};
use siphasher::sip::SipHasher13;

const NEWEST: [u8; 16] = *b"the newest key..";
const OLDER: [u8; 16] = *b"the one before..";
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The first byte says what becomes of the others: the text as it is, the text with a check that holds behind it, or a
/// token that was minted and then changed. Without that the fuzzer would have to guess 35 bits of a keyed hash.
pub fn run(input: &[u8]) {
    let Some((&way, rest)) = input.split_first() else { return };
    match way % 4 {
        0 => as_presented(rest),
        1 => with_check(rest, NEWEST),
        2 => with_check(rest, OLDER),
        _ => minted(rest),
    }
}

fn formats() -> [TokenFormat; 2] {
    let (newest, older) = (CheckKey::from_bytes(NEWEST), CheckKey::from_bytes(OLDER));
    [Vec::new(), DigestScheme::IMPORTED.to_vec()]
        .map(|imported| TokenFormat::new(newest.clone(), vec![older.clone()], &imported))
}

fn as_presented(text: &[u8]) {
    // A header that is not ASCII never comes as far as this; a text in the API may be any UTF-8.
    let Ok(text) = std::str::from_utf8(text) else { return };
    let [native, importing] = formats();
    assert_eq!(native.read(text), slowly(text, false), "{text:?}");
    assert_eq!(importing.read(text), slowly(text, true), "{text:?} where tokens were imported");
}

fn with_check(text: &[u8], key: [u8; 16]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    as_presented((text.to_owned() + &check(key, text)).as_bytes());
}

/// `prefix LF seed LF changes`, where a change is a position and the byte that is put there.
fn minted(input: &[u8]) {
    let mut parts = input.splitn(3, |&byte| byte == b'\n');
    let prefix = parts.next().and_then(|part| std::str::from_utf8(part).ok()).unwrap_or_default();
    let Ok(prefix) = prefix.parse::<Prefix>() else { return };
    let seed = parts.next().unwrap_or_default().iter().fold(0_u64, |seed, &byte| seed << 8 | u64::from(byte));
    let [format, importing] = formats();
    let Ok(secret) = format.mint(&prefix, &PredictableEntropy::from_seed(seed)) else {
        panic!("a generator that never fails failed");
    };
    let text = secret.expose();
    assert_eq!(text.len(), prefix.as_str().len() + 49);
    assert!(text[prefix.as_str().len()..].bytes().all(|byte| byte.is_ascii_alphanumeric()), "{text}");
    let whole = Some(Candidates::Native(secret.digest()));
    assert_eq!(format.read(text), whole, "{text}: minted and not read");
    assert_eq!(importing.read(text), whole, "{text}: minted and not read where tokens were imported");

    let mut changed = text.as_bytes().to_vec();
    for change in parts.next().unwrap_or_default().chunks_exact(2) {
        let at = usize::from(change[0]) % changed.len();
        changed[at] = change[1];
    }
    as_presented(&changed);
    if changed != text.as_bytes() && changed.is_ascii() {
        let text = String::from_utf8_lossy(&changed);
        // 35 bits stand between a change and a text that passes; who gets through has found a hole in the check.
        assert_eq!(format.read(&text), None, "{text}: changed and still read");
    }
}

/// What the format says about a text, one prefix length after the other.
fn slowly(text: &str, imports: bool) -> Option<Candidates> {
    for letters in 1..=5 {
        let Some(prefix) = text.as_bytes().get(..=letters) else { continue };
        let is_prefix = prefix[letters] == b'_'
            && prefix[0].is_ascii_lowercase()
            && prefix[..letters].iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'));
        if is_prefix && text.len() == letters + 1 + 43 + 6 {
            // It has our shape, so it stands or falls with its check.
            let at = text.len() - 6;
            let holds =
                text.is_char_boundary(at) && [NEWEST, OLDER].iter().any(|&key| check(key, &text[..at]) == text[at..]);
            return holds.then(|| Candidates::Native(TokenDigest::from_bytes(Sha256::digest(text).into())));
        }
    }
    if !imports || text.is_empty() || text.len() > 1024 || !text.is_ascii() {
        return None;
    }
    let mut found = vec![(DigestScheme::PlainText, TokenDigest::from_bytes(Sha256::digest(text).into()))];
    let knox = Sha512::digest(text);
    found.push((DigestScheme::KnoxSha512, twice("knox_sha512:", &knox)));
    if let Some(bytes) = base64url(text) {
        found.push((DigestScheme::RestAuthtokenSha512, twice("rest_authtoken_sha512:", &Sha512::digest(bytes))));
    }
    if let Some(digest) = djforge(text) {
        found.push((DigestScheme::Djforge, digest));
    }
    Some(Candidates::Imported(found))
}

/// `secret:hash:$pbkdf2-sha256$rounds$salt$checksum`, of which the hash alone counts, if it can be computed at all.
fn djforge(text: &str) -> Option<TokenDigest> {
    let parts: Vec<&str> = text.split(":hash:").collect();
    let [_, hash] = parts[..] else { return None };
    let readable = EncodedPassword::from_store(hash).cost().is_ok();
    let digest = || TokenDigest::from_bytes(Sha256::digest([b"djforge:", hash.as_bytes()].concat()).into());
    (readable && hash.starts_with("$pbkdf2-sha256$")).then(digest)
}

fn twice(name: &str, sha512: &[u8]) -> TokenDigest {
    TokenDigest::from_bytes(Sha256::digest([name.as_bytes(), sha512].concat()).into())
}

/// Six base62 digits of SipHash-1-3, the last one found first.
fn check(key: [u8; 16], text: &str) -> String {
    let mut hasher = SipHasher13::new_with_key(&key);
    hasher.write(text.as_bytes());
    let mut number = hasher.finish() % 62_u64.pow(6);
    let mut digits = String::new();
    for _ in 0..6 {
        digits.insert(0, char::from(DIGITS[(number % 62) as usize]));
        number /= 62;
    }
    digits
}

/// RFC 4648 §5 with its padding, bit by bit, and nothing that another text could say as well.
fn base64url(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 {
        return None;
    }
    let mut bits = Vec::new();
    for digit in digits.chars() {
        let value = ALPHABET.find(digit)?;
        bits.extend((0..6).rev().map(|bit| value >> bit & 1 == 1));
    }
    let whole = bits.len() / 8 * 8;
    let (bytes, rest) = bits.split_at(whole);
    if rest.len() >= 6 || rest.iter().any(|&bit| bit) {
        return None;
    }
    Some(bytes.chunks(8).map(|byte| byte.iter().fold(0, |value, &bit| value << 1 | u8::from(bit))).collect())
}
