//! The tokens of djforge-redis-multitokens: a cache of Django's in Redis.
//!
//! Under `PREFIX HASH` lies the key of a user, under `PREFIX KEY` the list of their hashes, both pickled. A token is good while
//! the former is there; the list says nothing more than which have expired.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use counterfoil::Timestamp;
use redis::{Client, Connection, IntoConnectionInfo, RedisError, Value};

use crate::failure::{Failure, causes};
use crate::import::pickle::{self, NotOurs, Pickle};

/// What every hash begins with (passlib's name of the scheme).
const HASHES: &str = "$pbkdf2-sha256$";

/// A list longer than that, some seven hundred tokens, is not looked at: it tells only how many have expired.
const MAX_LIST: usize = 64 * 1024;

/// What `--redis` names; may have a password in it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Place(String, Option<String>);

impl Place {
    pub(crate) fn with_password(self, password: &str) -> Place {
        Place(self.0, Some(password.to_owned()))
    }
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Place, Self::Err> {
        match Client::open(text) {
            Ok(_) => Ok(Place(text.to_owned(), None)),
            Err(_) => Err("expected redis://HOST:PORT/DATABASE, rediss:// for TLS, or unix:///PATH?db=N"),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redis")
    }
}

/// A token as Redis has it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// passlib's text of the hash.
    pub(crate) hash: String,
    /// The key of its user.
    pub(crate) user: String,
    /// When Redis forgets it.
    pub(crate) expires_at: Option<Timestamp>,
}

/// What was found under one key.
pub(crate) enum Finding {
    Token(Stored),
    /// Something else than djforge writes there.
    Odd(NotOurs),
    /// A hash in somebody's list that has expired.
    Dead,
}

pub(crate) struct Redis {
    connection: Connection,
    /// What Django puts before every key.
    prefix: String,
}

impl Redis {
    pub(crate) fn open(place: &Place, prefix: &str) -> Result<Redis, Failure> {
        // Fails where it was done before, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
        let failed = |error: RedisError| Failure::caused_by("cannot connect to Redis", &error);
        let mut info = place.0.as_str().into_connection_info().map_err(failed)?;
        if let Some(password) = &place.1 {
            let settings = info.redis_settings().clone().set_password(password);
            info = info.set_redis_settings(settings);
        }
        let client = Client::open(info).map_err(failed)?;
        let connection = client.get_connection_with_timeout(Duration::from_secs(10)).map_err(failed)?;
        let patience = Some(Duration::from_secs(60));
        connection.set_read_timeout(patience).and_then(|()| connection.set_write_timeout(patience)).map_err(failed)?;
        Ok(Redis { connection, prefix: prefix.to_owned() })
    }

    /// About how many keys there are.
    pub(crate) fn count(&mut self) -> Result<u64, Failure> {
        redis::cmd("DBSIZE").query(&mut self.connection).map_err(failed)
    }

    /// Calls `each` with what is found, some of it more than once. `now` is what times to live count from.
    pub(crate) fn tokens(
        &mut self,
        now: &dyn Fn() -> Timestamp,
        each: &mut dyn FnMut(Finding) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let pattern = format!("{}*", escaped(&self.prefix));
        let mut cursor = b"0".to_vec();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1_000).arg("TYPE").arg("string");
            let (next, keys): (Vec<u8>, Vec<Vec<u8>>) = scan.query(&mut self.connection).map_err(failed)?;
            for keys in keys.chunks(1_000) {
                self.page(keys, now, each)?;
            }
            if next == b"0" {
                return Ok(());
            }
            cursor = next;
        }
    }

    fn page(
        &mut self,
        keys: &[Vec<u8>],
        now: &dyn Fn() -> Timestamp,
        each: &mut dyn FnMut(Finding) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let names: Vec<&str> =
            keys.iter().filter_map(|key| std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)).collect();
        let hashes: Vec<&str> = names.iter().copied().filter(|name| name.starts_with(HASHES)).collect();
        if !hashes.is_empty() {
            let mut pipe = redis::pipe();
            for hash in &hashes {
                let key = format!("{}{hash}", self.prefix);
                // Not all of a value that is longer than any of the package's.
                pipe.cmd("GETRANGE").arg(&key).arg(0).arg(1_023).cmd("PTTL").arg(&key);
            }
            // Asked for before the question is sent, so that nothing lives longer here than there.
            let asked_at = now();
            let answers: Vec<Value> = pipe.query(&mut self.connection).map_err(failed)?;
            for (hash, answer) in hashes.iter().zip(answers.chunks(2)) {
                if let Some(finding) = finding(hash, answer, asked_at) {
                    each(finding)?;
                }
            }
        }
        // Anything may lie in a cache; users' lists lie under short names.
        let users: Vec<&str> = names.into_iter().filter(|name| !name.starts_with(HASHES) && name.len() <= 64).collect();
        for users in users.chunks(64) {
            self.lists(users, each)?;
        }
        Ok(())
    }

    /// Tells which hashes of these users' lists are there no longer.
    fn lists(&mut self, users: &[&str], each: &mut dyn FnMut(Finding) -> Result<(), Failure>) -> Result<(), Failure> {
        let mut pipe = redis::pipe();
        for user in users {
            pipe.cmd("GETRANGE").arg(format!("{}{user}", self.prefix)).arg(0).arg(MAX_LIST - 1);
        }
        let values: Vec<Vec<u8>> = pipe.query(&mut self.connection).map_err(failed)?;
        let hashes = values.iter().flat_map(|value| match pickle::read(value) {
            Ok(Pickle::Texts(hashes)) => hashes,
            // Some other cache entry under the same prefix is nobody's token.
            Ok(Pickle::Text(_)) | Err(NotOurs) => Vec::new(),
        });
        let mut pipe = redis::pipe();
        for hash in hashes {
            pipe.cmd("EXISTS").arg(format!("{}{hash}", self.prefix));
        }
        if pipe.is_empty() {
            return Ok(());
        }
        let present: Vec<u64> = pipe.query(&mut self.connection).map_err(failed)?;
        for _ in present.iter().filter(|&&present| present == 0) {
            each(Finding::Dead)?;
        }
        Ok(())
    }
}

fn finding(hash: &str, answer: &[Value], asked_at: Timestamp) -> Option<Finding> {
    let [Value::BulkString(value), Value::Int(ttl)] = answer else { return Some(Finding::Odd(NotOurs)) };
    let expires_at = match ttl {
        // Expired between the scan and now.
        -2 => return None,
        -1 => None,
        ttl => Some(asked_at.plus_millis(u64::try_from(*ttl).ok()?)),
    };
    Some(match pickle::read(value) {
        Ok(Pickle::Text(user)) => Finding::Token(Stored { hash: hash.to_owned(), user, expires_at }),
        Ok(Pickle::Texts(_)) | Err(NotOurs) => Finding::Odd(NotOurs),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` calls takes the error itself")]
fn failed(error: RedisError) -> Failure {
    Failure::refused(format!("cannot read Redis: {}", causes(&error)))
}

/// The prefix with what a pattern of Redis would take for something else.
fn escaped(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len());
    for c in prefix.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_text_and_no_pattern() {
        assert_eq!(escaped(":1:"), ":1:");
        assert_eq!(escaped("a*[b]?\\"), "a\\*\\[b\\]\\?\\\\");
    }

    #[test]
    fn what_redis_answers_is_a_token_or_odd_or_gone() {
        let at = Timestamp::from_millis(1_000);
        let answer = |value: &[u8], ttl| [Value::BulkString(value.to_vec()), Value::Int(ttl)];
        let good = b"\x80\x04\x95\x05\0\0\0\0\0\0\0\x8c\x012\x94.";
        for (ttl, expires_at) in [(-1, None), (5_000, Some(Timestamp::from_millis(6_000)))] {
            let Some(Finding::Token(stored)) = finding("$h", &answer(good, ttl), at) else { panic!("a token") };
            assert_eq!((stored.user.as_str(), stored.expires_at), ("2", expires_at));
        }
        assert!(finding("$h", &answer(good, -2), at).is_none());
        for odd in [answer(b"cos\nsystem\n.", -1), answer(b"\x80\x04]\x94.", -1), answer(b"", -1)] {
            assert!(matches!(finding("$h", &odd, at), Some(Finding::Odd(NotOurs))));
        }
        assert!(matches!(finding("$h", &[Value::Nil], at), Some(Finding::Odd(NotOurs))));
    }
}
