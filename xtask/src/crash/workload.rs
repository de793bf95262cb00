//! What the clients do, and what they remember of it: [`Client`].
//!
//! A token belongs to one client, which does one thing after the other, so what must be true of it afterwards is exact.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::chance::Chance;
use super::http::{Answer, Link};
use super::server::{PASSWORD, USER};

/// A client, all its tokens and all it has ever done with them.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) chance: Chance,
    pub(crate) tokens: Vec<Token>,
    pub(crate) history: Vec<Moment>,
}

#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    /// The first one it had.
    pub(crate) secret: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Login,
    Key,
}

/// Something that was asked for, and when. Nanoseconds since 1970, by the clock that strace stamps its lines with.
#[derive(Debug)]
pub(crate) struct Moment {
    pub(crate) sent: u64,
    /// `None`: no answer came, so whether it was done is open.
    pub(crate) acknowledged: Option<u64>,
    pub(crate) deed: Deed,
}

/// What was asked for. Tokens by their place in [`Client::tokens`].
#[derive(Debug)]
pub(crate) enum Deed {
    /// Noted only once it is acknowledged: nobody knows the secret of a token whose making was not.
    Made {
        token: usize,
    },
    /// Revoked or logged out.
    Ended {
        token: usize,
    },
    /// The successor is unknown where no answer came.
    Rotated {
        token: usize,
        successor: Option<String>,
    },
    Renamed {
        token: usize,
        name: String,
    },
    /// Not a wish but an observation after a restart, which settles what was open.
    Seen {
        token: usize,
        alive: bool,
        name: Option<String>,
    },
}

/// Whether a token may, must or must not be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Making it had not been acknowledged.
    Unmade,
    Alive,
    Dead,
    /// Ending it was asked for and not acknowledged.
    Open,
}

/// What must be true of a token at some instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) life: Life,
    /// The last secret that was handed out.
    pub(crate) secret: String,
    /// Those before it, oldest first.
    pub(crate) retired: Vec<String>,
    /// The names it may have: more than one where a renaming was not acknowledged.
    pub(crate) names: Vec<Option<String>>,
}

impl Client {
    pub(crate) fn new(chance: Chance) -> Client {
        Client { chance, tokens: Vec::new(), history: Vec::new() }
    }

    /// What must be true of each token if everything ended at `cut`.
    pub(crate) fn standings(&self, cut: u64) -> Vec<Standing> {
        let mut standings: Vec<Standing> = self
            .tokens
            .iter()
            .map(|token| Standing {
                life: Life::Unmade,
                secret: token.secret.clone(),
                retired: Vec::new(),
                names: vec![None],
            })
            .collect();
        for moment in self.history.iter().take_while(|moment| moment.sent <= cut) {
            let acknowledged = moment.acknowledged.is_some_and(|at| at <= cut);
            match &moment.deed {
                Deed::Made { token } if acknowledged => standings[*token].life = Life::Alive,
                Deed::Made { .. } => {}
                Deed::Ended { token } if acknowledged => standings[*token].life = Life::Dead,
                Deed::Ended { token } => {
                    if standings[*token].life == Life::Alive {
                        standings[*token].life = Life::Open;
                    }
                }
                Deed::Rotated { token, successor: Some(successor) } if acknowledged => {
                    let standing = &mut standings[*token];
                    let retired = std::mem::replace(&mut standing.secret, successor.clone());
                    standing.retired.push(retired);
                }
                // Within its grace the old one works, whether or not there is a new one.
                Deed::Rotated { .. } => {}
                Deed::Renamed { token, name } if acknowledged => standings[*token].names = vec![Some(name.clone())],
                Deed::Renamed { token, name } => standings[*token].names.push(Some(name.clone())),
                Deed::Seen { token, alive, name } => {
                    standings[*token].life = if *alive { Life::Alive } else { Life::Dead };
                    standings[*token].names = vec![name.clone()];
                }
            }
        }
        standings
    }

    /// How many writes had been acknowledged at `cut`.
    pub(crate) fn acknowledged(&self, cut: u64) -> usize {
        let written = |moment: &&Moment| {
            moment.acknowledged.is_some_and(|at| at <= cut) && !matches!(moment.deed, Deed::Seen { .. })
        };
        self.history.iter().filter(written).count()
    }

    /// Works as fast as the server answers until `stop`, or until the connection breaks.
    ///
    /// # Errors
    /// An answer that a server in good health does not give.
    pub(crate) fn work(&mut self, address: &str, stop: &AtomicBool) -> Result<(), String> {
        let Ok(mut link) = Link::to(address) else { return Ok(()) };
        let (mut sessions, mut keys): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
        for (token, standing) in self.standings(u64::MAX).iter().enumerate() {
            match (standing.life, self.tokens[token].kind) {
                (Life::Alive, Kind::Login) => sessions.push(token),
                (Life::Alive, Kind::Key) => keys.push(token),
                (Life::Unmade | Life::Dead | Life::Open, _) => {}
            }
        }
        while !stop.load(Ordering::Relaxed) {
            let Some(&session) = sessions.first() else {
                match self.log_in(&mut link)? {
                    Some(token) => sessions.push(token),
                    None => return Ok(()),
                }
                continue;
            };
            let went_on = match self.chance.below(100) {
                0..40 => self.make_key(&mut link, session)?.map(|token| keys.push(token)),
                40..60 if !keys.is_empty() => {
                    let key = keys.swap_remove(self.chance.below(keys.len()));
                    self.revoke(&mut link, session, key)?
                }
                60..78 if !keys.is_empty() => {
                    let key = *self.chance.pick(&keys);
                    self.rotate(&mut link, key)?
                }
                78..88 if !keys.is_empty() => {
                    let key = *self.chance.pick(&keys);
                    self.look(&mut link, key)?
                }
                88..96 => self.rename(&mut link, session)?,
                96 | 97 => self.rotate(&mut link, session)?,
                98 => self.log_in(&mut link)?.map(|token| sessions.push(token)),
                99 if sessions.len() > 1 => {
                    let other = sessions.swap_remove(1);
                    if self.chance.one_in(2) {
                        self.revoke(&mut link, session, other)?
                    } else {
                        self.log_out(&mut link, other)?
                    }
                }
                _ => Some(()),
            };
            if went_on.is_none() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn log_in(&mut self, link: &mut Link) -> Result<Option<usize>, String> {
        let body = json!({ "username": USER, "password": PASSWORD });
        let sent = now();
        match link.ask("POST", "/v1/login", None, Some(&body)) {
            Ok(answer) if answer.status == 200 => self.made(Kind::Login, sent, &answer).map(Some),
            other => unanswered(other).map(|()| None),
        }
    }

    fn make_key(&mut self, link: &mut Link, session: usize) -> Result<Option<usize>, String> {
        let bearer = self.secret(session);
        let body = json!({ "name": "a key" });
        let sent = now();
        match link.ask("POST", "/v1/keys", Some(&bearer), Some(&body)) {
            Ok(answer) if answer.status == 201 => self.made(Kind::Key, sent, &answer).map(Some),
            other => unanswered(other).map(|()| None),
        }
    }

    fn made(&mut self, kind: Kind, sent: u64, answer: &Answer) -> Result<usize, String> {
        let acknowledged = Some(now());
        let text = |key| answer.text(key).map_err(|error| error.to_string());
        let token = self.tokens.len();
        self.tokens.push(Token { kind, id: text("id")?, secret: text("token")? });
        self.history.push(Moment { sent, acknowledged, deed: Deed::Made { token } });
        Ok(token)
    }

    fn revoke(&mut self, link: &mut Link, session: usize, token: usize) -> Result<Option<()>, String> {
        let Token { kind, id, .. } = &self.tokens[token];
        let path = match kind {
            Kind::Login => format!("/v1/tokens/{id}"),
            Kind::Key => format!("/v1/keys/{id}"),
        };
        let bearer = self.secret(session);
        self.write(Deed::Ended { token }, 204, || link.ask("DELETE", &path, Some(&bearer), None))
    }

    fn log_out(&mut self, link: &mut Link, token: usize) -> Result<Option<()>, String> {
        let bearer = self.secret(token);
        self.write(Deed::Ended { token }, 204, || link.ask("POST", "/v1/logout", Some(&bearer), None))
    }

    fn rename(&mut self, link: &mut Link, session: usize) -> Result<Option<()>, String> {
        let path = format!("/v1/tokens/{}", self.tokens[session].id);
        let name = format!("name {}", self.history.len());
        let body = json!({ "name": name });
        let bearer = self.secret(session);
        self.write(Deed::Renamed { token: session, name }, 200, || link.ask("PATCH", &path, Some(&bearer), Some(&body)))
    }

    fn rotate(&mut self, link: &mut Link, token: usize) -> Result<Option<()>, String> {
        let bearer = self.secret(token);
        let mut successor = None;
        let done = self.write(Deed::Rotated { token, successor: None }, 200, || {
            let answer = link.ask("POST", "/v1/rotate", Some(&bearer), None)?;
            successor = answer.text("token").ok();
            Ok(answer)
        })?;
        if done.is_some() {
            let given = Some(successor.ok_or("a rotation without a token in its answer")?);
            if let Some(Moment { deed: Deed::Rotated { successor, .. }, .. }) = self.history.last_mut() {
                *successor = given;
            }
        }
        Ok(done)
    }

    /// No write by itself, but the first use of a successor is one.
    fn look(&mut self, link: &mut Link, token: usize) -> Result<Option<()>, String> {
        match link.ask("GET", "/v1/me", Some(&self.secret(token)), None) {
            Ok(answer) if answer.status == 200 => Ok(Some(())),
            other => unanswered(other).map(|()| None),
        }
    }

    /// `None` when no answer came.
    fn write(
        &mut self,
        deed: Deed,
        expected: u16,
        ask: impl FnOnce() -> io::Result<Answer>,
    ) -> Result<Option<()>, String> {
        let sent = now();
        let answer = ask();
        let acknowledged = matches!(&answer, Ok(answer) if answer.status == expected).then(now);
        self.history.push(Moment { sent, acknowledged, deed });
        match acknowledged {
            Some(_) => Ok(Some(())),
            None => unanswered(answer).map(|()| None),
        }
    }

    /// The last one that was handed out.
    fn secret(&self, token: usize) -> String {
        let successors = self.history.iter().rev().filter_map(|moment| {
            let Deed::Rotated { token: rotated, successor: Some(successor) } = &moment.deed else { return None };
            (*rotated == token).then_some(successor)
        });
        successors.chain([&self.tokens[token].secret]).next().cloned().unwrap_or_default()
    }
}

/// A broken connection is what a crash looks like; any other answer than the one hoped for is not.
fn unanswered(answer: io::Result<Answer>) -> Result<(), String> {
    match answer {
        Err(_) => Ok(()),
        Ok(answer) => Err(format!("unexpected answer {}: {}", answer.status, answer.body)),
    }
}

/// By the clock that strace stamps its lines with.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made at 1–2, renamed at 3–4, rotated at 5–6, ended at 7 without an answer.
    fn client() -> Client {
        let moment = |sent, acknowledged, deed| Moment { sent, acknowledged, deed };
        let mut client = Client::new(Chance::from_seed(0));
        client.tokens.push(Token { kind: Kind::Login, id: "id".to_owned(), secret: "first".to_owned() });
        client.history = vec![
            moment(1, Some(2), Deed::Made { token: 0 }),
            moment(3, Some(4), Deed::Renamed { token: 0, name: "new".to_owned() }),
            moment(5, Some(6), Deed::Rotated { token: 0, successor: Some("second".to_owned()) }),
            moment(7, None, Deed::Ended { token: 0 }),
        ];
        client
    }

    #[test]
    fn only_what_was_acknowledged_before_the_cut_must_hold() {
        let client = client();
        let at = |cut| client.standings(cut).remove(0);
        let (none, new) = (None::<String>, Some("new".to_owned()));
        assert_eq!(at(1).life, Life::Unmade);
        assert_eq!((at(2).life, at(2).names), (Life::Alive, vec![none.clone()]));
        assert_eq!(at(3).names, vec![none, new.clone()]);
        assert_eq!(at(4).names, vec![new]);
        assert_eq!((at(5).secret.as_str(), at(5).retired.len()), ("first", 0));
        assert_eq!((at(6).secret.as_str(), at(6).retired), ("second", vec!["first".to_owned()]));
        assert_eq!((at(6).life, at(7).life), (Life::Alive, Life::Open));
        assert_eq!((client.acknowledged(5), client.acknowledged(u64::MAX)), (2, 3));
        assert_eq!(client.secret(0), "second");
    }

    #[test]
    fn what_was_seen_after_a_restart_is_open_no_longer() {
        let mut client = client();
        let deed = Deed::Seen { token: 0, alive: false, name: None };
        client.history.push(Moment { sent: 8, acknowledged: Some(8), deed });
        assert_eq!(client.standings(u64::MAX)[0].life, Life::Dead);
    }
}
