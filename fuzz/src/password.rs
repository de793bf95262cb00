//! Rows of passwords as an import brings them: every encoding, read, priced, and verified where that is cheap.

use counterfoil_core::password::{
    self, Cost, EncodedPassword, HashingParams, MAX_ARGON2_ITERATIONS, MAX_ARGON2_MEMORY_KIB, MAX_ARGON2_PARALLELISM,
    MAX_ARGON2_WORK, MAX_BCRYPT_COST, MAX_PBKDF2_ITERATIONS, MAX_SCRYPT_BLOCK_SIZE, MAX_SCRYPT_BLOCKS,
    MAX_SCRYPT_PARALLELISM, Password, Scratch, Verdict,
};

/// The first line is a password, the rest a row.
pub fn run(input: &[u8]) {
    let mut parts = input.splitn(2, |&byte| byte == b'\n');
    let (typed, row) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Ok(password) = Password::new(typed) else { return };
    let Ok(row) = std::str::from_utf8(row) else { return };
    let params = HashingParams::insecure_for_tests();
    let mut scratch = Scratch::new();
    read(&password, row, &params, &mut scratch);
    hashed(&password, typed, &params, &mut scratch);
}

fn read(password: &Password, row: &str, params: &HashingParams, scratch: &mut Scratch) {
    let encoded = EncodedPassword::from_store(row);
    match encoded.cost() {
        Err(error) => {
            assert_eq!(password::verify(password, &encoded, params, scratch), Err(error), "{row:?}");
            let told = format!("{error} {error:?} {encoded:?}");
            assert!(row.len() < 12 || !told.contains(row), "{told} quotes the row");
        }
        Ok(cost) => {
            let text = cost.to_string();
            assert_eq!(text.parse::<Cost>(), Ok(cost), "{row:?}: {text} does not read back");
            let numbers: Vec<u64> = text.split('$').skip(1).filter_map(|number| number.parse().ok()).collect();
            let is_cheap = within_ceilings(&text, &numbers);
            if is_cheap {
                let verdict = password::verify(password, &encoded, params, scratch);
                assert!(verdict.is_ok(), "{row:?} has a price and does not verify: {verdict:?}");
            }
        }
    }
    if let Ok(cost) = row.parse::<Cost>() {
        within_ceilings(&cost.to_string(), &[]);
        assert_eq!(cost.to_string(), row, "two spellings of one cost");
    }
}

/// Whether it takes a millisecond or so. Panics where it is beyond what anybody may ask for.
fn within_ceilings(text: &str, numbers: &[u64]) -> bool {
    let most = |number: u64, most: u64| assert!(number <= most, "{text} is beyond the ceiling of {most}");
    match (text.split('$').next().unwrap_or_default(), numbers) {
        ("pbkdf2_sha256" | "pbkdf2_sha1", &[iterations]) => {
            most(iterations, MAX_PBKDF2_ITERATIONS.into());
            iterations <= 1_000
        }
        ("bcrypt" | "bcrypt_sha256", &[cost]) => {
            most(cost, MAX_BCRYPT_COST.into());
            cost <= 4
        }
        ("scrypt", &[n, r, p]) => {
            most(r, MAX_SCRYPT_BLOCK_SIZE.into());
            most(p, MAX_SCRYPT_PARALLELISM.into());
            most(n * r * p, MAX_SCRYPT_BLOCKS);
            n * r * p <= 1_024
        }
        (_, &[memory, iterations, lanes]) => {
            most(memory, MAX_ARGON2_MEMORY_KIB.into());
            most(iterations, MAX_ARGON2_ITERATIONS.into());
            most(lanes, MAX_ARGON2_PARALLELISM.into());
            most(memory * iterations, MAX_ARGON2_WORK);
            memory * iterations <= 256
        }
        ("md5" | "sha1" | "unusable", []) => true,
        (_, _) => false,
    }
}

/// A row that we wrote matches its password, and no other of this input.
fn hashed(password: &Password, typed: &[u8], params: &HashingParams, scratch: &mut Scratch) {
    let row = password::hash(password, &[7; 16], params, scratch);
    let matched = password::verify(password, &row, params, scratch);
    assert_eq!(matched, Ok(Verdict::Match { outdated: false }), "{typed:?}");
    for other in [&typed[..typed.len().saturating_sub(1)], &[typed, b"\0"].concat(), &typed.to_ascii_uppercase()] {
        if other == typed {
            continue;
        }
        let Ok(other) = Password::new(other) else { continue };
        assert_eq!(password::verify(&other, &row, params, scratch), Ok(Verdict::NoMatch), "{typed:?}");
    }
}
