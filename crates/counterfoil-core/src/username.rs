//! What a person types to log in: [`Username`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_security::general_security_profile::IdentifierType;
use unicode_security::{GeneralSecurityProfile, MixedScript, skeleton};

use crate::account::Email;

/// What a person types to log in: 1 to 150 characters in Unicode's NFKC, no control characters, no white space at the
/// ends.
///
/// Full-width and other compatibility forms are one name (RFC 8265 §3.3 does the same); case is kept, and two names that
/// differ by case alone cannot both be registered here, though an import keeps what it finds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Username(Arc<str>);

impl Username {
    /// Longest name, in characters.
    pub const MAX_CHARS: usize = 150;

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form under which names that differ by case are one.
    pub fn folded(&self) -> String {
        fold(&self.0)
    }

    /// What people see in it: names that share one of these look alike (the skeletons of UTS 39 §4). Two of them, of the folded
    /// name and of the name as it is shown, because `biIl` and `bill` look alike in the case they are written in, and `АДА` and `ada`
    /// in one case only. The case of a skeleton says nothing: a zero looks like a great O, and case does not tell names apart.
    ///
    /// They change with the version of Unicode that this program knows ([`unicode_version`]), so that whoever keeps them makes them
    /// anew with it.
    pub fn skeletons(&self) -> [String; 2] {
        skeletons(&self.0)
    }

    /// Whether people could take one for the other. Names that differ by case alone always look alike.
    pub fn looks_like(&self, other: &Username) -> bool {
        let others = other.skeletons();
        self.skeletons().iter().any(|skeleton| others.contains(skeleton))
    }

    /// Whether a stranger may choose this name for themselves, where `own_email` is the address they register with. An operator and
    /// an import may choose what they like.
    ///
    /// Letters, marks and digits of any one script, and `@ . + - _`: what Django takes, held to UTS 39 §5.1. Whether somebody has the
    /// name, or one that looks alike, is for the store to say.
    ///
    /// # Errors
    /// [`NotRegistrable`], for the first reason that was found.
    pub fn judge_registered(&self, own_email: Option<&Email>) -> Result<(), NotRegistrable> {
        if self.0.chars().any(is_invisible) {
            return Err(NotRegistrable::Invisible);
        }
        if !self.0.chars().all(|c| "@.+-_".contains(c) || is_of_a_script(c)) || has_stray_marks(&self.0) {
            return Err(NotRegistrable::Characters);
        }
        if !self.0.is_single_script() {
            return Err(NotRegistrable::Scripts);
        }
        if self.0.contains('@') && own_email.is_none_or(|own| fold(own.as_str()) != self.folded()) {
            return Err(NotRegistrable::Address);
        }
        Ok(())
    }
}

/// As [`Username::skeletons`], of the text that a store has of a name.
pub fn skeletons(name: &str) -> [String; 2] {
    [&fold(name), name].map(|name| fold(&skeleton(name).collect::<String>()))
}

/// The version of Unicode whose scripts and look-alikes are known here.
pub const fn unicode_version() -> (u64, u64, u64) {
    unicode_security::UNICODE_VERSION
}

/// Letters, marks and digits, those as well that identifiers are advised against only because few people read them: they are
/// somebody's.
fn is_of_a_script(c: char) -> bool {
    use IdentifierType::{Exclusion, Limited_Use, Recommended, Uncommon_Use};
    matches!(c.identifier_type(), Some(Recommended | Uncommon_Use | Limited_Use | Exclusion))
}

/// What is drawn as nothing or turns what follows around: joiners, which identifiers may have elsewhere, directional marks, fillers,
/// variation selectors and tags. The property Default_Ignorable_Code_Point is read off the skeleton, which leaves those out.
fn is_invisible(c: char) -> bool {
    skeleton(c.encode_utf8(&mut [0; 4])).next().is_none()
}

/// Marks with nothing to stand on, one twice in a row, or more than four (UTS 39 §5.4).
fn has_stray_marks(name: &str) -> bool {
    let mut before = None;
    let mut in_a_row = 0;
    // As they are drawn, so that one within a letter counts as well.
    name.nfd().any(|c| {
        let stray = is_combining_mark(c) && (before.is_none() || before == Some(c) || in_a_row == 4);
        in_a_row = if is_combining_mark(c) { in_a_row + 1 } else { 0 };
        before = Some(c);
        stray
    })
}

/// Why a stranger cannot have a name, in words for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRegistrable {
    /// It has characters that nobody sees, or that turn the writing around.
    Invisible,
    /// It has characters other than letters, digits and `@ . + - _`.
    Characters,
    /// Its letters are of more than one script.
    Scripts,
    /// It is an e-mail address, and not the one that is registered.
    Address,
}

impl fmt::Display for NotRegistrable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotRegistrable::Invisible => "has no invisible characters",
            NotRegistrable::Characters => "has letters, digits and @ . + - _ only",
            NotRegistrable::Scripts => "has letters of one script only",
            NotRegistrable::Address => "is no e-mail address but your own",
        })
    }
}

impl std::error::Error for NotRegistrable {}

/// How different an account's name must be from those that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distinct {
    /// In some character: for imports, which keep what they find.
    ByText,
    /// In more than case: for the operator.
    ByCase,
    /// To the eye ([`Username::looks_like`]): for names that people choose for themselves or are given by others.
    ByLook,
}

/// NFKC, lower case, NFKC again: lowering can make text that is no longer normal.
pub(crate) fn fold(text: &str) -> String {
    text.nfkc().collect::<String>().to_lowercase().nfkc().collect()
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// The text is not a user name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAUsername;

impl fmt::Display for NotAUsername {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a user name is 1 to 150 characters without control characters or white space at the ends")
    }
}

impl std::error::Error for NotAUsername {}

impl FromStr for Username {
    type Err = NotAUsername;

    fn from_str(text: &str) -> Result<Self, NotAUsername> {
        // Cut off before normalising: one character can become eighteen.
        if text.len() > 4 * Self::MAX_CHARS {
            return Err(NotAUsername);
        }
        let normal: String = text.nfkc().collect();
        let fits = (1..=Self::MAX_CHARS).contains(&normal.chars().count());
        if fits && normal.trim() == normal && !normal.chars().any(char::is_control) {
            Ok(Username(normal.into()))
        } else {
            Err(NotAUsername)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a79_hostile_names_are_text_or_refused() {
        for good in ["ada", "<svg onload=x>", "javascript:alert(1)", "عائشة", "a b", "O'Hara", "100%", "_"] {
            assert_eq!(good.parse::<Username>().expect(good).as_str(), good);
        }
        let long = "x".repeat(10_000);
        for bad in [
            "",
            " ada",
            "ada ",
            "a\nb",
            "a\u{0}b",
            "a\u{1b}[31m",
            &long,
            "\u{fdfa}\u{fdfa}\u{fdfa}\u{fdfa}\u{fdfa}\u{fdfa}\u{fdfa}\u{fdfa}\u{fdfa}",
        ] {
            assert_eq!(bad.parse::<Username>(), Err(NotAUsername), "{bad:?}");
        }
    }

    fn name(text: &str) -> Username {
        text.parse().expect(text)
    }

    #[test]
    fn a62_names_that_look_alike_share_a_skeleton() {
        for (one, other) in [
            ("ada", "ADA"),
            ("ada", "аdа"),
            ("АДА", "ада"),
            ("coco", "сосо"),
            ("bill", "biIl"),
            ("bill", "bil1"),
            ("Ida", "lda"),
            ("barn", "bam"),
            ("BOB", "B0B"),
            ("bob", "b0b"),
            ("ada", "a\u{200b}d\u{ad}a"),
            ("ada", "ａｄａ"),
            ("ada", "\u{1d41a}\u{1d41d}\u{1d41a}"),
            ("josé", "jose\u{301}"),
            ("ada\u{966}", "adao"),
            ("scope", "ѕсоре"),
        ] {
            assert!(name(one).looks_like(&name(other)) && name(other).looks_like(&name(one)), "{one:?} {other:?}");
        }
        for (one, other) in [("ada", "adam"), ("jose", "josé"), ("eli", "ell"), ("ada.b", "ada_b"), ("太郎", "次郎")]
        {
            assert!(!name(one).looks_like(&name(other)), "{one} {other}");
        }
    }

    #[test]
    fn a62_strangers_choose_visible_names_of_one_script() {
        for good in [
            "ada",
            "Ada.Lovelace+1815",
            "_",
            "ada-b_c",
            "josé",
            "Straße9",
            "عائشة",
            "Ольга",
            "Ελένη",
            "太郎さん",
            "김철수",
            "ดารณี",
            "हिन्दी",
            "ᏣᎳᎩ",
            "a\u{300}",
        ] {
            assert_eq!(name(good).judge_registered(None), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("a\u{200b}da", NotRegistrable::Invisible),
            ("ada\u{200d}", NotRegistrable::Invisible),
            ("ada\u{202e}nimda", NotRegistrable::Invisible),
            ("\u{2066}ada\u{2069}", NotRegistrable::Invisible),
            ("ada\u{ad}", NotRegistrable::Invisible),
            ("ada\u{3164}", NotRegistrable::Invisible),
            ("ada\u{fe0f}", NotRegistrable::Invisible),
            ("ada\u{e0041}", NotRegistrable::Invisible),
            ("ada\u{feff}", NotRegistrable::Invisible),
            ("a b", NotRegistrable::Characters),
            ("O'Hara", NotRegistrable::Characters),
            ("a/b", NotRegistrable::Characters),
            ("<b>", NotRegistrable::Characters),
            ("a:b", NotRegistrable::Characters),
            ("\u{1f426}", NotRegistrable::Characters),
            ("ada\u{e000}", NotRegistrable::Characters),
            ("ada\u{378}", NotRegistrable::Characters),
            ("\u{301}ada", NotRegistrable::Characters),
            ("a\u{323}\u{323}da", NotRegistrable::Characters),
            ("a\u{301}\u{302}\u{303}\u{304}\u{306}da", NotRegistrable::Characters),
            ("аda", NotRegistrable::Scripts),
            ("pаypal", NotRegistrable::Scripts),
            ("ada٣", NotRegistrable::Scripts),
            ("taro太郎", NotRegistrable::Scripts),
            ("Ωmega", NotRegistrable::Scripts),
        ] {
            assert_eq!(name(bad).judge_registered(None), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn r36_a_name_is_never_somebody_elses_address() {
        let own: Email = "Ada@Example.org".parse().expect("an address");
        assert_eq!(name("ada@example.org").judge_registered(Some(&own)), Ok(()));
        assert_eq!(name("ADA＠example.org").judge_registered(Some(&own)), Ok(()), "another spelling of the same");
        for (bad, own) in [
            ("ada@example.org", None),
            ("bob@example.org", Some(&own)),
            ("@ada", Some(&own)),
            ("ada@example.org.", Some(&own)),
            ("﹫", Some(&own)),
        ] {
            assert_eq!(name(bad).judge_registered(own), Err(NotRegistrable::Address), "{bad}");
        }
    }

    #[test]
    fn a62_what_is_kept_of_looks_goes_with_a_version_of_unicode() {
        let newer = "stores keep skeletons: a migration that makes them anew comes with another version";
        assert_eq!(unicode_version(), (18, 0, 0), "{newer}");
    }
}
