//! Rows of the packages' tables, read: [`TokenRow`], [`ClientRow`], [`LinkRow`].
//!
//! Nothing is decided here but what a row says: whose token it is, what is kept of its text, when it ends.

use std::net::IpAddr;

use counterfoil::import::ImportedSecret;
use counterfoil::{Rate, SecretToken, SubjectId, Timestamp, TokenName, UserAgent};

use crate::import::cell::{Cell, Odd};
use crate::import::project::{Package, Tokens, Users};
use crate::import::redis::Stored;
use crate::import::report::Report;
use crate::import::settings::Settings;
use crate::import::source::Table;
use crate::import::users::subject_text;

/// A token as a row has it.
#[derive(Debug)]
pub(crate) struct TokenRow {
    pub(crate) package: Package,
    pub(crate) kept: ImportedSecret,
    /// The number under which the package shows it.
    pub(crate) number: Option<u64>,
    pub(crate) user: SubjectId,
    /// The number of the package's own client, where it has some.
    pub(crate) client: Option<i64>,
    pub(crate) name: Option<TokenName>,
    pub(crate) issued_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) agent: Option<UserAgent>,
}

impl TokenRow {
    /// Which row is meant, in words that hold no secret.
    pub(crate) fn called(&self) -> String {
        match self.number {
            Some(number) => format!("{} {number}", self.package),
            None => format!("{} of user {}", self.package, self.user),
        }
    }
}

/// Why a row of a token does not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) why: String,
    /// Which row, as far as it can be told.
    pub(crate) row: String,
}

/// Reads the rows of one table of tokens.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    package: Package,
    users: &'a Users,
    settings: &'a Settings,
    /// What the package calls it, and what this table does; those that the table has not are left out.
    names: Vec<(&'static str, String)>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(tokens: &Tokens, users: &'a Users, settings: &'a Settings) -> Reader<'a> {
        let wanted: &[&str] = match tokens.package {
            Package::Multitoken => &["key", "id", "user_id", "created", "last_known_ip", "user_agent", "name"],
            Package::Durin => &["token", "id", "user_id", "client_id", "created", "expiry"],
            Package::Advanced | Package::Authtoken => &["key", "user_id", "created"],
            Package::RestAuthtoken => &["hashed_token", "user_id", "created"],
            Package::Knox => &["digest", "user_id", "created", "expiry", "salt"],
            Package::Djforge => &[],
        };
        let found = |name: &&'static str| Some((*name, name_in(&tokens.table, name)?));
        Reader { package: tokens.package, users, settings, names: wanted.iter().filter_map(found).collect() }
    }

    pub(crate) fn columns(&self) -> Vec<&str> {
        self.names.iter().map(|(_, name)| name.as_str()).collect()
    }

    fn cell<'r>(&self, row: &'r [Cell], name: &str) -> &'r Cell {
        let index = self.names.iter().position(|(known, _)| *known == name);
        index.and_then(|index| row.get(index)).unwrap_or(&Cell::Null)
    }

    pub(crate) fn read(&self, row: &[Cell], report: &mut Report) -> Result<TokenRow, Unreadable> {
        let id = self.cell(row, "id").int();
        let user = self.cell(row, "user_id").key();
        let called = match (&id, &user) {
            (Ok(Some(id)), _) => format!("{} {id}", self.package),
            (_, Ok(user)) => format!("{} of user {user}", self.package),
            (_, Err(_)) => self.package.to_string(),
        };
        let odd = |column: &'static str| {
            let row = called.clone();
            let package = self.package;
            move |odd: Odd| Unreadable { why: format!("{package}: {column} {}", odd.why()), row }
        };
        let unreadable = |why: &str| Unreadable { why: format!("{}: {why}", self.package), row: called.clone() };
        let user = subject_text(&user.map_err(odd("user_id"))?, self.users.key_is_uuid);
        let user = user.parse().map_err(|_| unreadable("user_id is no key of a user"))?;
        let created = self.cell(row, "created").some_time().map_err(odd("created"))?;
        let number = id.map_err(odd("id"))?.map(u64::try_from).transpose().ok().flatten().filter(|number| *number > 0);
        let mut token = TokenRow {
            package: self.package,
            kept: self.kept(row, &odd, &unreadable)?,
            number,
            user,
            client: None,
            name: None,
            issued_at: created,
            expires_at: None,
            ip: None,
            agent: None,
        };
        match self.package {
            Package::Multitoken => {
                let mut text = |column: &'static str| match self.cell(row, column).text() {
                    Ok(text) => text.unwrap_or_default(),
                    Err(why) => {
                        report.change(&format!("{}: {column} {}, and is left out", self.package, why.why()), &called);
                        ""
                    }
                };
                let name = text("name");
                let agent = text("user_agent");
                // PostgreSQL writes the width of the net behind an address.
                let ip = text("last_known_ip").trim_end_matches("/32").trim_end_matches("/128");
                token.name = TokenName::cut(name);
                token.agent = UserAgent::cut(agent.as_bytes());
                token.ip = ip.trim().parse().ok();
                if name.trim().chars().count() > TokenName::MAX_CHARS {
                    report.change("multitoken: the name of a token is cut after 100 characters", &called);
                }
            }
            Package::Durin => {
                token.client = Some(
                    self.cell(row, "client_id")
                        .int()
                        .and_then(|id| id.ok_or(Odd::Missing))
                        .map_err(odd("client_id"))?,
                );
                token.expires_at = Some(
                    self.cell(row, "expiry").end().and_then(|end| end.ok_or(Odd::Missing)).map_err(odd("expiry"))?,
                );
            }
            Package::Knox => token.expires_at = self.cell(row, "expiry").end().map_err(odd("expiry"))?,
            Package::RestAuthtoken => {
                token.expires_at = Some(created.plus_millis(self.settings.auth_token_validity.0));
            }
            Package::Advanced | Package::Authtoken | Package::Djforge => {}
        }
        Ok(token)
    }

    fn kept<O: FnOnce(Odd) -> Unreadable>(
        &self,
        row: &[Cell],
        odd: &dyn Fn(&'static str) -> O,
        unreadable: &dyn Fn(&str) -> Unreadable,
    ) -> Result<ImportedSecret, Unreadable> {
        let text_of = |column: &'static str| {
            let text = self.cell(row, column).some_text().map_err(odd(column))?;
            // What no header carries nobody can present.
            let fits = text.len() <= 512 && text.bytes().all(|byte| byte.is_ascii_graphic());
            if fits { Ok(text) } else { Err(unreadable("the token is no word of visible ASCII characters")) }
        };
        match self.package {
            Package::Multitoken | Package::Advanced | Package::Authtoken => {
                Ok(ImportedSecret::Text(SecretToken::from_text(text_of("key")?)))
            }
            Package::Durin => Ok(ImportedSecret::Text(SecretToken::from_text(text_of("token")?))),
            Package::RestAuthtoken => {
                self.cell(row, "hashed_token").bytes().map(ImportedSecret::RestAuthtoken).map_err(odd("hashed_token"))
            }
            Package::Knox => {
                if self.names.iter().any(|(name, _)| *name == "salt") {
                    return Err(unreadable("digests with a salt are of a version before 4.2; migrate to 5 first"));
                }
                if !self.settings.knox.is_sha512 {
                    return Err(unreadable("only digests of SHA-512 can be looked up"));
                }
                of_hex(self.cell(row, "digest").some_text().map_err(odd("digest"))?)
                    .map(ImportedSecret::Knox)
                    .ok_or_else(|| unreadable("digest is no SHA-512 in lower-case hex"))
            }
            Package::Djforge => Err(unreadable("its tokens are in Redis")),
        }
    }
}

/// The column that a table has for what is called so today.
fn name_in(table: &Table, name: &str) -> Option<String> {
    let earlier: &[&str] = match name {
        "last_known_ip" => &["last_known_IP"],
        "expiry" => &["expires"],
        _ => &[],
    };
    let found = [name].into_iter().chain(earlier.iter().copied()).find_map(|name| table.column(name))?;
    Some(found.name.clone())
}

fn of_hex(text: &str) -> Option<[u8; 64]> {
    let digits = text.as_bytes();
    let is_hex = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 128 || !digits.iter().all(is_hex) {
        return None;
    }
    let mut bytes = [0; 64];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// A client of django-rest-durin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientRow {
    pub(crate) id: i64,
    pub(crate) name: String,
    /// In microseconds; 0 or less means that its tokens are born dead.
    pub(crate) ttl_micros: i64,
    pub(crate) throttle: Option<Rate>,
}

impl ClientRow {
    pub(crate) fn columns(table: &Table) -> Vec<&'static str> {
        // The last came with version 1.0.
        ["id", "name", "token_ttl", "throttle_rate"].into_iter().filter(|name| table.column(name).is_some()).collect()
    }

    pub(crate) fn read(row: &[Cell], report: &mut Report) -> Result<ClientRow, Unreadable> {
        let cell = |index: usize| row.get(index).unwrap_or(&Cell::Null);
        let id = cell(0).int().and_then(|id| id.ok_or(Odd::Missing));
        let called = id.map_or("durin client".to_owned(), |id| format!("durin client {id}"));
        let odd = |column: &str, odd: Odd| Unreadable { why: format!("{column} {}", odd.why()), row: called.clone() };
        let throttle = match cell(3).text() {
            Ok(None | Some("")) => None,
            Ok(Some(text)) => {
                let rate = drf_rate(text);
                if rate.is_none() {
                    report.change("throttle_rate is no rate, and is left out", &called);
                }
                rate
            }
            Err(why) => {
                report.change(&format!("throttle_rate {}, and is left out", why.why()), &called);
                None
            }
        };
        Ok(ClientRow {
            id: id.map_err(|why| odd("id", why))?,
            name: cell(1).some_text().map_err(|why| odd("name", why))?.to_owned(),
            ttl_micros: cell(2).micros().map_err(|why| odd("token_ttl", why))?,
            throttle,
        })
    }
}

/// A rate as Django REST framework has it, which looks at the first letter of the period alone.
fn drf_rate(text: &str) -> Option<Rate> {
    let (number, period) = text.split_once('/')?;
    format!("{}/{}", number.trim(), period.chars().next()?).parse().ok()
}

/// A confirmation of django-rest-authtoken that has not been opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LinkRow {
    pub(crate) sha512: [u8; 64],
    pub(crate) user: SubjectId,
    pub(crate) email: counterfoil::Email,
    pub(crate) expires_at: Timestamp,
}

impl LinkRow {
    pub(crate) const COLUMNS: [&'static str; 4] = ["hashed_token", "user_id", "email", "created"];

    pub(crate) fn read(row: &[Cell], users: &Users, settings: &Settings) -> Result<LinkRow, Unreadable> {
        let cell = |index: usize| row.get(index).unwrap_or(&Cell::Null);
        let user = cell(1).key();
        let called = user.as_ref().map_or("link".to_owned(), |user| format!("link of user {user}"));
        let odd = |column: &str, odd: Odd| Unreadable { why: format!("{column} {}", odd.why()), row: called.clone() };
        let user = subject_text(&user.map_err(|why| odd("user_id", why))?, users.key_is_uuid);
        let issued_at = cell(3).some_time().map_err(|why| odd("created", why))?;
        Ok(LinkRow {
            sha512: cell(0).bytes().map_err(|why| odd("hashed_token", why))?,
            user: user.parse().map_err(|_| odd("user_id", Odd::Type))?,
            email: cell(2)
                .some_text()
                .and_then(|text| text.parse().map_err(|_| Odd::Type))
                .map_err(|why| odd("email", why))?,
            expires_at: issued_at.plus_millis(settings.confirmation_validity.0),
        })
    }
}

/// A token of djforge-redis-multitokens. When it was made Redis does not know, so it counts as made `now`.
pub(crate) fn of_redis(stored: &Stored, now: Timestamp) -> Result<TokenRow, Unreadable> {
    let unreadable = |why: &str| Unreadable {
        why: format!("djforge: {why}"),
        row: format!("djforge of user {}", stored.user.chars().take(40).collect::<String>()),
    };
    if !is_passlib_hash(&stored.hash) {
        return Err(unreadable("the hash is none of PBKDF2 with SHA-256, or asks for more than ten million rounds"));
    }
    let user = stored.user.parse().map_err(|_| unreadable("the value is no key of a user"))?;
    Ok(TokenRow {
        package: Package::Djforge,
        kept: ImportedSecret::Djforge(stored.hash.clone()),
        number: None,
        user,
        client: None,
        name: None,
        issued_at: now,
        expires_at: stored.expires_at,
        ip: None,
        agent: None,
    })
}

/// `$pbkdf2-sha256$ROUNDS$SALT$CHECKSUM`, with no more rounds than a password may have.
fn is_passlib_hash(hash: &str) -> bool {
    let is_ab64 = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/'));
    let mut parts = hash.split('$');
    let [Some(""), Some("pbkdf2-sha256"), Some(rounds), Some(salt), Some(checksum), None] =
        std::array::from_fn(|_| parts.next())
    else {
        return false;
    };
    let has_rounds = rounds.bytes().all(|byte| byte.is_ascii_digit())
        && !rounds.starts_with('0')
        && rounds.parse::<u32>().is_ok_and(|rounds| (1..=10_000_000).contains(&rounds));
    has_rounds && is_ab64(salt) && salt.len() <= 128 && is_ab64(checksum) && checksum.len() == 43
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_as_django_rest_framework_reads_them() {
        for (text, rate) in [("100/h", "100/h"), ("3/minute", "3/m"), ("5/day", "5/d"), ("2/sec", "2/s")] {
            assert_eq!(drf_rate(text), Some(rate.parse().expect("rate")), "{text}");
        }
        for wrong in ["", "5", "5/", "/h", "5/x", "-1/h", "0/s"] {
            assert_eq!(drf_rate(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a03_a_hash_that_asks_for_billions_of_rounds_does_not_come() {
        let hash = |rounds: &str| format!("$pbkdf2-sha256${rounds}$GoOwVorR.t.7F6KU8p4zRg${}", "M".repeat(43));
        for good in ["29000", "1", "10000000"] {
            assert!(is_passlib_hash(&hash(good)));
        }
        for bad in ["10000001", "4294967295", "99999999999999999999", "0", "-1", "", "029000", "2e4"] {
            assert!(!is_passlib_hash(&hash(bad)), "{bad}");
        }
        for bad in ["$pbkdf2-sha512$1$a$b", "$pbkdf2-sha256$1$a", "$pbkdf2-sha256$1$a+$b", "x"] {
            assert!(!is_passlib_hash(bad), "{bad}");
        }
        assert!(!is_passlib_hash(&format!("{}$x", hash("1"))));
    }

    #[test]
    fn digests_in_hex_are_of_the_one_spelling() {
        assert_eq!(of_hex(&"0f".repeat(64)), Some([15; 64]));
        for wrong in ["0F".repeat(64), "0f".repeat(63), "+f".repeat(64), String::new()] {
            assert_eq!(of_hex(&wrong), None);
        }
    }
}
