//! Passwords of scenarios, each hashed once in a run: [`Passwords`].

use std::collections::BTreeMap;

use counterfoil_core::password::{EncodedPassword, HashingParams, Password, Scratch, hash};

use crate::Failure;
use crate::cases::Package;

/// As the store keeps them, by what people type. No answer shows how, and scenarios log in by the hundred.
#[derive(Debug, Default)]
pub(crate) struct Passwords(BTreeMap<String, EncodedPassword>);

impl Passwords {
    /// Those of all users of these packages.
    pub(crate) fn of(packages: &[Package]) -> Result<Passwords, Failure> {
        let params = HashingParams::insecure_for_tests();
        let mut scratch = Scratch::sized_for(&params);
        let mut known = BTreeMap::new();
        let users = packages.iter().flat_map(|package| &package.setup.users);
        for password in users.filter_map(|user| user.password.as_deref()) {
            if !known.contains_key(password) {
                let mut salt = [0; 16];
                getrandom::fill(&mut salt)?;
                known.insert(password.to_owned(), hash(&Password::new(password)?, &salt, &params, &mut scratch));
            }
        }
        Ok(Passwords(known))
    }

    /// `None`: one that nothing matches.
    pub(super) fn encoded(&self, password: Option<&str>) -> EncodedPassword {
        password.and_then(|password| self.0.get(password).cloned()).unwrap_or_else(EncodedPassword::unusable)
    }
}
