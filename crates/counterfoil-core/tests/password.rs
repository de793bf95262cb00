//! Passwords: what Django wrote verifies, what is too dear is refused unread, and refusals cost the same.

use std::collections::BTreeMap;

use counterfoil_core::password::{
    Cost, EncodedPassword, HashingParams, HashingParamsError, MAX_PASSWORD_BYTES, Password, PasswordError,
    PasswordTooLong, Scratch, TooDear, Verdict, check, hash, plan, verify,
};
use proptest::prelude::*;

const OUTDATED: Result<Verdict, PasswordError> = Ok(Verdict::Match { outdated: true });
const CURRENT: Result<Verdict, PasswordError> = Ok(Verdict::Match { outdated: false });
const NO_MATCH: Result<Verdict, PasswordError> = Ok(Verdict::NoMatch);

/// A row of fixtures/django-passwords.json; its maker, beside it, explains the fields.
#[derive(serde::Deserialize)]
struct Row {
    name: String,
    password: String,
    encoded: String,
    default_cost: bool,
    verdict: String,
}

impl Row {
    fn encoded(&self) -> EncodedPassword {
        EncodedPassword::from_store(self.encoded.as_str())
    }
}

fn django_rows() -> Vec<Row> {
    serde_json::from_str(include_str!("fixtures/django-passwords.json")).expect("the fixtures are JSON")
}

fn row_named(name: &str) -> Row {
    django_rows().into_iter().find(|row| row.name == name).expect("the fixtures have that row")
}

fn password(bytes: impl Into<Vec<u8>>) -> Password {
    Password::new(bytes).expect("short enough")
}

fn cost(text: &str) -> Cost {
    text.parse().expect("a cost")
}

fn cheap() -> HashingParams {
    HashingParams::insecure_for_tests()
}

fn verify_text(typed: impl Into<Vec<u8>>, encoded: &str) -> Result<Verdict, PasswordError> {
    verify(&password(typed), &EncodedPassword::from_store(encoded), &cheap(), &mut Scratch::new())
}

#[test]
fn r13_every_row_that_django_wrote_verifies_and_is_due_for_replacement() {
    let mut scratch = Scratch::new();
    for row in django_rows() {
        let expected = match row.verdict.as_str() {
            "match" => OUTDATED,
            "no match" => NO_MATCH,
            other => panic!("{}: {other}", row.name),
        };
        let typed = password(row.password.as_str());
        assert_eq!(verify(&typed, &row.encoded(), &cheap(), &mut scratch), expected, "{}", row.name);
    }
}

#[test]
fn r13_no_row_verifies_with_a_password_that_is_nearly_right() {
    let mut scratch = Scratch::new();
    for row in django_rows().into_iter().filter(|row| row.verdict == "match") {
        let right = row.password.as_bytes();
        let mut nearly = vec![
            [right, b"\0!"].concat(),
            [right, b" "].concat(),
            [b" ", right].concat(),
            right.iter().copied().skip(1).collect(),
            right[..right.len().saturating_sub(1)].to_vec(),
            row.password.to_uppercase().into_bytes(),
            row.password.trim().as_bytes().to_vec(),
            right.split(|&byte| byte == 0).next().unwrap_or_default().to_vec(),
        ];
        nearly.retain(|typed| typed != right);
        if row.default_cost {
            nearly.truncate(1);
        }
        for typed in nearly {
            let outcome = verify(&password(typed.clone()), &row.encoded(), &cheap(), &mut scratch);
            assert_eq!(outcome, NO_MATCH, "{} with {typed:?}", row.name);
        }
    }
}

#[test]
fn r13_u_fdfa_is_taken_as_received_and_not_normalised() {
    let row = row_named("pbkdf2_sha256 fdfa");
    let normalised =
        "\u{635}\u{644}\u{649} \u{627}\u{644}\u{644}\u{647} \u{639}\u{644}\u{64a}\u{647} \u{648}\u{633}\u{644}\u{645}";
    assert_eq!(verify_text("\u{fdfa}", &row.encoded), OUTDATED);
    assert_eq!(verify_text(normalised, &row.encoded), NO_MATCH);
}

#[test]
fn r13_rows_without_djangos_prefix_verify_as_well() {
    for name in ["bcrypt ascii", "argon2 ascii", "argon2i v19", "argon2d v16 unwritten"] {
        let row = row_named(name);
        let (_, bare) = row.encoded.split_once('$').expect("a prefix");
        let bare = if bare.starts_with('$') { bare.to_owned() } else { format!("${bare}") };
        let verdict = verify_text(row.password.as_str(), &bare).expect("a readable row");
        assert_ne!(verdict, Verdict::NoMatch, "{bare}");
        assert_eq!(verify_text("wrong", &bare), NO_MATCH, "{bare}");
    }
}

#[test]
fn r13_other_names_for_bcrypt_are_the_same_algorithm() {
    let row = row_named("bcrypt ascii");
    for version in ["$2a$", "$2y$", "$2x$"] {
        assert_eq!(verify_text(row.password.as_str(), &row.encoded.replace("$2b$", version)), OUTDATED);
    }
    let unknown = verify_text(row.password.as_str(), &row.encoded.replace("$2b$", "$2c$"));
    assert!(matches!(unknown, Err(PasswordError::Malformed(_))));
}

#[test]
fn r13_a_new_hash_is_a_phc_string_that_verifies_and_is_current() {
    let params = HashingParams::default();
    let mut scratch = Scratch::sized_for(&params);
    let row = hash(&password("  pässword\0 "), &[7; 16], &params, &mut scratch);

    let start = "$argon2id$v=19$m=19456,t=2,p=1$BwcHBwcHBwcHBwcHBwcHBw$";
    let digest = row.expose().strip_prefix(start).expect("a PHC string");
    assert_eq!(digest.len(), 43, "32 bytes in unpadded base64");
    assert_eq!(row.cost(), Ok(params.cost()));
    assert_eq!(row.cost().map(|cost| cost.to_string()), Ok("argon2id$19456$2$1".to_owned()));

    assert_eq!(verify(&password("  pässword\0 "), &row, &params, &mut scratch), CURRENT);
    assert_eq!(verify(&password("pässword"), &row, &params, &mut scratch), NO_MATCH);

    let again = hash(&password("  pässword\0 "), &[7; 16], &params, &mut scratch);
    assert_eq!(again.expose(), row.expose(), "the scratch carries nothing over");
    let salted = hash(&password("  pässword\0 "), &[8; 16], &params, &mut scratch);
    assert_ne!(salted.expose(), row.expose());
}

#[test]
fn r13_a_row_below_the_parameters_of_today_is_outdated_and_one_above_is_not() {
    let mut scratch = Scratch::new();
    let [weaker, today, stronger] = [(19_456, 2), (19_456, 3), (20_000, 4)]
        .map(|(memory_kib, iterations)| HashingParams::new(memory_kib, iterations, 1).expect("above the floor"));
    let typed = password("correct horse");
    let [old, new] = [weaker, stronger].map(|params| hash(&typed, &[1; 16], &params, &mut scratch));

    assert_eq!(verify(&typed, &old, &today, &mut scratch), OUTDATED);
    assert_eq!(verify(&typed, &new, &today, &mut scratch), CURRENT);

    // Somebody else's Argon2id is replaced even if it is stronger: one form of row, one cost of refusal.
    let theirs = EncodedPassword::from_store(format!("argon2{}", new.expose()));
    assert_eq!(verify(&typed, &theirs, &today, &mut scratch), OUTDATED);
}

#[test]
fn r13_hashing_parameters_below_the_floor_are_refused() {
    for (memory_kib, iterations, parallelism) in
        [(19_455, 2, 1), (47_103, 1, 1), (12_287, 3, 1), (19_456, 0, 1), (19_456, 2, 0), (0, 0, 0)]
    {
        let refused = HashingParams::new(memory_kib, iterations, parallelism);
        assert_eq!(refused, Err(HashingParamsError::TooWeak), "{memory_kib} {iterations} {parallelism}");
    }
    for (memory_kib, iterations) in [(19_456, 2), (47_104, 1), (12_288, 3)] {
        assert!(HashingParams::new(memory_kib, iterations, 1).is_ok());
    }
    assert_eq!(HashingParams::new(19_456, 2, 1), Ok(HashingParams::default()));
}

#[test]
fn r13_hashing_parameters_that_could_not_be_verified_are_refused() {
    for (memory_kib, iterations, parallelism) in
        [(128 * 1024 + 1, 2, 1), (19_456, 17, 1), (19_456, 2, 17), (128 * 1024, 9, 1), (u32::MAX, u32::MAX, u32::MAX)]
    {
        let refused = HashingParams::new(memory_kib, iterations, parallelism);
        assert!(matches!(refused, Err(HashingParamsError::TooDear(_))), "{refused:?}");
    }
}

#[test]
fn unusable_rows_match_no_password() {
    for row in ["!", "!wC0VqaSfLNJyNAKBRlDVsPUkNTo1FhyZ0nWZrgzj", "!md5$$d41d8cd98f00b204e9800998ecf8427e"] {
        for typed in ["", "!", row, "password"] {
            assert_eq!(verify_text(typed, row), NO_MATCH, "{row} with {typed}");
        }
    }
    assert_eq!(EncodedPassword::unusable().cost(), Ok(cost("unusable")));
}

#[test]
fn a59_a_password_beyond_the_ceiling_is_refused_before_anything_is_computed() {
    assert!(Password::new(vec![b'x'; MAX_PASSWORD_BYTES]).is_ok());
    assert_eq!(Password::new(vec![b'x'; MAX_PASSWORD_BYTES + 1]).err(), Some(PasswordTooLong));
    assert_eq!(Password::new("\u{fdfa}".repeat(1_000_000)).err(), Some(PasswordTooLong));
}

#[test]
fn a60_bcrypt_password_differing_at_byte_73_is_refused() {
    let row = row_named("bcrypt 72-bytes");
    assert_eq!(row.password.len(), 72);
    assert_eq!(verify_text(row.password.as_str(), &row.encoded), OUTDATED);
    for byte_73 in ["x", "8", "\0"] {
        assert_eq!(verify_text(format!("{}{byte_73}", row.password), &row.encoded), NO_MATCH);
    }
    // Even the password the row was made from, if it was cut on the way: which one it was cannot be known.
    let cut = row_named("bcrypt 73-bytes");
    assert_eq!(verify_text(cut.password.as_str(), &cut.encoded), NO_MATCH);
    // Hashed before bcrypt sees it, a password may be as long as it likes.
    let long = row_named("bcrypt_sha256 emoji");
    assert_eq!(verify_text(long.password.as_str(), &long.encoded), OUTDATED);
}

#[test]
fn a60_a_nul_in_a_password_does_not_end_it() {
    for row in django_rows().into_iter().filter(|row| row.name.ends_with(" nul")) {
        assert_eq!(row.password, "pw\0x");
        assert_eq!(verify_text("pw\0x", &row.encoded), OUTDATED, "{}", row.name);
        for other in ["pw", "pw\0", "pw\0y", "pw\0x\0!"] {
            assert_eq!(verify_text(other, &row.encoded), NO_MATCH, "{}", row.name);
        }
    }
    let mut scratch = Scratch::new();
    let ours = hash(&password("pw\0x"), &[0; 16], &cheap(), &mut scratch);
    assert_eq!(verify(&password("pw"), &ours, &cheap(), &mut scratch), NO_MATCH);
}

#[test]
fn a60_a_bcrypt_row_with_non_ascii_garbage_is_an_error_and_not_a_panic() {
    for start in ["bcrypt$$2b$", "bcrypt_sha256$$2b$", "$2b$"] {
        for rest in [
            "12$ééééééééééééééééééééééééééé".to_owned(),
            format!("12${}", "é".repeat(26)),
            format!("12$a{}", "é".repeat(26)),
            format!("12${}\u{1f511}{}", "a".repeat(20), "a".repeat(29)),
            format!("é2${}", "a".repeat(53)),
            format!("é${}", "a".repeat(53)),
            "é".to_owned(),
        ] {
            let outcome = verify_text("password", &format!("{start}{rest}"));
            assert!(matches!(outcome, Err(PasswordError::Malformed(_))), "{start}{rest}: {outcome:?}");
        }
    }
}

/// Not a wish but a fact about the old schemes, kept here so that nobody takes it for a fault of ours: HMAC fills
/// a short key up with NULs, and bcrypt repeats its key, the closing NUL included, until it is long enough.
#[test]
fn a60_the_passwords_that_pbkdf2_scrypt_and_bcrypt_cannot_tell_apart() {
    for name in ["pbkdf2_sha256 nul", "pbkdf2_sha1 nul", "scrypt nul"] {
        assert_eq!(verify_text("pw\0x\0", &row_named(name).encoded), OUTDATED, "{name}");
    }
    assert_eq!(verify_text("pw\0x\0pw\0x", &row_named("bcrypt nul").encoded), OUTDATED);
    for name in ["argon2 nul", "bcrypt_sha256 nul", "md5 nul"] {
        for other in ["pw\0x\0", "pw\0x\0pw\0x"] {
            assert_eq!(verify_text(other, &row_named(name).encoded), NO_MATCH, "{name}");
        }
    }
}

/// One row of every scheme for each ceiling it has, just below it and just beyond.
fn rows_at_the_ceilings() -> (Vec<String>, Vec<String>) {
    let b64 = |bytes: usize| "A".repeat(bytes / 3 * 4) + ["", "AA==", "AAA="][bytes % 3];
    let pbkdf2 = |iterations: &str| {
        [format!("pbkdf2_sha256${iterations}$salt${}", b64(32)), format!("pbkdf2_sha1${iterations}$salt${}", b64(20))]
    };
    let scrypt = |n: &str, r: &str, p: &str| format!("scrypt${n}$salt${r}${p}${}", b64(64));
    let bcrypt = |cost: &str| format!("bcrypt$$2b${cost}${}", ".".repeat(53));
    let argon2 = |m: &str, t: &str, p: &str| {
        let phc = format!("$argon2id$v=19$m={m},t={t},p={p}${}${}", "A".repeat(22), "A".repeat(43));
        [format!("argon2{phc}"), phc]
    };
    let within = [
        pbkdf2("10000000").to_vec(),
        vec![scrypt("131072", "8", "1"), scrypt("1048576", "1", "1"), scrypt("65536", "1", "16")],
        vec![scrypt("32768", "32", "1"), bcrypt("16"), bcrypt("04")],
        argon2("131072", "8", "16").to_vec(),
        argon2("65536", "16", "1").to_vec(),
    ];
    let beyond = [
        pbkdf2("10000001").to_vec(),
        pbkdf2("2147483648").to_vec(),
        pbkdf2("4294967296").to_vec(),
        pbkdf2("99999999999999999999999999").to_vec(),
        vec![scrypt("1073741824", "8", "1"), scrypt("262144", "8", "1"), scrypt("16384", "8", "9")],
        vec![scrypt("2097152", "1", "1"), scrypt("2", "33", "1"), scrypt("2", "1", "17")],
        vec![scrypt("9223372036854775808", "4294967295", "4294967295")],
        vec![scrypt("2", "99999999999999999999", "1"), bcrypt("17"), bcrypt("31"), bcrypt("99")],
        argon2("131073", "1", "1").to_vec(),
        argon2("4194304", "1", "1").to_vec(),
        argon2("131072", "9", "1").to_vec(),
        argon2("64", "17", "1").to_vec(),
        argon2("1024", "1", "17").to_vec(),
        argon2("64", "4294967295", "1").to_vec(),
        argon2("18446744073709551616", "18446744073709551616", "1").to_vec(),
    ];
    (within.concat(), beyond.concat())
}

#[test]
fn a60_costs_beyond_the_ceiling_are_refused_before_computing() {
    let (within, beyond) = rows_at_the_ceilings();
    for row in within {
        let cost = EncodedPassword::from_store(row.as_str()).cost();
        assert!(cost.is_ok(), "{row}: {cost:?}");
    }
    for row in beyond {
        let encoded = EncodedPassword::from_store(row.as_str());
        let at_import = encoded.cost();
        assert!(matches!(at_import, Err(PasswordError::TooDear(_))), "{row}: {at_import:?}");
        let mut scratch = Scratch::new();
        let at_verify = verify(&password("password"), &encoded, &cheap(), &mut scratch);
        assert_eq!(at_verify.err(), at_import.err(), "{row}");
        assert_eq!(format!("{scratch:?}"), "Scratch(0 KiB)", "{row}: memory was allocated");
    }
}

#[test]
fn a60_a_refusal_for_cost_says_which_number_was_too_large() {
    let row = EncodedPassword::from_store(format!("pbkdf2_sha1$2147483648$salt${}=", "A".repeat(27)));
    let too_dear = TooDear { what: "the number of PBKDF2 iterations", asked: 1 << 31, most: 10_000_000 };
    let error = PasswordError::TooDear(too_dear);
    assert_eq!(row.cost(), Err(error));
    assert_eq!(
        error.to_string(),
        "the stored password is too dear to verify: the number of PBKDF2 iterations is 2147483648, \
         the most allowed is 10000000"
    );
}

#[test]
fn a60_a_column_of_costs_is_no_way_around_the_ceilings() {
    for text in ["pbkdf2_sha256$10000001", "scrypt$1073741824$8$1", "bcrypt$17", "argon2id$4194304$1$1"] {
        assert!(matches!(text.parse::<Cost>(), Err(PasswordError::TooDear(_))), "{text}");
    }
}

#[test]
fn a60_rows_that_are_not_quite_an_encoding_are_errors() {
    let zeros = "A".repeat(43);
    for row in [
        "",
        "$",
        "$$$$$",
        "password",
        "plain$password",
        "d41d8cd98f00b204e9800998ecf8427",
        "g41d8cd98f00b204e9800998ecf8427e",
        "md5$salt$d41d8cd98f00b204e9800998ecf8427",
        "md5$salt$d41d8cd98f00b204e9800998ecf8427e$",
        "sha1$salt$d41d8cd98f00b204e9800998ecf8427e",
        &format!("pbkdf2_sha256$0$salt${zeros}="),
        &format!("pbkdf2_sha256$-1$salt${zeros}="),
        &format!("pbkdf2_sha256$+1$salt${zeros}="),
        &format!("pbkdf2_sha256$01$salt${zeros}="),
        &format!("pbkdf2_sha256$1_0$salt${zeros}="),
        &format!("pbkdf2_sha256$ 1$salt${zeros}="),
        &format!("pbkdf2_sha256$\u{661}$salt${zeros}="),
        "pbkdf2_sha256$1$$",
        &format!("pbkdf2_sha256$1$$ {zeros}="),
        &format!("pbkdf2_sha256$1$$${zeros}="),
        &format!("pbkdf2_sha256$1$salt${zeros}"),
        &format!("pbkdf2_sha256$1$salt${zeros}=\n"),
        "pbkdf2_sha256$1$salt$",
        "pbkdf2_sha256$1$salt$AAAA",
        "scrypt$15$salt$8$1$AAAA",
        "scrypt$1$salt$8$1$AAAA",
        "scrypt$16$salt$0$1$AAAA",
        "scrypt$16$salt$8$1$AAAA",
        &format!("bcrypt$$2b$03${}", ".".repeat(53)),
        &format!("bcrypt$$2b$4${}", ".".repeat(53)),
        &format!("bcrypt$$2b$12${}", ".".repeat(52)),
        &format!("bcrypt$$2b$12${}", ".".repeat(54)),
        &format!("bcrypt$2b$12${}", ".".repeat(53)),
        &format!("$argon2id$v=20$m=64,t=1,p=1${}${zeros}", "A".repeat(22)),
        &format!("$argon2id$v=19$m=7,t=1,p=1${}${zeros}", "A".repeat(22)),
        &format!("$argon2id$v=19$m=64,t=1,p=9${}${zeros}", "A".repeat(22)),
        &format!("$argon2id$v=19$m=64,t=0,p=1${}${zeros}", "A".repeat(22)),
        &format!("$argon2id$v=19$m=64,t=1,p=0${}${zeros}", "A".repeat(22)),
        &format!("$argon2id$v=19$t=1,m=64,p=1${}${zeros}", "A".repeat(22)),
        &format!("$argon2id$v=19$m=64,t=1,p=1,data=AAAA${}${zeros}", "A".repeat(22)),
        &format!("$argon2id$v=19$m=64,t=1,p=1$AAAA${zeros}"),
        &format!("$argon2id$v=19$m=64,t=1,p=1${}$AAAA", "A".repeat(22)),
        &format!("$argon2id$v=19$m=64,t=1,p=1${}$", "A".repeat(22)),
        &format!("$argon2x$v=19$m=64,t=1,p=1${}${zeros}", "A".repeat(22)),
        &format!("md5${}$d41d8cd98f00b204e9800998ecf8427e", "s".repeat(512)),
    ] {
        let outcome = verify_text("", row);
        assert!(matches!(outcome, Err(PasswordError::Malformed(_))), "{row}: {outcome:?}");
    }
}

#[test]
fn a49_every_way_to_be_refused_is_answered_alike() {
    let params = cheap();
    let mut scratch = Scratch::new();
    let ours = hash(&password("correct horse"), &[1; 16], &params, &mut scratch);
    let imported = row_named("pbkdf2_sha256 ascii");
    let plain_bcrypt = row_named("bcrypt 72-bytes");
    let present = [
        ours.cost(),
        imported.encoded().cost(),
        plain_bcrypt.encoded().cost(),
        row_named("bcrypt_sha256 ascii").encoded().cost(),
        row_named("scrypt ascii").encoded().cost(),
        EncodedPassword::unusable().cost(),
    ]
    .map(|cost| cost.expect("a good row"));
    let mut ask =
        |typed: &str, row: Option<&EncodedPassword>| check(&password(typed), row, &present, &params, &mut scratch);

    assert_eq!(ask("correct horse", Some(&ours)), CURRENT);
    assert_eq!(ask(&imported.password, Some(&imported.encoded())), OUTDATED);
    assert_eq!(ask("wrong", Some(&ours)), NO_MATCH);
    assert_eq!(ask("wrong", Some(&imported.encoded())), NO_MATCH);
    assert_eq!(ask(&"x".repeat(73), Some(&plain_bcrypt.encoded())), NO_MATCH);
    assert_eq!(ask("anything", Some(&EncodedPassword::unusable())), NO_MATCH);
    assert_eq!(ask("anything", None), NO_MATCH);
    assert_eq!(ask(&"x".repeat(MAX_PASSWORD_BYTES), None), NO_MATCH);
    let broken = EncodedPassword::from_store("broken");
    assert!(matches!(ask("anything", Some(&broken)), Err(PasswordError::Malformed(_))));
}

/// The scratch shows it: it grows with what was hashed, and only the padding hashes Argon2 of this size.
#[test]
fn a49_every_refusal_is_padded_and_a_match_is_not() {
    let params = cheap();
    let present = [cost("argon2id$1024$1$1")];
    let native = hash(&password("correct horse"), &[1; 16], &params, &mut Scratch::new());
    let memory_after = |typed: &str, row: Option<&EncodedPassword>| {
        let mut scratch = Scratch::new();
        let _outcome = check(&password(typed), row, &present, &params, &mut scratch);
        format!("{scratch:?}")
    };

    assert_eq!(memory_after("correct horse", Some(&native)), "Scratch(8 KiB)");
    assert_eq!(memory_after("wrong", Some(&native)), "Scratch(1024 KiB)");
    assert_eq!(memory_after("wrong", Some(&row_named("pbkdf2_sha256 ascii").encoded())), "Scratch(1024 KiB)");
    let too_long = "x".repeat(73);
    assert_eq!(memory_after(&too_long, Some(&row_named("bcrypt ascii").encoded())), "Scratch(1024 KiB)");
    assert_eq!(memory_after("any", Some(&EncodedPassword::unusable())), "Scratch(1024 KiB)");
    assert_eq!(memory_after("any", Some(&EncodedPassword::from_store("broken"))), "Scratch(1024 KiB)");
    let too_dear = EncodedPassword::from_store(format!("pbkdf2_sha1$2147483648$salt${}=", "A".repeat(27)));
    assert_eq!(memory_after("any", Some(&too_dear)), "Scratch(1024 KiB)");
    assert_eq!(memory_after("any", None), "Scratch(1024 KiB)");
}

/// What a list of costs comes to, in units that add up: iterations, rounds, or times a set was computed.
fn total(costs: impl IntoIterator<Item = Cost>) -> BTreeMap<String, u64> {
    let mut total = BTreeMap::new();
    for cost in costs {
        let text = cost.to_string();
        let (part, units) = match text.split_once('$') {
            Some((family @ ("pbkdf2_sha256" | "pbkdf2_sha1"), iterations)) => {
                (family.to_owned(), iterations.parse().expect("a number"))
            }
            Some(("bcrypt" | "bcrypt_sha256", cost)) => {
                ("bcrypt".to_owned(), 1 << cost.parse::<u32>().expect("a number"))
            }
            _ => (text, 1),
        };
        *total.entry(part).or_insert(0) += units;
    }
    total
}

fn any_cost() -> impl Strategy<Value = Cost> {
    prop_oneof![
        Just("md5".to_owned()),
        Just("sha1".to_owned()),
        Just("unusable".to_owned()),
        (1..=3_u32).prop_map(|n| format!("pbkdf2_sha256${}", n * 260_000)),
        (1..=10_000_000_u32).prop_map(|n| format!("pbkdf2_sha1${n}")),
        (4..=16_u32).prop_map(|n| format!("bcrypt${n}")),
        (4..=16_u32).prop_map(|n| format!("bcrypt_sha256${n}")),
        (1..=14_u32, 1..=8_u32, 1..=5_u32).prop_map(|(n, r, p)| format!("scrypt${}${r}${p}", 1 << n)),
        ("argon2(i|d|id)(_v16)?", 128..=130_u32, 1..=3_u32, 1..=16_u32)
            .prop_map(|(variant, m, t, p)| format!("{variant}${m}${t}${p}")),
    ]
    .prop_map(|text| cost(&text))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a49_every_refusal_comes_to_the_same_sum_of_work(present in prop::collection::vec(any_cost(), 0..12)) {
        let params = HashingParams::default();
        let for_nobody = total(plan(None, &present, &params));
        for spent in present.iter().copied().chain([params.cost()]) {
            let unusable = spent == cost("unusable");
            let work = plan(Some(spent), &present, &params);
            let sum = total(work.into_iter().chain((!unusable).then_some(spent)));
            prop_assert_eq!(&sum, &for_nobody, "for somebody with {}", spent);
        }
    }

    #[test]
    fn a49_a_refusal_does_no_more_than_the_dearest_of_each_family(
        mut present in prop::collection::vec(any_cost(), 0..12),
    ) {
        let params = HashingParams::default();
        let work = plan(None, &present, &params);
        present.push(params.cost());
        let everything_once = total(present);
        for (part, units) in total(work) {
            prop_assert!(everything_once[&part] >= units, "{}: {}", part, units);
        }
    }

    #[test]
    fn a_cost_is_read_back_as_it_was_written(cost in any_cost()) {
        prop_assert_eq!(cost.to_string().parse::<Cost>(), Ok(cost));
    }

    #[test]
    fn a60_no_text_whatever_makes_reading_a_row_panic(text in ".{0,80}", scheme in prop::sample::select(vec![
        "", "$", "$2b$12$", "bcrypt$$2b$12$", "md5$", "argon2$argon2id$", "$argon2i$v=19$m=8,t=1,p=1$", "scrypt$16$",
    ])) {
        let _outcome = EncodedPassword::from_store(format!("{scheme}{text}")).cost();
        let _outcome = text.parse::<Cost>();
    }

    #[test]
    fn a60_no_damage_to_a_row_makes_verifying_it_panic_or_match(
        row in prop::sample::select(django_rows().into_iter().filter(|row| !row.default_cost).map(|row| row.encoded).collect::<Vec<_>>()),
        at in any::<prop::sample::Index>(),
        with in prop_oneof![
            Just(String::new()), Just("$".to_owned()), "[0-9A-Za-z/+=.,é\u{1f511}\0!]",
        ],
        cut in any::<bool>(),
    ) {
        let at = at.index(row.len());
        prop_assume!(row.is_char_boundary(at) && row[at..at + 1] != with);
        let damaged = if cut { row[..at].to_owned() } else { format!("{}{with}{}", &row[..at], &row[at + 1..]) };
        let before = EncodedPassword::from_store(row.as_str()).cost();
        let damaged = EncodedPassword::from_store(damaged);
        // A changed number may be a valid and much dearer cost; working that off would show nothing new.
        if damaged.cost().is_err() || damaged.cost() == before {
            let outcome = verify(&password("never the password"), &damaged, &cheap(), &mut Scratch::new());
            prop_assert!(outcome == NO_MATCH || outcome.is_err());
        }
    }
}

#[test]
fn a49_the_work_of_a_refusal_is_what_the_documentation_says() {
    let params = HashingParams::default();
    let present = ["pbkdf2_sha256$1000000", "pbkdf2_sha256$600000", "bcrypt$10", "bcrypt_sha256$12", "md5"].map(cost);
    let work = |spent: Option<&str>| {
        let mut work: Vec<String> = plan(spent.map(cost), &present, &params).iter().map(ToString::to_string).collect();
        work.sort();
        work
    };
    assert_eq!(work(None), ["argon2id$19456$2$1", "bcrypt_sha256$12", "md5", "pbkdf2_sha256$1000000"]);
    assert_eq!(
        work(Some("pbkdf2_sha256$600000")),
        ["argon2id$19456$2$1", "bcrypt_sha256$12", "md5", "pbkdf2_sha256$400000"]
    );
    assert_eq!(
        work(Some("bcrypt$10")),
        ["argon2id$19456$2$1", "bcrypt_sha256$10", "bcrypt_sha256$11", "md5", "pbkdf2_sha256$1000000"]
    );
    assert_eq!(work(Some("argon2id$19456$2$1")), ["bcrypt_sha256$12", "md5", "pbkdf2_sha256$1000000"]);
    // A store that was never imported into: one hash for a stranger, nothing more for an owner.
    assert_eq!(plan(None, &[], &params), [params.cost()]);
    assert_eq!(plan(Some(params.cost()), &[], &params), []);
}

#[test]
fn secrets_do_not_show_when_they_are_printed() {
    let row = row_named("md5 ascii");
    assert_eq!(format!("{:?}", password("hunter2")), "Password(..)");
    assert_eq!(format!("{:#?}", row.encoded()), "EncodedPassword(..)");
    assert_eq!(format!("{:?}", row.encoded().cost()), "Ok(Cost(md5))");
    for secret in ["secret$hunter2", "md5$hunter2$hunter2", "pbkdf2_sha256$hunter2$hunter2$hunter2"] {
        let error = EncodedPassword::from_store(secret).cost().expect_err("not an encoding");
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }
}

#[test]
fn characters_are_code_points_or_bytes_that_are_none() {
    for (bytes, count) in [
        (b"".as_slice(), 0),
        (b"seven77", 7),
        ("pässwörd".as_bytes(), 8),
        ("e\u{301}".as_bytes(), 2),
        ("🔑🔑🔑".as_bytes(), 3),
        (b"p\xe4ssw\xf6rd", 8),
        (b"\xf0\x9f", 2),
    ] {
        assert_eq!(Password::new(bytes).expect("short enough").chars(), count, "{bytes:?}");
    }
}
