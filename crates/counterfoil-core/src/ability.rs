//! What a token may do: `resource:action` or `*`, and the rule that a child is never above its parent.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One permission: `resource:action`, or `*` for everything that is not reserved.
///
/// Both halves are 1 to 32 characters of `a-z 0-9 . _ -`; matching is exact, there are no partial wildcards.
/// `tokens:introspect`, `tokens:revoke` and every `admin:…` are *reserved*: `*` never covers them and only an
/// administrator grants them, so that a user's own key can never speak for the service.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ability(Arc<str>);

/// Longest half of an ability, in characters.
const MAX_HALF: usize = 32;

impl Ability {
    /// `*`.
    pub fn everything() -> Ability {
        Ability("*".into())
    }

    /// The text, as it was parsed.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether only an administrator may grant it and `*` leaves it out.
    pub fn is_reserved(&self) -> bool {
        matches!(&*self.0, "tokens:introspect" | "tokens:revoke") || self.0.starts_with("admin:")
    }
}

/// The text is not an ability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnAbility;

impl fmt::Display for NotAnAbility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an ability is \"*\" or \"resource:action\", each half 1 to 32 characters of a-z 0-9 . _ -")
    }
}

impl std::error::Error for NotAnAbility {}

impl FromStr for Ability {
    type Err = NotAnAbility;

    fn from_str(text: &str) -> Result<Self, NotAnAbility> {
        let half = |part: &str| {
            (1..=MAX_HALF).contains(&part.len())
                && part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
        };
        match text.split_once(':') {
            None if text == "*" => Ok(Ability::everything()),
            Some((resource, action)) if half(resource) && half(action) => Ok(Ability(text.into())),
            None | Some(_) => Err(NotAnAbility),
        }
    }
}

impl fmt::Display for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The set of abilities of one token, at most [`Abilities::MAX`]; cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Abilities(Arc<[Ability]>);

impl Abilities {
    /// How many abilities one token may carry.
    pub const MAX: usize = 64;

    /// `{*}`, what every login token carries.
    pub fn everything() -> Abilities {
        Abilities(Arc::new([Ability::everything()]))
    }

    /// The set of `abilities`, sorted and without repeats.
    ///
    /// # Errors
    /// When there are more than [`Abilities::MAX`] different ones. An empty set is fine: such a token authenticates and
    /// may do nothing that asks for an ability.
    pub fn new(abilities: impl IntoIterator<Item = Ability>) -> Result<Abilities, TooManyAbilities> {
        let mut sorted = BTreeSet::new();
        for ability in abilities {
            sorted.insert(ability);
            if sorted.len() > Self::MAX {
                return Err(TooManyAbilities);
            }
        }
        Ok(Abilities(sorted.into_iter().collect()))
    }

    /// Whether it is what every login token carries: `*` and nothing besides.
    pub fn are_everything(&self) -> bool {
        matches!(&*self.0, [Ability(only)] if &**only == "*")
    }

    /// Whether this set allows `wanted`.
    pub fn cover(&self, wanted: &Ability) -> bool {
        self.0.iter().any(|held| held == wanted || (&*held.0 == "*" && !wanted.is_reserved()))
    }

    /// The first ability of `child` that this set does not cover, if any: a child is never above its parent.
    pub fn first_beyond<'a>(&self, child: &'a Abilities) -> Option<&'a Ability> {
        child.0.iter().find(|ability| !self.cover(ability))
    }

    /// The abilities in order.
    pub fn iter(&self) -> impl Iterator<Item = &Ability> {
        self.0.iter()
    }
}

/// More abilities than one token may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyAbilities;

impl fmt::Display for TooManyAbilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {} abilities", Abilities::MAX)
    }
}

impl std::error::Error for TooManyAbilities {}

/// Space-separated, as stores keep it and OAuth writes scopes.
impl fmt::Display for Abilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, ability) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            f.write_str(&ability.0)?;
        }
        Ok(())
    }
}

impl FromStr for Abilities {
    type Err = NotAnAbility;

    fn from_str(text: &str) -> Result<Self, NotAnAbility> {
        let parsed: Vec<Ability> = text.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        Abilities::new(parsed).map_err(|_| NotAnAbility)
    }
}

/// A JSON array of strings.
impl Serialize for Abilities {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Ability::as_str))
    }
}

impl<'de> Deserialize<'de> for Abilities {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let texts = Vec::<String>::deserialize(deserializer)?;
        let parsed: Vec<Ability> =
            texts.iter().map(|text| text.parse()).collect::<Result<_, _>>().map_err(D::Error::custom)?;
        Abilities::new(parsed).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(text: &str) -> Abilities {
        text.parse().expect("abilities")
    }

    #[test]
    fn only_whole_well_formed_abilities_parse() {
        for good in ["*", "files:read", "a:b", "a.b-c_d:x9"] {
            assert_eq!(good.parse::<Ability>().expect(good).as_str(), good);
        }
        let long = format!("{}:read", "r".repeat(33));
        for bad in ["", ":", "a:", ":b", "a", "a:b:c", "a:*", "*:*", "*:read", "A:b", "a: b", "ü:b", "a:b\n", &long] {
            assert_eq!(bad.parse::<Ability>(), Err(NotAnAbility), "{bad:?}");
        }
    }

    #[test]
    fn the_star_never_covers_what_only_an_administrator_grants() {
        let star = Abilities::everything();
        assert!(star.cover(&"files:read".parse().expect("ability")));
        for reserved in ["tokens:introspect", "tokens:revoke", "admin:users", "admin:anything"] {
            let reserved: Ability = reserved.parse().expect("ability");
            assert!(!star.cover(&reserved), "{reserved}");
            assert!(Abilities::new([reserved.clone()]).expect("one").cover(&reserved));
        }
    }

    #[test]
    fn a_child_above_its_parent_is_named() {
        let parent = set("files:read files:write");
        assert_eq!(parent.first_beyond(&set("files:read")), None);
        assert_eq!(parent.first_beyond(&set("files:read mail:send")).map(Ability::as_str), Some("mail:send"));
        assert_eq!(parent.first_beyond(&set("*")).map(Ability::as_str), Some("*"));
        assert_eq!(Abilities::everything().first_beyond(&set("*")), None);
        assert_eq!(parent.first_beyond(&set("")), None);
    }

    fn ability() -> impl Strategy<Value = Ability> {
        prop_oneof![Just("*".to_owned()), Just("tokens:introspect".to_owned()), "(admin|a|b):[xyz]",]
            .prop_map(|text| text.parse().expect("ability"))
    }

    proptest! {
        /// What a child may do, its parent may do; however the sets are made.
        #[test]
        fn delegation_never_widens(
            parent in prop::collection::vec(ability(), 0..5),
            child in prop::collection::vec(ability(), 0..5),
            wanted in ability(),
        ) {
            let parent = Abilities::new(parent).expect("few");
            let child = Abilities::new(child).expect("few");
            if parent.first_beyond(&child).is_none() && child.cover(&wanted) {
                prop_assert!(parent.cover(&wanted));
            }
        }

        #[test]
        fn the_text_of_a_set_reads_back(abilities in prop::collection::vec(ability(), 0..5)) {
            let abilities = Abilities::new(abilities).expect("few");
            prop_assert_eq!(abilities.to_string().parse::<Abilities>(), Ok(abilities));
        }
    }
}
