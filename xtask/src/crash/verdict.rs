//! Whether everything that was acknowledged is still so: [`judge`].

use std::thread;

use serde_json::{Value, json};

use super::chance::Chance;
use super::http::Link;
use super::server::{PASSWORD, USER};
use super::workload::{Client, Deed, Kind, Life, Moment, Standing, now};

/// What a server, asked after a crash, was found to have kept.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) checked: usize,
    /// One line for each token of which something acknowledged does not hold.
    pub(crate) lost: Vec<String>,
}

/// Which tokens to ask about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope {
    All,
    /// What was done from this instant on, and so many others of each client.
    Since(u64, usize),
}

/// Asks the server at `address` about the tokens of each client, as they had to be at `cut`. What was open and is now known
/// goes into the history.
///
/// # Errors
/// When the server does not answer.
pub(crate) fn judge(address: &str, clients: &mut [Client], cut: u64, scope: Scope) -> Result<Verdict, String> {
    let verdicts: Vec<Result<Verdict, String>> = thread::scope(|scope_of_threads| {
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|client| scope_of_threads.spawn(move || judge_one(address, client, cut, scope)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".to_owned())))
            .collect()
    });
    let mut sum = Verdict::default();
    for verdict in verdicts {
        let verdict = verdict?;
        sum.checked += verdict.checked;
        sum.lost.extend(verdict.lost);
    }
    Ok(sum)
}

/// Whether the user whose making was acknowledged can log in, which also shows that the store takes writes.
pub(crate) fn user_is_there(address: &str) -> Result<bool, String> {
    let mut link = Link::to(address).map_err(|error| error.to_string())?;
    let body = json!({ "username": USER, "password": PASSWORD });
    let answer = link.ask("POST", "/v1/login", None, Some(&body)).map_err(|error| error.to_string())?;
    match answer.status {
        200 => Ok(true),
        401 => Ok(false),
        status => Err(format!("login answered {status}: {}", answer.body)),
    }
}

fn judge_one(address: &str, client: &mut Client, cut: u64, scope: Scope) -> Result<Verdict, String> {
    let mut link = Link::to(address).map_err(|error| format!("no connection after the restart: {error}"))?;
    let mut verdict = Verdict::default();
    let standings = client.standings(cut);
    for token in chosen(client, &standings, scope) {
        let standing = &standings[token];
        let kind = client.tokens[token].kind;
        let found = look(&mut link, &standing.secret)?;
        verdict.checked += 1;
        let mut complain = |what: String| {
            verdict.lost.push(format!("{kind:?} {}: {what}", client.tokens[token].id));
        };
        match (standing.life, &found) {
            (Life::Alive, None) => complain("was acknowledged as live and is refused".to_owned()),
            (Life::Dead, Some(_)) => complain("was acknowledged as ended and is accepted".to_owned()),
            (Life::Unmade, _) | (Life::Alive | Life::Open, Some(_)) | (Life::Dead | Life::Open, None) => {}
        }
        if let (Kind::Login, Some(name)) = (kind, &found)
            && !standing.names.contains(name)
        {
            complain(format!("is called {name:?} and should be called one of {:?}", standing.names));
        }
        // A retired secret of a login token, shown once more, would end it.
        if kind == Kind::Key {
            for retired in standing.retired.iter().rev().take(2) {
                if look(&mut link, retired)?.is_some() {
                    complain("accepts a secret that was rotated away".to_owned());
                }
            }
        }
        if cut == u64::MAX && (standing.life == Life::Open || standing.names.len() > 1) {
            let deed = Deed::Seen { token, alive: found.is_some(), name: found.flatten() };
            client.history.push(Moment { sent: now(), acknowledged: Some(now()), deed });
        }
    }
    Ok(verdict)
}

fn chosen(client: &mut Client, standings: &[Standing], scope: Scope) -> Vec<usize> {
    let mut wanted = vec![matches!(scope, Scope::All); standings.len()];
    if let Scope::Since(instant, others) = scope {
        for moment in client.history.iter().rev().take_while(|moment| moment.sent >= instant) {
            match moment.deed {
                Deed::Made { token }
                | Deed::Ended { token }
                | Deed::Rotated { token, .. }
                | Deed::Renamed { token, .. }
                | Deed::Seen { token, .. } => wanted[token] = true,
            }
        }
        let chance: &mut Chance = &mut client.chance;
        for _ in 0..others.min(standings.len()) {
            wanted[chance.below(standings.len())] = true;
        }
    }
    (0..standings.len()).filter(|token| wanted[*token] && standings[*token].life != Life::Unmade).collect()
}

/// The name of the token that this is the secret of; `None` if it is refused.
fn look(link: &mut Link, secret: &str) -> Result<Option<Option<String>>, String> {
    let answer = link.ask("GET", "/v1/me", Some(secret), None).map_err(|error| format!("GET /v1/me: {error}"))?;
    match answer.status {
        200 => Ok(Some(answer.body["token"]["name"].as_str().map(str::to_owned))),
        401 => Ok(None),
        status => Err(format!("GET /v1/me answered {status}: {}", Value::to_string(&answer.body))),
    }
}
