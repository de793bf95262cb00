//! Which passwords may be set: [`PasswordPolicy`].
//!
//! NIST SP 800-63B-4 §3.1.1.2 asks for length, for a list of passwords that are commonly used, expected or compromised, and for
//! nothing else: no rule on what kinds of character there are, no expiry. OWASP ASVS 5.0 says the same in 6.2.1, 6.2.4, 6.2.5,
//! 6.2.9, 6.2.11 and 6.2.12. What is judged here is a folded copy; what is hashed are the bytes as they came.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;

use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::password::Password;

/// What a password must be to be set. Those that are there stay good, whatever they are.
///
/// It has so many characters, and the *whole* of it is not made of what an attacker tries first: a common password, the user's
/// own name or address, the name of the site, a sequence or one unit over and over, with no more than a few digits and marks
/// around. A phrase in which such a word merely occurs is fine.
///
/// # Examples
///
/// ```
/// use counterfoil_core::password::Password;
/// use counterfoil_core::password_policy::{PasswordPolicy, TooWeak};
///
/// let policy = PasswordPolicy::default();
/// let judge = |text: &str| policy.judge(&Password::new(text).unwrap(), &["ada", "ada.lovelace@example.org"]);
/// assert_eq!(judge("correct horse battery staple"), Ok(()));
/// assert_eq!(judge("tr0ub4dor&3"), Err(TooWeak::TooShort { least: 15 }));
/// assert_eq!(judge("Password123456!!"), Err(TooWeak::Common));
/// assert_eq!(judge("Ada.Lovelace.1815"), Err(TooWeak::Expected));
/// assert_eq!(judge("abcdefghijklmnopq"), Err(TooWeak::Pattern));
/// ```
#[derive(Debug, Clone)]
pub struct PasswordPolicy {
    least_chars: usize,
    site: Arc<BTreeSet<String>>,
    further: Blocklist,
}

impl PasswordPolicy {
    /// The fewest characters unless configured otherwise: NIST's number for a password that is all there is to a login.
    pub const DEFAULT_LEAST_CHARS: usize = 15;

    /// The fewest characters that any policy may ask for: NIST's number for a password beside another factor.
    pub const FLOOR_LEAST_CHARS: usize = Password::LEAST_CHARS;

    /// The most characters that a policy may ask for: those of 64 are taken everywhere (ASVS 5.0 6.2.9).
    pub const CEILING_LEAST_CHARS: usize = 64;

    /// A policy that asks for `least_chars` code points.
    ///
    /// # Errors
    /// [`LeastCharsOutOfRange`] below [`Self::FLOOR_LEAST_CHARS`] and beyond [`Self::CEILING_LEAST_CHARS`].
    pub fn new(least_chars: usize) -> Result<PasswordPolicy, LeastCharsOutOfRange> {
        if !(Self::FLOOR_LEAST_CHARS..=Self::CEILING_LEAST_CHARS).contains(&least_chars) {
            return Err(LeastCharsOutOfRange);
        }
        Ok(PasswordPolicy { least_chars, site: Arc::default(), further: Blocklist::default() })
    }

    /// The same policy for a site of these names: its own, its organisation's, its domain. They take the place of those from
    /// before.
    #[must_use]
    pub fn for_site<'a>(self, names: impl IntoIterator<Item = &'a str>) -> PasswordPolicy {
        let mut site = BTreeSet::new();
        names.into_iter().for_each(|name| add_expected(name, &mut site));
        PasswordPolicy { site: Arc::new(site), ..self }
    }

    /// The same policy with these passwords refused beside the common ones. They take the place of those from before.
    #[must_use]
    pub fn with_blocklist(self, further: Blocklist) -> PasswordPolicy {
        PasswordPolicy { further, ..self }
    }

    /// The fewest code points a password has.
    pub fn least_chars(&self) -> usize {
        self.least_chars
    }

    /// Whether `password` may be set by somebody of whom `context` is known: user name, e-mail address, given names.
    ///
    /// Bytes that are not UTF-8 count one each. The longest password that there is ([`Password::new`]) costs less than a
    /// hash to judge.
    ///
    /// # Errors
    /// [`TooWeak`], for the first reason that was found.
    pub fn judge(&self, password: &Password, context: &[&str]) -> Result<(), TooWeak> {
        if password.chars() < self.least_chars {
            return Err(TooWeak::TooShort { least: self.least_chars });
        }
        let text = fold(&String::from_utf8_lossy(password.expose()));
        let mut expected = (*self.site).clone();
        context.iter().for_each(|known| add_expected(known, &mut expected));
        let made_of = |text: &str| made_of(text, &expected, &self.further);
        let repeated = repeated(&text);
        match made_of(&text).or_else(|| made_of(repeated?)) {
            Some(reason) => Err(reason),
            None if repeated.is_some_and(|unit| unit.chars().count() < self.least_chars) => Err(TooWeak::Pattern),
            None => Ok(()),
        }
    }
}

impl Default for PasswordPolicy {
    fn default() -> PasswordPolicy {
        let least_chars = Self::DEFAULT_LEAST_CHARS;
        PasswordPolicy { least_chars, site: Arc::default(), further: Blocklist::default() }
    }
}

/// A policy asks for fewer characters than any may, or for more than everybody can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeastCharsOutOfRange;

impl fmt::Display for LeastCharsOutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (floor, ceiling) = (PasswordPolicy::FLOOR_LEAST_CHARS, PasswordPolicy::CEILING_LEAST_CHARS);
        write!(f, "the fewest characters of a password are {floor} to {ceiling}")
    }
}

impl std::error::Error for LeastCharsOutOfRange {}

/// Why a password cannot be set, in words for the one who chose it: NIST SP 800-63B-4 §3.1.1.2 has them told the reason. What
/// they chose is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooWeak {
    /// Too few code points.
    TooShort {
        /// The fewest there may be.
        least: usize,
    },
    /// It is made of passwords that many people have, or that the operator has listed.
    Common,
    /// It is made of what anybody knows of this user and this site.
    Expected,
    /// It is a sequence, or one short unit over and over.
    Pattern,
}

impl fmt::Display for TooWeak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TooWeak::TooShort { least } => write!(f, "has at least {least} characters"),
            TooWeak::Common => f.write_str("is on the list of common passwords, or little more than one of them"),
            TooWeak::Expected => {
                f.write_str("is little more than the user's name or address, or the name of this site")
            }
            TooWeak::Pattern => f.write_str("is a plain sequence, or one short piece again and again"),
        }
    }
}

impl std::error::Error for TooWeak {}

/// Passwords that an operator refuses beside the common ones, such as those of a breach. Cheap to clone.
#[derive(Clone, Default)]
pub struct Blocklist(Arc<Listed>);

#[derive(Default)]
struct Listed {
    /// Sorted by bytes.
    texts: Vec<Box<str>>,
    /// How many characters they have.
    lengths: BTreeSet<usize>,
}

impl Blocklist {
    /// The list of these texts, in any case and order. White space around them does not count, nor do texts without any: a line
    /// of a file each.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Blocklist {
        let given = texts.into_iter().map(str::trim).filter(|text| !text.is_empty());
        let mut texts: Vec<Box<str>> = given.map(|text| fold(text).as_str().into()).collect();
        texts.sort_unstable();
        texts.dedup();
        let lengths = texts.iter().map(|text| text.chars().count()).collect();
        Blocklist(Arc::new(Listed { texts, lengths }))
    }

    /// How many different texts there are.
    pub fn len(&self) -> usize {
        self.0.texts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.texts.is_empty()
    }

    /// The first text that is not before `folded`.
    fn from(&self, folded: &str) -> Option<&str> {
        let at = self.0.texts.partition_point(|text| **text < *folded);
        self.0.texts.get(at).map(|text| &**text)
    }
}

impl fmt::Debug for Blocklist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blocklist({} texts)", self.len())
    }
}

/// Behind a heading that ends with an empty line, one password a line, sorted by bytes.
const COMMON: &str = include_str!("common_passwords.txt");

/// How many characters the passwords in it have: shorter ones count as the digits or letters that they are.
const COMMON_LENGTHS: RangeInclusive<usize> = 5..=33;

/// The first of them that is not before `folded`. Bisection by bytes: the middle of a range is moved to the beginning of its line.
fn common_from(folded: &str) -> Option<&'static str> {
    let (_, mut lines) = COMMON.split_once("\n\n")?;
    let mut found = None;
    while !lines.is_empty() {
        let begin = lines.as_bytes()[..lines.len() / 2].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let (before, from) = lines.split_at(begin);
        let (line, after) = from.split_once('\n').unwrap_or((from, ""));
        if line < folded {
            lines = after;
        } else {
            found = Some(line);
            lines = before;
        }
    }
    found
}

/// The form under which passwords are compared, wiped when it is no longer needed.
fn fold(text: &str) -> Zeroizing<String> {
    let normal = Zeroizing::new(text.nfkc().collect::<String>());
    let lower = Zeroizing::new(normal.to_lowercase());
    Zeroizing::new(lower.nfkc().collect())
}

/// Adds what an attacker would make of `known`: itself, its halves where it is an address, and each word of it.
fn add_expected(known: &str, expected: &mut BTreeSet<String>) {
    let known = fold(known);
    let words = known.split(|c: char| !c.is_alphanumeric());
    let whole = [known.as_str()].into_iter().chain(known.split('@'));
    // One or two letters are nobody's name: they would count as such wherever they stand.
    let telling = whole.chain(words).map(str::trim).filter(|word| word.chars().count() >= 3);
    expected.extend(telling.map(str::to_owned));
}

/// What a piece of a password adds to what an attacker has to guess, in characters that are neither listed nor in a sequence. A
/// common one is worth four digits, being one of some ten thousand; three characters or more of a sequence are worth one.
const COMMON_COST: usize = 4;
const EXPECTED_COST: usize = 2;
const SEQUENCE_COST: usize = 1;
const OTHER_COST: usize = 1;

/// From this on a password with a listed piece is no longer little more than that: a common one and eight digits or marks, two and
/// four, or three.
const ENOUGH: usize = 12;

/// The same where there is nothing but sequences and what stands between them.
const ENOUGH_SEQUENCES: usize = 6;

/// The most characters that are taken apart. Who repeats one word more often than that is found by the repetition.
const LONGEST: usize = 256;

/// What stands in a row on the keyboards of most people, with and without shift, and is no row of code points.
const KEYS: [&str; 6] = ["qwertyuiop", "qwertzuiop", "azertyuiop", "asdfghjkl", "zxcvbnm", "!@#$%^&*()"];

/// A way to make the text up to some character: the cheapest that was found, and the worst kind of piece in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Made {
    cost: usize,
    of: Kind,
}

/// Of equal cost, the one that says most comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Expected,
    Common,
    Sequence,
    Other,
}

/// The cheapest way that was found, with a listed word in it and without.
#[derive(Clone, Copy, Default)]
struct Ways([Option<Made>; 2]);

impl Ways {
    fn add(&mut self, made: Made) {
        let known = &mut self.0[usize::from(made.of <= Kind::Common)];
        if made.cost < ENOUGH && known.is_none_or(|known| made < known) {
            *known = Some(made);
        }
    }

    /// Those with a piece more.
    fn and(self, cost: usize, of: Kind) -> impl Iterator<Item = Made> {
        let more = move |made: Made| Made { cost: made.cost + cost, of: made.of.min(of) };
        self.0.into_iter().flatten().map(more)
    }

    fn extend(&mut self, made: impl IntoIterator<Item = Made>) {
        made.into_iter().for_each(|made| self.add(made));
    }
}

/// What is known of the text up to some character.
#[derive(Clone, Copy, Default)]
struct Known {
    /// How it is made, a piece ending here.
    ended: Ways,
    /// And in the midst of a sequence of each kind.
    within: [Ways; SEQUENCES.len()],
}

/// What the whole text is made of, where that is little more than listed words and sequences. Letters that belong to neither are
/// not guessed: a text with one of them is made of nothing. Each character is come to once, and left for those that can be
/// reached from it.
fn made_of(text: &str, expected: &BTreeSet<String>, further: &Blocklist) -> Option<TooWeak> {
    let chars = Zeroizing::new(text.chars().collect::<Vec<_>>());
    if chars.len() > LONGEST {
        return None;
    }
    let begins: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let mut lengths: BTreeSet<usize> = COMMON_LENGTHS.collect();
    lengths.extend(&further.0.lengths);
    lengths.extend(expected.iter().map(|word| word.chars().count()));
    let expected_from = |word: &str| {
        let mut from = expected.range::<str, _>((Bound::Included(word), Bound::Unbounded));
        from.next().map(String::as_str)
    };
    let mut known = vec![Known::default(); chars.len() + 1];
    known[0].ended.add(Made { cost: 0, of: Kind::Other });
    for at in 0..=chars.len() {
        for (kind, follows) in SEQUENCES.iter().enumerate() {
            let within = known[at].within[kind].0.into_iter().flatten();
            known[at].ended.extend(within.clone());
            if at < chars.len() && follows(chars[at.saturating_sub(1)], chars[at]) {
                known[at + 1].within[kind].extend(within);
            }
        }
        let ended = known[at].ended;
        if at == chars.len() || ended.0 == [None; 2] {
            continue;
        }
        if !chars[at].is_alphabetic() {
            known[at + 1].ended.extend(ended.and(OTHER_COST, Kind::Other));
        }
        for (kind, follows) in SEQUENCES.iter().enumerate() {
            if let [first, second, third, ..] = chars[at..]
                && follows(first, second)
                && follows(second, third)
            {
                known[at + 3].within[kind].extend(ended.and(SEQUENCE_COST, Kind::Sequence));
            }
        }
        for &taken in lengths.range(..=chars.len() - at) {
            let word = &text[begins[at]..begins[at + taken]];
            let nearest = [
                (expected_from(word), EXPECTED_COST, Kind::Expected),
                (common_from(word), COMMON_COST, Kind::Common),
                (further.from(word), COMMON_COST, Kind::Common),
            ];
            if let Some((_, cost, kind)) = nearest.iter().find(|(listed, ..)| *listed == Some(word)) {
                // The same again is no secret.
                let again = text.as_bytes()[begins[at]..].chunks(word.len());
                let times = again.take_while(|piece| *piece == word.as_bytes()).count();
                for time in 1..=times {
                    known[at + time * taken].ended.extend(ended.and(*cost, *kind));
                }
            }
            if !nearest.iter().any(|(listed, ..)| listed.is_some_and(|listed| listed.starts_with(word))) {
                break;
            }
        }
    }
    let [plain, listed] = known.last()?.ended.0;
    let sequences = plain.filter(|made| made.of == Kind::Sequence && made.cost < ENOUGH_SEQUENCES);
    match listed.into_iter().chain(sequences).min()?.of {
        Kind::Expected => Some(TooWeak::Expected),
        Kind::Common => Some(TooWeak::Common),
        Kind::Sequence | Kind::Other => Some(TooWeak::Pattern),
    }
}

/// What is repeated, where the text is one unit over and over, the last perhaps cut off or without what stands between, and a few
/// digits and marks around it: that adds nothing.
fn repeated(text: &str) -> Option<&str> {
    let once = |text: &str| {
        let chars = Zeroizing::new(text.chars().collect::<Vec<_>>());
        let period = period(&chars);
        let is_repeated = 2 * period <= chars.len() + 1 && chars.len() >= period + 3;
        is_repeated.then(|| chars[..period].iter().map(|c| c.len_utf8()).sum())
    };
    let bare = text.trim_matches(|c: char| !c.is_alphabetic());
    let around = text.chars().count() - bare.chars().count();
    if let Some(bytes) = once(text) {
        return Some(&text[..bytes]);
    }
    let bytes = once(bare).filter(|_| around + COMMON_COST < ENOUGH)?;
    Some(&bare[..bytes])
}

/// The length of the shortest unit that `chars` is repetitions of, the last perhaps cut off (the failure function of Knuth, Morris
/// and Pratt, in linear time).
fn period(chars: &[char]) -> usize {
    let mut borders = vec![0; chars.len()];
    for at in 1..chars.len() {
        let mut border = borders[at - 1];
        while border > 0 && chars[at] != chars[border] {
            border = borders[border - 1];
        }
        borders[at] = border + usize::from(chars[at] == chars[border]);
    }
    chars.len() - borders.last().unwrap_or(&0)
}

/// One character again and again, up or down in code points (a nine goes on with zero), or along a row of keys.
const SEQUENCES: [fn(char, char) -> bool; 5] = [same, up, down, right, left];

fn same(one: char, next: char) -> bool {
    one == next
}

fn up(one: char, next: char) -> bool {
    u32::from(one) + 1 == u32::from(next) || (one, next) == ('9', '0')
}

fn down(one: char, next: char) -> bool {
    up(next, one)
}

fn right(one: char, next: char) -> bool {
    KEYS.iter().any(|row| row.chars().zip(row.chars().skip(1)).any(|pair| pair == (one, next)))
}

fn left(one: char, next: char) -> bool {
    right(next, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: TooWeak = TooWeak::TooShort { least: 15 };

    fn policy(least_chars: usize) -> PasswordPolicy {
        PasswordPolicy::new(least_chars).expect("in range").for_site(["Orchard Books", "shop.orchard.example"])
    }

    fn judge(policy: &PasswordPolicy, password: impl Into<Vec<u8>>) -> Result<(), TooWeak> {
        policy.judge(&Password::new(password).expect("short"), &["ada.lovelace", "countess@mail.example.org"])
    }

    #[test]
    fn r11_length_counts_in_code_points_and_nothing_else_is_asked_for() {
        let wide: String = ('\u{1f400}'..='\u{1f4ff}').step_by(3).take(64).collect();
        assert_eq!((wide.chars().count(), wide.len()), (64, 256));
        let longest = "correct horse battery staple ".chars().chain(('!'..='~').rev().cycle()).take(4096);
        let longest: String = longest.collect();
        for good in [
            "correct horse battery staple",
            "fünfzehn zeiche",
            "wegen des regens",
            "   spaces  count  as  well   ",
            "LOUDVOICESCARRY",
            "839174620583917",
            "\u{1f426}\u{1f98a}\u{1f335}\u{1f30a}\u{1f3ba}\u{1f9f5}\u{1f951}\u{1f680}\u{1f52d}\u{1f9ca}\u{1f3b2}\u{1f413}\u{1f578}\u{1f6f6}\u{1f9ed}",
            "\u{0}\u{1}nul is a character",
            "\"';--<script>%00",
            "пятнадцать букв и ещё",
            "五十音図と少し長めの文章です",
            &wide,
            &longest,
        ] {
            let least = good.chars().count().min(15);
            assert_eq!(judge(&policy(least.max(8)), good), Ok(()), "{good:?}");
        }
        for short in ["", "tr0ub4dor&3", "fünfzehn zeich", "\u{1f426}\u{1f98a}\u{1f335}\u{1f30a}", "五十音図と少し長め"]
        {
            assert_eq!(judge(&policy(15), short), Err(LONG), "{short:?}");
        }
        assert_eq!(judge(&policy(8), "k7#Qvm1"), Err(TooWeak::TooShort { least: 8 }));
        assert_eq!(judge(&policy(8), "k7#Qvm1x"), Ok(()));
        assert_eq!(PasswordPolicy::default().least_chars(), 15);
    }

    #[test]
    fn r11_bytes_that_are_not_utf_8_count_one_each() {
        let mixed = b"\xff\xfe\x80 caf\xe9 \xf0\x9f\x90\xa6 k\xc3";
        assert_eq!(judge(&policy(15), &mixed[..]), Err(LONG), "thirteen");
        assert_eq!(judge(&policy(13), &mixed[..]), Ok(()));
        assert_eq!(judge(&policy(15), [0xff; 64]), Err(TooWeak::Pattern));
    }

    #[test]
    fn r11_a_policy_asks_for_no_less_than_the_floor_and_no_more_than_everybody_can() {
        for (least, taken) in [(0, false), (7, false), (8, true), (64, true), (65, false), (usize::MAX, false)] {
            assert_eq!(PasswordPolicy::new(least).is_ok(), taken, "{least}");
        }
    }

    #[test]
    fn r12_a_common_password_is_refused_however_it_is_dressed() {
        for bad in [
            "Password123456!!",
            "passwordpassword",
            "PASSWORD PASSWORD",
            "ｐａｓｓｗｏｒｄ１２３４５６７",
            "...password2024...",
            "iloveyouprincess",
            "monkey1234567890",
            "dragon_dragon_99",
            "1q2w3e4r5t6y7u8i",
            "Manchesterunited",
            "iloveyou,iloveyou",
            "passw0rd-1999-12",
            "\u{1f426}password\u{1f98a}\u{1f426}!12345",
        ] {
            assert_eq!(judge(&policy(15), bad), Err(TooWeak::Common), "{bad:?}");
        }
        // What contains one is not one: "the entire password SHALL be subject to comparison, not substrings" (NIST).
        for good in
            ["mypasswordishere", "the monkey and the dragon", "password83917462058391", "dragon monkey princess"]
        {
            assert_eq!(judge(&policy(15), good), Ok(()), "{good:?}");
        }
    }

    #[test]
    fn r12_the_list_holds_more_than_the_three_thousand_commonest_of_eight_characters() {
        let (heading, lines) = COMMON.split_once("\n\n").expect("a heading");
        assert!(heading.contains("Django"));
        let lines: Vec<&str> = lines.lines().collect();
        assert!(lines.windows(2).all(|two| two[0] < two[1]), "sorted, and each once");
        assert!(lines.iter().filter(|line| line.chars().count() >= 8).count() > 8_000);
        assert!(COMMON.len() < 150_000, "it is part of every binary");
        for line in lines {
            assert_eq!(fold(line).as_str(), line);
            assert!(COMMON_LENGTHS.contains(&line.chars().count()), "{line}");
            assert_eq!(common_from(line), Some(line));
            let dressed = format!("{}!!{}", line.to_uppercase(), "8".repeat(9));
            if fold(&line.to_uppercase()).as_str() == line {
                assert!(judge(&policy(15), dressed.as_str()).is_err(), "{dressed}");
            }
            if line.chars().count() >= 8 {
                assert!(judge(&policy(8), line).is_err(), "{line}");
            }
        }
        assert_eq!(common_from(""), Some("!ab#cd$"));
        assert_eq!(common_from("\u{10ffff}"), None);
    }

    #[test]
    fn r12_what_everybody_knows_of_the_user_and_the_site_is_no_password() {
        for bad in [
            "AdaLovelace1815",
            "ada.lovelace.ada.lovelace",
            "Lovelace-1234567",
            "countess@mail.example.org",
            "Countess_Countess!",
            "!!Orchard Books!!",
            "orchardorchard1",
            "shop.orchard.example",
            "orchard.example.2026",
        ] {
            assert_eq!(judge(&policy(15), bad), Err(TooWeak::Expected), "{bad:?}");
        }
        for good in ["ada likes long walks", "an orchard of plum trees", "lovelace wrote notes"] {
            assert_eq!(judge(&policy(15), good), Ok(()), "{good:?}");
        }
        let short = &["al", "x", "", "@", "..."];
        let password = Password::new("al x al x 7 al 26").expect("short");
        assert_eq!(policy(15).judge(&password, short), Ok(()), "two letters are no name");
    }

    #[test]
    fn r12_sequences_and_repetitions_are_no_passwords() {
        for bad in [
            "aaaaaaaaaaaaaaaa",
            "qwertyuiopqwertyuiop",
            "xkvxkvxkvxkvxkvxkv",
            "abcdefghijklmnopqr",
            "zyxwvutsrqponmlk",
            "123456789012345",
            "987654321098765",
            "qwertyuiopasdfgh",
            "QWERTZUIOP!@#$%^",
            "abc123def456ghi",
            "аааааааааааааааа",
            "абвгдежзийклмноп",
            "k7#Qk7#Qk7#Qk7#Q",
            "k7Qvk7Qvk7Qvk7Qv!!",
            "               ",
        ] {
            assert_eq!(judge(&policy(15), bad), Err(TooWeak::Pattern), "{bad:?}");
        }
        for good in ["correct horse battery correct horse battery ", "abc of good cooking", "8391746201234567"] {
            assert_eq!(judge(&policy(15), good), Ok(()), "{good:?}");
        }
    }

    #[test]
    fn r12_an_operators_list_counts_as_the_common_one() {
        let lines = "Trustno1-Ever\n\n  correct horse battery staple \r\ntrustNo1-ever\n";
        let list = Blocklist::new(lines.lines());
        assert_eq!((list.len(), list.is_empty()), (2, false));
        assert_eq!(format!("{list:?}"), "Blocklist(2 texts)");
        let policy = policy(15).with_blocklist(list);
        for bad in ["CORRECT horse battery staple!", "trustno1-ever99", "trustno1-evertrustno1-ever"] {
            assert_eq!(judge(&policy, bad), Err(TooWeak::Common), "{bad}");
        }
        assert_eq!(judge(&policy, "correct horse battery stapler"), Ok(()));
        assert!(Blocklist::new([" ", ""]).is_empty());
    }

    #[test]
    fn r12_the_longest_passwords_are_judged_by_a_bounded_amount_of_work() {
        for (text, verdict) in [
            ("a".repeat(4096), Err(TooWeak::Pattern)),
            ("password".repeat(512), Err(TooWeak::Common)),
            ("1234567890".repeat(409), Err(TooWeak::Pattern)),
            ("\u{fdfa}".repeat(1365), Ok(())),
        ] {
            assert_eq!(judge(&policy(15), text.as_str()), verdict, "{}", &text[..12]);
        }
    }

    #[test]
    fn r12_a_reason_says_what_to_do_and_nothing_of_what_was_chosen() {
        assert_eq!(LONG.to_string(), "has at least 15 characters");
        for reason in [TooWeak::Common, TooWeak::Expected, TooWeak::Pattern] {
            assert!(reason.to_string().starts_with("is "), "{reason}");
        }
    }
}
